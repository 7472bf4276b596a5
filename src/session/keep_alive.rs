//! Keep-alive: a ping is sent after a while of silence, and one that fails to come means that nobody is there any more.

use std::time::Duration;

/// Silence of so many keep-alive times is the end of a connection.
const SILENCE: u32 = 3;

/// The keep-alive state of one connection.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    keepalive: Duration,
    heard: Duration,
    spoke: Duration,
}

impl KeepAlive {
    /// A connection that stands since `now`.
    pub fn new(keepalive: Duration, now: Duration) -> KeepAlive {
        KeepAlive { keepalive, heard: now, spoke: now }
    }

    /// Something came.
    pub fn heard(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
    }

    /// Something was sent.
    pub fn spoke(&mut self, now: Duration) {
        self.spoke = self.spoke.max(now);
    }

    /// Whether a sign of life is due.
    pub fn must_speak(&self, now: Duration) -> bool {
        now >= self.spoke + self.keepalive
    }

    /// Whether the other side was silent for too long.
    pub fn is_dead(&self, now: Duration) -> bool {
        now >= self.heard + self.keepalive * SILENCE
    }

    /// When to look again.
    pub fn deadline(&self) -> Duration {
        (self.spoke + self.keepalive).min(self.heard + self.keepalive * SILENCE)
    }
}
