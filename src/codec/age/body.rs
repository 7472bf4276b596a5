//! Gathers the bytes of a stream and cuts them into chunks to encrypt.
//!
//! Chunks don't care where the pieces of a stream end. When a piece's turn comes, it takes what the one before left over, and
//! leaves what does not fill a chunk: two short copies, all that has to be done in turn. The chunks are sealed after that.

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
    /// Makes it empty.
    pub fn clear(&mut self) {
        (self.start, self.end) = (CHUNK, CHUNK);
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.end]
    }

    /// The bytes, a chunk at a time.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(CHUNK)
    }

    /// Room for `len` bytes behind the last; what is in it is anything.
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        let (end, wanted) = (self.end, self.end + len);
        if self.buf.len() < wanted {
            self.buf.resize(wanted);
        }
        &mut self.buf[end..wanted]
    }

    /// `n` bytes were put into [`Body::space`].
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
    /// Seals the chunks that `body` holds; their tags, which follow them on the line, are put into `tags`.
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

/// What was left over so far, and where in the stream it stands. It is never sealed before more comes: it might be the last.
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
    /// `body` comes next in the stream (after it was [cleared](Body::clear) and filled). Whole chunks stay in it, to be
    /// sealed; `None` if there are none.
    pub fn take(&mut self, body: &mut Body) -> Option<ChunkRun> {
        let start = body.start - self.left.len();
        body.buf[start..body.start].copy_from_slice(&self.left);
        body.start = start;
        let bytes = body.bytes();
        // One byte at least is left over.
        let chunks = bytes.len().saturating_sub(1) / CHUNK;
        self.left.clear();
        self.left.extend_from_slice(&bytes[chunks * CHUNK..]);
        body.end = body.start + chunks * CHUNK;
        let run = ChunkRun { first: self.next, chunks };
        self.next += chunks as u64;
        (chunks > 0).then_some(run)
    }

    /// Nothing comes any more: the last chunk, sealed.
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
