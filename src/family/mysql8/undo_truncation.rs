//! Notices undo tablespaces that the server truncates by itself while a backup runs.
//!
//! Truncation makes a new file under the old path with a new space id. All of it is in the redo log, so a copy is
//! whole if it ends before a truncation began or after it was over. In between the server relies on a marker file,
//! `undo_<number>_trunc.log` (trx0purge.cc, `undo::start_logging` and `undo::done_logging`), which does not travel.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::base::{Code, Error, Result, Stop};

use crate::source::files;
use crate::source::server_facts::ServerFacts;
use crate::source::session::Session;

/// What a marker begins with once the truncation is over (`undo::s_magic`).
const DONE: [u8; 4] = 76_845_412u32.to_be_bytes();

/// How old a marker is that no truncation has left, and how long a young one is given.
const STALE: Duration = Duration::from_secs(60);
/// Time that a marker is watched that is old already.
const WATCH: Duration = Duration::from_secs(3);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// Most undo tablespaces that a server can have.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=127;

/// Space ids of all undo tablespaces: a truncation changes one. `None` while one has no open file, so no id
/// (`information_schema.FILES` then has NULL in its row).
pub(super) fn ids(session: &mut Session) -> Result<Option<BTreeSet<String>>> {
    let names =
        session.query("SELECT NAME FROM information_schema.INNODB_TABLESPACES WHERE SPACE_TYPE = 'Undo'")?;
    let names: BTreeSet<String> = names.into_iter().flatten().flatten().collect();
    let rows = session
        .query("SELECT TABLESPACE_NAME, FILE_ID FROM information_schema.FILES WHERE ENGINE = 'InnoDB'")?;
    let mut ids = BTreeSet::new();
    for row in rows {
        let [Some(name), id] = row.as_slice() else { return Ok(None) };
        if names.contains(name) {
            let Some(id) = id else { return Ok(None) };
            ids.insert(id.clone());
        }
    }
    Ok((ids.len() == names.len()).then_some(ids))
}

/// Fails for a marker that no truncation will take away: the backup would wait for it with its locks held, in vain.
///
/// # Errors
/// [`Code::SourceIncomplete`] names it; [`Code::SourceIo`].
pub(super) fn check_no_stale_marker(facts: &ServerFacts, stop: &Stop) -> Result<()> {
    let begun = Instant::now();
    while let Some(marker) = marker(facts)? {
        let modified = marker.metadata().and_then(|m| m.modified()).ok();
        let age = modified.and_then(|m| SystemTime::now().duration_since(m).ok()).unwrap_or_default();
        if age > STALE && begun.elapsed() > WATCH || begun.elapsed() > STALE {
            return Err(Error::new(
                Code::SourceIncomplete,
                format!("{} says that an undo tablespace is being truncated, and does not go away", marker.display()),
            )
            .hint("the server's error log tells whether it truncates one (then SET GLOBAL innodb_undo_log_truncate=OFF and wait); \
                   if it does not, the file is left over: remove it"));
        }
        stop.check()?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether a truncation is under way.
pub(super) fn truncation_runs(facts: &ServerFacts) -> Result<bool> {
    Ok(marker(facts)?.is_some())
}

/// The marker of a truncation that is not over.
fn marker(facts: &ServerFacts) -> Result<Option<PathBuf>> {
    let dirs: BTreeSet<PathBuf> = ["innodb_undo_directory", "innodb_log_group_home_dir", "datadir"]
        .map(|v| facts.resolve(facts.variable(v)))
        .into();
    for dir in dirs {
        let failed = |e| Error::io(Code::SourceIo, format!("can't list {}", dir.display()), e);
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            let number = name.strip_prefix("undo_").and_then(|n| n.strip_suffix("_trunc.log"));
            if number.and_then(|n| n.parse().ok()).is_some_and(|n| NUMBERS.contains(&n)) {
                // A marker that goes away meanwhile is over.
                let mut head = [0; DONE.len()];
                let is_there = match files::open(&path, facts.owner) {
                    Ok(file) => file.read_exact_at(&mut head, 0).is_ok() || path.exists(),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
                    Err(e) => return Err(files::failed(&path, e)),
                };
                if is_there && head != DONE {
                    return Ok(Some(path));
                }
            }
        }
    }
    Ok(None)
}
