//! Redo that was read and not yet sent.
//!
//! The tailer must keep up with the server whatever the line does, so it never waits here: a little is kept in
//! memory, the rest goes to a file without a name that the operating system removes with the process.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::FallocateFlags;

use crate::base::{Code, Error, Result};

/// What may lie in memory before pieces go to the file.
const MEMORY_BYTES_MAX: usize = 8 << 20;

/// A first-in first-out queue of pieces of redo.
pub struct Spool {
    state: Mutex<State>,
    more: Condvar,
    dir: PathBuf,
    file_bytes_max: u64,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    memory_bytes: usize,
    file: Option<File>,
    file_end: u64,
    /// Bytes of the file that were not read yet.
    file_bytes: u64,
    closed: bool,
}

enum Piece {
    Memory(Vec<u8>),
    File { offset: u64, len: usize },
}

impl Spool {
    /// A spool whose file, if one is needed, lies in `dir` and holds at most so many bytes that were not read yet.
    pub fn new(dir: &Path, file_bytes_max: u64) -> Spool {
        Spool { state: Mutex::default(), more: Condvar::new(), dir: dir.to_owned(), file_bytes_max }
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
            if state.file.is_none() {
                state.file = Some(nameless(&self.dir).map_err(failed)?);
            }
            if let Some(file) = &state.file {
                file.write_all_at(piece, offset).map_err(failed)?;
            }
            state.file_end += piece.len() as u64;
            state.file_bytes += piece.len() as u64;
            state.pieces.push_back(Piece::File { offset, len: piece.len() });
        }
        drop(state);
        self.more.notify_all();
        Ok(())
    }

    /// Nothing more will be pushed.
    pub fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }

    /// Takes the oldest piece, waiting for one; `None` when the spool is closed and empty.
    pub fn pop(&self) -> Result<Option<Vec<u8>>> {
        let mut state = self.lock();
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                return state.read(piece).map(Some).map_err(|e| {
                    Error::io(
                        Code::SourceIo,
                        format!("can't read back redo spooled in {}", self.dir.display()),
                        e,
                    )
                });
            }
            if state.closed {
                return Ok(None);
            }
            state = self
                .more
                .wait_timeout(state, Duration::from_secs(1))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl State {
    fn read(&mut self, piece: Piece) -> io::Result<Vec<u8>> {
        match (piece, &self.file) {
            (Piece::Memory(bytes), _) => {
                self.memory_bytes -= bytes.len();
                Ok(bytes)
            }
            (Piece::File { offset, len }, Some(file)) => {
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
            (Piece::File { .. }, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn nameless(dir: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    std::fs::OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_through_memory_and_file() {
        let spool = Spool::new(&std::env::temp_dir(), 1 << 40);
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
        let spool = Spool::new(&std::env::temp_dir(), 2 << 20);
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
    fn a_folder_that_is_not_there_is_an_error() {
        let spool = Spool::new(Path::new("/nonexistent/spool"), 1 << 40);
        let mut last = Ok(());
        for _ in 0..20 {
            last = spool.push(&vec![0; 1 << 20]);
        }
        assert!(last.is_err());
    }
}
