//! Cuts the log into segments that can be parsed each by itself, by several threads at a time.
//!
//! Every block says where the first mini-transaction starts in it, if one does. A segment begins with such a block and ends
//! with the next segment's first one, which both have: the mini-transactions up to that start are this segment's, the others
//! the next one's. Whether the blocks are right is not looked at here: who understands a segment checks them all.

use crate::base::read::read_up_to;
use crate::base::{Budget, Charge, Code, Error, Lsn, PageBuffer, Result};
use crate::innodb::encryption::Unit;
use crate::innodb::redo::{BLOCK_HEADER, BLOCK_LEN, BLOCK_TRAILER, Block, MINI_TRANSACTION_MAX};
use crate::prepare::native::error::{corrupt, encrypted};
use crate::prepare::native::{CopiedLog, PARSED, Segment, SegmentReader};

use super::copied_log::Log;

/// Bytes read at a time; a segment has about so many.
const SEGMENT_LEN: usize = 1 << 20;
const MEMORY_PAGE: usize = 4096;
/// Bytes of a segment that are not charged.
const FREE: usize = 4 << 20;
/// No mini-transaction is so long that it would need more.
const SEGMENT_MAX: usize = MINI_TRANSACTION_MAX + MINI_TRANSACTION_MAX / 16;

/// The blocks of a segment.
pub(super) fn blocks(segment: &Segment) -> &[[u8; BLOCK_LEN]] {
    segment.bytes[segment.begin..].as_chunks().0
}

/// Reads a log in segments.
pub(super) struct Segments<'a> {
    log: &'a Log,
    budget: Budget,
    /// For `rest`.
    charge: Charge,
    /// Bytes read at a time.
    segment_len: usize,
    /// The file to read from, by its place in the log.
    file: usize,
    /// The block to be read next.
    read: Lsn,
    /// What was read and not given out: the next segment's first blocks.
    rest: Vec<u8>,
    number: u64,
    over: bool,
}

impl<'a> Segments<'a> {
    /// Creates a reader of the log's segments, from the checkpoint on.
    pub(super) fn of(log: &'a Log, budget: &Budget) -> Segments<'a> {
        Segments {
            log,
            budget: budget.clone(),
            charge: budget.charged(PARSED),
            segment_len: SEGMENT_LEN,
            file: 0,
            read: log.start(),
            rest: Vec::new(),
            number: 0,
            over: false,
        }
    }

    /// The next one; false if there is none.
    pub(super) fn next_segment(&mut self, segment: &mut Segment) -> Result<bool> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(false);
        }
        segment.start = Lsn(self.read.0 - self.rest.len() as u64);
        segment.begin = self.begin();
        let mut len = segment.begin + self.rest.len();
        segment.bytes.resize(len);
        segment.bytes[segment.begin..].copy_from_slice(&self.rest);
        segment.number = self.number;
        self.number += 1;
        segment.next = None;
        let mut looked_at = segment.begin;
        if segment.charge.take().is_some() {
            segment.bytes = PageBuffer::from(&segment.bytes[..]);
        }
        while len <= SEGMENT_MAX {
            let longer = len + self.segment_len.max(len);
            if longer > FREE {
                let charge = segment.charge.get_or_insert_with(|| self.budget.charged(PARSED));
                charge.set((longer - FREE) as u64)?;
            }
            segment.bytes.resize(longer);
            let filled = self.read(&mut segment.bytes[len..])?;
            len += filled;
            segment.bytes.resize(len);
            if filled == 0 {
                break;
            }
            match cut(&segment.bytes[segment.begin..], looked_at - segment.begin, segment.start) {
                SegmentEnd::At(block, next) => {
                    let rest = segment.bytes.len() - segment.begin - block;
                    self.charge.set(rest.saturating_sub(FREE) as u64)?;
                    self.rest.clear();
                    self.rest.extend_from_slice(&segment.bytes[segment.begin + block..]);
                    segment.bytes.resize(segment.begin + block + BLOCK_LEN);
                    segment.next = Some(next);
                    self.over = false;
                    break;
                }
                SegmentEnd::LogEnd(with) => {
                    segment.bytes.resize(segment.begin + with + BLOCK_LEN);
                    break;
                }
                SegmentEnd::Nowhere => looked_at = len,
            }
        }
        Ok(len > segment.begin)
    }

    /// Where the next segment's first block goes, such that what is read lies in its memory pages as it does in the file's: the
    /// kernel copies faster then ([`PageBuffer`]).
    fn begin(&self) -> usize {
        let at = self.log.files.iter().find_map(|(_, _, redo)| redo.offset_of(self.read)).unwrap_or(0);
        (at as usize).wrapping_sub(self.rest.len()) % MEMORY_PAGE
    }

    /// Reads whole blocks; none where the log ends.
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while let Some((path, file, redo)) = self.log.files.get(self.file) {
            let Some(at) = redo.offset_of(self.read) else {
                self.file += 1;
                continue;
            };
            let len = self.log.readable(at, into.len())?;
            let filled = read_up_to(file, &mut into[..len], at)
                .map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
            let whole = filled - filled % BLOCK_LEN;
            if whole > 0 {
                self.decrypt(&mut into[..whole])?;
                self.read = self.read.plus(whole as u64);
                return Ok(whole);
            }
            if filled > 0 && !self.log.grows() {
                return Err(corrupt("it ends inside a block"));
            }
            self.file += 1;
        }
        Ok(0)
    }
}

impl Segments<'_> {
    /// Decrypts whole blocks from where reading has come to, as far as they are encrypted.
    fn decrypt(&self, blocks: &mut [u8]) -> Result<()> {
        for (n, block) in blocks.chunks_exact_mut(BLOCK_LEN).enumerate() {
            match (&self.log.cipher, block.first_chunk::<BLOCK_LEN>()) {
                (Ok(cipher), _) => {
                    cipher.decrypt(Unit::RedoBlock(self.read.plus((n * BLOCK_LEN) as u64)), block);
                }
                (Err(lacking), Some(block)) if Block::of(block).is_encrypted() => {
                    return Err(encrypted("the redo of the backup", lacking));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl CopiedLog for Log {
    fn checkpoint(&self) -> Lsn {
        self.checkpoint
    }

    fn start(&self) -> Lsn {
        self.checkpoint.block_start()
    }

    fn may_go_on(&self) -> bool {
        self.cipher.is_ok()
    }

    fn segments<'a>(&'a self, budget: &Budget) -> Box<dyn SegmentReader + 'a> {
        Box::new(Segments::of(self, budget))
    }
}

impl SegmentReader for Segments<'_> {
    fn next(&mut self, segment: &mut Segment) -> Result<bool> {
        self.next_segment(segment)
    }
}

/// Where a segment may end.
enum SegmentEnd {
    /// With this block, in which a mini-transaction starts there.
    At(usize, Lsn),
    /// The log ends with this block, or before it.
    LogEnd(usize),
    Nowhere,
}

/// Looks for the last block from `from` on that a mini-transaction starts in, as far as the log goes.
fn cut(bytes: &[u8], from: usize, start: Lsn) -> SegmentEnd {
    const PAYLOAD: std::ops::Range<u16> = BLOCK_HEADER as u16..(BLOCK_LEN - BLOCK_TRAILER) as u16;
    let mut found = SegmentEnd::Nowhere;
    let (blocks, _) = bytes.as_chunks::<BLOCK_LEN>();
    for (n, bytes) in blocks.iter().enumerate().skip(from / BLOCK_LEN) {
        let (at, block) = (n * BLOCK_LEN, Block::of(bytes));
        let lsn = start.plus(at as u64);
        if !block.is_of(lsn) || usize::from(block.data_len()) != BLOCK_LEN {
            return SegmentEnd::LogEnd(at);
        }
        // The first block is where this segment begins itself.
        if let Some(group) = block.first_group().filter(|group| n > 0 && PAYLOAD.contains(group)) {
            found = SegmentEnd::At(at, lsn.plus(u64::from(group)));
        }
    }
    found
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
