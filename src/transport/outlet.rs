//! Many threads write frames into one stream, each in its turn and from its own buffer.
//!
//! Whoever takes work takes a ticket with it. Reading, checking and hashing go on in parallel; the write itself is
//! done in the order of the tickets, by the thread that still has the bytes in its core's cache, without a copy
//! and without a queue: memory is bounded by one buffer a thread. Redo has no ticket: it goes out before the next
//! turn, so that it never waits behind datafiles.

use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::base::{Code, Error, Result, Stop};

/// Where the bytes go.
pub trait Sink: Send {
    /// Writes some of `parts`, as `writev`; never nothing.
    ///
    /// # Errors
    /// [`Code::BrokenPipe`], [`Code::StreamIo`], and what the line or the other side has to say.
    fn write_some(&mut self, parts: &[IoSlice<'_>]) -> Result<usize>;

    /// All was written: makes it as durable as this sink can, or waits for the other side's verdict.
    ///
    /// # Errors
    /// As [`Sink::write_some`].
    fn finish(&mut self) -> Result<()>;

    /// What ends a wait inside this sink from outside, where it can be ended: the stream will not be finished.
    fn quit(&self) -> Option<Arc<Stop>> {
        None
    }
}

/// A stream that several threads write to.
pub struct Outlet {
    state: Mutex<State>,
    turn: Condvar,
    urgent: AtomicUsize,
    written: AtomicU64,
    quit: Option<Arc<Stop>>,
}

struct State {
    sink: Box<dyn Sink>,
    next: u64,
    closed: bool,
}

impl Outlet {
    /// An outlet whose first turn is ticket 0.
    pub fn new(sink: Box<dyn Sink>) -> Outlet {
        Outlet {
            quit: sink.quit(),
            state: Mutex::new(State { sink, next: 0, closed: false }),
            turn: Condvar::new(),
            urgent: AtomicUsize::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Writes all of `parts` when it is `ticket`'s turn, and passes the turn on.
    ///
    /// # Errors
    /// [`Code::BrokenPipe`], [`Code::StreamIo`]; [`Code::Interrupted`] after [`Outlet::close`]: another thread has
    /// the reason.
    pub fn write_in_turn(&self, ticket: u64, parts: &mut [IoSlice<'_>]) -> Result<()> {
        let mut state = self.lock();
        while !state.closed && (state.next != ticket || self.urgent.load(Ordering::Acquire) > 0) {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let done = self.write(&mut state, parts);
        state.next += 1;
        drop(state);
        self.turn.notify_all();
        done
    }

    /// Writes all of `parts` before the next turn.
    ///
    /// # Errors
    /// As [`Outlet::write_in_turn`].
    pub fn write_now(&self, parts: &mut [IoSlice<'_>]) -> Result<()> {
        self.urgent.fetch_add(1, Ordering::AcqRel);
        let mut state = self.lock();
        let done = self.write(&mut state, parts);
        self.urgent.fetch_sub(1, Ordering::AcqRel);
        drop(state);
        self.turn.notify_all();
        done
    }

    /// Lets nobody write any more: what the stream holds so far stays without an end.
    pub fn close(&self) {
        // Whoever is inside the sink holds the lock.
        if let Some(quit) = &self.quit {
            quit.request("an error");
        }
        self.lock().closed = true;
        self.turn.notify_all();
    }

    /// All frames are written.
    pub fn finish(&self) -> Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.closed = true;
        state.sink.finish()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A writer that panicked left the stream in the middle of a frame; `closed` below is set by its scope.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, parts: &mut [IoSlice<'_>]) -> Result<()> {
        if state.closed {
            return Err(closed());
        }
        let mut parts = parts;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match state.sink.write_some(parts) {
                Ok(0) => {
                    state.closed = true;
                    return Err(Error::new(Code::StreamIo, "the stream takes no more bytes"));
                }
                Ok(n) => {
                    self.written.fetch_add(n as u64, Ordering::Relaxed);
                    IoSlice::advance_slices(&mut parts, n);
                }
                Err(e) => {
                    state.closed = true;
                    return Err(e);
                }
            }
        }
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(Code::Interrupted, "the stream was closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most three bytes at a time.
    struct Slow(Arc<Mutex<Vec<u8>>>);

    impl Sink for Slow {
        fn write_some(&mut self, parts: &[IoSlice<'_>]) -> Result<usize> {
            let part = parts.iter().find(|p| !p.is_empty()).expect("never called without bytes");
            let n = part.len().min(3);
            self.0.lock().unwrap().extend_from_slice(&part[..n]);
            Ok(n)
        }
        fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn turns_are_kept_and_partial_writes_completed() {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let outlet = Outlet::new(Box::new(Slow(bytes.clone())));
        std::thread::scope(|scope| {
            for ticket in (0..20u64).rev() {
                let outlet = &outlet;
                scope.spawn(move || {
                    let text = format!("<{ticket:02}:abcdefg>");
                    let (head, tail) = text.as_bytes().split_at(4);
                    outlet
                        .write_in_turn(
                            ticket,
                            &mut [IoSlice::new(head), IoSlice::new(b""), IoSlice::new(tail)],
                        )
                        .unwrap();
                });
            }
        });
        outlet.finish().unwrap();
        let expected: String = (0..20).map(|t| format!("<{t:02}:abcdefg>")).collect();
        assert_eq!(String::from_utf8(bytes.lock().unwrap().clone()).unwrap(), expected);
        assert_eq!(outlet.written(), expected.len() as u64);
    }

    #[test]
    fn a_closed_outlet_frees_who_waits() {
        let outlet = Outlet::new(Box::new(Slow(Arc::default())));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| outlet.write_in_turn(7, &mut [IoSlice::new(b"x")]));
            outlet.close();
            assert_eq!(waiting.join().unwrap().unwrap_err().code, Code::Interrupted);
        });
        assert_eq!(outlet.written(), 0);
        assert!(outlet.finish().is_err());
    }
}
