//! Represents chunks of members, and their ends, as the demuxer gives them out.

use super::digest::{self, BLOCK, BlockDigest, Leaf};
use super::error::{DemuxError, Fault};
use super::frame::{Extent, payload_crc, sparse_crc};
use super::name::MemberName;
use crate::base::PageBuffer;

/// One step of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Another part of a member.
    Chunk(Chunk),
    /// The end of a member, which is complete.
    End {
        /// Name of the member.
        member: MemberName,
        /// Size of the member in bytes, holes included.
        size: u64,
    },
}

/// A part of a member, as one frame carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Name of the member.
    pub member: MemberName,
    /// Offset in the member.
    pub offset: u64,
    /// Map of the chunk's holes; empty if it has none. The lengths add up to that of the payload.
    pub map: Vec<Extent>,
    /// Bytes of the chunk, without holes. [`Demux::recycle`](super::Demux::recycle) takes the buffer back.
    pub payload: PageBuffer,
    /// Checksum that [`Chunk::verify`] compares with.
    pub crc: u32,
    /// True if it came as a sparse frame (whose map may be empty).
    pub sparse: bool,
    /// Offset of its frame in the stream.
    pub at: u64,
}

/// A part of a chunk, either a hole or bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// A hole, which reads as that many zeros.
    Hole(u64),
    /// Bytes.
    Data(&'a [u8]),
}

impl Piece<'_> {
    /// Returns the number of bytes of the member that the piece covers.
    pub fn logical_len(&self) -> u64 {
        match self {
            Piece::Hole(n) => *n,
            Piece::Data(bytes) => bytes.len() as u64,
        }
    }
}

/// The pieces of a chunk, to be copied from in any order.
#[derive(Clone, Debug)]
pub struct View<'a> {
    pieces: Vec<(u64, Piece<'a>)>,
    begin: u64,
    end: u64,
}

impl View<'_> {
    /// Does the same as [`Chunk::copy`].
    pub fn copy(&self, at: u64, into: &mut [u8]) -> bool {
        let end = at + into.len() as u64;
        if at < self.begin || end > self.end {
            return false;
        }
        let first = self.pieces.partition_point(|(from, piece)| from + piece.logical_len() <= at);
        for (from, piece) in &self.pieces[first..] {
            let (low, high) = ((*from).max(at), (from + piece.logical_len()).min(end));
            if low >= high {
                break;
            }
            let target = &mut into[(low - at) as usize..(high - at) as usize];
            match piece {
                Piece::Hole(_) => target.fill(0),
                Piece::Data(bytes) => {
                    target.copy_from_slice(&bytes[(low - from) as usize..(high - from) as usize]);
                }
            }
        }
        true
    }
}

impl Chunk {
    /// Verifies the checksum.
    pub fn verify(&self) -> Result<(), DemuxError> {
        let found = match self.sparse {
            true => sparse_crc(&self.map, [&*self.payload]),
            false => payload_crc(&self.payload),
        };
        if found == self.crc {
            return Ok(());
        }
        let fault = Fault::Crc { offset: self.offset, expected: self.crc, found };
        Err(DemuxError { at: self.at, member: Some(self.member.clone()), fault })
    }

    /// Returns the number of bytes of the member that the chunk covers, holes included.
    pub fn logical_len(&self) -> u64 {
        match self.sparse {
            true => self.map.iter().map(|e| e.logical_len()).sum(),
            false => self.payload.len() as u64,
        }
    }

    /// Returns the offset in the member at which the chunk ends.
    pub fn end(&self) -> u64 {
        self.offset + self.logical_len()
    }

    /// Returns holes and data in order, each with its offset in the member; empty ones are left out.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, Piece<'_>)> {
        let whole = (!self.sparse).then_some(Piece::Data(&self.payload));
        let mut rest = &*self.payload;
        let mapped = self.map.iter().flat_map(move |extent| {
            // The demuxer has checked that the lengths add up.
            let (data, after) = rest.split_at(rest.len().min(extent.len as usize));
            rest = after;
            [Piece::Hole(extent.skip.into()), Piece::Data(data)]
        });
        let mut offset = self.offset;
        whole.into_iter().chain(mapped).filter(|piece| piece.logical_len() > 0).map(move |piece| {
            let at = offset;
            offset += piece.logical_len();
            (at, piece)
        })
    }

    /// Fills `into` with the member's bytes from `at` on, holes as zeros; returns false if the chunk does not
    /// have all of them.
    pub fn copy(&self, at: u64, into: &mut [u8]) -> bool {
        let end = at + into.len() as u64;
        if at < self.offset || end > self.end() {
            return false;
        }
        self.view().copy(at, into)
    }

    /// Returns a view for copying many parts: a chunk can have very many pieces.
    pub fn view(&self) -> View<'_> {
        View { pieces: self.pieces().collect(), begin: self.offset, end: self.end() }
    }

    /// Returns the index of the digest block that this chunk lies in, if the chunk begins where the block
    /// does and does not reach beyond it: then [`Chunk::leaf`] can be computed in any order. All chunks of
    /// datafiles in streams of xbpipe fulfil this.
    pub fn block(&self) -> Option<u64> {
        let block = BLOCK as u64;
        (self.offset.is_multiple_of(block) && (1..=block).contains(&self.logical_len()))
            .then_some(self.offset / block)
    }

    /// Returns the digest's leaf of a chunk that is a block.
    pub fn leaf(&self) -> Leaf {
        match self.sparse {
            true => digest::sparse_leaf(&self.map, &self.payload),
            false => digest::leaf(&self.payload),
        }
    }

    /// Continues a digest with this chunk, wherever it begins and ends; chunks must be given in order.
    pub fn update(&self, digest: &mut BlockDigest) {
        for (_, piece) in self.pieces() {
            match piece {
                Piece::Hole(n) => digest.update_zeros(n),
                Piece::Data(bytes) => digest.update(bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(offset: u64, map: &[(u32, u32)], payload: &[u8]) -> Chunk {
        let map: Vec<_> = map.iter().map(|&(skip, len)| Extent { skip, len }).collect();
        let crc = sparse_crc(&map, [payload]);
        let member = MemberName::parse("t").unwrap();
        Chunk { member, offset, map, payload: payload.into(), crc, sparse: true, at: 0 }
    }

    #[test]
    fn pieces_follow_the_map() {
        let chunk = sparse(100, &[(0, 2), (3, 0), (4, 1), (5, 0)], b"abc");
        let pieces: Vec<_> = chunk.pieces().collect();
        assert_eq!(
            pieces,
            [
                (100, Piece::Data(b"ab")),
                (102, Piece::Hole(3)),
                (105, Piece::Hole(4)),
                (109, Piece::Data(b"c")),
                (110, Piece::Hole(5))
            ]
        );
        assert_eq!((chunk.logical_len(), chunk.end()), (15, 115));
    }

    #[test]
    fn any_part_can_be_copied() {
        let chunk = sparse(100, &[(0, 2), (3, 0), (4, 1), (5, 0)], b"abc");
        let all = b"ab\0\0\0\0\0\0\0c\0\0\0\0\0";
        for from in 0..all.len() {
            for to in from..=all.len() {
                let mut part = vec![b'x'; to - from];
                assert!(chunk.copy(100 + from as u64, &mut part));
                assert_eq!(part, all[from..to], "{from}..{to}");
            }
        }
        assert!(!chunk.copy(99, &mut [0; 2]) && !chunk.copy(114, &mut [0; 2]));
        let whole = Chunk { sparse: false, map: Vec::new(), ..chunk };
        let mut part = [0; 2];
        assert!(whole.copy(101, &mut part));
        assert_eq!(&part, b"bc");
    }

    #[test]
    fn map_and_payload_are_under_the_crc() {
        let chunk = sparse(0, &[(1, 2)], b"ab");
        chunk.verify().unwrap();
        let mut other = chunk.clone();
        other.map[0].skip = 2;
        assert!(matches!(other.verify().unwrap_err().fault, Fault::Crc { .. }));
        let mut other = chunk.clone();
        other.payload[1] ^= 1;
        assert!(matches!(other.verify().unwrap_err().fault, Fault::Crc { .. }));
    }

    #[test]
    fn blocks_are_told_from_other_chunks() {
        let block = BLOCK as u32;
        assert_eq!(sparse(0, &[(block - 2, 2)], b"ab").block(), Some(0));
        assert_eq!(sparse(3 * BLOCK as u64, &[(1, 2)], b"ab").block(), Some(3));
        assert_eq!(sparse(0, &[(block, 2)], b"ab").block(), None);
        assert_eq!(sparse(1, &[(1, 2)], b"ab").block(), None);
        assert_eq!(sparse(0, &[], b"").block(), None);
    }

    #[test]
    fn leaf_and_update_agree_with_the_bytes() {
        let chunk = sparse(0, &[(70_000, 2), (3, 1), (9, 0)], b"abc");
        let mut bytes = vec![0; 70_000];
        bytes.extend_from_slice(b"ab\0\0\0c\0\0\0\0\0\0\0\0\0");
        assert_eq!(chunk.leaf(), digest::leaf(&bytes));
        let mut by_chunk = BlockDigest::new();
        chunk.update(&mut by_chunk);
        let mut by_bytes = BlockDigest::new();
        by_bytes.update(&bytes);
        assert_eq!(by_chunk.finish(chunk.end()), by_bytes.finish(bytes.len() as u64));
    }
}
