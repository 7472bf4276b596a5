//! Result of parsing one segment of the redo log: page records, file events, table metadata and encryption information.
//!
//! This is the one type between those who read redo and those who apply it. A family's parser fills it; the [`Store`], the
//! spill file, the merge and the threads that apply records take runs of records from it and look into none.

use std::io;

use super::table_metadata::TableMetadata;
use crate::base::{Budget, Charge, Lsn, PageNo, Result, SpaceId};
use crate::innodb::encryption::key_info::INFO_LEN;
use crate::innodb::redo::FileEvent;
use crate::prepare::lengths::Growth;
use crate::prepare::native::records::run::RecordRun;
use crate::prepare::native::records::store::Store;

/// What is charged for redo that is parsed: mini-transactions without end, or of very many records.
pub(crate) const PARSED: &str = "a mini-transaction in the redo";

/// Bytes that what a segment says may take: those of a segment of usual length do.
const FREE: usize = 6 << 20;

/// The whole mini-transactions of a segment, parsed. Its memory is used for one segment after the other.
pub struct ParsedSegment {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Lengths at the begin of the mini-transaction at hand.
    before: Before,
    /// Events of files, in order.
    pub(crate) events: Vec<FileEvent>,
    /// Metadata of tables that only redo has.
    pub(crate) dynamic: TableMetadata,
    /// Tablespaces whose size is set, and where.
    grown: Vec<(SpaceId, Lsn)>,
    /// Encryption information that is written to tablespaces, in the order of the log.
    pub(crate) keys: Vec<(SpaceId, [u8; INFO_LEN])>,
    /// Memory beyond `free`, charged to the budget.
    charge: Charge,
    /// Bytes that are not charged.
    pub(crate) free: usize,
    /// Number of records for pages.
    pub(crate) records: u64,
    /// The end of the last mini-transaction that was taken in, if there is one.
    pub(crate) end: Option<Lsn>,
    /// LSN up to which the log was read.
    pub(crate) reached: Lsn,
    /// The log ends here, or nothing more of it is wanted.
    pub(crate) over: bool,
}

#[derive(Clone, Copy, Default)]
struct Before {
    bytes: usize,
    runs: usize,
    grown: usize,
    keys: usize,
    records: u64,
}

/// Records of one page that follow each other in the log.
struct Run {
    space: SpaceId,
    page: PageNo,
    start: Lsn,
    end: Lsn,
    records: u32,
    len: u32,
    index: RunIndex,
}

/// Whether records of a run describe an index.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunIndex {
    /// They don't.
    None,
    /// The description has this number and was left out; without a number it stands in the record.
    Described(Option<u32>),
}

impl RunIndex {
    /// Returns the index description for two runs joined; `None` if they can't be in one run.
    fn and(self, other: RunIndex) -> Option<RunIndex> {
        match (self, other) {
            (one, RunIndex::None) => Some(one),
            (RunIndex::None, other) => Some(other),
            (one, other) => (one == other).then_some(one),
        }
    }

    fn number(self) -> Option<u32> {
        match self {
            RunIndex::None => None,
            RunIndex::Described(number) => number,
        }
    }
}

/// The page that a record is for, and its LSN.
#[derive(Clone, Copy)]
pub(crate) struct RecordPlace {
    pub(crate) space: SpaceId,
    pub(crate) page: PageNo,
    /// LSN of its first byte.
    pub(crate) start: Lsn,
    /// Whether it begins where the record before it ends.
    pub(crate) follows: bool,
    pub(crate) index: RunIndex,
}

impl ParsedSegment {
    /// Creates an empty segment of a log with this checkpoint.
    pub(crate) fn new(checkpoint: Lsn, budget: &Budget) -> ParsedSegment {
        ParsedSegment {
            bytes: Vec::new(),
            runs: Vec::new(),
            before: Before::default(),
            events: Vec::new(),
            dynamic: TableMetadata::default(),
            grown: Vec::new(),
            keys: Vec::new(),
            charge: budget.charged(PARSED),
            free: FREE,
            records: 0,
            end: None,
            reached: checkpoint,
            over: false,
        }
    }

    /// Empties it for the next segment; gives memory back that an unusual one took, and says whether there was one.
    pub(crate) fn clear(&mut self) -> bool {
        let unusual = self.charge.bytes() > 0;
        if unusual {
            (self.bytes, self.runs, self.events, self.grown, self.keys) = Default::default();
        }
        self.bytes.clear();
        self.runs.clear();
        self.events.clear();
        self.grown.clear();
        self.keys.clear();
        self.dynamic = TableMetadata::default();
        (self.records, self.end, self.before) = (0, None, Before::default());
        unusual
    }

    /// Charges what is unusual: very many small records, or a mini-transaction that does not end. The parser has taken
    /// `parser` bytes.
    ///
    /// # Errors
    /// [`Code::TooLarge`](crate::base::Code::TooLarge).
    pub(crate) fn charge(&mut self, parser: usize) -> Result<()> {
        let events: usize = self.events.iter().map(FileEvent::memory).sum();
        let taken = parser + self.bytes.capacity() + self.runs.capacity() * size_of::<Run>();
        let keys = self.keys.capacity() * size_of::<(SpaceId, [u8; INFO_LEN])>();
        let grown = self.grown.capacity() * size_of::<(SpaceId, Lsn)>();
        let taken = taken + events + self.dynamic.memory() + grown + keys;
        Ok(self.charge.set(taken.saturating_sub(self.free) as u64)?)
    }

    /// Adds a record, whose bytes `put` appends, to the last run of its mini-transaction, or begins a new one.
    #[inline(always)]
    pub(crate) fn push(&mut self, place: RecordPlace, put: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        put(&mut self.bytes);
        let len = (self.bytes.len() - before) as u32;
        self.records += 1;
        if let Some(run) = self.runs[self.before.runs..].last_mut()
            && place.follows
            && (run.page, run.space) == (place.page, place.space)
            && let Some(both) = run.index.and(place.index)
        {
            (run.records, run.len, run.index) = (run.records + 1, run.len + len, both);
            return;
        }
        let RecordPlace { space, page, start, index, .. } = place;
        self.runs.push(Run { space, page, start, end: start, records: 1, len, index });
    }

    /// A record at `at` sets the size of a tablespace.
    #[inline]
    pub(crate) fn note_growth(&mut self, space: SpaceId, at: Lsn) {
        self.grown.push((space, at));
    }

    /// The mini-transaction at hand is whole, and ends there.
    pub(crate) fn end_mini_transaction(&mut self, end: Lsn) {
        self.runs[self.before.runs..].iter_mut().for_each(|run| run.end = end);
        self.before = Before {
            bytes: self.bytes.len(),
            runs: self.runs.len(),
            grown: self.grown.len(),
            keys: self.keys.len(),
            records: self.records,
        };
        self.end = Some(end);
    }

    /// Drops what came in of the mini-transaction at hand.
    pub(crate) fn drop_mini_transaction(&mut self) {
        let Before { bytes, runs, grown, keys, records } = self.before;
        self.bytes.truncate(bytes);
        self.runs.truncate(runs);
        self.grown.truncate(grown);
        self.keys.truncate(keys);
        self.records = records;
    }

    /// A record writes the encryption information of a tablespace: another one, or none any more.
    pub(crate) fn note_key(&mut self, space: SpaceId, info: &[u8; INFO_LEN]) {
        self.keys.push((space, *info));
    }

    /// Adds where tablespaces grow.
    pub(crate) fn put_growth(&self, growth: &mut Growth) {
        self.grown.iter().for_each(|(space, at)| growth.note(*space, *at));
    }

    /// The records for pages.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (SpaceId, PageNo, RecordRun<'_>)> {
        let mut rest = &self.bytes[..];
        self.runs.iter().map(move |run| {
            let (bytes, left) = rest.split_at(run.len as usize);
            rest = left;
            let (start_lsn, end_lsn, index) = (run.start, run.end, run.index.number());
            (run.space, run.page, RecordRun { start_lsn, end_lsn, records: run.records, index, bytes })
        })
    }

    /// Gives all records to the store; returns how many of them their pages have already.
    pub(crate) fn put(&self, store: &mut Store) -> io::Result<u64> {
        let mut dropped = 0;
        for (space, page, run) in self.runs() {
            if !store.push(space, page, &run)? {
                dropped += u64::from(run.records);
            }
        }
        Ok(dropped)
    }
}
