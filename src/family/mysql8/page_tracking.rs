//! Asks the server which pages it has written since an LSN (`component_mysqlbackup`).
//!
//! The component's function writes a list, and silently cuts it where a block of the archive has no stop LSN, which crash recovery
//! leaves. So the files of the archive are read as well, and the list is not used if there is such a block. The function has the
//! server write what it still holds in memory. Pages that it loses in a crash are in neither: the caller makes sure that the server
//! has not been restarted.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::{Error, Lsn, PageNo, Result, SpaceId, Stop, show};
use crate::family::server::{ChangeQuery, RedoLsns};
use crate::innodb::page_tracking::{BLOCK_LEN, NO_STOP, TrackingBlock};
use crate::source::changed_pages::{ChangedPages, listed};
use crate::source::files;
use crate::source::server_facts::ServerFacts;
use crate::source::session::Session;

/// Folder of the archive, in the datadir.
const ARCHIVE: &str = "#ib_archive";
/// Folders in it: one for each time that tracking was on, with the LSN at which it began.
const GROUP: &str = "page_group_";
/// File in the folder of the group that is written to.
const ACTIVE: &str = "active";
/// Files with blocks.
const FILE: &str = "ib_page_";
/// Folder of the lists that the function writes, in the datadir.
const LISTS: &str = "#meb";
/// What is wrong with an archive that has a block without a stop LSN.
const CUT: &str = "the server has recovered from a crash while it tracked pages, and its list is cut there";
/// Bytes of an entry in a list: space id and page number.
const ENTRY: usize = 8;
/// Makes a checkpoint of now: the server writes all pages that changed.
const CHECKPOINT: &str = "DO innodb_redo_log_sharp_checkpoint()";
/// If the newest checkpoint is so many bytes of redo behind at most, one is made without being asked for: there is not much to write.
const AGE_MAX: u64 = 128 << 20;
/// Time that a checkpoint is waited for, and the pause between two looks.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a file that are read at most: far more than the server writes to one.
const FILE_MAX: u64 = 16 << 30;

/// Has the server track pages from now on, or begin anew with recording first writes. Returns the LSN at which that began; `None`
/// if it does not. Where tracking is new, a checkpoint is made: an increment of a backup whose checkpoint lies before that can't use it.
///
/// Told to `begin`, it has the server start another archive in place of one that crash recovery has cut, which nothing mends.
///
/// # Errors
/// Those of the session.
pub(super) fn start(session: &mut Session, facts: &ServerFacts, begin: bool) -> Result<Option<Lsn>> {
    let group = active_group(facts);
    let is_cut =
        || group.as_ref().is_some_and(|(group, _)| archived(group, facts.owner, Lsn(0)) == Err(CUT.into()));
    let new = begin && (group.is_none() || is_cut());
    if new && group.is_some() {
        tracing::info!("page tracking: {CUT}; it begins anew");
        if session.attempt("SELECT mysqlbackup_page_track_set(0)").is_err() {
            session.ping()?;
        }
    }
    let began = match session.attempt("SELECT mysqlbackup_page_track_set(1)") {
        Ok(rows) => first(&rows).and_then(|lsn| u64::try_from(lsn).ok()).filter(|lsn| *lsn > 0).map(Lsn),
        Err(e) => {
            tracing::info!("page tracking: {}", Error::from(e));
            session.ping()?;
            None
        }
    };
    if new && began.is_some() && session.attempt(CHECKPOINT).is_err() {
        session.ping()?;
    }
    Ok(began)
}

/// Returns whether the server tracks pages.
pub(super) fn is_on(facts: &ServerFacts) -> bool {
    active_group(facts).is_some()
}

/// Lists the pages that were changed since `from`, and written.
///
/// The server holds the newest numbers in memory until a checkpoint passes the pages that they stand for. Not all that it holds there
/// is in the backup's redo: an index build writes pages without redo. So a checkpoint of now is waited for, or made, and the list must
/// reach that far; what is changed later has redo, as long as no DDL runs.
///
/// # Errors
/// Those of the session; [`Code::Interrupted`](crate::base::Code::Interrupted).
pub(super) fn changed(
    session: &mut Session,
    facts: &ServerFacts,
    ask: &ChangeQuery,
    lsns: impl Fn(&mut Session) -> Result<RedoLsns>,
    stop: &Stop,
) -> Result<ChangedPages> {
    let from = ask.from;
    let unknown = |why: String| Ok(ChangedPages::Unknown(why));
    let Some((group, began)) = active_group(facts) else {
        return unknown("the server does not track pages".into());
    };
    if began > from {
        return unknown(format!("page tracking began at LSN {began}, too late for pages from LSN {from} on"));
    }
    let RedoLsns { current: Some(now), checkpoint: Some(checkpoint), .. } = lsns(session)? else {
        return unknown("the server does not say where its log is".into());
    };
    let age = now.since(checkpoint);
    if age > 0 && (ask.force || age <= AGE_MAX) && session.attempt(CHECKPOINT).is_err() {
        session.ping()?;
    }
    let begun = Instant::now();
    while lsns(session)?.checkpoint.is_none_or(|checkpoint| checkpoint < now) {
        stop.check()?;
        if begun.elapsed() > PATIENCE {
            return unknown(format!(
                "the server's checkpoint is {age} bytes of redo behind (with --page-tracking=on it is made to write one)"
            ));
        }
        std::thread::sleep(PAUSE);
    }
    let mut pages = match list(session, facts, from, now)? {
        Ok(pages) => pages,
        Err(why) => return unknown(why),
    };
    match archived(&group, facts.owner, from) {
        Ok(found) => pages.extend(found),
        Err(why) => return unknown(why),
    }
    Ok(ChangedPages::Listed(listed(pages)))
}

/// The folder of the group that is written to, and the LSN at which it began.
fn active_group(facts: &ServerFacts) -> Option<(PathBuf, Lsn)> {
    let groups = facts.datadir.join(ARCHIVE).read_dir().ok()?;
    groups.filter_map(|entry| entry.ok()).find_map(|entry| {
        let began = entry.file_name().to_str()?.strip_prefix(GROUP)?.parse().ok()?;
        entry.path().join(ACTIVE).symlink_metadata().ok()?;
        Some((entry.path(), Lsn(began)))
    })
}

/// Has the function write its list, and reads it. The inner error says why there is none.
fn list(
    session: &mut Session,
    facts: &ServerFacts,
    from: Lsn,
    to: Lsn,
) -> Result<std::result::Result<Vec<(SpaceId, PageNo)>, String>> {
    // Digits only; a name that was used before is refused.
    let id = (uuid::Uuid::new_v4().as_u128() as u64 >> 1).to_string();
    if let Err(e) = session.attempt(&format!("SET GLOBAL mysqlbackup.backupid = '{id}'")) {
        session.ping()?;
        return Ok(Err(format!("the list of changed pages can't be named: {}", Error::from(e))));
    }
    let asked = session.attempt(&format!("SELECT mysqlbackup_page_track_get_changed_pages({from}, {to})"));
    let path = facts.datadir.join(LISTS).join(format!("{id}.idx"));
    let outcome = match asked {
        Ok(rows) if first(&rows) == Some(0) => read(&path, facts.owner, u64::MAX)
            .map(|bytes| entries(&bytes))
            .map_err(|e| format!("{}: {e}", show::shown_path(&path))),
        Ok(rows) => Err(format!("the server's list of changed pages failed with {:?}", first(&rows))),
        Err(e) => {
            session.ping()?;
            Err(format!("the server's list of changed pages failed: {}", Error::from(e)))
        }
    };
    if let Err(e) = std::fs::remove_file(&path) {
        tracing::debug!("{} stays: {e}", path.display());
    }
    Ok(outcome)
}

fn first(rows: &[Vec<Option<String>>]) -> Option<i64> {
    rows.first()?.first()?.as_deref()?.parse().ok()
}

fn entries(bytes: &[u8]) -> Vec<(SpaceId, PageNo)> {
    let number = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    bytes.chunks_exact(ENTRY).map(|e| (SpaceId(number(e)), PageNo(number(&e[4..])))).collect()
}

fn read(path: &Path, owner: u32, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    files::open(path, owner)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the files of a group: what was first written since the newest reset point that is not after `from`. The error says why
/// that can't be told.
fn archived(group: &Path, owner: u32, from: Lsn) -> Result<Vec<(SpaceId, PageNo)>, String> {
    let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", show::shown_path(path));
    let mut blocks = Vec::new();
    for entry in group.read_dir().map_err(|e| failed(group, e))? {
        let path = entry.map_err(|e| failed(group, e))?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FILE)) {
            continue;
        }
        let bytes = read(&path, owner, FILE_MAX).map_err(|e| failed(&path, e))?;
        for block in bytes.chunks_exact(BLOCK_LEN) {
            match TrackingBlock::parse(block) {
                Ok(Some(TrackingBlock::Pages { stop, reset, pages })) => blocks.push((stop, reset, pages)),
                Ok(_) => {}
                Err(e) => return Err(format!("{}: {e}", show::shown_path(&path))),
            }
        }
    }
    if blocks.iter().any(|(stop, ..)| *stop == NO_STOP) {
        return Err(CUT.into());
    }
    let reset = blocks.iter().map(|(_, reset, _)| *reset).filter(|reset| *reset <= from).max();
    let since = reset.unwrap_or_default();
    Ok(blocks.into_iter().filter(|(_, reset, _)| *reset >= since).flat_map(|(.., pages)| pages).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::page_tracking::testing::block;

    fn page(number: u32) -> Vec<u8> {
        [5u32.to_be_bytes(), number.to_be_bytes()].concat()
    }

    #[test]
    fn the_archive_counts_from_the_newest_reset_point_and_not_where_it_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let owner = rustix::process::getuid().as_raw();
        let dir_path = dir.path().canonicalize().unwrap();
        let blocks = |last: Lsn| {
            [
                block(0, Lsn(0), Lsn(10), &[0; 10]),
                block(1, Lsn(20), Lsn(10), &page(1)),
                block(1, Lsn(40), Lsn(30), &page(2)),
                block(1, last, Lsn(50), &page(3)),
                vec![0; BLOCK_LEN],
            ]
            .concat()
        };
        std::fs::write(dir_path.join("ib_page_0"), blocks(Lsn(60))).unwrap();
        std::fs::write(dir_path.join("durable"), b"x").unwrap();
        let found = |from| {
            archived(&dir_path, owner, Lsn(from)).map(|pages| pages.iter().map(|p| p.1.0).collect::<Vec<_>>())
        };
        assert_eq!(found(9), Ok(vec![1, 2, 3]));
        assert_eq!(found(10), Ok(vec![1, 2, 3]));
        assert_eq!(found(35), Ok(vec![2, 3]));
        assert_eq!(found(70), Ok(vec![3]));
        std::fs::write(dir_path.join("ib_page_0"), blocks(NO_STOP)).unwrap();
        assert!(found(35).unwrap_err().contains("recovered from a crash"));
        std::fs::write(dir_path.join("ib_page_1"), [7; BLOCK_LEN]).unwrap();
        assert!(found(35).is_err());
    }
}
