//! Buffers bytes that have arrived and were not parsed yet.

use std::ops::Range;

/// Minimum number of bytes of room that is offered for reading.
const ROOM: usize = 256 << 10;
/// Initial size of the buffer in bytes.
const FIRST: usize = 1 << 20;

/// A buffer that holds the unread part of the input.
pub(super) struct InputBuffer {
    buf: Vec<u8>,
    unread: Range<usize>,
    at: u64,
}

impl InputBuffer {
    pub(super) fn new() -> InputBuffer {
        InputBuffer { buf: vec![0; FIRST], unread: 0..0, at: 0 }
    }

    /// Returns the buffer to read into.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        if self.buf.len() - self.unread.end < ROOM {
            self.buf.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            let wanted = self.unread.end + ROOM;
            if self.buf.len() < wanted {
                self.buf.resize(wanted.next_power_of_two(), 0);
            }
        }
        &mut self.buf[self.unread.end..]
    }

    /// Records that `n` bytes were read into [`InputBuffer::space`].
    pub(super) fn filled(&mut self, n: usize) {
        assert!(n <= self.buf.len() - self.unread.end, "more bytes than there was space for");
        self.unread.end += n;
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.buf[self.unread.clone()]
    }

    /// Moves past `n` bytes and returns them.
    pub(super) fn take(&mut self, n: usize) -> &mut [u8] {
        let taken = self.unread.start..self.unread.start + n;
        assert!(taken.end <= self.unread.end, "more bytes than there are");
        self.unread.start += n;
        self.at += n as u64;
        &mut self.buf[taken]
    }

    /// Returns the offset of the first unread byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Returns the offset behind the last byte that arrived.
    pub(super) fn end(&self) -> u64 {
        self.at + self.unread.len() as u64
    }
}
