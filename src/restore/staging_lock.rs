//! The lock on a staging folder, which belongs to one run: locked while the run lives, gone when it fails, recognised and
//! removed by a later run when it was killed.
//!
//! The lock is `flock` on the folder itself, so nothing foreign lies in it, and the kernel drops the lock with
//! the last descriptor however the process ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode};

use crate::base::nofollow;
use crate::base::{Code, Error, Result};

/// Hex digits that end a hidden folder's name.
const TOKEN_LEN: usize = 16;
/// Nobody else gets into it: what lies in it is given away only when all is written.
const HIDDEN_MODE: u32 = 0o700;
/// Its owner gets through it to what was given to him.
const PASSAGE_MODE: u32 = 0o711;
/// Another run may take a new folder for a leftover between `mkdir` and `flock`; then the next name is tried.
const CREATE_ATTEMPTS: usize = 8;

/// A locked hidden folder. Dropping it removes it with all that lies in it, unless [`LockedFolder::keep`] was called.
#[derive(Debug)]
pub struct LockedFolder {
    path: PathBuf,
    /// Holds the lock; also the descriptor for `syncfs`, open since before the first write, so that it reports
    /// every write-back error of the run.
    dir: File,
    /// Paths below it begin at `dir`.
    held: Option<nofollow::Held>,
    remove: bool,
}

impl LockedFolder {
    /// Makes `<parent>/<prefix><random>`, after removing what killed runs left under that prefix.
    pub fn create(parent: &Path, prefix: &str) -> Result<LockedFolder> {
        let failed = |path: &Path, e: io::Error| {
            Error::io(Code::Target, format!("can't make the staging folder {}", path.display()), e)
                .hint("the folder that holds the target must be writable, or the target be an existing empty folder")
        };
        for _ in 0..CREATE_ATTEMPTS {
            let token = uuid::Uuid::new_v4().simple().to_string();
            let path = parent.join(format!("{prefix}{}", &token[..TOKEN_LEN]));
            nofollow::create_dir(&path, HIDDEN_MODE).map_err(|e| failed(&path, e))?;
            match lock(&path).map_err(|e| failed(&path, e))? {
                Some(dir) => {
                    let held = ours(&dir).and_then(|()| nofollow::hold(&path, &dir));
                    let held = Some(held.map_err(|e| failed(&path, e))?);
                    return Ok(LockedFolder { path, dir, held, remove: true });
                }
                None => continue,
            }
        }
        Err(Error::new(
            Code::Target,
            format!("can't make a staging folder in {}: others keep taking it", parent.display()),
        ))
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, open.
    pub fn dir(&self) -> &File {
        &self.dir
    }

    /// Whether others may pass through it, while a server of theirs works on what is inside.
    pub fn let_through(&self, others: bool) -> io::Result<()> {
        let mode = if others { PASSAGE_MODE } else { HIDDEN_MODE };
        Ok(rustix::fs::fchmod(&self.dir, Mode::from_raw_mode(mode))?)
    }

    /// Leaves the folder alone from now on (it was renamed into its place).
    pub fn keep(mut self) {
        self.remove = false;
    }
}

impl Drop for LockedFolder {
    fn drop(&mut self) {
        if self.remove {
            if let Ok(entries) = nofollow::entries(&self.path) {
                entries.iter().for_each(|(name, _)| drop(nofollow::remove_all(&self.path.join(name))));
            }
            drop(self.held.take());
            // What can't be removed now is removed by the next run: the lock ends here.
            let _ = nofollow::remove_all(&self.path);
        }
    }
}

/// The folders in `parent` that killed runs left under `prefix`, each locked by us now.
pub fn leftovers(parent: &Path, prefix: &str) -> Vec<LockedFolder> {
    let Ok(entries) = nofollow::entries(parent) else { return Vec::new() };
    entries
        .into_iter()
        .filter(|(_, kind)| *kind == FileType::Directory)
        .filter(|(name, _)| name.to_str().is_some_and(|n| is_hidden_name(n, prefix)))
        .filter_map(|(name, _)| {
            let path = parent.join(name);
            let dir = lock(&path).ok()??;
            let held = Some(nofollow::hold(&path, &dir).ok()?);
            Some(LockedFolder { path, dir, held, remove: true })
        })
        .collect()
}

/// Whether `name` is one that [`LockedFolder::create`] gives under `prefix`.
pub fn is_hidden_name(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|token| {
        token.len() == TOKEN_LEN && token.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Whether a folder that was just made is the one that was made: its parent may belong to someone else.
fn ours(dir: &File) -> io::Result<()> {
    match dir.metadata()?.uid() == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(io::Error::other("it was exchanged for a folder of somebody else's")),
    }
}

/// Opens and locks a folder; `None` where another run holds it or it is no longer the folder of that name.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let dir = match nofollow::open_dir(path) {
        Ok(dir) => dir,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let (held, named) = (dir.metadata()?, nofollow::stat(path));
    Ok(named.is_ok_and(|n| (n.st_dev, n.st_ino) == (held.dev(), held.ino())).then_some(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_folder_is_left_alone_and_a_dead_one_found() {
        let parent = tempfile::tempdir().unwrap();
        let live = LockedFolder::create(parent.path(), ".t.xbrecv-").unwrap();
        assert!(leftovers(parent.path(), ".t.xbrecv-").is_empty());
        let path = live.path().to_owned();
        std::fs::write(path.join("x"), b"x").unwrap();
        live.keep();
        assert!(path.exists());
        let found = leftovers(parent.path(), ".t.xbrecv-");
        assert_eq!(found.len(), 1);
        drop(found);
        assert!(!path.exists());
    }

    #[test]
    fn only_our_names_are_taken_for_ours() {
        let parent = tempfile::tempdir().unwrap();
        let ours = ".t.xbrecv-0123456789abcdef";
        for name in
            [".t.xbrecv-", ".t.xbrecv-backup", ".t.xbrecv-0123456789abcdeF", ".u.xbrecv-0123456789abcdef"]
        {
            std::fs::create_dir(parent.path().join(name)).unwrap();
        }
        std::fs::create_dir(parent.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", parent.path().join(".t.xbrecv-fedcba9876543210")).unwrap();
        std::fs::write(parent.path().join(".t.xbrecv-ffffffffffffffff"), b"a file").unwrap();
        assert!(leftovers(parent.path(), ".t.xbrecv-").is_empty());
        std::fs::create_dir(parent.path().join(ours)).unwrap();
        assert_eq!(leftovers(parent.path(), ".t.xbrecv-").len(), 1);
    }

    #[test]
    fn dropping_removes() {
        let parent = tempfile::tempdir().unwrap();
        let hidden = LockedFolder::create(parent.path(), ".x-").unwrap();
        std::fs::create_dir(hidden.path().join("d")).unwrap();
        drop(hidden);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
