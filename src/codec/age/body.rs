//! Gathers the bytes of a stream and cuts them into chunks to encrypt.
//!
//! Chunks do not end where the pieces of a stream end. When a piece's turn comes, it takes over the bytes
//! that the piece before left, and leaves those that do not fill a chunk. These two short copies are all that
//! must be done in turn; the chunks are encrypted after that.

use crate::base::PageBuffer;

use super::super::CodecError;
use super::{CHUNK, ChunkRun, Sealer, TAG};

/// Bytes of one piece of a stream, with room for a chunk before them.
pub struct Body {
    buf: PageBuffer,
    start: usize,
    end: usize,
}

impl Default for Body {
    fn default() -> Self {
        Body { buf: PageBuffer::new(CHUNK), start: CHUNK, end: CHUNK }
    }
}

impl Body {
    /// Empties the body.
    pub fn clear(&mut self) {
        (self.start, self.end) = (CHUNK, CHUNK);
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.end]
    }

    /// Returns the bytes, a chunk at a time.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(CHUNK)
    }

    /// Returns room for `len` bytes behind the last one; the content of the room is undefined.
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        let (end, wanted) = (self.end, self.end + len);
        if self.buf.len() < wanted {
            self.buf.resize(wanted);
        }
        &mut self.buf[end..wanted]
    }

    /// Records that `n` bytes were put into [`Body::space`].
    pub fn filled(&mut self, n: usize) {
        assert!(self.end + n <= self.buf.len(), "more bytes than there was space for");
        self.end += n;
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
        self.filled(bytes.len());
    }
}

impl Sealer {
    /// Encrypts the chunks that `body` holds. Their tags, which follow them in the stream, are put into
    /// `tags`.
    ///
    /// # Errors
    /// [`CodecError::Internal`]: the cipher refused.
    pub fn seal(&self, run: ChunkRun, body: &mut Body, tags: &mut Vec<[u8; TAG]>) -> Result<(), CodecError> {
        tags.clear();
        for (number, chunk) in (run.first..).zip(body.bytes_mut().chunks_exact_mut(CHUNK)) {
            tags.push(self.seal_chunk(number, false, chunk)?);
        }
        Ok(())
    }
}

/// The bytes left over so far, and their position in the stream. They are not encrypted before more bytes
/// come, because they might be the last.
pub struct Carry {
    left: Vec<u8>,
    next: u64,
}

impl Default for Carry {
    fn default() -> Self {
        Carry { left: Vec::with_capacity(CHUNK), next: 0 }
    }
}

impl Carry {
    /// Adds `body` to the stream (after it was [cleared](Body::clear) and filled). Whole chunks remain in it,
    /// to be encrypted; returns `None` if there are none.
    pub fn take(&mut self, body: &mut Body) -> Option<ChunkRun> {
        let start = body.start - self.left.len();
        body.buf[start..body.start].copy_from_slice(&self.left);
        body.start = start;
        let bytes = body.bytes();
        // At least one byte is left over.
        let chunks = bytes.len().saturating_sub(1) / CHUNK;
        self.left.clear();
        self.left.extend_from_slice(&bytes[chunks * CHUNK..]);
        body.end = body.start + chunks * CHUNK;
        let run = ChunkRun { first: self.next, chunks };
        self.next += chunks as u64;
        (chunks > 0).then_some(run)
    }

    /// Ends the stream; returns its last chunk, encrypted.
    ///
    /// # Errors
    /// [`CodecError::Internal`]: the cipher refused.
    pub fn finish(&mut self, sealer: &Sealer) -> Result<Vec<u8>, CodecError> {
        let mut last = std::mem::take(&mut self.left);
        let tag = sealer.seal_chunk(self.next, true, &mut last)?;
        last.extend_from_slice(&tag);
        Ok(last)
    }
}
