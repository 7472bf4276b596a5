//! Implements a ticket lock: threads enter one at a time, in the order of their tickets; those without a
//! ticket enter before the next ticket.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Code, Error, Result};

/// Interval at which a waiting thread checks whether the ticket lock was closed.
const GLANCE: Duration = Duration::from_millis(100);

/// Guards `T`, so that only the thread that has entered can use it.
pub struct TicketLock<T> {
    state: Mutex<State<T>>,
    /// True once the lock is closed. It lies outside the mutex, which a thread may hold for long, so that
    /// closing waits for nobody.
    closed: AtomicBool,
    turn: Condvar,
    urgent: AtomicUsize,
}

struct State<T> {
    guarded: T,
    next: u64,
}

impl<T> TicketLock<T> {
    /// Creates the lock; ticket 0 has the first turn.
    pub fn new(guarded: T) -> TicketLock<T> {
        let state = Mutex::new(State { guarded, next: 0 });
        TicketLock {
            state,
            closed: AtomicBool::new(false),
            turn: Condvar::new(),
            urgent: AtomicUsize::new(0),
        }
    }

    /// Does `work` when it is `ticket`'s turn, or before the next turn if there is no ticket; a failure
    /// closes the ticket lock.
    ///
    /// # Errors
    /// [`Code::GivenUp`] once it is closed, and those of `work`.
    pub fn pass<R>(&self, ticket: Option<u64>, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let mut state = match ticket {
            Some(ticket) => self.wait(ticket),
            None => {
                self.urgent.fetch_add(1, Ordering::AcqRel);
                let state = self.lock();
                self.urgent.fetch_sub(1, Ordering::AcqRel);
                state
            }
        };
        let done = if self.is_closed() { Err(closed()) } else { work(&mut state.guarded) };
        if done.is_err() {
            self.closed.store(true, Ordering::Release);
        }
        state.next += u64::from(ticket.is_some());
        drop(state);
        self.turn.notify_all();
        done
    }

    /// Does `work` as the last one; nobody can enter after that.
    ///
    /// # Errors
    /// Those of [`TicketLock::pass`].
    pub fn finish<R>(&self, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let mut state = self.lock();
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(closed());
        }
        work(&mut state.guarded)
    }

    /// Lets nobody enter any more. It waits for nobody, not even for a thread that has entered.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.turn.notify_all();
    }

    fn wait(&self, ticket: u64) -> MutexGuard<'_, State<T>> {
        let mut state = self.lock();
        while !self.is_closed() && (state.next != ticket || self.urgent.load(Ordering::Acquire) > 0) {
            state = self.turn.wait_timeout(state, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A thread that panicked here left a stream in the middle of a frame; its scope closes the ticket
        // lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::new(Code::GivenUp, "the stream was closed")
}
