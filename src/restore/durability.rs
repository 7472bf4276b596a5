//! Makes the staged files durable.
//!
//! One `syncfs` per file system instead of an `fsync` per file: with thousands of tables the journal would be
//! committed thousands of times. It reports write-back errors only since Linux 5.8, and only for file systems of this
//! machine; elsewhere every file is synced by itself.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, fstatfs, syncfs};

use crate::base::nofollow;
use crate::base::{Code, Error, Result};

/// The first kernel whose `syncfs` reports write-back errors.
const SYNCFS_REPORTS: (u32, u32) = (5, 8);
/// File systems whose `syncfs` says nothing of what a server elsewhere did: NFS, SMB (three kinds), FUSE, 9p, Ceph,
/// AFS, and overlays, which may lie on one of them (`linux/magic.h`).
const NOT_SYNCED_WHOLE: [u64; 9] = [
    0x6969,
    0x517B,
    0xFE53_4D42,
    0xFF53_4D42,
    0x6573_5546,
    0x0102_1997,
    0x00C3_6400,
    0x5346_414F,
    0x794C_7630,
];

/// Makes everything below `root` durable; `fs` is a descriptor on its file system that was opened before the first write.
pub fn sync_tree(fs: &File, root: &Path) -> Result<()> {
    let failed = |e: io::Error| Error::io(Code::TargetIo, format!("sync of {}", root.display()), e);
    if syncs_whole(fs) {
        return syncfs(fs).map_err(|e| failed(e.into()));
    }
    sync_each(root).map_err(failed)
}

fn syncs_whole(fs: &File) -> bool {
    let kernel_new = rustix::system::uname().release().to_str().ok().and_then(kernel_version);
    let local = fstatfs(fs).is_ok_and(|s| !NOT_SYNCED_WHOLE.contains(&(s.f_type as u64 & 0xFFFF_FFFF)));
    local && kernel_new.is_some_and(|v| v >= SYNCFS_REPORTS)
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Files and folders, leaves first.
fn sync_each(dir: &Path) -> io::Result<()> {
    for (name, kind) in nofollow::entries(dir)? {
        match kind {
            FileType::Directory => sync_each(&dir.join(name))?,
            FileType::RegularFile => nofollow::open(&dir.join(name))?.sync_all()?,
            _ => {}
        }
    }
    nofollow::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("5.15.153.1-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(kernel_version("4.18"), Some((4, 18)));
        assert_eq!(kernel_version("weird"), None);
        assert!((5, 15) >= SYNCFS_REPORTS && (4, 18) < SYNCFS_REPORTS && (6, 1) >= SYNCFS_REPORTS);
    }

    #[test]
    fn trees_are_synced_either_way() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), b"x").unwrap();
        sync_tree(&File::open(dir.path()).unwrap(), dir.path()).unwrap();
        sync_each(dir.path()).unwrap();
        assert!(sync_each(&dir.path().join("none")).is_err());
    }
}
