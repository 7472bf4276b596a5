//! Files of the server, opened so that nobody can lead us to another one.
//!
//! `xbsend` may run as root in folders that belong to the server's user, who could put a link, a pipe or a device where a
//! file is looked for. A file is first taken hold of without being opened (`O_PATH`), then looked at, and only then opened
//! through that hold: there is no time in between in which it could be exchanged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use crate::base::{Code, Error};

/// Why a file is not read although it could be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// A folder, a pipe, a socket or a device.
    #[error("it is no regular file")]
    Kind,
    /// It was reached through a symbolic link, and is not the server's.
    #[error("a symbolic link leads there, and the file does not belong to the server's user")]
    Link,
    /// It has another name somewhere else, and is not the server's.
    #[error("it is a hard link to a file that does not belong to the server's user")]
    HardLink,
}

/// Opens a file of the server whose datadir belongs to `owner`.
///
/// Links are followed, as the server follows them (a datadir that is one, MyISAM's `DATA DIRECTORY`), where they lead to a
/// regular file of the server's own user.
///
/// # Errors
/// As `open`; [`Refused`] inside the error for a file that is not to be read.
pub fn open(path: &Path, owner: u32) -> io::Result<File> {
    let hold = OFlags::PATH | OFlags::CLOEXEC;
    let (held, linked) = match openat2(CWD, path, hold, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(held) => (held, false),
        Err(rustix::io::Errno::NOENT) => return Err(io::ErrorKind::NotFound.into()),
        // A link on the way, or a kernel before 5.6, which can't tell.
        Err(_) => (openat(CWD, path, hold, Mode::empty())?, true),
    };
    check(&held, linked, owner)?;
    reopen(&held, OFlags::empty())
}

/// Opens an open file again, with other flags.
///
/// # Errors
/// As `open`.
pub fn reopen(held: &impl AsFd, flags: OFlags) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", held.as_fd().as_raw_fd());
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

fn check(held: &OwnedFd, linked: bool, owner: u32) -> io::Result<()> {
    let stat = fstat(held)?;
    let refused = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        Refused::Kind
    } else if stat.st_uid == owner {
        return Ok(());
    } else if linked {
        Refused::Link
    } else if stat.st_nlink > 1 {
        Refused::HardLink
    } else {
        return Ok(());
    };
    Err(io::Error::other(refused))
}

/// The error of a file of the source that can't be opened or read, with the way out.
pub fn failed(path: &Path, e: io::Error) -> Error {
    let refused = e.get_ref().is_some_and(|inner| inner.is::<Refused>());
    let error = Error::io(Code::SourceIo, format!("can't read {}", path.display()), e);
    match refused {
        true => error.hint("such a file is nothing that the server could use: remove it, or give the file that a link leads to to the server's user"),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn refusal(path: &Path, owner: u32) -> Option<Refused> {
        open(path, owner).err().and_then(|e| e.get_ref()?.downcast_ref().copied())
    }

    #[test]
    fn only_regular_files_and_only_the_servers_own_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let file = base.join("file");
        std::fs::write(&file, "x").unwrap();
        let me = file.metadata().unwrap().uid();
        symlink(&file, base.join("link")).unwrap();
        std::fs::create_dir(base.join("folder")).unwrap();
        symlink(base.join("folder"), base.join("way")).unwrap();
        std::fs::write(base.join("folder/inner"), "x").unwrap();
        symlink("/dev/zero", base.join("zero")).unwrap();
        rustix::fs::mknodat(CWD, base.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();

        for good in ["file", "link", "folder/inner", "way/inner"] {
            assert_eq!(refusal(&base.join(good), me), None, "{good}");
        }
        assert_eq!(refusal(&file, me + 1), None);
        for linked in ["link", "way/inner"] {
            assert_eq!(refusal(&base.join(linked), me + 1), Some(Refused::Link), "{linked}");
        }
        for strange in ["folder", "zero", "pipe"] {
            assert_eq!(refusal(&base.join(strange), me), Some(Refused::Kind), "{strange}");
        }
        std::fs::hard_link(&file, base.join("second")).unwrap();
        assert_eq!(refusal(&base.join("second"), me), None);
        assert_eq!(refusal(&base.join("second"), me + 1), Some(Refused::HardLink));
        assert_eq!(open(&base.join("none"), me).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
