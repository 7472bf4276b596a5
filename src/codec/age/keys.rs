//! Handles keys: recipients and passphrases to encrypt to, secret keys and passphrases to decrypt with, and
//! the header of an encrypted stream.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{BufRead, Read, Write};
use std::sync::Arc;

use age::secrecy::{ExposeSecret, SecretString};
use age::{DecryptError, Decryptor, EncryptError, Encryptor, Identity, scrypt, x25519};
use age_core::format::{FileKey, Stanza};

use zeroize::Zeroizing;

use super::super::{CodecError, Lock};
use super::Sealer;
use super::chunks::NONCE_LEN;

/// Work factor with which a passphrase is hardened: 2^17 rounds of scrypt, half a second or less, and 128 MiB
/// for that long. That is what OWASP's Password Storage Cheat Sheet asks for; the age program takes twice as
/// much, which a server's machine may not have.
const WORK_FACTOR: u8 = 17;
/// Work factor that is accepted however little memory there is: that of the age program.
const WORK_FACTOR_USUAL: u8 = 18;
/// Greatest work factor that is ever accepted from a stream: 4 GiB and some 16 seconds.
const WORK_FACTOR_MAX: u8 = 22;
/// Number of bytes per round: a work factor n takes 2^n times this many. The block size r is 8 in this
/// format, and scrypt keeps 128 r bytes a round.
const ROUND_LEN: u64 = 1 << 10;

/// A recipient of an encrypted stream: a public key.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    /// Reads a recipient as `age-keygen` prints it: `age1…`.
    ///
    /// # Errors
    /// [`CodecError::BadKey`]. It does not repeat a text that looks like a secret key.
    pub fn parse(text: &str) -> Result<Recipient, CodecError> {
        let bad = |why: &str| CodecError::BadKey(why.to_owned());
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(bad(
                "that is a secret key, not a recipient: age-keygen -y FILE shows the recipient of a key",
            ));
        }
        if text.starts_with("ssh-") {
            return Err(bad("keys of ssh are not taken as recipients: make one with age-keygen"));
        }
        let parsed = text.parse().map(Recipient);
        parsed.map_err(|e| CodecError::BadKey(format!("'{}' is no recipient: {e}", text.escape_debug())))
    }

    /// Reads the recipients of a file, one per line, with `#` before comments.
    ///
    /// # Errors
    /// [`CodecError::BadKey`] names the line.
    pub fn parse_file(text: &str) -> Result<Vec<Recipient>, CodecError> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let parsed = lines.map(|(n, line)| {
            Recipient::parse(line).map_err(|e| CodecError::BadKey(format!("line {}: {e}", n + 1)))
        });
        let recipients = parsed.collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() {
            return Err(CodecError::BadKey("there is no recipient in it".into()));
        }
        Ok(recipients)
    }
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// The keys for decrypting streams. They are shared, not copied, and never shown.
#[derive(Clone, Default)]
pub struct Keys(Arc<Vec<Key>>);

/// One key for decrypting: a secret key or a passphrase.
pub struct Key(KeyKind);

enum KeyKind {
    Secret(Box<dyn Identity + Send + Sync>),
    Passphrase(SecretString),
}

impl Keys {
    /// Creates a set of `keys`; each is tried.
    pub fn new(keys: Vec<Key>) -> Keys {
        Keys(Arc::new(keys))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Key {
    /// Reads the secret keys of a file, as `age-keygen` writes it.
    ///
    /// # Errors
    /// [`CodecError::BadKey`]; it repeats nothing of the file.
    pub fn parse_file(file: &mut dyn BufRead) -> Result<Vec<Key>, CodecError> {
        let bad = |e: String| CodecError::BadKey(e);
        let file = age::IdentityFile::from_buffer(file).map_err(|e| bad(e.to_string()))?;
        let identities = file.into_identities().map_err(|e| bad(e.to_string()))?;
        if identities.is_empty() {
            return Err(bad("there is no secret key in it".into()));
        }
        Ok(identities.into_iter().map(|identity| Key(KeyKind::Secret(identity))).collect())
    }

    /// Creates a key from a passphrase.
    pub fn passphrase(passphrase: SecretString) -> Key {
        Key(KeyKind::Passphrase(passphrase))
    }
}

/// The start of an encrypted stream, and the encryptor for the rest.
pub struct StreamEncryption {
    /// Header of the encrypted stream.
    pub head: Vec<u8>,
    /// Encryptor of the chunks.
    pub sealer: Sealer,
}

/// Prepares encryption to recipients, each of whom can decrypt the stream.
///
/// # Errors
/// [`CodecError::BadKey`] if there are none.
pub fn cover(recipients: &[Recipient]) -> Result<StreamEncryption, CodecError> {
    let recipients: Vec<&dyn age::Recipient> = recipients.iter().map(|r| &r.0 as _).collect();
    cover_to(&recipients)
}

/// Prepares encryption with a passphrase.
///
/// # Errors
/// [`CodecError::Internal`].
pub fn cover_with_passphrase(passphrase: SecretString) -> Result<StreamEncryption, CodecError> {
    let mut recipient = scrypt::Recipient::new(passphrase);
    recipient.set_work_factor(WORK_FACTOR);
    cover_to(&[&recipient])
}

/// Encrypts a short text as an age file for these recipients.
///
/// # Errors
/// [`CodecError::BadKey`] if there are none.
pub fn encrypt(recipients: &[Recipient], text: &[u8]) -> Result<Vec<u8>, CodecError> {
    let recipients: Vec<&dyn age::Recipient> = recipients.iter().map(|r| &r.0 as _).collect();
    encrypt_to(&recipients, text)
}

/// Encrypts a short text as an age file with a passphrase.
///
/// # Errors
/// [`CodecError::Internal`].
pub fn encrypt_with_passphrase(passphrase: SecretString, text: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut recipient = scrypt::Recipient::new(passphrase);
    recipient.set_work_factor(WORK_FACTOR);
    encrypt_to(&[&recipient], text)
}

fn encrypt_to(recipients: &[&dyn age::Recipient], text: &[u8]) -> Result<Vec<u8>, CodecError> {
    let encryptor = Encryptor::with_recipients(recipients.iter().copied())
        .map_err(|e| CodecError::BadKey(e.to_string()))?;
    let mut file = Vec::new();
    let written = encryptor.wrap_output(&mut file).and_then(|mut writer| {
        writer.write_all(text)?;
        writer.finish().map(drop)
    });
    written.map_err(|e| CodecError::Internal(e.to_string()))?;
    Ok(file)
}

/// Decrypts an age file of at most `max` bytes of text.
///
/// # Errors
/// [`CodecError`].
pub fn decrypt(keys: &Keys, file: &[u8], max: u64) -> Result<Zeroizing<String>, CodecError> {
    let decryptor =
        Decryptor::new_buffered(file).map_err(|e| refused(e, Lock::Recipients, WORK_FACTOR_USUAL))?;
    let lock = if decryptor.is_scrypt() { Lock::Passphrase } else { Lock::Recipients };
    let passphrases: Vec<scrypt::Identity> =
        keys.0.iter().filter_map(|key| key.as_passphrase(WORK_FACTOR_USUAL)).collect();
    let tried: Vec<&dyn Identity> = match lock {
        Lock::Recipients => keys.0.iter().filter_map(Key::secret).collect(),
        Lock::Passphrase => passphrases.iter().map(|p| p as _).collect(),
    };
    if tried.is_empty() {
        return Err(CodecError::NoKey(lock));
    }
    let reader = decryptor.decrypt(tried.into_iter()).map_err(|e| refused(e, lock, WORK_FACTOR_USUAL))?;
    let mut text = Zeroizing::new(String::with_capacity(max.min(file.len() as u64) as usize));
    reader.take(max).read_to_string(&mut text).map_err(|_| corrupt("it does not end as it was encrypted"))?;
    Ok(text)
}

fn cover_to(recipients: &[&dyn age::Recipient]) -> Result<StreamEncryption, CodecError> {
    let file_key = RefCell::new(None);
    let listening: Vec<_> = recipients.iter().map(|to| Listening { to: *to, file_key: &file_key }).collect();
    let encryptor = Encryptor::with_recipients(listening.iter().map(|l| l as _))
        .map_err(|e| CodecError::BadKey(e.to_string()))?;
    let mut head = Vec::new();
    // The library's writer would encrypt chunks; only the header that it wrote before the first is used.
    drop(encryptor.wrap_output(&mut head).map_err(|e| CodecError::Internal(e.to_string()))?);
    let missing = || CodecError::Internal("the age library did not tell the key".into());
    let file_key = file_key.into_inner().ok_or_else(missing)?;
    let nonce = head.last_chunk::<NONCE_LEN>().ok_or_else(missing)?;
    let sealer = Sealer::derive(file_key.expose_secret(), nonce)?;
    Ok(StreamEncryption { head, sealer })
}

/// A recipient that notes the file key it is asked to wrap; the library does not reveal that key otherwise.
struct Listening<'a> {
    to: &'a dyn age::Recipient,
    file_key: &'a RefCell<Option<FileKey>>,
}

impl age::Recipient for Listening<'_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        *self.file_key.borrow_mut() = Some(FileKey::new(Box::new(*file_key.expose_secret())));
        self.to.wrap_file_key(file_key)
    }
}

/// A key that notes the file key it unwrapped.
struct Noting<'a> {
    key: &'a dyn Identity,
    file_key: &'a RefCell<Option<FileKey>>,
}

impl Identity for Noting<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let unwrapped = self.key.unwrap_stanza(stanza)?;
        if let Ok(file_key) = &unwrapped {
            *self.file_key.borrow_mut() = Some(FileKey::new(Box::new(*file_key.expose_secret())));
        }
        Some(unwrapped)
    }
}

/// Returns the largest work factor that takes no more than `memory` bytes; the one that the age program uses
/// is always accepted.
pub(super) fn work_factor(memory: u64) -> u8 {
    let factor = (memory / ROUND_LEN).checked_ilog2().unwrap_or_default();
    (factor as u8).clamp(WORK_FACTOR_USUAL, WORK_FACTOR_MAX)
}

/// Returns the decryptor for the chunks behind `head`, which ends with the nonce. `work_max` is the largest
/// work factor that is accepted.
pub(super) fn uncover(head: &[u8], keys: &Keys, work_max: u8) -> Result<Sealer, CodecError> {
    let decryptor = Decryptor::new_buffered(head).map_err(|e| refused(e, Lock::Recipients, work_max))?;
    let lock = if decryptor.is_scrypt() { Lock::Passphrase } else { Lock::Recipients };
    let passphrases: Vec<scrypt::Identity>;
    let tried: Vec<&dyn Identity> = match lock {
        Lock::Recipients => keys.0.iter().filter_map(Key::secret).collect(),
        Lock::Passphrase => {
            passphrases = keys.0.iter().filter_map(|key| key.as_passphrase(work_max)).collect();
            passphrases.iter().map(|p| p as _).collect()
        }
    };
    if tried.is_empty() {
        return Err(CodecError::NoKey(lock));
    }
    let file_key = RefCell::new(None);
    let noting: Vec<_> = tried.iter().map(|key| Noting { key: *key, file_key: &file_key }).collect();
    // The library checks the header's own authentication before it succeeds.
    decryptor.decrypt(noting.iter().map(|n| n as _)).map_err(|e| refused(e, lock, work_max))?;
    let missing = || CodecError::Internal("the age library did not tell the key".into());
    let file_key = file_key.into_inner().ok_or_else(missing)?;
    Sealer::derive(file_key.expose_secret(), head.last_chunk::<NONCE_LEN>().ok_or_else(missing)?)
}

impl Key {
    fn secret(&self) -> Option<&dyn Identity> {
        match &self.0 {
            KeyKind::Secret(identity) => Some(&**identity),
            KeyKind::Passphrase(_) => None,
        }
    }

    fn as_passphrase(&self, work_max: u8) -> Option<scrypt::Identity> {
        match &self.0 {
            KeyKind::Secret(_) => None,
            KeyKind::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(work_max);
                Some(identity)
            }
        }
    }
}

fn corrupt(what: &str) -> CodecError {
    CodecError::Corrupt { layer: super::super::Layer::Age, at: 0, what: what.to_owned() }
}

fn refused(e: DecryptError, lock: Lock, work_max: u8) -> CodecError {
    match e {
        DecryptError::NoMatchingKeys if lock == Lock::Recipients => CodecError::WrongKey(lock),
        DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed
            if lock == Lock::Passphrase =>
        {
            CodecError::WrongPassphrase
        }
        DecryptError::ExcessiveWork { required, .. } => CodecError::Work { required, max: work_max },
        DecryptError::InvalidMac => corrupt("the header was changed: its authentication fails"),
        DecryptError::UnknownFormat => corrupt("the header is of a newer version of the format"),
        _ => corrupt("the header can't be understood"),
    }
}
