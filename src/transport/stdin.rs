//! Reads a stream from standard input (a pipe, a socket or a file), or from a file that the user names.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::pipe::fcntl_setpipe_size;

use crate::base::{Code, Error, Result, Stop};

use super::ends::Origin;
use super::stream_reader::StreamReader;

/// Size of the pipe. A default pipe holds 64 KiB and moves half as many bytes per second as one of this size.
const PIPE_BYTES: usize = 1 << 20;

/// Standard input, or a file, as the source of a stream. A stop request ends a wait for bytes.
pub struct Stdin {
    file: File,
    /// What to call it in messages.
    name: String,
    /// False for a regular file, which is always ready; on anything else, bytes are waited for together with
    /// the stop request.
    waits: bool,
    stop: Arc<Stop>,
    quit: Arc<Stop>,
}

impl Stdin {
    /// Takes standard input, unbuffered.
    ///
    /// # Errors
    /// [`Code::Usage`] if it is a terminal.
    pub fn open(stop: Arc<Stop>) -> Result<Stdin> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Error::new(Code::Usage, "standard input is a terminal: there is no stream to read")
                .hint("pipe it (xbsend | xbrecv DIR) or redirect it (xbrecv DIR < full.xb)"));
        }
        let name = "standard input".to_owned();
        let fd = stdin.as_fd().try_clone_to_owned().map_err(|e| failed(&name, e))?;
        Self::of(fd, name, stop)
    }

    /// Opens the file, or the named pipe, `path`.
    ///
    /// # Errors
    /// [`Code::StreamIo`].
    pub fn open_file(path: &Path, stop: Arc<Stop>) -> Result<Stdin> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| failed(&name, e))?;
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(Error::new(Code::Usage, format!("{name} is a folder, not a stream")));
        }
        Self::of(file.into(), name, stop)
    }

    fn of(fd: OwnedFd, name: String, stop: Arc<Stop>) -> Result<Stdin> {
        let kind = FileType::from_raw_mode(fstat(&fd).map_err(|e| failed(&name, e.into()))?.st_mode);
        if kind == FileType::Fifo {
            // The size matters only for speed; an unprivileged user may be over the system's limit for pipes.
            if let Err(e) = fcntl_setpipe_size(&fd, PIPE_BYTES) {
                tracing::debug!("the pipe keeps its size: {e}");
            }
        }
        let quit = Arc::new(Stop::new()?);
        Ok(Stdin { file: File::from(fd), name, waits: kind != FileType::RegularFile, stop, quit })
    }

    /// Waits until there is something to read, or a stop was requested.
    fn wait(&self) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::new(&self.file, PollFlags::IN),
                PollFd::from_borrowed_fd(self.stop.wake_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.quit.wake_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                // A signal interrupts the wait before anyone has turned it into a stop request: a read now
                // could block forever.
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(failed(&self.name, e.into())),
                Ok(_) if fds.iter().any(|fd| !fd.revents().is_empty()) => return Ok(()),
                Ok(_) => {}
            }
        }
    }
}

/// Standard input as the place that a stream comes from.
pub struct StandardInput {
    /// Request that ends a wait for bytes.
    pub stop: Arc<Stop>,
}

impl Origin for StandardInput {
    fn stream_reader(&mut self) -> Result<Box<dyn StreamReader>> {
        Ok(Box::new(Stdin::open(self.stop.clone())?))
    }
}

impl StreamReader for Stdin {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        loop {
            if self.waits {
                self.wait()?;
            }
            self.stop.check()?;
            self.quit.check()?;
            match self.file.read(into) {
                Ok(n) => return Ok(n),
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(e) => return Err(failed(&self.name, e)),
            }
        }
    }

    fn quit(&self) -> Arc<Stop> {
        self.quit.clone()
    }
}

fn failed(name: &str, e: io::Error) -> Error {
    Error::io(Code::StreamIo, format!("can't read the stream from {name}"), e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pipe() -> (Stdin, File, Arc<Stop>) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let stop = Arc::new(Stop::new().unwrap());
        (Stdin::of(read, "a test".into(), stop.clone()).unwrap(), File::from(write), stop)
    }

    #[test]
    fn bytes_and_the_end_are_read() {
        let (mut stdin, mut writer, _stop) = pipe();
        let mut buffer = [0; 16];
        writer.write_all(b"abc").unwrap();
        assert_eq!(stdin.read(&mut buffer).unwrap(), 3);
        drop(writer);
        assert_eq!(stdin.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_stop_request_ends_the_wait() {
        let (mut stdin, _writer, stop) = pipe();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| stdin.read(&mut [0; 16]));
            stop.request("SIGTERM");
            assert_eq!(reading.join().unwrap().unwrap_err().code, Code::Interrupted);
        });
    }

    #[test]
    fn a_stream_that_is_of_no_use_is_not_waited_for() {
        let (mut stdin, _writer, stop) = pipe();
        let quit = stdin.quit();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| stdin.read(&mut [0; 16]));
            quit.request("an error");
            assert_eq!(reading.join().unwrap().unwrap_err().code, Code::Interrupted);
        });
        assert!(!stop.requested());
    }

    #[test]
    fn pipes_are_enlarged() {
        let (_stdin, writer, _stop) = pipe();
        assert!(rustix::pipe::fcntl_getpipe_size(&writer).unwrap() >= PIPE_BYTES);
    }
}
