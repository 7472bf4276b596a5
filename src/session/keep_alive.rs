//! Keeps a connection alive: a ping is due after a time of silence, and the connection is considered dead if
//! the other side is silent for too long.

use std::time::Duration;

/// Number of keep-alive times of silence after which a connection is considered dead.
const SILENCE: u32 = 3;

/// The keep-alive state of one connection.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    keepalive: Duration,
    heard: Duration,
    spoke: Duration,
}

impl KeepAlive {
    /// Creates the state of a connection that was established at `now`.
    pub fn new(keepalive: Duration, now: Duration) -> KeepAlive {
        KeepAlive { keepalive, heard: now, spoke: now }
    }

    /// Records that something was received.
    pub fn heard(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
    }

    /// Records that something was sent.
    pub fn spoke(&mut self, now: Duration) {
        self.spoke = self.spoke.max(now);
    }

    /// Returns whether a ping is due.
    pub fn must_speak(&self, now: Duration) -> bool {
        now >= self.spoke + self.keepalive
    }

    /// Returns whether the other side has been silent for too long.
    pub fn is_dead(&self, now: Duration) -> bool {
        now >= self.heard + self.keepalive * SILENCE
    }

    /// Returns when to check again.
    pub fn deadline(&self) -> Duration {
        (self.spoke + self.keepalive).min(self.heard + self.keepalive * SILENCE)
    }
}
