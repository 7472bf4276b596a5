//! Redo applied to the pages of a copy by ourselves: crash recovery up to, but without, the rollback.
//!
//! 1. [`log`] and [`gather`]: the redo is read once, from its checkpoint to the end of the backup. Records that change
//!    pages go, as compact as the log has them, into the [`store`], which keeps the records of neighbouring pages
//!    together and spills to a nameless file what exceeds the memory. On the way fall off: what happened to files, and the
//!    auto-increment counters ([`dynamic`]).
//! 2. Files are created, renamed and removed as the log says ([`super::replay`]); [`spaces`] finds every tablespace by the
//!    id in its page 0.
//! 3. [`apply`]: threads take one part of the store after the other. Each page is read once, brought up to date, and
//!    written once; a page already has every record that starts before its LSN.
//! 4. [`finish`]: files as long as their tablespace headers say, a new and empty redo log behind the end of the old one,
//!    the same LSN in the system tablespace. The auto-increment counters, which live in redo alone until a checkpoint saves
//!    them, are the only records of the new log.
//!
//! What recovery does after that is the server's: it rolls back what was not committed and settles what was prepared, by
//! the undo logs that are up to date now, as after a crash. For transactions that were prepared inside the server it
//! needs the last part of the binary log, which lies in the copy.
//!
//! Everything here may be killed and run again: pages that have their records are left as they are, and the old log stays
//! until all else is durable.

mod apply;
mod dynamic;
mod finish;
mod gather;
mod journal;
mod log;
mod records;
mod spaces;
mod store;
mod undecided;

use std::collections::BTreeMap;

use super::{Datadir, Means, Prepared, options, replay};
use crate::base::{Code, Error, Lsn, Result, SpaceId};
use crate::innodb::redo::{FileChange, FileEvent};
use spaces::Spaces;

pub use finish::{Finish, mark_prepared};
pub use log::{Place, find as find_log};

/// Whether pages are written so that a kill in the middle of a page can be mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// The folder is thrown away if we are killed.
    Disposable,
    /// The folder is the user's own: pages go through a journal first.
    InPlace,
}

/// Applies the redo in `place` to the pages of `datadir`. What is returned makes the copy startable, once everything
/// that was written is durable.
///
/// # Errors
/// [`Code::CorruptRedo`], [`Code::CorruptPage`], [`Code::Prepare`], [`Code::TargetIo`], [`Code::Interrupted`].
pub fn apply(
    datadir: &Datadir<'_>,
    place: &Place,
    writes: Writes,
    means: &Means<'_>,
) -> Result<(Finish, Prepared)> {
    let log = log::Log::open(place)?;
    if writes == Writes::InPlace {
        journal::recover(datadir)?;
    }
    let gathered = gather::gather(datadir, &log, means)?;
    let mut notes = replay::apply(datadir, &gathered.events)?;
    let removed = replay::removed(&gathered.events);
    let spaces = Spaces::find(datadir, removed)?;
    let job =
        apply::Job { spaces: &spaces, base: log.start(), end: gathered.end, root: datadir.root, writes };
    let outcome = apply::apply(&job, gathered.store, means)?;
    notes.push(format!(
        "{} of {} records applied to {} pages; {} pages had theirs already",
        outcome.records_applied, gathered.records, outcome.pages_changed, outcome.pages_unchanged
    ));
    spaces.lengthen(&extended(&gathered.events))?;
    notes.extend(undecided(datadir, undecided::count(&spaces)?)?);
    let finish = Finish {
        place: place.clone(),
        end: gathered.end,
        system: spaces.system_file()?,
        dynamic: gathered.dynamic,
    };
    Ok((finish, Prepared { lsn: Some((log.checkpoint(), gathered.end)), notes }))
}

/// What the user must know of transactions that the binary log decides on.
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

/// Redo, or a page, that only a server with the keys can read.
fn encrypted(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Prepare, format!("{what} is encrypted, which only a server with its keys can recover"))
        .hint("receive with --prepare=none and start your own server, which has the keys, on the copy")
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::new(Code::CorruptRedo, format!("the backup's redo can't be used: {what}"))
        .hint("take the backup again; if it happens again, report it")
}

/// Redo that ends too early.
fn too_short(end: Lsn, wanted: Lsn, what: &str) -> Error {
    corrupt(format!("it ends at LSN {end}, before {what} {wanted}"))
}
