//! Wakes threads and tasks that wait for a change of shared state.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::dup;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use crate::base::Stop;

/// Shared state, together with everything that waits for a change of it.
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

    /// Releases the state until it changes.
    pub(super) fn wait<'a>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.threads.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the same as [`Shared::wait`], for no longer than `time`.
    pub(super) fn wait_for<'a>(
        &self,
        guard: MutexGuard<'a, T>,
        time: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        self.threads.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes all tasks that wait for a change.
    pub(super) fn wake_tasks(&self) {
        self.tasks.send_replace(());
    }

    /// Wakes all threads that wait for a change.
    pub(super) fn wake_threads(&self) {
        self.threads.notify_all();
    }

    /// Wakes all tasks and threads that wait for a change.
    pub(super) fn wake(&self) {
        self.wake_tasks();
        self.wake_threads();
    }

    /// Returns a notifier for a task to wait on. It sees every change from now on, so it must be created
    /// before the state is looked at.
    pub(super) fn changes(&self) -> Notifier {
        Notifier(self.tasks.subscribe())
    }
}

/// A task's means of waiting for changes.
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
    // The descriptor is the reading end of a pipe that nobody reads from.
    let watched = dup(stop.wake_fd()).map_err(std::io::Error::from).and_then(Receiver::from_owned_fd);
    match watched {
        Ok(fd) => {
            while !stop.requested() {
                if fd.readable().await.is_err() {
                    break;
                }
                // The pipe is closed, but the flag is not set yet: it will be at once.
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
