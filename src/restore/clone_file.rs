//! Copies a file: by reference where the file system can, so that no data is moved, and with its holes elsewhere.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::owner::{DIR_MODE, FILE_MODE};
use crate::base::{Stop, nofollow};

/// Maximum number of bytes that are copied between two looks at the stop request.
const PIECE: u64 = 64 << 20;

/// Moves `from` to `to`, which must not exist; the folders on the way are made. Between file systems it is copied.
///
/// # Errors
/// Those of the files.
pub fn move_to(from: &Path, to: &Path, stop: &Stop) -> io::Result<()> {
    if from == to {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        let missing: Vec<_> = parent.ancestors().take_while(|dir| nofollow::kind(dir).is_none()).collect();
        missing.into_iter().rev().try_for_each(|dir| nofollow::create_dir(dir, DIR_MODE))?;
    }
    match nofollow::rename_new(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            copy_to(from, to, stop)?;
            nofollow::remove_file(from)
        }
        done => done,
    }
}

/// Copies `from` to `to`, which must not exist, by reference where that can be.
///
/// # Errors
/// Those of the files.
pub fn copy_to(from: &Path, to: &Path, stop: &Stop) -> io::Result<()> {
    clone(from, to, FILE_MODE, stop)
}

/// Copies `from` to `to`, which must not exist.
///
/// # Errors
/// Those of the files; [`io::ErrorKind::Interrupted`] if the run is stopped.
pub(super) fn clone(from: &Path, to: &Path, mode: u32, stop: &Stop) -> io::Result<()> {
    let source = nofollow::open(from)?;
    let target = nofollow::create_new(to, mode)?;
    match ioctl_ficlone(&target, &source) {
        Ok(()) => Ok(()),
        // Another file system, or one without references.
        Err(_) => copy(&source, &target, stop),
    }
}

fn copy(source: &File, target: &File, stop: &Stop) -> io::Result<()> {
    let len = source.metadata()?.len();
    target.set_len(len)?;
    let mut at = 0;
    while at < len {
        let data = match seek(source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let end = seek(source, SeekFrom::Hole(data))?.min(len);
        copy_range(source, target, data, end, stop)?;
        at = end;
    }
    Ok(())
}

fn copy_range(source: &File, target: &File, from: u64, to: u64, stop: &Stop) -> io::Result<()> {
    let (mut read, mut write) = (from, from);
    while read < to {
        stop.check().map_err(|e| io::Error::new(io::ErrorKind::Interrupted, e.to_string()))?;
        let wanted = (to - read).min(PIECE) as usize;
        match copy_file_range(source, Some(&mut read), target, Some(&mut write), wanted) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Kernels before 5.3 copy only within one file system.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return copy_by_hand(source, target, read, to, stop);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(source: &File, target: &File, mut at: u64, to: u64, stop: &Stop) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 1 << 20];
    while at < to {
        stop.check().map_err(|e| io::Error::new(io::ErrorKind::Interrupted, e.to_string()))?;
        let wanted = (to - at).min(buffer.len() as u64) as usize;
        source.read_exact_at(&mut buffer[..wanted], at)?;
        target.write_all_at(&buffer[..wanted], at)?;
        at += wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let file = File::create(&from).unwrap();
        file.set_len(9 << 20).unwrap();
        file.write_all_at(&[7; 5000], 3 << 20).unwrap();
        let stop = Stop::new().unwrap();
        for by_hand in [false, true] {
            let _ = std::fs::remove_file(&to);
            match by_hand {
                false => clone(&from, &to, 0o640, &stop).unwrap(),
                true => copy(&file_at(&from), &File::create(&to).unwrap(), &stop).unwrap(),
            }
            assert_eq!(std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
            assert!(file_at(&to).metadata().unwrap().blocks() * 512 < 1 << 20);
        }
        assert!(clone(&from, &to, 0o640, &stop).is_err(), "a file that is there is not overwritten");
        copy_by_hand(&file_at(&from), &File::options().write(true).open(&to).unwrap(), 0, 9 << 20, &stop)
            .unwrap();
        assert_eq!(std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
    }

    fn file_at(path: &Path) -> File {
        File::open(path).unwrap()
    }
}
