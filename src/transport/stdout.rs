//! The stream on standard output: a pipe, or a file.

use std::fs::File;
use std::io::{self, IoSlice, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::fs::{FileType, fstat};
use rustix::pipe::fcntl_setpipe_size;

use crate::base::{Code, Error, Result};

use super::outlet::Sink;

/// A default pipe holds 64 KiB and moves half as much per second as one of this size.
pub const PIPE_BYTES: usize = 1 << 20;

/// Standard output as a place for the stream.
pub struct Stdout {
    file: File,
    regular: bool,
}

impl Stdout {
    /// Takes standard output, unbuffered.
    ///
    /// # Errors
    /// [`Code::Usage`] where it is a terminal.
    pub fn open() -> Result<Stdout> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Error::new(
                Code::Usage,
                "standard output is a terminal: a backup stream is not written to it",
            )
            .hint("pipe it (xbsend | xbrecv DIR) or redirect it (xbsend > full.xb)"));
        }
        let failed = |e: io::Error| Error::io(Code::StreamIo, "can't use standard output", e);
        let fd = stdout.as_fd().try_clone_to_owned().map_err(failed)?;
        let kind = FileType::from_raw_mode(fstat(&fd).map_err(|e| failed(e.into()))?.st_mode);
        if kind == FileType::Fifo {
            // Only a matter of speed: an unprivileged user may be over the system's limit for pipes.
            if let Err(e) = fcntl_setpipe_size(&fd, PIPE_BYTES) {
                tracing::debug!("the pipe keeps its size: {e}");
            }
        }
        Ok(Stdout { file: File::from(fd), regular: kind == FileType::RegularFile })
    }
}

impl Sink for Stdout {
    fn write_some(&mut self, parts: &[IoSlice<'_>]) -> Result<usize> {
        loop {
            match self.file.write_vectored(parts) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                written => return written.map_err(failed),
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        // A backup file that is called whole must survive a power cut.
        if self.regular { self.file.sync_all().map_err(failed) } else { Ok(()) }
    }
}

fn failed(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::BrokenPipe => {
            Error::new(Code::BrokenPipe, "the reader of the stream went away before the backup was complete")
                .hint("look at what the other side of the pipe says; what it has is not a backup")
                .cause(e)
        }
        io::ErrorKind::StorageFull => Error::new(Code::DiskFull, "no room to write the stream")
            .hint("what was written is not a backup: remove it, make room, run it again")
            .cause(e),
        _ => Error::io(Code::StreamIo, "can't write the stream", e),
    }
}
