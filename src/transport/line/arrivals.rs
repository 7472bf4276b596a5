//! Bytes of the stream that have come and that nobody has read yet.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// Bytes in order that may wait to be read.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Bytes that may wait for those before them.
const AHEAD_BYTES_MAX: usize = 32 << 20;

/// What has come.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    queue: VecDeque<Bytes>,
    queued: usize,
    ahead: BTreeMap<u64, Bytes>,
    ahead_bytes: usize,
    /// Where the queue ends.
    end: u64,
    read: u64,
    /// Nobody will read any more.
    discard: bool,
}

impl Arrivals {
    /// Whether there is room for bytes at `offset`. The first missing ones always find some once the queue is read.
    pub(super) fn has_room(&self, offset: u64, len: usize) -> bool {
        match offset == self.end {
            _ if self.discard => true,
            true => self.queued < QUEUE_BYTES_MAX,
            false => self.ahead_bytes + len <= AHEAD_BYTES_MAX,
        }
    }

    /// Takes bytes that were checked to be new; whether there is more to read now.
    pub(super) fn put(&mut self, offset: u64, bytes: Bytes) -> bool {
        if self.discard {
            return false;
        }
        if offset != self.end {
            self.ahead_bytes += bytes.len();
            self.ahead.insert(offset, bytes);
            return false;
        }
        self.append(bytes);
        while let Some(bytes) = self.ahead.remove(&self.end) {
            self.ahead_bytes -= bytes.len();
            self.append(bytes);
        }
        true
    }

    fn append(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.end += bytes.len() as u64;
        self.queue.push_back(bytes);
    }

    /// The next bytes to read.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let bytes = self.queue.pop_front()?;
        self.queued -= bytes.len();
        self.read += bytes.len() as u64;
        Some(bytes)
    }

    /// How many bytes were read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Forgets everything, and takes nothing from now on.
    pub(super) fn discard(&mut self) {
        *self = Arrivals { discard: true, read: self.read, end: self.end, ..Arrivals::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_put_in_order() {
        let mut a = Arrivals::default();
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
        let mut a = Arrivals::default();
        let piece = Bytes::from(vec![0; 1 << 20]);
        for n in 1..=AHEAD_BYTES_MAX >> 20 {
            assert!(a.has_room((n as u64) << 20, piece.len()));
            a.put((n as u64) << 20, piece.clone());
        }
        assert!(!a.has_room(1 << 40, 1) && a.has_room(0, piece.len()));
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
}
