//! Encryption: the age format (<https://c2sp.org/age>), version 1.
//!
//! A header holds the file key, wrapped for each recipient or with a passphrase; that is the `age` crate's work
//! ([`keys`]). Behind it come chunks of 64 KiB, each sealed for itself under its number ([`chunks`]); those are made and
//! opened here, because they are what takes time, and the crate does them one after the other.

mod body;
mod chunks;
mod keys;
mod undo;

pub use ::age::secrecy::SecretString;
pub use body::{Body, Carry};
pub use chunks::{CHUNK, Run, SEALED, Sealer, TAG};
pub use keys::{Cover, Key, Keys, Recipient, cover, cover_with_passphrase};
pub(super) use undo::AgeUndo;
pub use undo::Sealed;

/// What a binary age file begins with.
pub const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// What an armored one begins with.
pub const ARMOR_MAGIC: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
