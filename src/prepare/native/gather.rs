//! One pass over the log: records into the store, and what does not belong to a page beside it.

use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::dynamic::Dynamic;
use super::log::Log;
use super::records::Kept;
use super::store::Store;
use super::too_short;
use crate::base::progress::Progress;
use crate::base::{Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::redo::{Body, FileEvent, Group, Kind, file_events, lsn};
use crate::prepare::{Datadir, Means};

/// What of the memory is not for records that wait, but for those being applied and for what threads hand to each other.
const HANDS_SHARE: u64 = 4;
/// A thread's index over the records that it applies, and the records, take so much more than their length at most.
const INDEX_SHARE: u64 = 4;
/// What one thread hands to the other at a time, and how often before it is taken.
const BUNDLE_LEN: usize = 256 << 10;
const BUNDLE_RECORDS: usize = 8 << 10;
const BUNDLES_MAX: usize = 4;
/// The total is shown when so many records more are known.
const SHOWN_EVERY: u64 = 1 << 14;

/// What the log says.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) events: Vec<FileEvent>,
    pub(super) dynamic: Dynamic,
    /// The end of the last group.
    pub(super) end: Lsn,
    /// Number of records for pages, and how many of them the pages were known to have.
    pub(super) records: u64,
    pub(super) dropped: u64,
    /// How long it took.
    pub(super) time: Duration,
}

/// Memory for records that wait.
pub(super) fn store_memory(memory: u64) -> u64 {
    memory - memory / HANDS_SHARE
}

/// How long a batch of records may be that a thread applies.
pub(super) fn batch_len(means: &Means<'_>) -> usize {
    let each = (means.memory - store_memory(means.memory)) / means.threads.max(1) as u64;
    usize::try_from(each / INDEX_SHARE).unwrap_or(usize::MAX)
}

impl Gathered {
    /// Nothing yet of a log that begins at this checkpoint.
    pub(super) fn from(checkpoint: Lsn) -> Gathered {
        Gathered { end: checkpoint, ..Gathered::default() }
    }

    /// Takes a group in.
    pub(super) fn group(&mut self, group: &Group<'_>, store: &mut Store, progress: &Progress) -> Result<()> {
        let mut dropped = 0;
        self.note(group, progress, |space, page, record| {
            dropped += u64::from(!store.push(space, page, &record));
        });
        self.dropped += dropped;
        store.end_group().map_err(spill_error)
    }

    /// Takes in what does not belong to a page, and gives the records that do to `each`.
    fn note<'a>(
        &mut self,
        group: &Group<'a>,
        progress: &Progress,
        mut each: impl FnMut(SpaceId, PageNo, Kept<'a>),
    ) {
        let before = self.records;
        let mut beside = false;
        for record in group.raw_records() {
            if !record.kind.is_page_change() {
                beside = true;
                continue;
            }
            let (start_lsn, end_lsn) = (record.start_lsn, group.end_lsn);
            each(
                record.space,
                record.page,
                Kept { kind: record.kind, start_lsn, end_lsn, bytes: record.bytes },
            );
            self.records += 1;
        }
        if beside {
            self.beside(group);
        }
        self.end = self.end.max(group.end_lsn);
        if before / SHOWN_EVERY != self.records / SHOWN_EVERY {
            Progress::set(&progress.records_total, self.records - self.dropped);
        }
    }

    /// What does not belong to a page.
    fn beside(&mut self, group: &Group<'_>) {
        self.events.extend(file_events(group));
        if !group.outline().any(|(kind, ..)| kind == Kind::TableDynamicMeta) {
            return;
        }
        for record in group.records() {
            if let Body::DynamicMeta { table, version, meta } = &record.body {
                self.dynamic.note(*table, *version, meta);
            }
        }
    }
}

/// Where the backup ends, if that is said. A log whose checkpoint lies behind that is not the backup's: a server has gone on
/// from there.
pub(super) fn promised(datadir: &Datadir<'_>, checkpoint: Lsn) -> Option<Lsn> {
    datadir.end_lsn.map(reached).filter(|promised| *promised >= checkpoint)
}

/// Reads all the log that belongs to the backup: one thread understands it, another keeps its records.
pub(super) fn gather(datadir: &Datadir<'_>, log: &Log, means: &Means<'_>) -> Result<(Gathered, Store)> {
    let begun = Instant::now();
    let mut store = Store::new(log.start(), store_memory(means.memory), datadir.root);
    let mut gathered = Gathered::from(log.checkpoint());
    let promised = promised(datadir, log.checkpoint());
    let reached = std::thread::scope(|scope| {
        let (bundles, waiting) = sync_channel::<Bundle>(BUNDLES_MAX);
        let store = &mut store;
        let keeper = scope.spawn(move || waiting.iter().try_for_each(|bundle| bundle.keep(store)));
        let read = read_into(log, promised, &mut gathered, means, &bundles);
        drop(bundles);
        let kept =
            keeper.join().unwrap_or_else(|_| Err(io::Error::other("the thread that keeps records panicked")));
        // What went wrong there made the reader stop.
        kept.map_err(spill_error).and(read)
    })?;
    gathered.time = begun.elapsed();
    gathered.ends_at(reached, promised)?;
    Ok((gathered, store))
}

/// Gives where reading ended.
fn read_into(
    log: &Log,
    promised: Option<Lsn>,
    gathered: &mut Gathered,
    means: &Means<'_>,
    bundles: &SyncSender<Bundle>,
) -> Result<Lsn> {
    let gone = || Error::new(Code::Internal, "the thread that keeps records has ended");
    let mut bundle = Bundle::default();
    let mut beyond = None;
    let scanned = log.groups(|group| {
        if promised.is_some_and(|promised| group.end_lsn > promised) {
            // Groups behind the end may be of transactions that are not in the backup.
            beyond = promised;
            return Ok(ControlFlow::Break(()));
        }
        gathered.note(group, means.progress, |space, page, record| bundle.add(space, page, &record));
        bundle.group_ends.push(bundle.records.len());
        if bundle.bytes.len() >= BUNDLE_LEN || bundle.records.len() >= BUNDLE_RECORDS {
            means.stop.check()?;
            bundles.send(std::mem::take(&mut bundle)).map_err(|_| gone())?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    bundles.send(bundle).map_err(|_| gone())?;
    Ok(beyond.unwrap_or(scanned))
}

/// Records on their way from one thread to the other: whole groups.
#[derive(Default)]
struct Bundle {
    bytes: Vec<u8>,
    records: Vec<Bundled>,
    group_ends: Vec<usize>,
}

struct Bundled {
    space: SpaceId,
    page: PageNo,
    kind: Kind,
    start_lsn: Lsn,
    end_lsn: Lsn,
    /// Where its body ends.
    end: usize,
}

impl Bundle {
    fn add(&mut self, space: SpaceId, page: PageNo, record: &Kept<'_>) {
        self.bytes.extend_from_slice(record.bytes);
        let Kept { kind, start_lsn, end_lsn, .. } = *record;
        self.records.push(Bundled { space, page, kind, start_lsn, end_lsn, end: self.bytes.len() });
    }

    fn keep(&self, store: &mut Store) -> io::Result<()> {
        let (mut from, mut at) = (0, 0);
        for group_end in &self.group_ends {
            for record in &self.records[from..*group_end] {
                let Bundled { space, page, kind, start_lsn, end_lsn, end } = *record;
                let bytes = &self.bytes[at..end];
                store.push(space, page, &Kept { kind, start_lsn, end_lsn, bytes });
                at = end;
            }
            from = *group_end;
            store.end_group()?;
        }
        Ok(())
    }
}

fn spill_error(e: io::Error) -> Error {
    Error::io(Code::TargetIo, "a file for redo records", e)
}

impl Gathered {
    /// The log was read up to `reached`.
    ///
    /// # Errors
    /// Where that is not far enough.
    pub(super) fn ends_at(&mut self, reached: Lsn, promised: Option<Lsn>) -> Result<()> {
        match promised {
            Some(promised) if reached < promised => Err(too_short(reached, promised, "the backup's end")),
            promised => {
                self.end = promised.unwrap_or(self.end).max(self.end);
                Ok(())
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The LSN of the next payload byte: servers never give one that is the border of a block.
fn reached(end: Lsn) -> Lsn {
    if end == end.block_start() { lsn::first_payload(end) } else { end }
}
