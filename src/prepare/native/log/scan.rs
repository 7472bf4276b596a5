//! Scans the log in one pass: records into the store, and what does not belong to a page beside it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::parsed_segment::ParsedSegment;
use super::segment::Segment;
use super::table_metadata::TableMetadata;
use crate::base::progress::Progress;
use crate::base::sync::lock;
use crate::base::{Budget, Charge, Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::redo::{FileEvent, lsn};
use crate::prepare::lengths::Growth;
use crate::prepare::native::error::{corrupt, spill_error, too_short};
use crate::prepare::native::memory::store_memory;
use crate::prepare::native::records::store::{CachedLsnLookup, Store};
use crate::prepare::native::redo_format::{CopiedLog, SegmentParser, SegmentReader};
use crate::prepare::native::space_keys::SpaceKeys;
use crate::prepare::{Datadir, Resources};

/// An event, with its path, is there so often.
const EVENT_COPIES: u64 = 3;

/// The content of the log.
pub(crate) struct LogContents {
    pub(crate) events: Vec<FileEvent>,
    events_len: u64,
    kept: Charge,
    pub(crate) dynamic: TableMetadata,
    /// The places in redo at which tablespaces grow.
    pub(crate) growth: Growth,
    /// Encryption information that redo writes.
    pub(crate) keys: SpaceKeys,
    /// The end of the last mini-transaction.
    pub(crate) end: Lsn,
    /// Number of records for pages, and how many of them the pages were known to have.
    pub(crate) records: u64,
    pub(crate) dropped: u64,
    /// Duration.
    pub(crate) time: Duration,
}

impl LogContents {
    /// Creates the contents of a log that begins at this checkpoint, empty.
    pub(crate) fn from(checkpoint: Lsn, budget: &Budget) -> LogContents {
        LogContents {
            events: Vec::new(),
            events_len: 0,
            kept: budget.charged("what redo says of files and counters"),
            dynamic: TableMetadata::default(),
            growth: Growth::default(),
            keys: SpaceKeys::default(),
            end: checkpoint,
            records: 0,
            dropped: 0,
            time: Duration::ZERO,
        }
    }

    /// Takes in what the next segment of the log says.
    pub(crate) fn take(
        &mut self,
        parsed: &ParsedSegment,
        store: &mut Store,
        progress: &Progress,
    ) -> Result<()> {
        self.dropped += parsed.put(store).map_err(spill_error)?;
        self.records += parsed.records;
        self.events_len += parsed.events.iter().map(FileEvent::memory).sum::<usize>() as u64;
        // Its fate, and that of its file, are found out from it.
        parsed.put_growth(&mut self.growth);
        parsed.keys.iter().for_each(|(space, info)| self.keys.note(*space, info));
        let beside = self.dynamic.memory() + self.growth.memory() + self.keys.memory();
        self.kept.set(EVENT_COPIES * self.events_len + beside as u64)?;
        self.events.extend_from_slice(&parsed.events);
        self.dynamic.merge(&parsed.dynamic);
        self.end = self.end.max(parsed.end.unwrap_or(self.end));
        Progress::set(&progress.records_total, self.records - self.dropped);
        store.end_groups().map_err(spill_error)
    }

    /// The log was read up to `reached`.
    ///
    /// # Errors
    /// If that is not far enough.
    pub(crate) fn ends_at(&mut self, reached: Lsn, promised: Option<Lsn>) -> Result<()> {
        match promised {
            Some(promised) if reached < promised => Err(too_short(reached, promised, "the backup's end")),
            promised => {
                self.end = promised.unwrap_or(self.end).max(self.end);
                Ok(())
            }
        }
    }
}

/// Where the backup ends, if that is said. A log whose checkpoint lies behind that is not the backup's: a server has gone on
/// from there.
pub(crate) fn promised(datadir: &Datadir<'_>, checkpoint: Lsn) -> Option<Lsn> {
    datadir.end_lsn.map(lsn::next_payload).filter(|promised| *promised >= checkpoint)
}

/// Reads all the log that belongs to the backup. `ask` tells what pages have.
pub(crate) fn gather(
    datadir: &Datadir<'_>,
    log: &dyn CopiedLog,
    ask: CachedLsnLookup,
    means: &Resources<'_>,
) -> Result<(LogContents, Store)> {
    let begun = Instant::now();
    let promised = promised(datadir, log.checkpoint());
    let store = Store::new(log.start(), store_memory(means.memory), datadir.root).asking(ask);
    let store = store.encrypting(datadir.keyring.has_keys());
    let dictionary = store.dictionary().clone();
    let reading = Reading {
        segments: Mutex::new(log.segments(means.budget)),
        kept: Mutex::new(Kept {
            store,
            contents: LogContents::from(log.checkpoint(), means.budget),
            next: 0,
            over: false,
            reached: log.checkpoint(),
        }),
        turn: Condvar::new(),
    };
    let read = || {
        let parser = datadir.redo.parser(log.checkpoint(), promised, dictionary.clone());
        reading.read(parser, ParsedSegment::new(log.checkpoint(), means.budget), means)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..means.threads.max(1)).map(|_| scope.spawn(read)).collect();
        let panicked = || Error::new(Code::Internal, "a thread that reads redo panicked");
        let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())));
        // All are joined before the first error counts.
        joined.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
    })?;
    let Kept { store, mut contents, reached, .. } =
        reading.kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    contents.time = begun.elapsed();
    contents.ends_at(reached, promised)?;
    if let Some((space, page, lsn)) = store.beyond(contents.end) {
        return Err(beyond(space, page, lsn, contents.end));
    }
    Ok((contents, store))
}

/// A page that is newer than the redo goes.
pub(crate) fn beyond(space: SpaceId, page: PageNo, lsn: Lsn, end: Lsn) -> Error {
    corrupt(format!("page {page} of tablespace {space} has LSN {lsn}, beyond its end {end}"))
}

/// The state that the scanning threads share: each understands one segment of the log after the other, and what it says is
/// kept in the order of the log.
struct Reading<'a> {
    segments: Mutex<Box<dyn SegmentReader + 'a>>,
    kept: Mutex<Kept>,
    /// Another segment is next.
    turn: Condvar,
}

struct Kept {
    store: Store,
    contents: LogContents,
    /// The number of the segment that is kept next.
    next: u64,
    /// No more is wanted: the log has ended, or something is wrong.
    over: bool,
    reached: Lsn,
}

impl Reading<'_> {
    fn read(
        &self,
        mut parser: Box<dyn SegmentParser>,
        mut parsed: ParsedSegment,
        means: &Resources<'_>,
    ) -> Result<()> {
        let _panicking = WakeOnPanic(self);
        let mut segment = Segment::default();
        loop {
            let found = lock(&self.segments).next(&mut segment);
            let understood = match found {
                Ok(false) => return Ok(()),
                Ok(true) => parser.parse(&segment, &mut parsed),
                Err(e) => Err(e),
            };
            let waits = |kept: &mut Kept| !kept.over && kept.next != segment.number;
            let kept = self.turn.wait_while(lock(&self.kept), waits);
            let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
            if kept.over {
                // Whatever stands behind the end is of no interest.
                return Ok(());
            }
            let done = means.stop.check().and(understood).and_then(|()| kept.take(&parsed, means.progress));
            kept.next += 1;
            kept.over = parsed.over || done.is_err();
            drop(kept);
            self.turn.notify_all();
            done?;
        }
    }
}

impl Kept {
    fn take(&mut self, parsed: &ParsedSegment, progress: &Progress) -> Result<()> {
        self.reached = parsed.reached;
        self.contents.take(parsed, &mut self.store, progress)
    }
}

/// Lets the others go where a thread panics.
struct WakeOnPanic<'a, 'b>(&'a Reading<'b>);

impl Drop for WakeOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.kept).over = true;
            self.0.turn.notify_all();
        }
    }
}
