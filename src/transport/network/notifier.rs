//! Wakes those who wait for a change of shared state, in threads and in tasks.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::dup;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use crate::base::Stop;

/// State with everybody who waits for a change of it.
#[derive(Debug)]
pub(super) struct Shared<T> {
    state: Mutex<T>,
    threads: Condvar,
    tasks: watch::Sender<()>,
}

impl<T> Shared<T> {
    pub(super) fn new(state: T) -> Shared<T> {
        Shared { state: Mutex::new(state), threads: Condvar::new(), tasks: watch::Sender::new(()) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the state until it changes.
    pub(super) fn wait<'a>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.threads.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Shared::wait`], for no longer than `time`.
    pub(super) fn wait_for<'a>(
        &self,
        guard: MutexGuard<'a, T>,
        time: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        self.threads.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// The state has changed for tasks.
    pub(super) fn wake_tasks(&self) {
        self.tasks.send_replace(());
    }

    /// The state has changed for threads.
    pub(super) fn wake_threads(&self) {
        self.threads.notify_all();
    }

    /// The state has changed for everybody.
    pub(super) fn wake(&self) {
        self.wake_tasks();
        self.wake_threads();
    }

    /// What a task waits on. It sees every change from now on: it is made before the state is looked at.
    pub(super) fn changes(&self) -> Notifier {
        Notifier(self.tasks.subscribe())
    }
}

/// A task's view of the changes.
pub(super) struct Notifier(watch::Receiver<()>);

impl Notifier {
    /// Waits for a change after the last one seen.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could change anything.
            std::future::pending::<()>().await;
        }
    }
}

/// Returns once the stop is requested.
pub(super) async fn requested(stop: Arc<Stop>) {
    // Its descriptor is a pipe's end that is never read.
    let watched = dup(stop.wake_fd()).map_err(std::io::Error::from).and_then(Receiver::from_owned_fd);
    match watched {
        Ok(fd) => {
            while !stop.requested() {
                if fd.readable().await.is_err() {
                    break;
                }
                // Hung up but not yet said: the one follows the other at once.
                tokio::task::yield_now().await;
            }
        }
        Err(_) => {
            while !stop.requested() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
