//! What a piece of the log says: the records for pages, and what does not belong to a page beside them.

use std::io;
use std::sync::Arc;

use super::segments::Segment;
use super::table_metadata::TableMetadata;
use crate::base::{Budget, Charge, Lsn, PageNo, Result, SpaceId};
use crate::innodb::redo::{
    Body, FileChange, FileEvent, IndexNumbers, Kind, MiniTransaction, RawRecord, ScanError, Scanner,
    compact_record, file_events, lsn,
};
use crate::prepare::lengths::Growth;
use crate::prepare::native::error::corrupt;
use crate::prepare::native::log::{scan_error, take};
use crate::prepare::native::records::index_dictionary::IndexDictionary;
use crate::prepare::native::records::run::RecordRun;
use crate::prepare::native::records::store::Store;

/// Blocks that are taken in before what they say is asked for.
const BLOCKS_FED: usize = 64;
/// Bytes that what a piece says may take: those of a piece of usual length do.
const FREE: usize = 6 << 20;

/// Whole groups, understood. Its memory is used for one piece after the other.
pub(crate) struct ParsedSegment {
    scanner: Scanner,
    checkpoint: Lsn,
    /// Groups that end behind this are not wanted.
    promised: Option<Lsn>,
    dictionary: Arc<IndexDictionary>,
    numbers: IndexNumbers,
    bytes: Vec<u8>,
    runs: Vec<Bound>,
    /// What there was when the group at hand began.
    before: Before,
    /// Where the last record ends in the payload of the log.
    last_end: u64,
    pub(crate) events: Vec<FileEvent>,
    pub(crate) dynamic: TableMetadata,
    /// Tablespaces whose size is set, and where.
    grown: Vec<(SpaceId, Lsn)>,
    /// What it takes beyond [`FREE`].
    charge: Charge,
    /// Number of records for pages.
    pub(crate) records: u64,
    /// The end of the last group that was taken in, if there is one.
    pub(crate) end: Option<Lsn>,
    /// How far the log was read.
    pub(crate) reached: Lsn,
    /// The log ends here, or nothing more of it is wanted.
    pub(crate) over: bool,
}

#[derive(Clone, Copy, Default)]
struct Before {
    bytes: usize,
    runs: usize,
    grown: usize,
    records: u64,
}

/// A run of records in a sheaf.
struct Bound {
    space: SpaceId,
    page: PageNo,
    start: Lsn,
    end: Lsn,
    records: u32,
    len: u32,
    index: Described,
}

/// Whether records of a run describe an index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Described {
    Not,
    /// The description has this number and was left out; without a number it stands in the record.
    By(Option<u32>),
}

impl Described {
    /// What it is for both together; `None` if they can't be in one run.
    fn and(self, other: Described) -> Option<Described> {
        match (self, other) {
            (one, Described::Not) => Some(one),
            (Described::Not, other) => Some(other),
            (one, other) => (one == other).then_some(one),
        }
    }

    fn number(self) -> Option<u32> {
        match self {
            Described::Not => None,
            Described::By(number) => number,
        }
    }
}

impl ParsedSegment {
    /// Of a log with this checkpoint.
    pub(crate) fn new(
        checkpoint: Lsn,
        promised: Option<Lsn>,
        dictionary: Arc<IndexDictionary>,
        budget: &Budget,
    ) -> ParsedSegment {
        ParsedSegment {
            charge: budget.charged(super::segments::GROUPS),
            scanner: Scanner::new(checkpoint),
            checkpoint,
            promised,
            dictionary,
            numbers: IndexNumbers::default(),
            bytes: Vec::new(),
            runs: Vec::new(),
            before: Before::default(),
            last_end: 0,
            events: Vec::new(),
            dynamic: TableMetadata::default(),
            grown: Vec::new(),
            records: 0,
            end: None,
            reached: checkpoint,
            over: false,
        }
    }

    /// Understands a piece.
    pub(crate) fn fill(&mut self, segment: &Segment) -> Result<()> {
        let mut scanner = std::mem::replace(&mut self.scanner, Scanner::new(self.checkpoint));
        if self.charge.bytes() > 0 {
            // What an unusual piece took is given back.
            scanner = Scanner::new(self.checkpoint);
            (self.bytes, self.runs, self.events, self.grown) = Default::default();
        }
        self.clear();
        scanner.restart(segment.start);
        let filled = self.fill_from(&mut scanner, segment);
        self.scanner = scanner;
        filled
    }

    fn fill_from(&mut self, scanner: &mut Scanner, segment: &Segment) -> Result<()> {
        self.over = segment.next.is_none();
        for blocks in segment.blocks().chunks(BLOCKS_FED) {
            // What the groups before a bad block say comes first: they may be the last that are wanted.
            let fed: Result<bool> =
                blocks.iter().try_fold(true, |goes_on, block| Ok(goes_on && take(scanner, block)?));
            while segment.next.is_none() || scanner.recovered_lsn() != segment.next {
                let polled = scanner.poll_changes(|record| self.record(record));
                let Some(group) = polled.map_err(scan_error)? else { break };
                if let Some(promised) = self.promised.filter(|promised| group.end_lsn > *promised) {
                    if lsn::next_payload(group.start_lsn) < promised {
                        let (from, to) = (group.start_lsn, group.end_lsn);
                        return Err(corrupt(format!(
                            "a group of records from LSN {from} to {to} lies on both sides of the backup's end {promised}"
                        )));
                    }
                    // Groups behind the end may be of transactions that are not in the backup.
                    (self.reached, self.over) = (promised, true);
                    self.forget_group();
                    return Ok(());
                }
                self.group(&group);
            }
            self.charge(scanner)?;
            if !fed? {
                self.over = true;
                break;
            }
        }
        self.forget_group();
        self.reached = scanner.recovered_lsn().map_or(self.checkpoint, |lsn| lsn.max(self.checkpoint));
        match segment.next {
            Some(next) if !self.over && scanner.recovered_lsn() != Some(next) => {
                Err(corrupt(ScanError::Desync { expected: next }))
            }
            _ => Ok(()),
        }
    }

    /// What is unusual is charged: very many small records, or a group that does not end.
    fn charge(&mut self, scanner: &Scanner) -> Result<()> {
        let events: usize = self.events.iter().map(FileEvent::memory).sum();
        let taken = scanner.memory() + self.bytes.capacity() + self.runs.capacity() * size_of::<Bound>();
        let taken =
            taken + events + self.dynamic.memory() + self.grown.capacity() * size_of::<(SpaceId, Lsn)>();
        Ok(self.charge.set(taken.saturating_sub(FREE) as u64)?)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
        self.events.clear();
        self.grown.clear();
        self.dynamic = TableMetadata::default();
        (self.records, self.end, self.before) = (0, None, Before::default());
    }

    /// A group is whole; it has what is not for a page.
    fn group(&mut self, group: &MiniTransaction<'_>) {
        self.runs[self.before.runs..].iter_mut().for_each(|run| run.end = group.end_lsn);
        self.before = Before {
            bytes: self.bytes.len(),
            runs: self.runs.len(),
            grown: self.grown.len(),
            records: self.records,
        };
        if group.outline().any(|(kind, ..)| kind != Kind::MultiRecEnd) {
            self.beside(group);
        }
        self.end = Some(group.end_lsn);
    }

    /// Nothing of the group at hand is wanted.
    fn forget_group(&mut self) {
        let Before { bytes, runs, grown, records } = self.before;
        self.bytes.truncate(bytes);
        self.runs.truncate(runs);
        self.grown.truncate(grown);
        self.records = records;
    }

    /// Adds a record to the last run of its group, or makes a new one.
    #[inline(always)]
    fn record(&mut self, record: &RawRecord<'_>) {
        let number = match record.index {
            [] => None,
            index => self.numbers.get(record.index_key, || self.dictionary.number(index)),
        };
        let index = if record.kind.has_index() { Described::By(number) } else { Described::Not };
        if record.sets_space_size() {
            self.grown.push((record.space, record.start_lsn()));
        }
        let before = self.bytes.len();
        compact_record::put(&mut self.bytes, record, number.is_some());
        let len = (self.bytes.len() - before) as u32;
        self.records += 1;
        let follows = std::mem::replace(&mut self.last_end, record.at.end) == record.at.start;
        if let Some(run) = self.runs[self.before.runs..].last_mut()
            && follows
            && (run.page, run.space) == (record.page, record.space)
            && let Some(both) = run.index.and(index)
        {
            (run.records, run.len, run.index) = (run.records + 1, run.len + len, both);
            return;
        }
        let (space, page, start) = (record.space, record.page, record.start_lsn());
        self.runs.push(Bound { space, page, start, end: start, records: 1, len, index });
    }

    /// What does not belong to a page.
    fn beside(&mut self, group: &MiniTransaction<'_>) {
        // BatchIndex builds say nothing of files.
        let is_of_file = |event: &FileEvent| !matches!(event.what, FileChange::IndexLoad { .. });
        self.events.extend(file_events(group).filter(is_of_file));
        if !group.outline().any(|(kind, ..)| kind == Kind::TableDynamicMeta) {
            return;
        }
        for record in group.records() {
            if let Body::DynamicMeta { table, version, meta } = &record.body {
                self.dynamic.note(*table, *version, meta);
            }
        }
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

    /// Gives all records to the store; how many of them their pages have.
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
