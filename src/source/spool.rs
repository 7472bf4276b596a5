//! The spool: redo that was read and not yet sent, in memory and then in a file.
//!
//! The tailer must keep up with the server whatever the line does, so it never waits here: a little is kept in
//! memory, the rest goes to a file without a name that the operating system removes with the process.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::FallocateFlags;

use crate::base::{Code, Error, Result};

/// What may lie in memory before pieces go to the file.
const MEMORY_BYTES_MAX: usize = 8 << 20;
/// What is written at the start to see that the folder takes it.
const TRIAL: usize = 1 << 20;
/// Time that it may take the reader to see that nothing more comes.
const GLANCE: Duration = Duration::from_millis(200);

/// A first-in first-out queue of pieces of redo.
pub struct Spool {
    state: Mutex<State>,
    more: Condvar,
    /// Beside the lock, which is held while the disk is written to: closing waits for nobody.
    closed: AtomicBool,
    file: File,
    dir: PathBuf,
    file_bytes_max: u64,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    memory_bytes: usize,
    file_end: u64,
    /// Bytes of the file that were not read yet.
    file_bytes: u64,
}

enum Piece {
    Memory(Vec<u8>),
    File { offset: u64, len: usize },
}

impl Spool {
    /// A spool whose file lies in `dir` and holds at most so many bytes that were not read yet. Something is written there,
    /// since a folder that takes nothing is better known before anything is locked.
    ///
    /// # Errors
    /// [`Code::SourceIo`]: the folder is none, or can't be written to, or is full.
    pub fn new(dir: &Path, file_bytes_max: u64) -> Result<Spool> {
        let failed = |e| {
            Error::io(Code::SourceIo, format!("redo can't be spooled in {}", dir.display()), e)
                .hint("--tmpdir names a folder that can be written to and has room")
        };
        let file = nameless(dir).map_err(failed)?;
        file.write_all_at(&vec![0xA5; TRIAL], 0).and_then(|()| file.set_len(0)).map_err(failed)?;
        Ok(Spool {
            state: Mutex::default(),
            more: Condvar::new(),
            closed: AtomicBool::new(false),
            file,
            dir: dir.to_owned(),
            file_bytes_max,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a piece at the end; never waits for the reader.
    ///
    /// # Errors
    /// [`Code::SourceIo`] where the file can't be written, [`Code::SpoolFull`] where it may not grow any more.
    pub fn push(&self, piece: &[u8]) -> Result<()> {
        let mut state = self.lock();
        // Once pieces lie in the file, later ones follow them there: order is kept by the queue either way, and
        // memory stays bounded.
        if state.memory_bytes + piece.len() <= MEMORY_BYTES_MAX {
            state.memory_bytes += piece.len();
            state.pieces.push_back(Piece::Memory(piece.to_vec()));
        } else {
            let failed = |e| {
                Error::io(Code::SourceIo, format!("can't spool redo in {}", self.dir.display()), e)
                    .hint("--tmpdir names a folder with more room")
            };
            if state.file_bytes + piece.len() as u64 > self.file_bytes_max {
                let message = format!(
                    "{} bytes of redo wait to be sent, and more may not be spooled",
                    state.file_bytes
                );
                return Err(Error::new(Code::SpoolFull, message)
                    .hint("the line is too slow for what the server writes, or was cut for too long; --spool-limit gives it more room"));
            }
            let offset = state.file_end;
            self.file.write_all_at(piece, offset).map_err(failed)?;
            state.file_end += piece.len() as u64;
            state.file_bytes += piece.len() as u64;
            state.pieces.push_back(Piece::File { offset, len: piece.len() });
        }
        drop(state);
        self.more.notify_all();
        Ok(())
    }

    /// Ends the spool: nothing more will be pushed.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.more.notify_all();
    }

    /// Takes the oldest piece, waiting for one; `None` when the spool is closed and empty.
    pub fn pop(&self) -> Result<Option<Vec<u8>>> {
        let mut state = self.lock();
        loop {
            // Asked first: what was pushed before it is seen then.
            let closed = self.closed.load(Ordering::Acquire);
            if let Some(piece) = state.pieces.pop_front() {
                return state.read(piece, &self.file).map(Some).map_err(|e| {
                    Error::io(
                        Code::SourceIo,
                        format!("can't read back redo spooled in {}", self.dir.display()),
                        e,
                    )
                });
            }
            if closed {
                return Ok(None);
            }
            state = self.more.wait_timeout(state, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn read(&mut self, piece: Piece, file: &File) -> io::Result<Vec<u8>> {
        match piece {
            Piece::Memory(bytes) => {
                self.memory_bytes -= bytes.len();
                Ok(bytes)
            }
            Piece::File { offset, len } => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)?;
                self.file_bytes -= len as u64;
                // What was read gives its room back. Where the file system can't, the whole file does at its end.
                let _ = rustix::fs::fallocate(
                    file,
                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    offset,
                    len as u64,
                );
                if !self.pieces.iter().any(|p| matches!(p, Piece::File { .. })) {
                    file.set_len(0)?;
                    self.file_end = 0;
                }
                Ok(bytes)
            }
        }
    }
}

/// A file without a name; where the file system has none, one whose name is taken away at once.
fn nameless(dir: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    let options = || {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    };
    match options().custom_flags(flags).open(dir) {
        // As NFS and old kernels say it.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let path = dir.join(format!("xbsend-{}", uuid::Uuid::new_v4()));
            let file = options().create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_through_memory_and_file() {
        let spool = Spool::new(&std::env::temp_dir(), 1 << 40).unwrap();
        let piece = |i: usize| vec![i as u8; 1 << 20];
        for round in 0..2 {
            for i in 0..20 {
                spool.push(&piece(i)).unwrap();
            }
            assert!(spool.lock().memory_bytes <= MEMORY_BYTES_MAX, "round {round}");
            for i in 0..20 {
                assert_eq!(spool.pop().unwrap().unwrap(), piece(i));
            }
            assert_eq!(spool.lock().file_end, 0, "the file is emptied when it was read");
        }
        spool.close();
        assert_eq!(spool.pop().unwrap(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let spool = Spool::new(&std::env::temp_dir(), 2 << 20).unwrap();
        let piece = vec![7; 1 << 20];
        for _ in 0..10 {
            spool.push(&piece).unwrap();
        }
        assert_eq!(spool.push(&piece).unwrap_err().code, Code::SpoolFull);
        for _ in 0..9 {
            spool.pop().unwrap();
        }
        spool.push(&piece).unwrap();
    }

    #[test]
    fn a_folder_that_takes_nothing_is_known_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for dir in [Path::new("/nonexistent/spool"), file.path(), Path::new("/proc/self")] {
            let e = Spool::new(dir, 1 << 40).map(drop).unwrap_err();
            assert_eq!(e.code, Code::SourceIo, "{e}");
            assert!(e.hint.unwrap().contains("--tmpdir"));
        }
    }
}
