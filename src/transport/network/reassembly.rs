//! Implements the reassembly buffer: it holds bytes of the stream that have arrived, in any order, and that
//! nobody has read yet.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::session::frame::DATA_MAX;

/// Maximum number of bytes in order that may wait to be read.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Maximum number of bytes that may wait for those before them.
const AHEAD_BYTES_MAX: usize = 32 << 20;
/// Number of bytes charged for each piece in addition to its length: the cost of storing it, so that many
/// small pieces take no more memory than a few large ones.
const PIECE_COST: usize = 256;

/// The bytes that have arrived and were not read yet.
#[derive(Debug, Default)]
pub(super) struct ReassemblyBuffer {
    queue: VecDeque<Bytes>,
    queued: usize,
    ahead: BTreeMap<u64, Bytes>,
    ahead_bytes: usize,
    /// Offset at which the queue ends.
    end: u64,
    read: u64,
    /// True once nobody will read any more.
    discard: bool,
}

impl ReassemblyBuffer {
    /// Returns whether there is room for bytes at `offset`. For the first missing bytes there always is, once
    /// the queue has been read.
    pub(super) fn has_room(&self, offset: u64, len: usize) -> bool {
        match offset == self.end {
            _ if self.discard => true,
            true => self.queued < QUEUE_BYTES_MAX,
            false => self.ahead_bytes + cost(len) <= AHEAD_BYTES_MAX,
        }
    }

    /// Returns whether `offset` is that of the first missing byte.
    pub(super) fn is_next(&self, offset: u64) -> bool {
        offset == self.end
    }

    /// Adds bytes that were checked to be new; returns whether there is more to read now.
    pub(super) fn put(&mut self, offset: u64, bytes: Bytes) -> bool {
        if self.discard {
            return false;
        }
        // A small piece would keep the whole buffer alive that it was read into.
        let bytes = if bytes.len() < DATA_MAX { Bytes::copy_from_slice(&bytes) } else { bytes };
        if offset != self.end {
            self.ahead_bytes += cost(bytes.len());
            self.ahead.insert(offset, bytes);
            return false;
        }
        self.append(bytes);
        while let Some(bytes) = self.ahead.remove(&self.end) {
            self.ahead_bytes -= cost(bytes.len());
            self.append(bytes);
        }
        true
    }

    fn append(&mut self, bytes: Bytes) {
        self.queued += cost(bytes.len());
        self.end += bytes.len() as u64;
        self.queue.push_back(bytes);
    }

    /// Takes the next bytes to read.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let bytes = self.queue.pop_front()?;
        self.queued -= cost(bytes.len());
        self.read += bytes.len() as u64;
        Some(bytes)
    }

    /// Returns the number of bytes that were read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Discards everything, and accepts nothing from now on.
    pub(super) fn discard(&mut self) {
        *self =
            ReassemblyBuffer { discard: true, read: self.read, end: self.end, ..ReassemblyBuffer::default() };
    }
}

fn cost(len: usize) -> usize {
    len.saturating_add(PIECE_COST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_put_in_order() {
        let mut a = ReassemblyBuffer::default();
        assert!(!a.put(3, Bytes::from_static(b"de")));
        assert!(!a.put(7, Bytes::from_static(b"h")));
        assert_eq!(a.take(), None);
        assert!(a.put(0, Bytes::from_static(b"abc")));
        assert!(a.put(5, Bytes::from_static(b"fg")));
        let all: Vec<u8> = std::iter::from_fn(|| a.take()).flatten().collect();
        assert_eq!(all, b"abcdefgh");
        assert_eq!((a.read(), a.queued, a.ahead_bytes), (8, 0, 0));
    }

    #[test]
    fn room_is_bounded_but_the_first_missing_byte_finds_it() {
        let mut a = ReassemblyBuffer::default();
        let piece = Bytes::from(vec![0; 1 << 20]);
        for n in 1..AHEAD_BYTES_MAX >> 20 {
            assert!(a.has_room((n as u64) << 20, piece.len()));
            a.put((n as u64) << 20, piece.clone());
        }
        assert!(!a.has_room(1 << 40, piece.len()) && a.has_room(0, piece.len()));
        a.put(0, piece.clone());
        let end = a.end;
        assert!(!a.has_room(end, 1));
        while a.queued >= QUEUE_BYTES_MAX {
            a.take();
        }
        assert!(a.has_room(end, 1));
        a.discard();
        assert!(a.has_room(u64::MAX, usize::MAX) && !a.put(0, piece));
    }

    #[test]
    fn many_small_pieces_take_no_more_than_few_large_ones() {
        let (mut a, large) = (ReassemblyBuffer::default(), Bytes::from(vec![0; 1 << 20]));
        let mut pieces = 0;
        while a.has_room(2 * pieces + 1, 1) {
            a.put(2 * pieces + 1, large.slice(..1));
            pieces += 1;
        }
        assert!(pieces as usize * PIECE_COST <= AHEAD_BYTES_MAX);
        let mut queued = 0;
        let mut b = ReassemblyBuffer::default();
        while b.has_room(queued, 1) {
            b.put(queued, large.slice(..1));
            queued += 1;
        }
        assert!(queued as usize * PIECE_COST <= QUEUE_BYTES_MAX + PIECE_COST);
        drop((a, b));
        assert!(large.is_unique(), "a piece keeps what it was cut from");
    }
}
