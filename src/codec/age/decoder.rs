//! Decrypts a stream: first reads its header, then gives out runs of chunks.

use crate::base::PageBuffer;

use super::super::input_buffer::InputBuffer;
use super::super::{CodecError, Layer};
use super::chunks::NONCE_LEN;
use super::keys::{uncover, work_factor};
use super::{Keys, SEALED, Sealer};

/// Maximum length of a header in bytes: some 700 recipients.
const HEADER_MAX: usize = 128 << 10;
/// Maximum number of chunks that are given out together.
const CHUNKS_MAX: usize = 16;
/// Beginning of the last line of a header.
const LAST_LINE: &[u8] = b"\n---";

/// Removes the encryption layer from a stream.
pub(crate) struct AgeDecoder {
    keys: Keys,
    /// Largest work factor of a passphrase that is accepted.
    work_max: u8,
    sealer: Option<Sealer>,
    /// Number of the next chunk.
    next: u64,
}

/// Encrypted chunks that follow each other.
pub struct Sealed {
    sealer: Sealer,
    first: u64,
    bytes: PageBuffer,
    /// True if the input ended behind them.
    ends: bool,
}

impl AgeDecoder {
    pub(crate) fn new(keys: Keys) -> AgeDecoder {
        AgeDecoder { keys, work_max: work_factor(0), sealer: None, next: 0 }
    }

    /// Sets the number of bytes that deriving a key from a passphrase may take.
    pub(crate) fn hardening(&mut self, memory: u64) {
        self.work_max = work_factor(memory);
    }

    pub(crate) fn poll(
        &mut self,
        feed: &mut InputBuffer,
        spare: &mut Option<PageBuffer>,
    ) -> Result<Option<Sealed>, CodecError> {
        let sealer = match &self.sealer {
            Some(sealer) => sealer,
            None => {
                let Some(len) = header_len(feed.unread())? else { return Ok(None) };
                let sealer = uncover(&feed.unread()[..len], &self.keys, self.work_max)?;
                feed.take(len);
                self.sealer.insert(sealer)
            }
        };
        // A chunk may be the last as long as nothing has come behind it.
        let chunks = (feed.unread().len().saturating_sub(1) / SEALED).min(CHUNKS_MAX);
        if chunks == 0 {
            return Ok(None);
        }
        let sealer = sealer.clone();
        let sealed = self.next_sealed(sealer, feed.take(chunks * SEALED), spare.take(), false);
        self.next += chunks as u64;
        Ok(Some(sealed))
    }

    pub(crate) fn finish(&mut self, feed: &mut InputBuffer) -> Result<Sealed, CodecError> {
        let cut = |at, unit| CodecError::Cut { layer: Layer::Age, at, unit };
        let Some(sealer) = &self.sealer else { return Err(cut(feed.end(), "header")) };
        let left = feed.unread().len();
        if left == 0 && self.next == 0 {
            return Err(cut(feed.end(), "chunk"));
        }
        let sealer = sealer.clone();
        Ok(self.next_sealed(sealer, feed.take(left), None, true))
    }

    fn next_sealed(&self, sealer: Sealer, bytes: &[u8], spare: Option<PageBuffer>, ends: bool) -> Sealed {
        let mut buffer = spare.unwrap_or_default();
        buffer.resize(bytes.len());
        buffer.copy_from_slice(bytes);
        Sealed { sealer, first: self.next, bytes: buffer, ends }
    }
}

/// Returns the offset of the first chunk, once it is known: it follows the line that begins with `---`, and
/// the nonce.
fn header_len(bytes: &[u8]) -> Result<Option<usize>, CodecError> {
    let searched = &bytes[..bytes.len().min(HEADER_MAX)];
    let line = searched.windows(LAST_LINE.len()).position(|w| w == LAST_LINE).map(|at| at + 1);
    let end = line.and_then(|line| searched[line..].iter().position(|b| *b == b'\n').map(|n| line + n + 1));
    match end {
        Some(end) if bytes.len() >= end + NONCE_LEN => Ok(Some(end + NONCE_LEN)),
        Some(_) => Ok(None),
        None if bytes.len() >= HEADER_MAX => {
            let what = format!("its header is longer than {HEADER_MAX} bytes");
            Err(CodecError::Refused { layer: Layer::Age, at: 0, what })
        }
        None => Ok(None),
    }
}

impl Sealed {
    /// Returns the number of bytes of memory that this takes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Authenticates and decrypts the chunks.
    pub(crate) fn open(mut self) -> Result<PageBuffer, CodecError> {
        let (mut at, mut written, mut number) = (0, 0, self.first);
        while at < self.bytes.len() {
            let end = self.bytes.len().min(at + SEALED);
            let last = self.ends && end == self.bytes.len();
            // The cipher overwrites data that it refuses.
            let kept = last.then(|| self.bytes[at..end].to_vec());
            let Some(len) = self.sealer.open(number, last, &mut self.bytes[written..end], at - written)
            else {
                return Err(self.diagnose(number, kept));
            };
            if last && len == 0 && number > 0 {
                // It is authentic, but no correct sender makes this.
                return Err(CodecError::Forged { chunk: number });
            }
            written += len;
            (at, number) = (end, number + 1);
        }
        self.bytes.resize(written);
        Ok(self.bytes)
    }

    /// Returns why a chunk could not be decrypted. A chunk with which the input ends is tried once more as
    /// one that is not the last.
    fn diagnose(&self, chunk: u64, last: Option<Vec<u8>>) -> CodecError {
        let Some(mut last) = last else { return CodecError::Forged { chunk } };
        if last.len() == SEALED && self.sealer.open(chunk, false, &mut last, 0).is_some() {
            return CodecError::CutChunks { chunk };
        }
        CodecError::CutChunk { chunk }
    }
}
