//! The seam for keys: where a page, a redo block or a binary log is decrypted and encrypted again.
//!
//! What is encrypted carries, in the clear, what its key is found by ([`Sealed`]). A [`Keyring`] gives the [`Cipher`] for it,
//! or nothing; without one, encrypted pages are copied as they are, and a copy with encrypted redo is left to a server that
//! has the keys.
//! [`NoKeyring`] is all that there is so far: a keyring is one module that implements both traits.

use std::fmt::Debug;
use std::sync::Arc;

use crate::base::{Lsn, PageNo, SpaceId};

/// Something encrypted, and what its key is found by.
#[derive(Clone, Copy, Debug)]
pub enum Sealed<'a> {
    /// A tablespace, with the encryption information of its page 0 (`Encryption::INFO_SIZE` bytes).
    Tablespace(SpaceId, &'a [u8]),
    /// A redo log, with the encryption information of its file header.
    Redo(&'a [u8]),
    /// A binary log, with its first bytes (`Rpl_encryption_header`).
    Binlog(&'a [u8]),
}

/// The part of something encrypted that is at hand.
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
    /// The cipher for `sealed`; `None` where its key is not known.
    fn cipher(&self, sealed: Sealed<'_>) -> Option<Arc<dyn Cipher>>;
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
    fn cipher(&self, _sealed: Sealed<'_>) -> Option<Arc<dyn Cipher>> {
        None
    }
}
