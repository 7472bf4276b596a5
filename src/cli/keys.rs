//! Files with keys. What is in them is never shown.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::{Code, Error, Result};
use crate::codec::CodecError;
use crate::codec::age::{Key, Keys, Recipient, SecretString};
use crate::innodb::encryption::keyring_file::{KEYRING_MAX, KeyringFile};
use crate::innodb::encryption::{Keyring, NoKeyring};
use crate::send::Encryption;

use super::secrets;

/// Where a server's keyring file is found.
const KEYRING_HINT: &str =
    "its path stands in component_keyring_file.cnf, or in the server's keyring_file_data";
/// Longest passphrase, and longest list of recipients.
const PASSPHRASE_MAX: u64 = 4096;
const RECIPIENTS_MAX: u64 = 1 << 20;

/// Reads the options that say how `xbsend` encrypts.
///
/// # Errors
/// [`Code::Usage`]: a file can't be read or understood, or both ways were asked for.
pub(super) fn encryption(
    recipients: &[String],
    files: &[PathBuf],
    passphrase: Option<&Path>,
) -> Result<Encryption> {
    let mut all = Vec::new();
    for recipient in recipients {
        all.push(Recipient::parse(recipient)?);
    }
    for file in files {
        // Recipients are no secret.
        let text = secrets::read(file, RECIPIENTS_MAX, "a list of recipients", |_| false)?;
        all.extend(Recipient::parse_file(&text).map_err(|e| in_file(file, e))?);
    }
    match (all.is_empty(), passphrase) {
        (true, None) => Ok(Encryption::None),
        (false, None) => Ok(Encryption::Recipients(all)),
        (true, Some(file)) => Ok(Encryption::Passphrase(self::passphrase(file)?)),
        (false, Some(_)) => {
            Err(Error::new(Code::Usage, "a stream is encrypted to recipients or with a passphrase, not both")
                .hint("leave out --passphrase-file, or --encrypt-to and --encrypt-to-file"))
        }
    }
}

/// Reads the keys that `xbrecv` opens streams with.
///
/// # Errors
/// [`Code::Usage`]: a file can't be read or understood.
pub(super) fn keys(identities: &[PathBuf], passphrase: Option<&Path>) -> Result<Keys> {
    let mut keys = Vec::new();
    for file in identities {
        let open = File::open(file).map_err(|e| unreadable(file, e))?;
        secrets::warn_of(file, &open);
        keys.extend(Key::parse_file(&mut BufReader::new(open)).map_err(|e| in_file(file, e))?);
    }
    if let Some(file) = passphrase {
        keys.push(Key::passphrase(self::passphrase(file)?));
    }
    Ok(Keys::new(keys))
}

/// Reads the keyring that encrypted tablespaces are prepared or verified with.
///
/// # Errors
/// [`Code::Usage`]: the file can't be read, or is none.
pub(super) fn keyring(file: Option<&Path>) -> Result<Arc<dyn Keyring>> {
    let keyring = read_keyring(file)?;
    match file {
        Some(path) if !keyring.has_keys() => {
            let what = format!("{}: there is no master key of InnoDB in it", path.display());
            Err(Error::new(Code::Usage, what).hint(KEYRING_HINT))
        }
        _ => Ok(keyring),
    }
}

fn read_keyring(file: Option<&Path>) -> Result<Arc<dyn Keyring>> {
    let Some(path) = file else { return Ok(Arc::new(NoKeyring)) };
    let open = File::open(path).map_err(|e| unreadable(path, e))?;
    secrets::warn_of(path, &open);
    let mut content = Zeroizing::new(Vec::new());
    let read = open.take(KEYRING_MAX + 1).read_to_end(&mut content).map_err(|e| unreadable(path, e))?;
    if read as u64 > KEYRING_MAX {
        return Err(Error::new(Code::Usage, format!("{} is too large for a keyring file", path.display())));
    }
    let refused =
        |what: String| Error::new(Code::Usage, format!("{}: {what}", path.display())).hint(KEYRING_HINT);
    let keyring = KeyringFile::parse(&content).map_err(|e| refused(e.to_string()))?;
    let is_empty = keyring.names().next().is_none();
    Ok(if is_empty { Arc::new(NoKeyring) } else { Arc::new(keyring) })
}

/// Reads a keyring that is going to get its first key, perhaps: the file may be absent, or have none.
///
/// # Errors
/// [`Code::Usage`]: the file can't be read, or is none.
pub(super) fn keyring_if_any(file: Option<&Path>) -> Result<Arc<dyn Keyring>> {
    let is_new = |path: &Path| std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    match file {
        Some(path) if is_new(path) => Ok(Arc::new(NoKeyring)),
        file => read_keyring(file),
    }
}

/// A file's content as a passphrase, without the line break at its end.
fn passphrase(file: &Path) -> Result<SecretString> {
    let mut text = secrets::read(file, PASSPHRASE_MAX, "a passphrase", |_| true)?;
    let len = text.strip_suffix("\r\n").or(text.strip_suffix('\n')).map_or(text.len(), str::len);
    text.truncate(len);
    if text.is_empty() {
        return Err(Error::new(Code::Usage, format!("{}: there is no passphrase in it", file.display())));
    }
    Ok(SecretString::from(text))
}

fn unreadable(file: &Path, e: std::io::Error) -> Error {
    Error::io(Code::Usage, format!("can't read {}", file.display()), e)
}

fn in_file(file: &Path, e: CodecError) -> Error {
    Error::new(e.code(), format!("{}: {e}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::age::SecretString;
    use ::age::secrecy::ExposeSecret;

    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_line_break_at_the_end_is_no_part_of_a_passphrase() {
        for (text, meant) in [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a", " a")] {
            let secret: SecretString = passphrase(file(text).path()).unwrap();
            assert_eq!(secret.expose_secret(), meant);
        }
        assert_eq!(passphrase(file("\n").path()).unwrap_err().code, Code::Usage);
        assert_eq!(passphrase(Path::new("/does/not/exist")).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn recipients_come_from_the_command_line_and_from_files() {
        let list = file(&format!("# team\n\n{RECIPIENT}\n"));
        let both = encryption(&[RECIPIENT.into()], &[list.path().into()], None).unwrap();
        assert!(matches!(both, Encryption::Recipients(all) if all.len() == 2));
        let e = encryption(&[], &[file("nonsense\n").path().into()], None).unwrap_err();
        assert_eq!(e.code, Code::Usage);
        assert!(e.to_string().contains("line 1"), "{e}");
        let with_passphrase = encryption(&[RECIPIENT.into()], &[], Some(file("x").path()));
        assert_eq!(with_passphrase.unwrap_err().code, Code::Usage);
    }

    #[test]
    fn a_secret_key_is_not_repeated() {
        let secret = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ";
        let e = encryption(&[secret.into()], &[], None).unwrap_err();
        assert!(!e.to_string().contains("QQQQ"), "{e}");
        let e = keys(&[file(&format!("{secret}\n")).path().into()], None).unwrap_err();
        assert!(!e.to_string().contains("QQQQ") && e.code == Code::Usage, "{e}");
        assert_eq!(keys(&[file("# nothing\n").path().into()], None).unwrap_err().code, Code::Usage);
    }
}
