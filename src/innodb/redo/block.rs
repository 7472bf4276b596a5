//! Log blocks (log0files_io.h, `log_data_block_header_deserialize`; the stop rules of `recv_scan_log_recs`).
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | number: 1 + (LSN / 512) mod 2³⁰ |
//! | 4 | 2 | bytes used, header included; 512 when full; bit 15: the block is encrypted |
//! | 6 | 2 | offset of the first group that starts here; 0: none; equal to the bytes used: the next one will |
//! | 8 | 4 | epoch: 1 + (LSN / 512) / 2³⁰ |
//! | 12 | 496 | payload |
//! | 508 | 4 | CRC-32C of bytes 0..508, or `0xDEADBEEF` with `innodb_log_checksums=OFF` |
//!
//! Log files are allocated ahead and used again without being cleared, so a block that was not written yet holds
//! zeros or an old block: number and epoch tell. The last block is written again and again while it fills, so
//! it may be read half-written, which the checksum tells.

use super::{BLOCK_HEADER, BLOCK_LEN, BLOCK_PAYLOAD, BLOCK_TRAILER, lsn};
use crate::base::Lsn;
use crate::base::crc32c::crc32c;
use crate::innodb::bytes::{be16, be32, put16, put32};

const NUMBER: usize = 0;
const DATA_LEN: usize = 4;
const FIRST_GROUP: usize = 6;
const EPOCH: usize = 8;
const CHECKSUM: usize = BLOCK_LEN - BLOCK_TRAILER;

const ENCRYPTED: u16 = 0x8000;
/// What `innodb_log_checksums=OFF` stores (`LOG_NO_CHECKSUM_MAGIC`).
const NO_CHECKSUM: u32 = 0xDEAD_BEEF;
/// Blocks of an epoch (`LOG_BLOCK_MAX_NO`).
const EPOCH_BLOCKS: u64 = 1 << 30;

/// A block, read in place.
#[derive(Clone, Copy)]
pub struct Block<'a>(&'a [u8; BLOCK_LEN]);

/// The state of a block, seen from the place where it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockState {
    /// Full, with a good checksum: it never changes again.
    Full,
    /// Its checksum is good and so many bytes (header included) are used: the end of the log for now.
    Partial(u16),
    /// Encrypted; number and epoch are right. Without the key its checksum can't be checked; so many bytes are
    /// used (512: full).
    Encrypted(u16),
    /// Not written yet: zeros, or a block of another place or of an earlier use of the file.
    NotWritten,
    /// Number and epoch are right, the checksum is not: being written just now, or corrupt.
    BadChecksum,
    /// Its checksum is good, but no server writes such a header.
    Malformed,
}

impl<'a> Block<'a> {
    /// The block in these bytes.
    pub fn of(bytes: &'a [u8; BLOCK_LEN]) -> Self {
        Block(bytes)
    }

    /// The number that the block at `lsn` has (`log_block_convert_lsn_to_hdr_no`).
    pub fn number_at(lsn: Lsn) -> u32 {
        1 + (lsn.0 / BLOCK_LEN as u64 % EPOCH_BLOCKS) as u32
    }

    /// The epoch that the block at `lsn` has (`log_block_convert_lsn_to_epoch_no`).
    pub fn epoch_at(lsn: Lsn) -> u32 {
        1 + (lsn.0 / BLOCK_LEN as u64 / EPOCH_BLOCKS) as u32
    }

    /// The number in the header.
    pub fn number(self) -> u32 {
        be32(self.0, NUMBER)
    }

    /// The epoch in the header.
    pub fn epoch(self) -> u32 {
        be32(self.0, EPOCH)
    }

    /// Whether it was written for this place.
    pub fn is_of(self, lsn: Lsn) -> bool {
        self.number() == Self::number_at(lsn) && self.epoch() == Self::epoch_at(lsn)
    }

    /// Bytes used, header included; 512 if the block is full.
    pub fn data_len(self) -> u16 {
        be16(self.0, DATA_LEN) & !ENCRYPTED
    }

    /// Whether the payload is ciphertext.
    pub fn is_encrypted(self) -> bool {
        be16(self.0, DATA_LEN) & ENCRYPTED != 0
    }

    /// Offset of the first group that starts in this block, `None` if there is none.
    pub fn first_group(self) -> Option<u16> {
        Some(be16(self.0, FIRST_GROUP)).filter(|at| *at != 0)
    }

    /// The payload bytes in use.
    pub fn payload(self) -> &'a [u8] {
        let end = usize::from(self.data_len()).clamp(BLOCK_HEADER, CHECKSUM);
        &self.0[BLOCK_HEADER..end]
    }

    /// Checks the block, which was read from the place of `expected`.
    pub fn check(self, expected: Lsn) -> BlockState {
        if !self.is_of(expected) {
            return BlockState::NotWritten;
        }
        if self.is_encrypted() {
            return BlockState::Encrypted(self.data_len());
        }
        let stored = be32(self.0, CHECKSUM);
        if stored != crc32c(&self.0[..CHECKSUM]) && stored != NO_CHECKSUM {
            return BlockState::BadChecksum;
        }
        let len = usize::from(self.data_len());
        let group_fits = self.first_group().is_none_or(|at| (BLOCK_HEADER..=len).contains(&usize::from(at)));
        match len {
            _ if !group_fits => BlockState::Malformed,
            BLOCK_LEN => BlockState::Full,
            // 508 would be a full block.
            BLOCK_HEADER..CHECKSUM => BlockState::Partial(self.data_len()),
            _ => BlockState::Malformed,
        }
    }
}

/// A block that ends after `used` bytes (header included), whatever came later in it: the end of a log that is cut at
/// that LSN. A block that is encrypted stays as it is, since its payload and checksum can't be read.
pub fn cut(bytes: &[u8; BLOCK_LEN], used: usize) -> [u8; BLOCK_LEN] {
    let mut block = *bytes;
    if Block::of(bytes).is_encrypted() || !(BLOCK_HEADER..CHECKSUM).contains(&used) {
        return block;
    }
    block[used..CHECKSUM].fill(0);
    put16(&mut block, DATA_LEN, used as u16);
    if Block::of(bytes).first_group().is_some_and(|at| usize::from(at) > used) {
        put16(&mut block, FIRST_GROUP, 0);
    }
    if be32(bytes, CHECKSUM) != NO_CHECKSUM {
        let crc = crc32c(&block[..CHECKSUM]);
        put32(&mut block, CHECKSUM, crc);
    }
    block
}

/// Packs groups of records into blocks.
pub struct BlockWriter {
    next: Lsn,
    blocks: Vec<[u8; BLOCK_LEN]>,
}

impl BlockWriter {
    /// Starts at the first payload byte of the block that holds `lsn`.
    pub fn new(lsn: Lsn) -> Self {
        let next = lsn::first_payload(lsn);
        let mut writer = BlockWriter { next, blocks: Vec::new() };
        writer.open_block();
        writer
    }

    /// Appends one whole group of records.
    pub fn push_group(&mut self, group: &[u8]) {
        let mut starts_here = true;
        let mut rest = group;
        while !rest.is_empty() {
            let at = (self.next.0 % BLOCK_LEN as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(BLOCK_HEADER + BLOCK_PAYLOAD - at));
            let block = self.blocks.last_mut().expect("a block is always open");
            block[at..at + now.len()].copy_from_slice(now);
            if starts_here && be16(block, FIRST_GROUP) == 0 {
                put16(block, FIRST_GROUP, at as u16);
            }
            self.next = lsn::advance(self.next, now.len() as u64);
            if at + now.len() == CHECKSUM {
                put16(block, DATA_LEN, BLOCK_LEN as u16);
                self.open_block();
            } else {
                put16(block, DATA_LEN, (at + now.len()) as u16);
            }
            (rest, starts_here) = (later, false);
        }
    }

    /// The blocks, checksums in place, and the LSN at which the log ends.
    pub fn finish(mut self) -> (Vec<[u8; BLOCK_LEN]>, Lsn) {
        for block in &mut self.blocks {
            let crc = crc32c(&block[..CHECKSUM]);
            put32(block, CHECKSUM, crc);
        }
        (self.blocks, self.next)
    }

    fn open_block(&mut self) {
        let mut block = [0; BLOCK_LEN];
        put32(&mut block, NUMBER, Block::number_at(self.next));
        put16(&mut block, DATA_LEN, BLOCK_HEADER as u16);
        put32(&mut block, EPOCH, Block::epoch_at(self.next));
        self.blocks.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_block_ends_where_it_was_cut() {
        let start = Lsn(1 << 20);
        let mut writer = BlockWriter::new(start);
        writer.push_group(&[1; 100]);
        writer.push_group(&[2; 100]);
        let (blocks, _) = writer.finish();
        let shorter = cut(&blocks[0], BLOCK_HEADER + 100);
        assert_eq!(Block::of(&shorter).check(start), BlockState::Partial(112));
        assert_eq!(Block::of(&shorter).payload(), [1; 100]);
        assert_eq!(Block::of(&shorter).first_group(), Some(12));
        assert_eq!(cut(&blocks[0], BLOCK_LEN), blocks[0]);
    }

    #[test]
    fn written_blocks_check_and_hold_the_payload() {
        let mut writer = BlockWriter::new(Lsn(10 * 512 + 77));
        let groups: Vec<Vec<u8>> = [3, 496, 1, 2000, 484].iter().map(|n| vec![*n as u8; *n]).collect();
        for group in &groups {
            writer.push_group(group);
        }
        let (blocks, end) = writer.finish();
        let mut payload = Vec::new();
        for (i, bytes) in blocks.iter().enumerate() {
            let at = Lsn(5120 + 512 * i as u64);
            let block = Block::of(bytes);
            let last = i + 1 == blocks.len();
            let expected = if last { BlockState::Partial(block.data_len()) } else { BlockState::Full };
            assert_eq!(block.check(at), expected);
            assert_eq!(block.check(at.plus(512)), BlockState::NotWritten);
            payload.extend_from_slice(block.payload());
        }
        assert_eq!(payload, groups.concat());
        assert_eq!(end, lsn::advance(Lsn(5120), payload.len() as u64));
        let first: Vec<_> = blocks.iter().map(|b| Block::of(b).first_group()).collect();
        // The groups start at payload bytes 0, 3, 499, 500 and 2500.
        assert_eq!(first, [Some(12), Some(15), None, None, None, Some(12 + 20), None]);
    }

    #[test]
    fn a_group_that_fills_its_block_opens_the_next() {
        let mut writer = BlockWriter::new(Lsn(8192));
        writer.push_group(&[1; 496]);
        let (blocks, end) = writer.finish();
        assert_eq!((blocks.len(), end), (2, Lsn(8704 + 12)));
        assert_eq!(Block::of(&blocks[0]).check(Lsn(8192)), BlockState::Full);
        assert_eq!(Block::of(&blocks[1]).check(Lsn(8704)), BlockState::Partial(12));
        assert_eq!(Block::of(&blocks[1]).first_group(), None);
    }

    #[test]
    fn numbers_and_epochs_wrap_together() {
        let lap = EPOCH_BLOCKS * 512;
        assert_eq!((Block::number_at(Lsn(lap - 1)), Block::epoch_at(Lsn(lap - 1))), (1 << 30, 1));
        assert_eq!((Block::number_at(Lsn(lap)), Block::epoch_at(Lsn(lap))), (1, 2));
        let (blocks, _) = BlockWriter::new(Lsn(8192)).finish();
        assert_eq!(Block::of(&blocks[0]).check(Lsn(8192)), BlockState::Partial(12));
        // The same number one epoch later: a block of an earlier use of the file.
        assert_eq!(Block::of(&blocks[0]).check(Lsn(lap + 8192)), BlockState::NotWritten);
    }

    #[test]
    fn damage_is_seen() {
        let mut writer = BlockWriter::new(Lsn(8192));
        writer.push_group(b"abc");
        let good = writer.finish().0[0];
        for at in 0..512 {
            let mut bad = good;
            bad[at] ^= 0x01;
            let state = Block::of(&bad).check(Lsn(8192));
            assert_ne!(state, BlockState::Partial(15), "byte {at}");
            assert_ne!(state, BlockState::Full, "byte {at}");
        }
        assert_eq!(Block::of(&[0; 512]).check(Lsn(8192)), BlockState::NotWritten);
    }

    #[test]
    fn headers_that_no_server_writes() {
        for (data_len, first_group) in [(11u16, 0u16), (508, 0), (511, 0), (513, 0), (100, 11), (100, 101)] {
            let mut block = BlockWriter::new(Lsn(8192)).finish().0[0];
            put16(&mut block, DATA_LEN, data_len);
            put16(&mut block, FIRST_GROUP, first_group);
            let crc = crc32c(&block[..508]);
            put32(&mut block, CHECKSUM, crc);
            assert_eq!(Block::of(&block).check(Lsn(8192)), BlockState::Malformed, "{data_len} {first_group}");
            assert!(Block::of(&block).payload().len() <= BLOCK_PAYLOAD);
        }
    }

    #[test]
    fn blocks_without_checksum_and_encrypted_ones() {
        let mut block = BlockWriter::new(Lsn(8192)).finish().0[0];
        put32(&mut block, CHECKSUM, NO_CHECKSUM);
        assert_eq!(Block::of(&block).check(Lsn(8192)), BlockState::Partial(12));
        put16(&mut block, DATA_LEN, 0x8000 | 512);
        assert!(Block::of(&block).is_encrypted());
        assert_eq!(Block::of(&block).check(Lsn(8192)), BlockState::Encrypted(512));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: [u8; 32], lsn: u64) {
            let mut block = [0u8; 512];
            block[..32].copy_from_slice(&bytes);
            let block = Block::of(&block);
            let _ = (block.check(Lsn(lsn)), block.payload(), block.first_group());
        }
    }
}
