//! Implements encryption: the age format (<https://c2sp.org/age>), version 1.
//!
//! A header holds the file key, wrapped for each recipient or with a passphrase; the `age` crate does that
//! (`keys`). Behind it come chunks of 64 KiB, each encrypted separately under its number (`chunks`). Those
//! are made and decrypted here, because they take most of the time, and the crate handles them one after the
//! other.

mod body;
mod chunks;
mod decoder;
mod keys;

pub use ::age::secrecy::SecretString;
pub use body::{Body, Carry};
pub use chunks::{CHUNK, ChunkRun, SEALED, Sealer, TAG};
pub(super) use decoder::AgeDecoder;
pub use decoder::Sealed;
pub use keys::{
    Key, Keys, Recipient, StreamEncryption, cover, cover_with_passphrase, decrypt, encrypt,
    encrypt_with_passphrase,
};

/// First bytes of a binary age file.
pub const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// First bytes of an armored age file.
pub const ARMOR_MAGIC: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
