//! Reaches files and folders inside places that belong to another user without following a symbolic link.
//!
//! `xbrecv` may run as root in a folder of the server's user, who can exchange any part of a path for a link
//! at any time. So a path of the target, or of a folder that is prepared, never goes to the kernel as a whole
//! without protection: the folder that holds an entry is opened first, with every symbolic link on the way
//! refused (`openat2`, or name by name if the kernel is older than 5.6). The entry is then made, opened,
//! renamed or removed relative to that descriptor. Only regular files are opened; and a file that has a
//! second name (a hard link) is opened only if it belongs to the owner of its folder.
//!
//! Folders that are worked in for long are held open ([`hold`]). Paths below them are resolved from that
//! descriptor, so that they stay the same folders even if their names are moved to something else meanwhile.
//!
//! Roots of such paths are canonical: links in them were the user's own and were followed once, at the
//! beginning.

#![allow(clippy::disallowed_types)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid, fchown, fstat,
    mkdirat, openat, openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// Folders that are held open, with their paths. The rest of the program knows its files by these paths.
static HELD: RwLock<Vec<(PathBuf, Arc<OwnedFd>)>> = RwLock::new(Vec::new());

/// A folder that is held open, until this is dropped.
#[derive(Debug)]
pub struct Held {
    dir: Arc<OwnedFd>,
}

/// Makes paths below `path` be resolved from the open folder `dir`, which has that path, from now on.
///
/// # Errors
/// If there are no more descriptors.
pub fn hold(path: &Path, dir: impl AsFd) -> io::Result<Held> {
    let dir = Arc::new(dir.as_fd().try_clone_to_owned()?);
    HELD.write().unwrap_or_else(PoisonError::into_inner).push((path.to_owned(), dir.clone()));
    Ok(Held { dir })
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(_, dir)| !Arc::ptr_eq(dir, &self.dir));
    }
}

/// Returns the innermost held folder that `path` is or lies in, and the rest of the path.
fn held(path: &Path) -> Option<(Arc<OwnedFd>, &Path)> {
    let held = HELD.read().unwrap_or_else(PoisonError::into_inner);
    let holding = held.iter().filter(|(dir, _)| path.starts_with(dir));
    let (dir, open) = holding.max_by_key(|(dir, _)| dir.as_os_str().len())?;
    Some((open.clone(), path.strip_prefix(dir).ok()?))
}

/// Opens the file at `path` for reading.
///
/// # Errors
/// Those of `open`; `ELOOP` for a link anywhere in the path; an error of kind `InvalidInput` if it is not
/// a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_file(path, OFlags::RDONLY)
}

/// Opens the existing file at `path` for reading and writing.
///
/// # Errors
/// Those of [`open`].
pub fn open_rw(path: &Path) -> io::Result<File> {
    open_file(path, OFlags::RDWR)
}

/// Creates a file that does not exist yet, for reading and writing.
///
/// # Errors
/// Those of `open`; `EEXIST` if anything is there, even a link that leads nowhere.
pub fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let (folder, name) = folder_of(path)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, name, flags, Mode::from_raw_mode(mode))?))
}

/// Opens a folder, to list, sync or lock it.
///
/// # Errors
/// Those of [`open`].
pub fn open_dir(path: &Path) -> io::Result<File> {
    Ok(File::from(resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)?))
}

/// Creates a folder.
///
/// # Errors
/// Those of `mkdir`.
pub fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    let (folder, name) = folder_of(path)?;
    Ok(mkdirat(folder, name, Mode::from_raw_mode(mode))?)
}

/// Renames an entry; anything at `to` is replaced as by `rename`.
///
/// # Errors
/// Those of `rename`.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let ((from_dir, from), (to_dir, to)) = (folder_of(from)?, folder_of(to)?);
    Ok(renameat(from_dir, from, to_dir, to)?)
}

/// Renames an entry of an open folder; anything at `to` is replaced as by `rename`.
///
/// # Errors
/// Those of `rename`.
pub fn rename_from(dir: impl AsFd, name: &str, to: &Path) -> io::Result<()> {
    let (to_dir, to) = folder_of(to)?;
    Ok(renameat(dir, name, to_dir, to)?)
}

/// Opens a folder that lies in an open folder.
///
/// # Errors
/// Those of [`open_dir`].
pub fn open_dir_in(dir: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(dir, name, flags, Mode::empty())?))
}

/// Renames an entry to a name that must be free.
///
/// # Errors
/// Those of `rename`; `EEXIST`.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let ((from_dir, from), (to_dir, to)) = (folder_of(from)?, folder_of(to)?);
    match renameat_with(&from_dir, from, &to_dir, to, RenameFlags::NOREPLACE) {
        // Some file systems (NFS) can't rename this way.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if statat(&to_dir, to, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(renameat(from_dir, from, to_dir, to)?)
        }
        done => Ok(done?),
    }
}

/// Removes a file. A link is removed itself, not the file that it leads to.
///
/// # Errors
/// Those of `unlink`.
pub fn remove_file(path: &Path) -> io::Result<()> {
    let (folder, name) = folder_of(path)?;
    Ok(unlinkat(folder, name, AtFlags::empty())?)
}

/// Removes an empty folder.
///
/// # Errors
/// Those of `rmdir`.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    let (folder, name) = folder_of(path)?;
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

/// Removes a file, or a folder and everything in it.
///
/// # Errors
/// The first one that occurs; `ENOENT` if there is nothing.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let (folder, name) = folder_of(path)?;
    remove_entry(folder.as_fd(), name)
}

/// Returns the status of the file at `path`; of the link itself if it is one.
///
/// # Errors
/// Those of `lstat`.
pub fn stat(path: &Path) -> io::Result<Stat> {
    let (folder, name) = folder_of(path)?;
    Ok(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Returns the type of the entry at `path`, or `None` if nothing can be found there.
pub fn kind(path: &Path) -> Option<FileType> {
    stat(path).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// Returns whether a folder is at `path`.
pub fn is_dir(path: &Path) -> bool {
    kind(path) == Some(FileType::Directory)
}

/// Returns whether a regular file is at `path`.
pub fn is_file(path: &Path) -> bool {
    kind(path) == Some(FileType::RegularFile)
}

/// Returns the names in a folder and their types.
///
/// # Errors
/// Those of [`open_dir`], and those of reading it.
pub fn entries(path: &Path) -> io::Result<Vec<(OsString, FileType)>> {
    let dir = resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    entries_of(dir.as_fd())
}

/// Reads a file of at most `max` bytes. Of a longer file one byte more is read, so that the caller sees that
/// it is longer.
///
/// # Errors
/// Those of [`open`].
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.take(max.saturating_add(1)).read_to_end(&mut content)?;
    Ok(content)
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// Those of the disk.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    open_dir(path)?.sync_all()
}

/// Gives an open file or folder to a user and group.
///
/// # Errors
/// Those of `fchown`.
pub fn give(file: impl AsFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    let stat = fstat(&file)?;
    if (stat.st_uid, stat.st_gid) == (uid, gid) {
        return Ok(());
    }
    Ok(fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

/// Gives an open folder, and everything in it that this process created, to a user and group. Entries that
/// belong to others keep their owner, and a file with a second name (a hard link) is refused.
///
/// # Errors
/// The first one that occurs.
pub fn give_tree(dir: impl AsFd, owner: (u32, u32)) -> io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    for (name, kind) in entries_of(dir.as_fd())? {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match kind {
            FileType::Directory => {
                give_tree(openat(&dir, &name, flags | OFlags::DIRECTORY, Mode::empty())?, owner)?
            }
            FileType::RegularFile => {
                let file = openat(&dir, &name, flags, Mode::empty())?;
                let stat = fstat(&file)?;
                if stat.st_uid != me {
                    continue;
                }
                if stat.st_nlink != 1 || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(refused("it has a second name"));
                }
                give(file, owner)?;
            }
            _ => {}
        }
    }
    match fstat(&dir)?.st_uid == me {
        true => give(dir, owner),
        false => Ok(()),
    }
}

/// Opens the folder that holds the entry at `path`; returns it with the entry's name.
fn folder_of(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or_else(|| refused("it names no entry of a folder"))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((resolve(folder, OFlags::PATH | OFlags::DIRECTORY)?, name))
}

/// Opens `path` without following any link.
fn resolve(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (held, path, below) = match held(path) {
        Some((dir, rest)) => (Some(dir), rest, ResolveFlags::BENEATH),
        None => (None, path, ResolveFlags::NO_MAGICLINKS),
    };
    let from = held.as_ref().map_or(CWD, |dir| dir.as_fd());
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match openat2(from, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | below) {
        // The kernel is older than 5.6, or a filter of system calls does not know `openat2`.
        Err(Errno::NOSYS | Errno::PERM) => by_names(from, path, flags),
        opened => Ok(opened?),
    }
}

/// Opens `path` below `from` without following any link, one name at a time.
fn by_names(from: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = path.components().filter(|c| *c != Component::CurDir).peekable();
    let start = if path.is_absolute() { "/" } else { "." };
    names.next_if_eq(&Component::RootDir);
    let mut here = openat(from, start, if names.peek().is_some() { step } else { flags }, Mode::empty())?;
    while let Some(name) = names.next() {
        let flags = if names.peek().is_some() { step } else { flags };
        here = openat(&here, name.as_os_str(), flags, Mode::empty())?;
    }
    Ok(here)
}

fn open_file(path: &Path, flags: OFlags) -> io::Result<File> {
    let (folder, name) = folder_of(path)?;
    // With `NONBLOCK`, opening does not hang if someone put a named pipe there.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(&folder, name, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refused("it is no regular file"));
    }
    if stat.st_nlink > 1 && stat.st_uid != fstat(&folder)?.st_uid {
        return Err(refused("it is a hard link to a file that does not belong to the folder's owner"));
    }
    Ok(File::from(file))
}

fn entries_of(dir: impl AsFd) -> io::Result<Vec<(OsString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not report the type.
            FileType::Unknown => match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            },
            kind => kind,
        };
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

fn remove_entry(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(&folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return Ok(done?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(&folder, name, flags, Mode::empty())?;
    for (entry, _) in entries_of(&dir)? {
        match remove_entry(&dir, &entry) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Creates a folder with the file `real/f`, a link `link` to `real`, and a link `file-link` to the file.
    fn ground() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        create_dir(&dir.path().join("real"), 0o755).unwrap();
        create_new(&dir.path().join("real/f"), 0o644).unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        symlink("real/f", dir.path().join("file-link")).unwrap();
        dir
    }

    #[test]
    fn links_are_followed_nowhere() {
        let ground = ground();
        let at = |name: &str| ground.path().join(name);
        assert!(open(&at("real/f")).is_ok() && open_rw(&at("real/f")).is_ok());
        for bad in ["link/f", "file-link"] {
            assert!(open(&at(bad)).is_err() && open_rw(&at(bad)).is_err(), "{bad}");
            assert!(by_names(CWD, &at(bad), OFlags::RDONLY | OFlags::NOFOLLOW).is_err(), "{bad}");
        }
        assert!(by_names(CWD, &at("real/f"), OFlags::RDONLY | OFlags::NOFOLLOW).is_ok());
        assert!(by_names(CWD, &at("real"), OFlags::PATH | OFlags::DIRECTORY).is_ok());
        assert!(create_new(&at("link/g"), 0o600).is_err() && create_new(&at("file-link"), 0o600).is_err());
        assert!(create_dir(&at("link/d"), 0o700).is_err());
        assert!(rename(&at("real/f"), &at("link/f")).is_err());
        assert!(remove_file(&at("link/f")).is_err() && entries(&at("link")).is_err());
        assert!(open_dir(&at("link")).is_err() && sync_dir(&at("link")).is_err());
        remove_all(&at("link")).unwrap();
        assert!(is_file(&at("real/f")), "the link went, not what it led to");
    }

    #[test]
    fn a_held_folder_stays_the_same_whatever_has_its_name() {
        let ground = ground();
        let at = |name: &str| ground.path().join(name);
        let held = hold(&at("real"), open_dir(&at("real")).unwrap()).unwrap();
        std::fs::rename(at("real"), at("away")).unwrap();
        std::fs::create_dir(at("real")).unwrap();
        create_new(&at("real/g"), 0o600).unwrap();
        rename(&at("real/g"), &at("real/h")).unwrap();
        assert!(is_file(&at("away/h")) && is_file(&at("real/f")) && !at("real/f").exists());
        assert_eq!(entries(&at("real")).unwrap().len(), 2);
        assert!(open(&at("real/../file-link")).is_err());
        drop(held);
        assert_eq!(entries(&at("real")).unwrap().len(), 0);
    }

    #[test]
    fn trees_go_and_what_they_link_to_stays() {
        let ground = ground();
        let tree = ground.path().join("tree");
        create_dir(&tree, 0o755).unwrap();
        create_dir(&tree.join("d"), 0o755).unwrap();
        create_new(&tree.join("d/f"), 0o644).unwrap();
        symlink(ground.path().join("real"), tree.join("d/away")).unwrap();
        remove_all(&tree).unwrap();
        assert!(kind(&tree).is_none() && is_file(&ground.path().join("real/f")));
        assert_eq!(remove_all(&tree).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_name_that_is_taken_stays() {
        let ground = ground();
        let at = |name: &str| ground.path().join(name);
        create_new(&at("g"), 0o600).unwrap();
        assert_eq!(rename_new(&at("g"), &at("real/f")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        rename_new(&at("g"), &at("real/g")).unwrap();
        assert!(is_file(&at("real/g")));
    }

    #[test]
    fn pipes_are_not_waited_for() {
        let ground = ground();
        let pipe = ground.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(open(&pipe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
