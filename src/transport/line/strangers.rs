//! Those who have connected and not yet shown who they are: a few at a time, for a short time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::task::AbortHandle;

/// So many at a time.
pub(super) const STRANGERS_MAX: usize = 32;

/// The strangers at the door. One too many takes the place of whoever has stood there longest: so nobody can keep the right
/// one out by standing there.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<VecDeque<(u64, AbortHandle)>>);

impl Strangers {
    /// Somebody comes.
    pub(super) fn come(&self, id: u64, task: AbortHandle) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, task)| !task.is_finished());
        if all.len() >= STRANGERS_MAX
            && let Some((_, longest)) = all.pop_front()
        {
            longest.abort();
        }
        all.push_back((id, task));
    }

    /// Somebody is no stranger any more.
    pub(super) fn go(&self, id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != id);
    }
}
