//! Many threads pass one at a time, in the order of their tickets; those without one pass before the next ticket.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::base::{Code, Error, Result};

/// Guards `T`, which only who passes can use.
pub(super) struct Turnstile<T> {
    state: Mutex<State<T>>,
    turn: Condvar,
    urgent: AtomicUsize,
}

struct State<T> {
    guarded: T,
    next: u64,
    closed: bool,
}

impl<T> Turnstile<T> {
    /// The first turn is ticket 0's.
    pub(super) fn new(guarded: T) -> Turnstile<T> {
        let state = Mutex::new(State { guarded, next: 0, closed: false });
        Turnstile { state, turn: Condvar::new(), urgent: AtomicUsize::new(0) }
    }

    /// Does `work` when it is `ticket`'s turn, or before the next turn without one; a failure closes the turnstile.
    ///
    /// # Errors
    /// [`Code::Interrupted`] once it is closed, and those of `work`.
    pub(super) fn pass<R>(&self, ticket: Option<u64>, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let mut state = match ticket {
            Some(ticket) => self.wait(ticket),
            None => {
                self.urgent.fetch_add(1, Ordering::AcqRel);
                let state = self.lock();
                self.urgent.fetch_sub(1, Ordering::AcqRel);
                state
            }
        };
        let done = if state.closed { Err(closed()) } else { work(&mut state.guarded) };
        state.closed |= done.is_err();
        state.next += u64::from(ticket.is_some());
        drop(state);
        self.turn.notify_all();
        done
    }

    /// The last one passes; nobody can after that.
    ///
    /// # Errors
    /// As [`Turnstile::pass`].
    pub(super) fn finish<R>(&self, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.closed = true;
        work(&mut state.guarded)
    }

    /// Lets nobody pass any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.turn.notify_all();
    }

    fn wait(&self, ticket: u64) -> MutexGuard<'_, State<T>> {
        let mut state = self.lock();
        while !state.closed && (state.next != ticket || self.urgent.load(Ordering::Acquire) > 0) {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Who panicked here left a stream in the middle of a frame; its scope closes the turnstile.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::new(Code::Interrupted, "the stream was closed")
}
