//! Asks a run to stop, through a flag that loops check and a descriptor that wakes `poll`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock};

use super::{Code, Error, Result};

/// A request to stop, shared by everything that may wait. The first reason given is kept.
#[derive(Debug)]
pub struct Stop {
    reason: OnceLock<String>,
    /// Reading end of a pipe. [`Stop::request`] closes its writing end, so that this descriptor stays
    /// readable for every waiter.
    wake: OwnedFd,
    keep_quiet: Mutex<Option<OwnedFd>>,
}

impl Stop {
    /// Creates a request that nobody has made yet.
    pub fn new() -> Result<Stop> {
        let (wake, keep_quiet) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| Error::new(Code::Internal, "no descriptor for the stop signal").cause(e))?;
        Ok(Stop { reason: OnceLock::new(), wake, keep_quiet: Mutex::new(Some(keep_quiet)) })
    }

    /// Asks to stop; `reason` completes the message "stopped by …".
    pub fn request(&self, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
        self.keep_quiet.lock().unwrap_or_else(|e| e.into_inner()).take();
    }

    /// Returns whether a stop was requested.
    pub fn requested(&self) -> bool {
        self.reason.get().is_some()
    }

    /// Fails with [`Code::Interrupted`] once a stop was requested.
    pub fn check(&self) -> Result<()> {
        match self.reason.get() {
            None => Ok(()),
            Some(reason) => Err(Error::new(Code::Interrupted, format!("stopped by {reason}"))),
        }
    }

    /// Returns a descriptor that is readable (hung up) once a stop was requested.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn a_request_is_seen_and_wakes() {
        let stop = Stop::new().unwrap();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let woken = |s: &Stop| {
            let mut fds = [PollFd::from_borrowed_fd(s.wake_fd(), PollFlags::IN)];
            poll(&mut fds, Some(&now)).unwrap() == 1
        };
        assert!(stop.check().is_ok() && !woken(&stop));
        stop.request("SIGTERM");
        stop.request("SIGINT");
        assert!(woken(&stop) && stop.requested());
        let e = stop.check().unwrap_err();
        assert_eq!((e.code, e.to_string().as_str()), (Code::Interrupted, "stopped by SIGTERM"));
    }
}
