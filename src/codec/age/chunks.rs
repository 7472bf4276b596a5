//! Encrypts and decrypts the chunks of an encrypted stream.
//!
//! Each chunk is sealed with ChaCha20-Poly1305 under one key, derived from the file key and the nonce behind
//! the header (HKDF-SHA-256, info "payload"). A chunk's nonce is its number (11 bytes, big endian) and a byte
//! that is 1 for the last chunk only. So changing, dropping or moving a chunk, or ending the stream early, is
//! always noticed. All chunks but the last are full; the last is empty only if there is no other (the STREAM
//! construction; "Payload" in the specification).

use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use super::super::CodecError;

/// Number of plain bytes in a full chunk.
pub const CHUNK: usize = 64 << 10;
/// Number of bytes that encryption adds to a chunk.
pub const TAG: usize = 16;
/// Number of bytes in a full chunk after encryption.
pub const SEALED: usize = CHUNK + TAG;
/// Length in bytes of the nonce behind the header.
pub(super) const NONCE_LEN: usize = 16;

/// Encrypts and decrypts the chunks of one stream. Any number of threads may use it at once.
#[derive(Clone)]
pub struct Sealer {
    key: Arc<LessSafeKey>,
}

/// Full chunks that follow each other, none of which is the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRun {
    /// Number of the first chunk.
    pub first: u64,
    /// Count of the chunks.
    pub chunks: usize,
}

impl Sealer {
    /// Derives the key of a stream.
    pub(super) fn derive(file_key: &[u8; 16], nonce: &[u8; NONCE_LEN]) -> Result<Sealer, CodecError> {
        let failed = |_| CodecError::Internal("the key of the stream can't be derived".into());
        let secret = Salt::new(HKDF_SHA256, nonce).extract(file_key);
        let key = secret.expand(&[b"payload"], &CHACHA20_POLY1305).map(UnboundKey::from).map_err(failed)?;
        Ok(Sealer { key: Arc::new(LessSafeKey::new(key)) })
    }

    /// Encrypts one chunk in place; returns its tag.
    ///
    /// # Errors
    /// Those of [`Sealer::seal`].
    pub fn seal_chunk(&self, number: u64, last: bool, chunk: &mut [u8]) -> Result<[u8; TAG], CodecError> {
        let failed = || CodecError::Internal("the cipher refused a chunk".into());
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number, last), Aad::empty(), chunk)
            .map_err(|_| failed())?;
        tag.as_ref().try_into().map_err(|_| failed())
    }

    /// Decrypts the chunk that lies in `bytes` from `at` on, and moves it to the front of `bytes`. Returns
    /// its length, or `None` if it is not the chunk that was encrypted under this number.
    pub(super) fn open(&self, number: u64, last: bool, bytes: &mut [u8], at: usize) -> Option<usize> {
        self.key.open_within(nonce(number, last), Aad::empty(), bytes, at..).ok().map(|plain| plain.len())
    }
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = last.into();
    Nonce::assume_unique_for_key(nonce)
}
