//! Locks that the server holds for a backup, and how long it does.

use std::time::{Duration, Instant};

/// A lock on the server. It goes with the session that holds it, so a lost or killed backup leaves none behind.
#[derive(Debug)]
pub struct HeldLock {
    waited: Duration,
    taken: Instant,
}

impl HeldLock {
    /// A lock that was asked for at `asked` and is granted now.
    pub fn asked(asked: Instant) -> HeldLock {
        HeldLock { waited: asked.elapsed(), taken: Instant::now() }
    }

    /// Time that it was waited for, and how long it has been held.
    pub fn times(&self) -> LockTimes {
        LockTimes { waited: self.waited, held: self.taken.elapsed() }
    }
}

/// Time that a lock was waited for and held.
#[derive(Clone, Copy, Debug, Default)]
pub struct LockTimes {
    /// From asking to getting.
    pub waited: Duration,
    /// From getting to giving back.
    pub held: Duration,
}
