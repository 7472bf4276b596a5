//! Parses the files in which a server keeps the numbers of pages that it has written (page tracking, arch0page.cc).
//!
//! A file consists of blocks of [`BLOCK_LEN`] bytes, whatever the page size. The header has 32 bytes, all integers
//! big-endian (`Arch_Block`, arch0arch.h):
//!
//! | offset | length | content |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | type: 0 a list of reset points, 1 pages |
//! | 2 | 4 | CRC-32C of the payload |
//! | 6 | 2 | length of the payload in bytes |
//! | 8 | 8 | stop LSN: what was written up to there is in this block or those before it |
//! | 16 | 8 | reset LSN: from this on, each page is recorded when it is written for the first time |
//! | 24 | 8 | number of the block |
//!
//! The payload of a block of pages is space id (4) and page number (4), repeated. A block that filled up while crash recovery
//! was still writing pages has the stop LSN [`NO_STOP`]; the server's own reader ends there and says nothing.

use super::bytes::{be32, be64};
use crate::base::crc32c::crc32c;
use crate::base::{Lsn, PageNo, SpaceId};

/// Bytes of a block.
pub const BLOCK_LEN: usize = 16_384;
/// Stop LSN of a block that has none: 2^63 − 1.
pub const NO_STOP: Lsn = Lsn(u64::MAX >> 1);

const VERSION: u8 = 1;
const TYPE_RESET: u8 = 0;
const TYPE_PAGES: u8 = 1;
const HEADER: usize = 32;
const ENTRY: usize = 8;

/// A block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrackingBlock {
    /// Reset points, which the blocks of pages name as well.
    Resets,
    /// Pages.
    Pages {
        /// Up to here, what was written is known.
        stop: Lsn,
        /// From here on, pages were recorded when they were first written.
        reset: Lsn,
        /// The pages, in any order, some more than once.
        pages: Vec<(SpaceId, PageNo)>,
    },
}

/// Error: the bytes are no block, or it is being written just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrackingError {
    /// Too few bytes.
    #[error("{0} bytes are too few for a block of page tracking")]
    Short(usize),
    /// An unknown version, type or length.
    #[error("a block of page tracking has version {version}, type {kind} and {len} bytes")]
    Header {
        /// The version.
        version: u8,
        /// The type.
        kind: u8,
        /// The length of the payload.
        len: u16,
    },
    /// The payload does not match its checksum.
    #[error("a block of page tracking has a wrong checksum")]
    Checksum,
}

impl TrackingBlock {
    /// Reads a block; `None` for one that was never written.
    ///
    /// # Errors
    /// [`TrackingError`].
    pub fn parse(bytes: &[u8]) -> Result<Option<TrackingBlock>, TrackingError> {
        let block: &[u8; BLOCK_LEN] = bytes.first_chunk().ok_or(TrackingError::Short(bytes.len()))?;
        if block[..HEADER].iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (version, kind, len) = (block[0], block[1], u16::from_be_bytes([block[6], block[7]]));
        let payload = block[HEADER..].get(..usize::from(len));
        let (VERSION, TYPE_RESET | TYPE_PAGES, Some(payload)) = (version, kind, payload) else {
            return Err(TrackingError::Header { version, kind, len });
        };
        if crc32c(payload) != be32(block, 2) {
            return Err(TrackingError::Checksum);
        }
        if kind == TYPE_RESET {
            return Ok(Some(TrackingBlock::Resets));
        }
        let entries = payload.chunks_exact(ENTRY);
        let pages = entries.map(|entry| (SpaceId(be32(entry, 0)), PageNo(be32(entry, 4)))).collect();
        Ok(Some(TrackingBlock::Pages { stop: Lsn(be64(block, 8)), reset: Lsn(be64(block, 16)), pages }))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A block made by hand.
    pub(crate) fn block(kind: u8, stop: Lsn, reset: Lsn, payload: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_LEN];
        block[0] = VERSION;
        block[1] = kind;
        block[2..6].copy_from_slice(&crc32c(payload).to_be_bytes());
        block[6..8].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        block[8..16].copy_from_slice(&stop.0.to_be_bytes());
        block[16..24].copy_from_slice(&reset.0.to_be_bytes());
        block[HEADER..][..payload.len()].copy_from_slice(payload);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: u8, payload: &[u8]) -> Vec<u8> {
        testing::block(kind, Lsn(77), Lsn(55), payload)
    }

    #[test]
    fn blocks_are_read() {
        assert_eq!(TrackingBlock::parse(&[0; BLOCK_LEN]), Ok(None));
        assert_eq!(TrackingBlock::parse(&block(0, &[1, 2, 3])), Ok(Some(TrackingBlock::Resets)));
        let payload = [0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 6, 0, 0, 1, 0];
        let pages = vec![(SpaceId(5), PageNo(9)), (SpaceId(6), PageNo(256))];
        let read = Ok(Some(TrackingBlock::Pages { stop: Lsn(77), reset: Lsn(55), pages }));
        assert_eq!(TrackingBlock::parse(&block(1, &payload)), read);
    }

    #[test]
    fn hostile_blocks_are_refused() {
        let good = block(1, &[7; 16]);
        assert_eq!(TrackingBlock::parse(&good[..100]), Err(TrackingError::Short(100)));
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            TrackingBlock::parse(&bad)
        };
        assert_eq!(with(40, 8), Err(TrackingError::Checksum));
        for (at, byte) in [(0, 2), (1, 2), (6, 0xFF)] {
            assert!(matches!(with(at, byte), Err(TrackingError::Header { .. })), "{at}");
        }
    }
}
