//! Native prepare: applies redo to the pages of a copy without a server, as crash recovery does, up to but without the rollback.
//!
//! 1. `log`: the redo is scanned once, from its checkpoint to the end of the backup, in segments that several threads parse at the
//!    same time; what they say is kept in the order of the log. Records that change pages go, at half the size that they have in
//!    the log, into the store (`records`), which keeps the records of neighbouring pages together and spills to a nameless file
//!    what exceeds the memory. Records that a page in the page cache has already are left out (`pages::cached_lsn`). Beside them
//!    come out what happened to files, and the auto-increment counters (`log::table_metadata`).
//! 2. Files are created, renamed and removed as the log says ([`super::file_operations`]); `tablespaces` finds every tablespace by
//!    the id in its page 0.
//! 3. `pages`: threads take one page range after the other, in the order of the files, from the merge of what is in memory and what
//!    was spilled. Each page is read once, brought up to date, and written once; a page already has every record that starts
//!    before its LSN.
//! 4. `finish`: files as long as their tablespace headers say, a new and empty redo log behind the end of the old one,
//!    the same LSN in the system tablespace. The auto-increment counters, which live in redo alone until a checkpoint saves
//!    them, are the only records of the new log.
//!
//! How redo is found, cut, parsed, applied to one page and replaced is asked of its family ([`RedoFormat`]).
//!
//! While a stream arrives, `streaming` does the first step behind those who write the redo, and gives pages the records that are known
//! by then, on their way to their files: after the digest was computed, before they are written. The order of steps for
//! a page is thus fixed: written, with what redo had come by then, and then, when all is written, the third step. A copy
//! whose manifest does not match at last is thrown away with all of that.
//!
//! # What is not applied
//!
//! * Rollback, and the fate of transactions that were prepared: the server's, by the undo logs that are up to date now, as
//!   after a crash. For transactions that were prepared inside the server it needs the last part of the binary log,
//!   which lies in the copy (`undecided` counts them, and the summary says so).
//! * Groups of records behind the end of the backup: their transactions are not in the recorded position.
//! * Records for tablespaces that redo removes later, of undo tablespaces without a file, and of the temporary one.
//! * Encrypted pages and redo without their keys: noticed when the first of them comes in.
//! * Index builds write pages without redo. The sender's backup lock keeps them out of the window; the receiver can do
//!   nothing about one. `INDEX_LOAD` does not tell of all: a build with `LOCK=SHARED` logs none, nor do those of the auxiliary
//!   tables of a full-text index.
//!
//! # Where pages differ from the server's own
//!
//! * The page LSN, and with it the checksum: the server raises it on pages that it latched for writing and then did not
//!   change, of which redo has nothing.
//! * Bytes 26..34 of page 0, which hold a flush LSN in the system tablespace and nothing elsewhere.
//! * `PAGE_DIRECTION` and `PAGE_N_DIRECTION` of R-tree pages: the server's own recovery sets them, its insert does not.
//! * Pages in no use that an index build had taken and given back: it copies the topmost page of its tree to the root, frees
//!   it, and writes it to the file at any later time or never. What it held is in no log.
//! * Bytes 26 to 33 of pages with page compression (`COMPRESSION=`) that are stored as they are: a server that reads a
//!   compressed page back leaves there how it was compressed and its length then, of which redo has nothing. Where redo makes the
//!   page anew, ours has zeros; and where the copy was read compressed, ours has them and the server's memory had not.
//! * The checksum is always `crc32`, whatever the source wrote; every server takes it.
//!
//! # How it is proved
//!
//! The exact judge lets a source come to rest after a random load and compares every page of the copy with the source's,
//! byte for byte but for the above, for all page sizes. The same stream prepared by a private mysqld must have the same rows
//! and counters. Prepared while it arrived or afterwards in its folder, in one go or killed and run again, with much memory
//! or little, with the redo first or last in the stream, a backup must come to the same bytes.
//!
//! Everything here may be killed and run again: pages that have their records are left as they are, and the old log stays
//! until all else is durable. In a folder of the user's, pages go through a journal (`journal`).

pub(crate) mod error;
mod finish;
mod journal;
mod log;
mod memory;
mod pages;
pub(crate) mod records;
mod redo_format;
pub(crate) mod space_keys;
mod streaming;
pub(crate) mod tablespaces;

use std::collections::{BTreeMap, BTreeSet};

use super::{Datadir, Prepared, Resources, file_operations, options};
use crate::base::progress::Progress;
use crate::base::{Result, SpaceId};
use crate::innodb::redo::{FileChange, FileEvent};
use error::spill_error;
use finish::prepared_transactions;
use log::scan;
use pages::{bounds, cached_lsn};
use tablespaces::TablespaceFiles;

pub use finish::{Finish, mark_prepared, replace_checkpoints};
pub use journal::Writes;
pub use log::RedoLocation;
pub use log::parsed_segment::ParsedSegment;
pub(crate) use log::parsed_segment::{PARSED, RecordPlace, RunIndex};
pub use log::segment::Segment;
pub use log::watermark::Watermark;
pub use records::index_dictionary::IndexDictionary;
pub use records::run::RecordRun;
pub use redo_format::{
    AppliedLog, CopiedLog, PageUpdate, RecordApplier, RedoFormat, SegmentParser, SegmentReader,
};
pub use streaming::{StreamedTablespace, StreamingApply, StreamingApplyHandle};

/// Applies the redo in `place` to the pages of `datadir`. What is returned makes the copy startable, once everything
/// that was written is durable.
///
/// # Errors
/// `CorruptRedo`, `CorruptPage`, `Prepare`, `TargetIo` and `Interrupted` of [`Code`](crate::base::Code).
pub fn apply(
    datadir: &Datadir<'_>,
    place: &RedoLocation,
    live: Option<StreamingApply>,
    writes: Writes,
    means: &Resources<'_>,
) -> Result<(Finish, Prepared)> {
    let log = datadir.redo.open(place, &*datadir.keyring)?;
    if writes == Writes::InPlace {
        journal::recover(datadir)?;
    }
    let received = live.map(|live| live.finish(datadir)).transpose()?.flatten();
    let (early, (contents, store)) = match received {
        Some(r) => (Some((r.applied, r.pages)), (r.contents, r.store)),
        None => (None, scan::gather(datadir, &*log, cached_lsn::asker(datadir), means)?),
    };
    Progress::set(&means.progress.records_total, contents.records - contents.dropped);
    let left_out: BTreeSet<SpaceId> = datadir.left_out.iter().map(|one| SpaceId(one.space)).collect();
    let events: Vec<_> = contents.events.into_iter().filter(|e| !left_out.contains(&e.space)).collect();
    let mut notes = file_operations::apply(datadir, &events)?;
    let mut removed = file_operations::removed(&events);
    removed.extend(left_out);
    let spaces = TablespaceFiles::find(datadir, removed, &contents.keys)?;
    spaces.check_lengths(&contents.growth)?;
    let ends = bounds::TablespaceBounds::new(extended(&events));
    let job = pages::apply::Job {
        format: datadir.redo,
        spaces: &spaces,
        ends: &ends,
        end: contents.end,
        root: datadir.root,
        writes,
    };
    let outcome = pages::apply::apply(&job, store.into_merge().map_err(spill_error)?, means)?;
    notes.push(format!(
        "{} of {} records applied to {} pages; {} pages had theirs already",
        outcome.records_applied, contents.records, outcome.pages_changed, outcome.pages_unchanged
    ));
    notes.extend(early.map(|(records, pages)| {
        format!("before that, {records} records were applied to {pages} pages as they arrived")
    }));
    let mut steps = Vec::new();
    if early.is_none() {
        steps.push(("redo read", contents.time));
    }
    steps.push(("pages", outcome.time));
    spaces.lengthen(ends.extended())?;
    notes.extend(undecided(datadir, prepared_transactions::count(&spaces)?)?);
    let applied = AppliedLog {
        place: place.clone(),
        end: contents.end,
        system: spaces.system_file()?,
        dynamic: contents.dynamic,
    };
    let finish = Finish { format: datadir.redo, applied };
    Ok((finish, Prepared { lsn: Some((log.checkpoint(), contents.end)), notes, steps }))
}

/// Returns a note about transactions whose fate the binary log decides.
fn undecided(datadir: &Datadir<'_>, count: usize) -> Result<Option<String>> {
    if count == 0 {
        return Ok(None);
    }
    Ok(Some(match options::binlog(datadir)? {
        Some(base) => format!(
            "transactions on their way to the binary log: {count}; the first server started on the copy must have \
             --log-bin={base}, or it rolls them back though the recorded position may hold them"
        ),
        None => format!(
            "transactions on their way to the binary log: {count}; none came along that tells whether they were \
             committed, so the first server started on the copy rolls them back"
        ),
    }))
}

/// The lengths in bytes that tablespaces have at least, as redo says.
fn extended(events: &[FileEvent]) -> BTreeMap<SpaceId, u64> {
    let mut lengths = BTreeMap::new();
    for event in events {
        if let FileChange::Extend { offset, size } = event.what {
            let length = lengths.entry(event.space).or_insert(0u64);
            *length = (*length).max(offset.saturating_add(size));
        }
    }
    lengths
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;

#[cfg(test)]
#[path = "encryption_tests.rs"]
mod encryption_tests;
