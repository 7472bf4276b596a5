//! Writes the stream to standard output: a pipe, a socket, or a file.
//!
//! The process that reads may stop reading at any time, and a thread inside `write` can't be told to stop. So
//! as far as possible, nothing here blocks in a write: a write takes as many bytes as there is room for, and
//! `poll` waits for room, which also notices a stop or a failure. Whether a descriptor blocks is a property
//! of the open file, which is shared with the process that started this one. That property is therefore left
//! alone: a pipe is opened once more, and a socket gets a flag with every call.

use std::fs::File;
use std::io::{self, IoSlice, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use rustix::pipe::fcntl_setpipe_size;

use crate::base::{Code, Error, Result, Stop};

use super::ends::Destination;
use super::stream_writer::Sink;

/// Size of the pipe. A default pipe holds 64 KiB and moves half as many bytes per second as one of this size.
pub const PIPE_BYTES: usize = 1 << 20;
/// Number of bytes that a pipe takes at once if `poll` says that it can be written (`PIPE_BUF`, pipe(7)).
const PIPE_PIECE: usize = 4096;
/// Maximum number of parts in one call (`IOV_MAX`).
const PARTS_MAX: usize = 1024;

/// Standard output as the place that a stream is written to.
pub struct Stdout {
    file: File,
    way: Way,
    stop: Arc<Stop>,
    quit: Arc<Stop>,
}

/// The way in which standard output is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// A pipe, through a non-blocking open file of this process's own.
    OwnPipe,
    /// A pipe that can't be opened once more: a write never gives more bytes than are sure to fit.
    SharedPipe,
    Socket,
    RegularFile,
    Other,
}

impl Stdout {
    /// Takes standard output, unbuffered. A wait for room there ends when `stop` is requested.
    ///
    /// # Errors
    /// [`Code::Usage`] if it is a terminal.
    pub fn open(stop: Arc<Stop>) -> Result<Stdout> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Error::new(
                Code::Usage,
                "standard output is a terminal: a backup stream is not written to it",
            )
            .hint("pipe it (xbsend | xbrecv DIR) or redirect it (xbsend > full.xb)"));
        }
        let fd = stdout
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| Error::io(Code::StreamIo, "can't use standard output", e))?;
        Stdout::on(fd, stop)
    }

    fn on(fd: OwnedFd, stop: Arc<Stop>) -> Result<Stdout> {
        let stat =
            fstat(&fd).map_err(|e| Error::io(Code::StreamIo, "can't use standard output", e.into()))?;
        let shared = File::from(fd);
        let (file, way) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => {
                // The size matters only for speed; an unprivileged user may be over the system's limit for
                // pipes.
                if let Err(e) = fcntl_setpipe_size(&shared, PIPE_BYTES) {
                    tracing::debug!("the pipe keeps its size: {e}");
                }
                match once_more(&shared) {
                    Ok(own) => (own, Way::OwnPipe),
                    Err(e) => {
                        // The pipe belongs to another user, or there is no /proc.
                        tracing::debug!("the pipe can't be opened once more: {e}");
                        (shared, Way::SharedPipe)
                    }
                }
            }
            FileType::Socket => (shared, Way::Socket),
            FileType::RegularFile => (shared, Way::RegularFile),
            _ => (shared, Way::Other),
        };
        Ok(Stdout { file, way, stop, quit: Arc::new(Stop::new()?) })
    }

    /// Waits until there is room.
    fn wait(&self) -> Result<()> {
        let mut fds = [
            PollFd::new(&self.file, PollFlags::OUT),
            PollFd::from_borrowed_fd(self.stop.wake_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.quit.wake_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed(e.into())),
        }
        self.stop.check()?;
        if self.quit.requested() {
            return Err(Error::new(Code::GivenUp, "the stream was closed"));
        }
        Ok(())
    }

    fn write_once(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.way {
            Way::SharedPipe => {
                let part = parts.iter().find(|p| !p.is_empty()).map_or(&[][..], |p| p);
                self.file.write(&part[..part.len().min(PIPE_PIECE)])
            }
            Way::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let parts = &parts[..parts.len().min(PARTS_MAX)];
                Ok(sendmsg(&self.file, parts, &mut SendAncillaryBuffer::default(), flags)?)
            }
            Way::OwnPipe | Way::RegularFile | Way::Other => self.file.write_vectored(parts),
        }
    }
}

/// Opens the same pipe once more, as an open file of this process's own.
fn once_more(pipe: &File) -> io::Result<File> {
    File::options()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(format!("/proc/self/fd/{}", pipe.as_raw_fd()))
}

/// Standard output as the place that a stream goes to.
pub struct StandardOutput {
    /// Request that ends a wait for room.
    pub stop: Arc<Stop>,
}

impl Destination for StandardOutput {
    fn sink(&mut self) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Stdout::open(self.stop.clone())?))
    }
}

impl Sink for Stdout {
    fn write_some(&mut self, parts: &[IoSlice<'_>]) -> Result<usize> {
        loop {
            if self.way == Way::SharedPipe {
                self.wait()?;
            }
            match self.write_once(parts) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                written => return written.map_err(failed),
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        // A backup file that is reported as complete must survive a power failure.
        if self.way == Way::RegularFile { self.file.sync_all().map_err(failed) } else { Ok(()) }
    }

    fn quit(&self) -> Option<Arc<Stop>> {
        Some(self.quit.clone())
    }
}

fn failed(e: io::Error) -> Error {
    const NO_BACKUP: &str = "what was written is not a backup: remove it";
    match e.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            Error::new(Code::BrokenPipe, "the reader of the stream went away before the backup was complete")
                .hint("look at what the other side of the pipe says; what it has is not a backup")
                .cause(e)
        }
        io::ErrorKind::StorageFull => Error::new(Code::DiskFull, "no room to write the stream")
            .hint(format!("{NO_BACKUP}, make room, run it again"))
            .cause(e),
        io::ErrorKind::QuotaExceeded => Error::new(Code::DiskFull, "the quota leaves no room to write the stream")
            .hint(format!("{NO_BACKUP}, make room within the quota, run it again"))
            .cause(e),
        io::ErrorKind::FileTooLarge => {
            Error::new(Code::StreamIo, "the file with the stream may not grow any more")
                .hint(format!(
                    "{NO_BACKUP}; a limit on the size of files (ulimit -f) or the file system's own stands against it, not \
                     a full disk"
                ))
                .cause(e)
        }
        _ => Error::io(Code::StreamIo, "can't write the stream", e)
            .hint(format!("{NO_BACKUP}; what it was written to failed: look at that disk, device or connection")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
    }

    fn socket() -> (OwnedFd, OwnedFd) {
        let (a, b) = UnixStream::pair().unwrap();
        (a.into(), b.into())
    }

    /// Returns whether the descriptor itself blocks, for everybody who shares it.
    fn waits(fd: impl AsFd) -> bool {
        !rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    fn shared(mut out: Stdout, fd: &OwnedFd) -> Stdout {
        out.way = Way::SharedPipe;
        out.file = File::from(fd.try_clone().unwrap());
        out
    }

    /// Returns every way of writing, each with the descriptors of its two ends and its stop request.
    fn ways() -> Vec<(Stdout, OwnedFd, OwnedFd, Arc<Stop>)> {
        let mut all = Vec::new();
        for (n, (read, write)) in [pipe(), pipe(), socket()].into_iter().enumerate() {
            let stop = Arc::new(Stop::new().unwrap());
            let mut out = Stdout::on(write.try_clone().unwrap(), stop.clone()).unwrap();
            if n == 1 {
                out = shared(out, &write);
            }
            assert_eq!(out.way, [Way::OwnPipe, Way::SharedPipe, Way::Socket][n]);
            all.push((out, read, write, stop));
        }
        all
    }

    #[test]
    fn a_reader_that_stands_still_keeps_nobody_from_stopping() {
        for stops in [true, false] {
            for (mut out, _read, write, stop) in ways() {
                let (way, quit) = (out.way, out.quit().unwrap());
                let begun = Instant::now();
                let e = std::thread::scope(|scope| {
                    let writing = scope.spawn(|| {
                        let block = vec![7; 300_000];
                        loop {
                            if let Err(e) = out.write_some(&[IoSlice::new(b""), IoSlice::new(&block)]) {
                                return e;
                            }
                        }
                    });
                    std::thread::sleep(Duration::from_millis(100));
                    assert!(!writing.is_finished(), "{way:?}");
                    if stops {
                        stop.request("SIGTERM")
                    } else {
                        quit.request("an error")
                    }
                    writing.join().unwrap()
                });
                let expected = if stops { Code::Interrupted } else { Code::GivenUp };
                assert_eq!(e.code, expected, "{way:?}: {e}");
                assert_eq!(e.to_string().starts_with("stopped by SIGTERM"), stops, "{way:?}: {e}");
                assert!(begun.elapsed() < Duration::from_secs(10), "{way:?}");
                assert!(waits(&write), "{way:?}: what others share stays as it was");
            }
        }
    }

    #[test]
    fn everything_arrives_in_order_whatever_the_way() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        for (mut out, read, write, _stop) in ways() {
            let way = out.way;
            let got = std::thread::scope(|scope| {
                let reading = scope.spawn(move || {
                    let mut got = Vec::new();
                    File::from(read).read_to_end(&mut got).unwrap();
                    got
                });
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (a, b) = rest.split_at(rest.len().min(50));
                    let n = out.write_some(&[IoSlice::new(a), IoSlice::new(b)]).unwrap();
                    rest = &rest[n..];
                }
                drop((out, write));
                reading.join().unwrap()
            });
            assert!(got == bytes, "{way:?}");
        }
    }

    #[test]
    fn what_went_wrong_is_told_as_it_is() {
        for (number, code, word) in [
            (libc::EPIPE, Code::BrokenPipe, "reader"),
            (libc::ECONNRESET, Code::BrokenPipe, "reader"),
            (libc::ENOSPC, Code::DiskFull, "room"),
            (libc::EDQUOT, Code::DiskFull, "quota"),
            (libc::EFBIG, Code::StreamIo, "may not grow"),
            (libc::EIO, Code::StreamIo, "can't write"),
        ] {
            let e = failed(io::Error::from_raw_os_error(number));
            assert_eq!(e.code, code, "{e}");
            assert!(e.message.contains(word) && e.hint.is_some() && e.cause.is_some(), "{e}");
        }
        for (mut out, read, _write, _stop) in ways() {
            drop(read);
            let e = out.write_some(&[IoSlice::new(b"x")]).unwrap_err();
            assert_eq!(e.code, Code::BrokenPipe, "{:?}: {e}", out.way);
        }
        let stop = Arc::new(Stop::new().unwrap());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let e = Stdout::on(full.into(), stop).unwrap().write_some(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(e.code, Code::DiskFull);
    }
}
