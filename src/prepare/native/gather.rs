//! One pass over the log: records into the store, and what does not belong to a page beside it.

use std::ops::ControlFlow;

use super::dynamic::Dynamic;
use super::log::Log;
use super::records::Kept;
use super::store::Store;
use super::too_short;
use crate::base::progress::Progress;
use crate::base::{Code, Error, Lsn, Result};
use crate::innodb::redo::{Body, FileEvent, file_events, lsn};
use crate::prepare::{Datadir, Means};

/// How much of the memory holds records; the rest is for those being applied.
const STORE_SHARE: u64 = 2;
/// A thread's index over the records that it applies takes so much of their length at most.
const INDEX_SHARE: u64 = 2;

/// What the log says.
pub(super) struct Gathered {
    pub(super) store: Store,
    pub(super) events: Vec<FileEvent>,
    pub(super) dynamic: Dynamic,
    /// The end of the last group that belongs to the backup.
    pub(super) end: Lsn,
    /// Number of records for pages.
    pub(super) records: u64,
}

/// How long a run of records may be that a thread applies.
pub(super) fn run_len(means: &Means<'_>) -> u64 {
    (means.memory - means.memory / STORE_SHARE) / means.threads.max(1) as u64 / INDEX_SHARE
}

/// Reads all the log that belongs to the backup.
pub(super) fn gather(datadir: &Datadir<'_>, log: &Log, means: &Means<'_>) -> Result<Gathered> {
    let memory = means.memory / STORE_SHARE;
    let mut store = Store::new(log.start(), log.len(), memory, run_len(means), datadir.root);
    let (mut events, mut dynamic) = (Vec::new(), Dynamic::default());
    let mut records = 0;
    // A log whose checkpoint lies behind the backup's end is not the backup's: a server has gone on from there.
    let promised = datadir.end_lsn.map(reached).filter(|promised| *promised >= log.checkpoint());
    let mut end = log.checkpoint();
    let mut beyond = false;
    let scanned = log.groups(|group| {
        means.stop.check()?;
        if promised.is_some_and(|promised| group.end_lsn > promised) {
            // Groups behind the end may be of transactions that are not in the backup.
            beyond = true;
            return Ok(ControlFlow::Break(()));
        }
        events.extend(file_events(group));
        for record in group.records() {
            if let Body::DynamicMeta { table, version, meta } = &record.body {
                dynamic.note(*table, *version, meta);
            }
            if !record.kind.is_page_change() {
                continue;
            }
            let kept = Kept {
                kind: record.kind,
                start_lsn: record.start_lsn,
                end_lsn: record.end_lsn,
                bytes: record.bytes,
            };
            store.push((record.space, record.page), &kept);
            records += 1;
        }
        store.end_group().map_err(|e| Error::io(Code::TargetIo, "a file for redo records", e))?;
        end = end.max(group.end_lsn);
        Progress::set(&means.progress.records_total, records);
        Ok(ControlFlow::Continue(()))
    })?;
    match promised {
        Some(promised) if scanned < promised && !beyond => {
            Err(too_short(scanned, promised, "the backup's end"))
        }
        promised => Ok(Gathered { store, events, dynamic, end: promised.unwrap_or(end).max(end), records }),
    }
}

/// The LSN of the next payload byte: servers never give one that is the border of a block.
fn reached(end: Lsn) -> Lsn {
    if end == end.block_start() { lsn::first_payload(end) } else { end }
}
