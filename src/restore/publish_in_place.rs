//! Puts a datadir in place where the target itself can't be replaced: its entries are renamed one by one.
//!
//! Before the first rename a journal is written into the hidden folder: the names of the entries in the order they
//! move, each closed by a NUL. The last ones are those without which no server starts. A run that finds a dead hidden
//! folder whose journal is not done (its last entry still waits inside) removes what had moved: it came from there,
//! and no server can have used it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::external_journal;
use super::staging_lock::{self, LockedFolder};
use crate::base::{Result, nofollow};

/// Beginning of the names of hidden staging folders inside a target.
pub const PREFIX: &str = ".xbrecv-";
/// The entries that move, in the order in which they move.
const JOURNAL: &str = "moving";
/// Nobody else's business.
const JOURNAL_MODE: u32 = 0o600;
/// A journal larger than this is not one of ours.
const JOURNAL_MAX: u64 = 64 << 20;
/// The datadir inside the hidden folder.
const DATA: &str = "data";

/// Renames the entries of `data` into `target`; on failure they are moved back.
///
/// # Errors
/// ExternalFiles, before it is in place; inside, behind that: it was not made durable.
pub fn publish(target: &Path, hidden: &LockedFolder, data: &Path) -> io::Result<io::Result<()>> {
    let names = in_moving_order(data)?;
    write_journal(hidden.path(), &names)?;
    let mut moved = Vec::new();
    for name in &names {
        match nofollow::rename_new(&data.join(name), &target.join(name)) {
            Ok(()) => moved.push(name),
            Err(e) => {
                for name in moved.iter().rev() {
                    let _ = nofollow::rename_new(&target.join(name), &data.join(name));
                }
                return Err(e);
            }
        }
    }
    Ok(nofollow::sync_dir(target).and_then(|()| nofollow::remove_file(&hidden.path().join(JOURNAL))))
}

/// Removes what killed runs left in `target`, entries included that had moved already.
pub fn sweep(target: &Path) -> Result<()> {
    for leftover in staging_lock::leftovers(target, PREFIX) {
        external_journal::undo(&leftover);
        for name in moved_of(target, leftover.path()) {
            let _ = nofollow::remove_all(&target.join(name));
        }
    }
    Ok(())
}

/// Whether an entry of `target` was moved there by a run that was killed before it was done.
pub fn belongs_to_leftover(target: &Path, name: &str) -> bool {
    staging_lock::leftovers(target, PREFIX).into_iter().any(|leftover| {
        let found = moved_of(target, leftover.path()).contains(name);
        leftover.keep();
        found
    })
}

/// The entries that an unfinished journal has moved; none if it was finished.
fn moved_of(target: &Path, hidden: &Path) -> BTreeSet<String> {
    let names = read_journal(hidden);
    let data = hidden.join(DATA);
    let waits = |name: &String| nofollow::kind(&data.join(name)).is_some();
    let arrived = |name: &String| nofollow::kind(&target.join(name)).is_some();
    match names.last() {
        Some(last) if waits(last) => names.into_iter().filter(|n| !waits(n) && arrived(n)).collect(),
        _ => BTreeSet::new(),
    }
}

/// Entries without which no server starts come last, the system tablespace at the very end.
fn in_moving_order(data: &Path) -> io::Result<Vec<String>> {
    let rank = |name: &str| match name {
        "#innodb_redo" => 1,
        "mysql.ibd" => 2,
        n if n.starts_with("ibdata") => 3,
        _ => 0,
    };
    let mut names = Vec::new();
    for (name, _) in nofollow::entries(data)? {
        // Members have UTF-8 names, and so have the files of a server's datadir.
        names.push(name.into_string().map_err(|n| io::Error::other(format!("unexpected file {n:?}")))?);
    }
    names.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
    Ok(names)
}

fn write_journal(hidden: &Path, names: &[String]) -> io::Result<()> {
    let mut file = nofollow::create_new(&hidden.join(JOURNAL), JOURNAL_MODE)?;
    for name in names {
        file.write_all(name.as_bytes())?;
        file.write_all(b"\0")?;
    }
    file.sync_all()?;
    nofollow::sync_dir(hidden)
}

fn read_journal(hidden: &Path) -> Vec<String> {
    let path = hidden.join(JOURNAL);
    let content = nofollow::read(&path, JOURNAL_MAX).ok().filter(|c| c.len() as u64 <= JOURNAL_MAX);
    let Some(text) = content.and_then(|c| String::from_utf8(c).ok()) else { return Vec::new() };
    text.split_terminator('\0')
        .filter(|n| !n.is_empty() && !n.contains('/') && !matches!(*n, "." | ".."))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A target in which a run stages `names`.
    fn staged(names: &[&str]) -> (tempfile::TempDir, LockedFolder, PathBuf) {
        let target = tempfile::tempdir().unwrap();
        let hidden = LockedFolder::create(target.path(), PREFIX).unwrap();
        let data = hidden.path().join(DATA);
        fs::create_dir(&data).unwrap();
        names.iter().for_each(|n| fs::write(data.join(n), n).unwrap());
        (target, hidden, data)
    }

    fn names(dir: &Path) -> BTreeSet<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_a_server_needs_moves_last() {
        let (_target, _hidden, data) =
            staged(&["ibdata2", "ibdata1", "undo_001", "mysql.ibd", "a", "#innodb_redo"]);
        let order = in_moving_order(&data).unwrap();
        assert_eq!(order, ["a", "undo_001", "#innodb_redo", "mysql.ibd", "ibdata1", "ibdata2"]);
    }

    #[test]
    fn all_entries_move_or_none() {
        let (target, hidden, data) = staged(&["a", "b", "ibdata1"]);
        fs::write(target.path().join("b"), b"in the way").unwrap();
        assert!(publish(target.path(), &hidden, &data).is_err());
        assert_eq!(names(&data).len(), 3);
        assert!(!target.path().join("a").exists());
        fs::remove_file(target.path().join("b")).unwrap();
        fs::remove_file(hidden.path().join(JOURNAL)).unwrap();
        publish(target.path(), &hidden, &data).unwrap().unwrap();
        drop(hidden);
        assert_eq!(names(target.path()), ["a", "b", "ibdata1"].map(str::to_owned).into());
    }

    #[test]
    fn a_publish_that_was_killed_is_undone_by_the_next_run() {
        let (target, hidden, data) = staged(&["a", "b", "ibdata1"]);
        let order = in_moving_order(&data).unwrap();
        write_journal(hidden.path(), &order).unwrap();
        fs::rename(data.join("a"), target.path().join("a")).unwrap();
        // As long as the run lives, nobody takes its files for leftovers.
        assert!(!belongs_to_leftover(target.path(), "a"));
        sweep(target.path()).unwrap();
        assert!(target.path().join("a").exists());
        hidden.keep();
        assert!(belongs_to_leftover(target.path(), "a"));
        assert!(!belongs_to_leftover(target.path(), "b") && !belongs_to_leftover(target.path(), "z"));
        fs::write(target.path().join("z"), b"not ours").unwrap();
        sweep(target.path()).unwrap();
        assert_eq!(names(target.path()), BTreeSet::from(["z".to_owned()]));
    }

    #[test]
    fn a_publish_that_was_done_is_never_undone() {
        let (target, hidden, data) = staged(&["a", "ibdata1"]);
        let order = in_moving_order(&data).unwrap();
        write_journal(hidden.path(), &order).unwrap();
        for name in &order {
            fs::rename(data.join(name), target.path().join(name)).unwrap();
        }
        hidden.keep();
        // A server may have been started on it since.
        assert!(!belongs_to_leftover(target.path(), "a"));
        sweep(target.path()).unwrap();
        assert_eq!(names(target.path()), ["a", "ibdata1"].map(str::to_owned).into());
    }

    #[test]
    fn journals_name_entries_only() {
        let (target, hidden, data) = staged(&["last"]);
        fs::write(hidden.path().join(JOURNAL), "../x\0..\0a/b\0\0last\0").unwrap();
        fs::write(target.path().join("x"), b"x").unwrap();
        assert_eq!(read_journal(hidden.path()), ["last"]);
        assert!(moved_of(target.path(), hidden.path()).is_empty());
        drop(data);
    }
}
