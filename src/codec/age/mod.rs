//! Encryption: the age format (<https://c2sp.org/age>), version 1.
//!
//! A header holds the file key, wrapped for each recipient or with a passphrase; that is the `age` crate's work
//! (`keys`). Behind it come chunks of 64 KiB, each sealed for itself under its number (`chunks`); those are made and
//! opened here, because they are what takes time, and the crate does them one after the other.

mod body;
mod chunks;
mod decoder;
mod keys;

pub use ::age::secrecy::SecretString;
pub use body::{Body, Carry};
pub use chunks::{CHUNK, ChunkRun, SEALED, Sealer, TAG};
pub(super) use decoder::AgeDecoder;
pub use decoder::Sealed;
pub use keys::{Key, Keys, Recipient, StreamEncryption, cover, cover_with_passphrase};

/// The first bytes of a binary age file.
pub const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// The first bytes of an armored age file.
pub const ARMOR_MAGIC: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
