//! Write-ahead journal of files that are to be moved to places outside the target, so that the next run can undo what a killed run
//! left.
//!
//! It lies in the hidden folder of the target, whose datadir goes to its place last: as long as that waits, nothing counts as
//! received. Each entry is closed by a NUL: `D` and a folder that is made on the way, outermost first; or `F`, device and inode
//! of a staged file, and its place. A file keeps both numbers when it is renamed, so nothing else is ever taken for it.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::staging_lock::LockedFolder;
use crate::base::nofollow;

const JOURNAL: &str = "outside";
/// The datadir in the hidden folder.
const DATA: &str = "data";
const JOURNAL_MODE: u32 = 0o600;
/// A journal larger than this is not one of ours.
const JOURNAL_MAX: u64 = 64 << 20;

/// Writes down that `files` (where they are staged, and their places) are about to be moved, and `dirs` made.
pub(super) fn write(hidden: &LockedFolder, dirs: &[PathBuf], files: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    let mut text = Vec::new();
    for dir in dirs {
        text.push(b'D');
        text.extend_from_slice(dir.as_os_str().as_bytes());
        text.push(0);
    }
    for (staged, place) in files {
        let stat = nofollow::stat(staged)?;
        write!(text, "F{}:{}:", stat.st_dev, stat.st_ino)?;
        text.extend_from_slice(place.as_os_str().as_bytes());
        text.push(0);
    }
    let mut file = nofollow::create_new(&hidden.path().join(JOURNAL), JOURNAL_MODE)?;
    file.write_all(&text)?;
    file.sync_all()?;
    hidden.dir().sync_all()
}

/// Takes back what a killed run had put in place, if its datadir still waits in `hidden`.
pub(super) fn undo(hidden: &LockedFolder) {
    let waits = nofollow::entries(&hidden.path().join(DATA)).is_ok_and(|entries| !entries.is_empty());
    // A folder that others could write may hold a journal of theirs.
    let me = rustix::process::geteuid().as_raw();
    let ours = hidden.dir().metadata().is_ok_and(|m| m.uid() == me && m.mode() & 0o022 == 0);
    if !waits || !ours {
        return;
    }
    let content = nofollow::read(&hidden.path().join(JOURNAL), JOURNAL_MAX).unwrap_or_default();
    let mut dirs = Vec::new();
    for entry in content.split(|b| *b == 0) {
        match entry.split_first() {
            Some((b'D', dir)) => dirs.push(PathBuf::from(OsStr::from_bytes(dir))),
            Some((b'F', file)) => drop(take_back(file)),
            _ => {}
        }
    }
    for dir in dirs.iter().rev() {
        // Only what is empty goes.
        let _ = nofollow::remove_dir(dir);
    }
}

/// Removes the file that an entry names, if it is still that file.
fn take_back(entry: &[u8]) -> Option<()> {
    let mut parts = entry.splitn(3, |b| *b == b':');
    let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
    let (device, inode) = (number()?, number()?);
    let place = Path::new(OsStr::from_bytes(parts.next()?));
    let stat = nofollow::stat(place).ok()?;
    if (stat.st_dev, stat.st_ino) == (device, inode) && nofollow::is_file(place) {
        nofollow::remove_file(place).ok()?;
    }
    Some(())
}
