//! Parses segments of a log in blocks of 512 bytes with MySQL's record types.

use std::sync::Arc;

use super::copied_log::{scan_error, take};
use super::segments::blocks;
use crate::base::{Lsn, Result};
use crate::innodb::redo::{
    Body, FileChange, FileEvent, IndexNumbers, Kind, MiniTransaction, RawRecord, ScanError, Scanner,
    compact_record, file_events, lsn,
};
use crate::prepare::native::error::corrupt;
use crate::prepare::native::{IndexDictionary, ParsedSegment, RecordPlace, RunIndex, Segment, SegmentParser};

/// Blocks that are taken in before what they say is asked for.
const BLOCKS_FED: usize = 64;

/// Parses one segment after the other.
pub(super) struct BlockParser {
    scanner: Scanner,
    checkpoint: Lsn,
    /// Mini-transactions that end behind this are not wanted.
    promised: Option<Lsn>,
    records: Records,
}

/// State of the parser that outlives a segment.
struct Records {
    dictionary: Arc<IndexDictionary>,
    numbers: IndexNumbers,
    /// Where the last record ends in the payload of the log.
    last_end: u64,
}

impl BlockParser {
    /// Of a log with this checkpoint, of which nothing behind `promised` is wanted.
    pub(super) fn new(
        checkpoint: Lsn,
        promised: Option<Lsn>,
        dictionary: Arc<IndexDictionary>,
    ) -> BlockParser {
        let records = Records { dictionary, numbers: IndexNumbers::default(), last_end: 0 };
        BlockParser { scanner: Scanner::new(checkpoint), checkpoint, promised, records }
    }

    fn fill(&mut self, segment: &Segment, into: &mut ParsedSegment) -> Result<()> {
        let BlockParser { scanner, checkpoint, promised, records } = self;
        into.over = segment.next.is_none();
        for blocks in blocks(segment).chunks(BLOCKS_FED) {
            // What the mini-transactions before a bad block say comes first: they may be the last that are wanted.
            let fed: Result<bool> =
                blocks.iter().try_fold(true, |goes_on, block| Ok(goes_on && take(scanner, block)?));
            while segment.next.is_none() || scanner.recovered_lsn() != segment.next {
                let polled = scanner.poll_changes(|record| records.take(record, into));
                let Some(group) = polled.map_err(scan_error)? else { break };
                if let Some(promised) = promised.filter(|promised| group.end_lsn > *promised) {
                    if lsn::next_payload(group.start_lsn) < promised {
                        let (from, to) = (group.start_lsn, group.end_lsn);
                        return Err(corrupt(format!(
                            "a group of records from LSN {from} to {to} lies on both sides of the backup's end {promised}"
                        )));
                    }
                    // What lies behind the end may be of transactions that are not in the backup.
                    (into.reached, into.over) = (promised, true);
                    into.drop_mini_transaction();
                    return Ok(());
                }
                into.end_mini_transaction(group.end_lsn);
                if group.outline().any(|(kind, ..)| kind != Kind::MultiRecEnd) {
                    beside(&group, into);
                }
            }
            into.charge(scanner.memory())?;
            if !fed? {
                into.over = true;
                break;
            }
        }
        into.drop_mini_transaction();
        into.reached = scanner.recovered_lsn().map_or(*checkpoint, |lsn| lsn.max(*checkpoint));
        match segment.next {
            Some(next) if !into.over && scanner.recovered_lsn() != Some(next) => {
                Err(corrupt(ScanError::Desync { expected: next }))
            }
            _ => Ok(()),
        }
    }
}

impl SegmentParser for BlockParser {
    fn parse(&mut self, segment: &Segment, into: &mut ParsedSegment) -> Result<()> {
        if into.clear() {
            // What an unusual segment took is given back here, too.
            self.scanner = Scanner::new(self.checkpoint);
        }
        self.scanner.restart(segment.start);
        let filled = self.fill(segment, into);
        if filled.is_err() {
            self.scanner = Scanner::new(self.checkpoint);
        }
        filled
    }
}

impl Records {
    /// Takes in a record for a page.
    #[inline(always)]
    fn take(&mut self, record: &RawRecord<'_>, into: &mut ParsedSegment) {
        let number = match record.index {
            [] => None,
            index => self.numbers.get(record.index_key, || self.dictionary.number(index)),
        };
        let index = if record.kind.has_index() { RunIndex::Described(number) } else { RunIndex::None };
        if record.sets_space_size() {
            into.note_growth(record.space, record.start_lsn());
        }
        if let Some(info) = record.encryption_info() {
            into.note_key(record.space, info);
        }
        let follows = std::mem::replace(&mut self.last_end, record.at.end) == record.at.start;
        let (space, page, start) = (record.space, record.page, record.start_lsn());
        let place = RecordPlace { space, page, start, follows, index };
        into.push(place, |bytes| compact_record::put(bytes, record, number.is_some()));
    }
}

/// Takes in what does not belong to a page.
fn beside(group: &MiniTransaction<'_>, into: &mut ParsedSegment) {
    // Index builds say nothing of files.
    let is_of_file = |event: &FileEvent| !matches!(event.what, FileChange::IndexLoad { .. });
    into.events.extend(file_events(group).filter(is_of_file));
    if !group.outline().any(|(kind, ..)| kind == Kind::TableDynamicMeta) {
        return;
    }
    for record in group.records() {
        if let Body::DynamicMeta { table, version, meta } = &record.body {
            into.dynamic.note(*table, *version, meta);
        }
    }
}
