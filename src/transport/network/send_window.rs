//! Implements the send window: it keeps the bytes of the stream that the other side has not acknowledged as
//! safe, in case they must be sent again.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};

/// Maximum number of bytes that are kept.
pub(super) const WINDOW_BYTES_MAX: usize = 32 << 20;
/// Maximum size of a piece in which bytes are kept.
const PIECE: usize = 256 << 10;

/// The send window: the bytes of the stream from a certain offset on.
#[derive(Debug, Default)]
pub(super) struct Window {
    pieces: VecDeque<(u64, Bytes)>,
    bytes: usize,
    end: u64,
}

impl Window {
    /// Returns the number of bytes that may still be added.
    pub(super) fn room(&self) -> usize {
        WINDOW_BYTES_MAX.saturating_sub(self.bytes)
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        let start = self.end;
        self.end += piece.len() as u64;
        self.pieces.push_back((start, piece));
    }

    /// Returns the number of bytes from `start` on that lie in one piece.
    pub(super) fn contiguous(&self, start: u64) -> usize {
        self.piece(start).map_or(0, |(at, piece)| piece.len() - (start - at) as usize)
    }

    /// Returns the `len` bytes from `start` on, which must lie in one piece.
    pub(super) fn get(&self, start: u64, len: usize) -> Bytes {
        match self.piece(start) {
            Some((at, piece)) => piece.slice((start - at) as usize..).split_to(len),
            None => Bytes::new(),
        }
    }

    fn piece(&self, start: u64) -> Option<&(u64, Bytes)> {
        let n = self.pieces.partition_point(|(at, _)| *at <= start).checked_sub(1)?;
        self.pieces.get(n).filter(|(at, piece)| start < at + piece.len() as u64)
    }

    /// Removes pieces that lie below `upto`.
    pub(super) fn release(&mut self, upto: u64) {
        while let Some((at, piece)) = self.pieces.front()
            && at + piece.len() as u64 <= upto
        {
            self.bytes -= piece.len();
            self.pieces.pop_front();
        }
    }
}

/// Copies the first bytes of `parts` into one piece, at most `room` of them.
pub(super) fn gather(parts: &[IoSlice<'_>], room: usize) -> Bytes {
    let len = parts.iter().map(|p| p.len()).sum::<usize>().min(room).min(PIECE);
    let mut piece = BytesMut::with_capacity(len);
    for part in parts {
        let left = len - piece.len();
        piece.put_slice(&part[..part.len().min(left)]);
    }
    piece.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept_until_they_are_safe() {
        let mut window = Window::default();
        let parts = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defgh")];
        window.push(gather(&parts, 5));
        window.push(gather(&parts[2..], 100));
        assert_eq!((window.bytes, window.end), (10, 10));
        assert_eq!((window.contiguous(3), window.contiguous(5), window.contiguous(10)), (2, 5, 0));
        assert_eq!(window.get(3, 2), "de");
        assert_eq!(window.get(6, 3), "efg");
        window.release(4);
        assert_eq!(window.bytes, 10);
        window.release(5);
        assert_eq!((window.bytes, window.contiguous(4), window.contiguous(5)), (5, 0, 5));
        assert_eq!(window.room(), WINDOW_BYTES_MAX - 5);
    }
}
