//! Encryption at rest: keyrings, and how a page, a redo block or a binary log is decrypted and encrypted again.
//!
//! What is encrypted carries, in the clear, what its key is found by ([`Sealed`], [`key_info`]). A [`Keyring`] gives the [`Cipher`]
//! for it, or says which key it lacks; without one, encrypted pages are copied as they are, and a copy with encrypted redo is left
//! to a server that has the keys. [`keyring_file`] reads the files of MySQL's keyrings; [`transition`]
//! holds the keys that travel to a receiver without them; [`NoKeyring`] has no keys.

mod cbc_cipher;
pub mod key_info;
pub mod keyring_file;
pub mod transition;

use std::fmt::Debug;
use std::sync::Arc;

use cbc_cipher::CbcCipher;
use key_info::{MasterKey, SpaceKey};

use crate::base::{Lsn, PageNo, SpaceId};

/// An encrypted object of a backup, with the bytes that identify its key.
#[derive(Clone, Copy, Debug)]
pub enum Sealed<'a> {
    /// A tablespace, with the encryption information of its page 0 (`Encryption::INFO_SIZE` bytes).
    Tablespace(SpaceId, &'a [u8]),
    /// A redo log, with the encryption information of its file header.
    Redo(&'a [u8]),
    /// A binary log, with its first bytes (`Rpl_encryption_header`).
    Binlog(&'a [u8]),
}

/// The part of an encrypted object that is to be decrypted or encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A page of a tablespace.
    Page(PageNo),
    /// The redo block that starts at this LSN.
    RedoBlock(Lsn),
    /// Bytes of a binary log from this offset on.
    Binlog(u64),
}

/// Finds keys.
pub trait Keyring: Debug + Send + Sync {
    /// Returns the key of `sealed`.
    ///
    /// # Errors
    /// [`NoKey`].
    fn key(&self, sealed: Sealed<'_>) -> Result<SpaceKey, NoKey>;

    /// Returns the cipher for `sealed`.
    ///
    /// # Errors
    /// [`NoKey`].
    fn cipher(&self, sealed: Sealed<'_>) -> Result<Arc<dyn Cipher>, NoKey> {
        Ok(Arc::new(CbcCipher(self.key(sealed)?)))
    }

    /// Returns the key of a binary log that begins with `header`, and its name in the keyring (`Rpl_encryption_header_v1`: magic,
    /// version, then fields of type, length and content; type 1 is the name).
    fn binlog_key(&self, _header: &[u8]) -> Option<(String, MasterKey)> {
        None
    }

    /// Returns whether it has keys: then nothing that they protect may be left in the clear.
    fn has_keys(&self) -> bool {
        true
    }
}

/// Error: there is no key for something encrypted. It names keys, and never shows one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoKey {
    /// No keyring was given; the name of the master key that is needed.
    #[error("needs the master key {0}, and no keyring was given")]
    NotGiven(String),
    /// The keyring lacks the master key with this name.
    #[error("needs the master key {0}, which the keyring does not have")]
    Missing(String),
    /// The keyring's master key of this name is another one.
    #[error("was not encrypted with the master key {0} that the keyring has")]
    Wrong(String),
    /// What should lead to the key is none of the formats that are known.
    #[error("does not say which key it needs")]
    Unknown,
}

/// Decrypts and encrypts with one key.
pub trait Cipher: Debug + Send + Sync {
    /// Decrypts `bytes` in place. Bytes that are not encrypted (page 0, a page that was written before the tablespace was
    /// encrypted) stay as they are.
    fn decrypt(&self, unit: Unit, bytes: &mut [u8]);

    /// Encrypts in place what the server would have encrypted.
    fn encrypt(&self, unit: Unit, bytes: &mut [u8]);
}

/// A keyring without keys.
#[derive(Clone, Copy, Debug)]
pub struct NoKeyring;

impl Keyring for NoKeyring {
    fn key(&self, sealed: Sealed<'_>) -> Result<SpaceKey, NoKey> {
        let (Sealed::Tablespace(_, info) | Sealed::Redo(info)) = sealed else { return Err(NoKey::Unknown) };
        let name = key_info::KeyInfo::parse(info).and_then(|info| info.master_key_name());
        Err(name.map_or(NoKey::Unknown, NoKey::NotGiven))
    }

    fn has_keys(&self) -> bool {
        false
    }
}
