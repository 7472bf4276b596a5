//! Scans the log: takes blocks, gives mini-transactions (`recv_scan_log_recs`, `recv_parse_log_recs`).
//!
//! A group (mini-transaction) is one record marked as a group of its own, or several records and a group end, or
//! one dummy. It is applied as a whole or not at all, so it comes out when its last byte has come in.
//!
//! Reading starts at the block of the checkpoint, at the first group that starts there (or in a later block).
//! Groups of that block may lie before the checkpoint: they are read to find the next one, and marked as not to
//! be applied. Every block also names the first group that starts in it. Where that is not where this reader has a
//! group start, one of the two is wrong, and reading stops with an error.
//!
//! ```text
//! scanner.feed(block) … while let Some(group) = scanner.poll()? { for record in group.records() { … } }
//! ```

use std::collections::VecDeque;

use super::cursor::{Cursor, Stop};
use super::index_info::KnownIndexes;
use super::mini_transaction::{MiniTransaction, RawRecord, Span};
use super::parse::{Head, skip};
use super::record::Kind;
use super::{BLOCK_HEADER, BLOCK_LEN, Block, BlockState, lsn};
use crate::base::{Lsn, OverBudget};

/// Most bytes of one group. The largest seen have some 100 KB, and a server reads none that is longer than its log buffer (16 MiB,
/// 64 MiB since 8.4, unless set larger); a group that does not end below this is none.
pub const MINI_TRANSACTION_MAX: usize = 64 << 20;
/// Most records of one group that are kept until it ends.
pub(super) const GROUP_RECORDS_MAX: usize = 1 << 19;

/// Why redo can't be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScanError {
    /// A block that no server writes.
    #[error("redo block at LSN {lsn} is malformed")]
    Block {
        /// Start of the block.
        lsn: Lsn,
    },
    /// An encrypted block: its key would be needed.
    #[error("redo block at LSN {lsn} is encrypted")]
    Encrypted {
        /// Start of the block.
        lsn: Lsn,
    },
    /// The last block was read again and holds less than before.
    #[error("redo block at LSN {lsn} shrank")]
    Shrunk {
        /// Start of the block.
        lsn: Lsn,
    },
    /// A record that no server writes.
    #[error("redo record of type {kind} at LSN {lsn}: {what}")]
    Record {
        /// First byte of the record.
        lsn: Lsn,
        /// The first byte: type and mark.
        kind: u8,
        /// The defect.
        what: &'static str,
    },
    /// A group that does not end.
    #[error(
        "redo group at LSN {lsn} has more than {MINI_TRANSACTION_MAX} bytes or {GROUP_RECORDS_MAX} records"
    )]
    GroupTooLong {
        /// First byte of the group.
        lsn: Lsn,
    },
    /// What is kept of it takes more memory than there is for a stream.
    #[error(transparent)]
    TooLarge(#[from] OverBudget),
    /// The blocks and the records disagree about where groups start.
    #[error(
        "redo block says that a group starts at LSN {expected}, but a record there is part of another group"
    )]
    Desync {
        /// What the block says.
        expected: Lsn,
    },
}

/// The result of feeding a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fed {
    /// Taken; the next one is wanted.
    Full,
    /// Taken as far as it goes; it is wanted again when it holds more.
    Partial,
    /// Not taken: not written yet, or being written. The log ends here, for now or for good.
    End(BlockState),
}

/// Takes blocks, gives groups.
pub struct Scanner {
    checkpoint: Lsn,
    /// The block to be fed next.
    next_block: Lsn,
    /// Payload bytes of that block that were taken already.
    taken: usize,
    /// Payload that was not given out yet; empty until a group start was found.
    pending: Vec<u8>,
    /// Position in the payload of all the log of `pending[0]`; `None`: no group start was found yet.
    base: Option<u64>,
    /// Bytes at the head of `pending` that were given out.
    done: usize,
    /// Bytes of `pending` that were parsed; from `done` on these are `spans`.
    parsed: usize,
    spans: Vec<Span>,
    /// Whether the last record was a dummy.
    after_dummy: bool,
    /// Payload positions at which blocks say that mini-transactions start.
    starts: VecDeque<u64>,
    /// The last of them, also when it was compared already.
    last_start: Option<u64>,
    known: KnownIndexes,
}

impl Scanner {
    /// Starts at a checkpoint. The first block to feed is [`Scanner::next_block`].
    pub fn new(checkpoint: Lsn) -> Self {
        Scanner {
            checkpoint,
            next_block: checkpoint.block_start(),
            taken: 0,
            pending: Vec::new(),
            base: None,
            done: 0,
            parsed: 0,
            spans: Vec::new(),
            after_dummy: false,
            starts: VecDeque::new(),
            last_start: None,
            known: KnownIndexes::default(),
        }
    }

    /// Forgets what was fed, and starts at the first group of the block at `block`, behind the checkpoint.
    pub fn restart(&mut self, block: Lsn) {
        self.next_block = block;
        (self.taken, self.base, self.done, self.parsed, self.last_start) = (0, None, 0, 0, None);
        self.after_dummy = false;
        self.pending.clear();
        self.spans.clear();
        self.starts.clear();
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.pending.capacity() + self.spans.capacity() * size_of::<Span>()
    }

    /// LSN of the block that is wanted next.
    pub fn next_block(&self) -> Lsn {
        self.next_block
    }

    /// LSN up to which all groups were given out: the end of the last whole one. `None` until a group start was
    /// found.
    pub fn recovered_lsn(&self) -> Option<Lsn> {
        self.base.map(|base| lsn::from_payload(base + self.done as u64))
    }

    /// Takes the block at [`Scanner::next_block`].
    pub fn feed(&mut self, bytes: &[u8; BLOCK_LEN]) -> Result<Fed, ScanError> {
        let lsn = self.next_block;
        let block = Block::of(bytes);
        let state = block.check(lsn);
        match state {
            BlockState::NotWritten | BlockState::BadChecksum => return Ok(Fed::End(state)),
            BlockState::Encrypted(_) => return Err(ScanError::Encrypted { lsn }),
            BlockState::Malformed => return Err(ScanError::Block { lsn }),
            BlockState::Full | BlockState::Partial(_) => {}
        }
        let payload = block.payload();
        let new = payload.get(self.taken..).ok_or(ScanError::Shrunk { lsn })?;
        self.note_start(block);
        if self.base.is_some() {
            self.pending.extend_from_slice(new);
        } else if let Some(&first) = self.starts.front() {
            // The first group start of all: what lies before it belongs to a group whose head is not here.
            self.base = Some(first);
            let skip = (first - lsn::to_payload(lsn)) as usize;
            self.pending.extend_from_slice(&payload[skip..]);
        }
        if state == BlockState::Full {
            self.next_block = lsn.plus(BLOCK_LEN as u64);
            self.taken = 0;
            return Ok(Fed::Full);
        }
        self.taken = payload.len();
        Ok(Fed::Partial)
    }

    /// The next group, if all of it has come in.
    pub fn poll(&mut self) -> Result<Option<MiniTransaction<'_>>, ScanError> {
        self.poll_with(&mut |_, _, _, _| false)
    }

    /// As [`Scanner::poll`], but records that change pages go to `changes`, those before the checkpoint left out, and only the
    /// others are in the group. They go there as soon as they are found: `None` can mean that the head of a group did.
    #[inline]
    pub fn poll_changes(
        &mut self,
        mut changes: impl FnMut(&RawRecord<'_>),
    ) -> Result<Option<MiniTransaction<'_>>, ScanError> {
        let checkpoint = lsn::to_payload(self.checkpoint);
        self.poll_with(&mut |bytes: &[u8], base, span: &Span, index_key| {
            let is_change = span.head.kind.is_page_change();
            if is_change {
                let record = RawRecord::new(bytes, base, span, index_key);
                if record.at.start >= checkpoint {
                    changes(&record);
                }
            }
            is_change
        })
    }

    /// `takes` gets what was parsed, the position of that, a record, and the key of its index; where it takes the record, the
    /// group is without it.
    #[inline(always)]
    fn poll_with(
        &mut self,
        takes: &mut impl FnMut(&[u8], u64, &Span, u64) -> bool,
    ) -> Result<Option<MiniTransaction<'_>>, ScanError> {
        self.drop_done();
        let Some(base) = self.base else { return Ok(None) };
        if !self.parse_group(base, takes)? {
            return Ok(None);
        }
        let (from, to) = (self.done, self.parsed);
        self.done = to;
        // A group that ends with its block ends for the server only when the next block is there too, since the
        // LSN of its end lies in that one. The bytes are whole, so there is nothing to wait for here.
        Ok(Some(MiniTransaction::new(&self.pending, &self.spans, base, self.checkpoint, from..to)))
    }

    /// Keeps where the block says that a group starts. A block that is fed again may say so only now.
    fn note_start(&mut self, block: Block<'_>) {
        let Some(at) = block.first_group() else { return };
        let start = lsn::to_payload(self.next_block) + (usize::from(at) - BLOCK_HEADER) as u64;
        if self.last_start < Some(start) {
            self.last_start = Some(start);
            self.starts.push_back(start);
        }
    }

    /// Forgets what was given out, once that is worth moving the rest.
    fn drop_done(&mut self) {
        const WORTH_IT: usize = 1 << 16;
        if self.parsed == self.done {
            self.spans.clear();
        }
        if self.done > WORTH_IT && self.done > self.pending.len() / 2 {
            self.pending.drain(..self.done);
            self.base = self.base.map(|base| base + self.done as u64);
            for span in &mut self.spans {
                span.go_back(self.done);
            }
            self.parsed -= self.done;
            self.done = 0;
        }
    }

    /// Parses on until the group is whole (true) or the bytes end. What was parsed is not parsed again.
    #[inline(always)]
    fn parse_group(
        &mut self,
        base: u64,
        takes: &mut impl FnMut(&[u8], u64, &Span, u64) -> bool,
    ) -> Result<bool, ScanError> {
        let bad = |at: usize, kind: u8, what| {
            let lsn = lsn::from_payload(base + at as u64);
            Err(ScanError::Record { lsn, kind, what })
        };
        loop {
            let at = self.parsed;
            let opens = at == self.done;
            self.check_start(base + at as u64, opens)?;
            let Some(&first) = self.pending.get(at) else { return Ok(false) };
            let (span, index_key) = match self.parse_record(at) {
                Ok(parsed) => parsed,
                Err(Stop::Bad(what)) => return bad(at, first, what),
                Err(Stop::More) if self.pending.len() - self.done > MINI_TRANSACTION_MAX => {
                    return Err(self.too_long(base));
                }
                Err(Stop::More) => return Ok(false),
            };
            let is_dummy = span.head.kind == Kind::Dummy;
            let alone = span.head.single || is_dummy;
            if alone && !opens {
                return bad(at, first, "a group of its own inside another");
            }
            // The server writes many dummies in one mini-transaction, which gets an end, and reads each as a group of its
            // own, so that the end is a group of nothing.
            if opens && span.head.kind == Kind::MultiRecEnd && !self.after_dummy {
                return bad(at, first, "a group end without a group");
            }
            self.after_dummy = is_dummy;
            self.parsed = span.end();
            if !takes(&self.pending, base, &span, index_key) {
                if self.spans.len() == GROUP_RECORDS_MAX {
                    return Err(self.too_long(base));
                }
                self.spans.push(span);
            }
            if alone || span.head.kind == Kind::MultiRecEnd {
                return Ok(true);
            }
        }
    }

    #[cold]
    fn too_long(&self, base: u64) -> ScanError {
        ScanError::GroupTooLong { lsn: lsn::from_payload(base + self.done as u64) }
    }

    /// The record that starts there, and the key of its index.
    #[inline(always)]
    fn parse_record(&mut self, at: usize) -> Result<(Span, u64), Stop> {
        let mut cursor = Cursor::new(&self.pending[at..]);
        let position = |c: &Cursor<'_>| self.pending.len() - c.rest().len();
        let head = Head::read(&mut cursor)?;
        let body_at = position(&cursor);
        let (described, key) = skip(&head, &mut cursor, &mut self.known)?;
        Ok((Span::new(at, body_at, described, position(&cursor), head), key))
    }

    /// A record starts at `position`: does that agree with what the blocks say?
    #[inline]
    fn check_start(&mut self, position: u64, opens_group: bool) -> Result<(), ScanError> {
        while let Some(&start) = self.starts.front()
            && start <= position
        {
            if start < position || !opens_group {
                return Err(ScanError::Desync { expected: lsn::from_payload(start) });
            }
            self.starts.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
