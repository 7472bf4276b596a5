//! Gives the restored files their owner and permissions.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::base::nofollow;

/// Permissions of folders as mysqld makes them (`UMASK_DIR`'s default).
pub const DIR_MODE: u32 = 0o750;
/// Permissions of files as mysqld makes them (`UMASK`'s default).
pub const FILE_MODE: u32 = 0o640;

/// The user and group that files are given to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// The owner of an existing folder, where we are root and it is someone else's; else there is nothing to give.
    pub fn of_target(dir: &Path) -> Option<Owner> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let meta = nofollow::open_dir(dir).and_then(|dir| dir.metadata()).ok()?;
        let owner = Owner { uid: meta.uid(), gid: meta.gid() };
        (owner != Owner { uid: 0, gid: 0 }).then_some(owner)
    }

    /// Gives an open file or folder to this owner.
    pub fn give(self, file: impl AsFd) -> std::io::Result<()> {
        nofollow::give(file, (self.uid, self.gid))
    }

    /// Gives an open folder, and all that we made in it, to this owner.
    pub fn give_tree(self, dir: impl AsFd) -> std::io::Result<()> {
        nofollow::give_tree(dir, (self.uid, self.gid))
    }
}
