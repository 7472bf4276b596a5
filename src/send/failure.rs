//! Keeps the first failure, whichever thread met it, and tells everybody else to give up.

use std::sync::{Mutex, PoisonError};

use crate::base::{Code, Error, Result};
use crate::source::spool::Spool;
use crate::transport::StreamWriter;

use super::rate_limiter::RateLimiter;

/// The first failure of a run.
pub(super) struct Failure<'a> {
    first: Mutex<Option<Error>>,
    stream_writer: &'a StreamWriter,
    spool: &'a Spool,
    pacer: &'a RateLimiter<'a>,
}

impl<'a> Failure<'a> {
    pub(super) fn new(stream_writer: &'a StreamWriter, spool: &'a Spool, pacer: &'a RateLimiter<'a>) -> Self {
        Failure { first: Mutex::new(None), stream_writer, spool, pacer }
    }

    /// Notes `error` if it is the first, and frees everybody who waits for a turn, for redo or for leave to read.
    ///
    /// The thread that met the reason may get here later than one that only found the stream writer closed by it: its
    /// [`Code::GivenUp`] gives way to a reason.
    pub(super) fn set(&self, error: Error) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|e| e.code == Code::GivenUp) {
            *first = Some(error);
        }
        drop(first);
        self.stream_writer.close();
        self.spool.close();
        self.pacer.close();
    }

    /// Notes `error` as [`Failure::set`] does; what it returns stands for the first failure.
    pub(super) fn keep(&self, error: Error) -> Error {
        let stand_in = Error::new(error.code, "the backup failed");
        self.set(error);
        stand_in
    }

    /// Runs a thread's part, and notes how it failed.
    pub(super) fn watch(&self, part: impl FnOnce() -> Result<()>) {
        if let Err(e) = part() {
            self.set(e);
        }
    }

    /// Fails if anything has failed; the reason stays here for [`Failure::first`].
    pub(super) fn check(&self) -> Result<()> {
        match &*self.first.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(e) => Err(Error::new(e.code, "the backup failed")),
        }
    }

    /// The first failure.
    pub(super) fn first(&self) -> Option<Error> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take().filter(|e| e.code != Code::GivenUp)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::base::progress::Progress;
    use crate::throttle::Throttle;
    use crate::transport::stream_writer::Sink;

    struct Gone;

    impl Sink for Gone {
        fn write_some(&mut self, _: &[IoSlice<'_>]) -> Result<usize> {
            Err(Error::new(Code::BrokenPipe, "gone"))
        }
        fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_reason_wins_over_its_echo() {
        let stream_writer = StreamWriter::new(Box::new(Gone));
        let spool = Spool::new(&std::env::temp_dir(), 1 << 40).unwrap();
        let progress = Progress::new();
        let pacer = RateLimiter::new(Throttle::Off, &progress);
        let failure = Failure::new(&stream_writer, &spool, &pacer);
        let reason = stream_writer.lane().unwrap().write_now(&mut [IoSlice::new(b"x")]).unwrap_err();
        let echo = stream_writer.lane().unwrap().write_now(&mut [IoSlice::new(b"x")]).unwrap_err();
        failure.set(echo);
        failure.set(reason);
        failure.set(Error::new(Code::SourceIo, "later"));
        assert_eq!(failure.first().unwrap().code, Code::BrokenPipe);
    }

    #[test]
    fn an_echo_alone_is_no_reason() {
        let stream_writer = StreamWriter::new(Box::new(Gone));
        let spool = Spool::new(&std::env::temp_dir(), 1 << 40).unwrap();
        let progress = Progress::new();
        let pacer = RateLimiter::new(Throttle::Off, &progress);
        let failure = Failure::new(&stream_writer, &spool, &pacer);
        stream_writer.close();
        failure.set(stream_writer.finish().unwrap_err());
        assert!(failure.check().is_err());
        assert!(failure.first().is_none());
    }
}
