//! Servers with a keyring, and what they encrypt.

use std::path::{Path, PathBuf};

use xbpipe::base::PageNo;
use xbpipe::innodb::encryption::keyring_file::KeyringFile;
use xbpipe::innodb::encryption::{Keyring, Sealed, Unit};
use xbpipe::innodb::page::Page0;

use super::Server;

/// The component's settings in a datadir; they name the keyring.
const SETTINGS: &str = "component_keyring_file.cnf";

/// Gives the server of `datadir` a keyring in the file `keyring`.
pub fn add_keyring(datadir: &Path, keyring: &Path) {
    std::fs::write(datadir.join("mysqld.my"), r#"{"components": "file://component_keyring_file"}"#).unwrap();
    let settings = format!(r#"{{"path": "{}", "read_only": false}}"#, keyring.display());
    std::fs::write(datadir.join(SETTINGS), settings).unwrap();
}

/// Restarts a server with a keyring, and has it encrypt all that it does not ask for.
pub fn encrypt_everything(server: &mut Server, keyring: &Path) {
    server.stop();
    add_keyring(server.datadir(), keyring);
    server.restart();
    server.execute("SET GLOBAL innodb_redo_log_encrypt = ON; SET GLOBAL innodb_undo_log_encrypt = ON");
    server.execute("ALTER TABLESPACE mysql ENCRYPTION = 'Y'; SET PERSIST default_table_encryption = ON");
}

/// The keyring that the server of one of these folders has.
pub fn keyring_of(dirs: &[&Path]) -> Option<KeyringFile> {
    dirs.iter().find_map(|dir| {
        let settings = std::fs::read_to_string(dir.join(SETTINGS)).ok()?;
        let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
        let path = PathBuf::from(settings["path"].as_str().unwrap());
        Some(KeyringFile::parse(&std::fs::read(path).ok()?).unwrap())
    })
}

/// Decrypts all pages of a tablespace that are encrypted.
pub fn decrypt_pages(keyring: &KeyringFile, page0: &Page0, bytes: &mut [u8]) {
    let Some(info) = &page0.encryption else { return };
    let cipher = keyring.cipher(Sealed::Tablespace(page0.space, &**info)).unwrap();
    for (number, page) in bytes.chunks_exact_mut(page0.layout.physical()).enumerate() {
        cipher.decrypt(Unit::Page(PageNo(number as u32)), page);
    }
}
