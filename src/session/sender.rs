//! Implements the sending side of a session.
//!
//! ```text
//!            connected          Welcome
//!   Down ───────────────► Greeting ─────► Up ──── Verdict, Refused, abort ────► Over
//!    ▲ │ tried, or refused,   │            │
//!    │ │ for too long         │            │
//!    │ └─► Over               │            │
//!    └──── lost, silent ◄─────┴────────────┘
//! ```

use std::ops::Range;
use std::time::Duration;

use super::flow_control::FlowControl;
use super::keep_alive::KeepAlive;
use super::message::{BASE_MAX, Doing, Failure, Finish, Hello, Message, Ping, Reason, Seen};
use super::proof::{self, Nonce};
use super::ranges::{RANGES_MAX, Ranges};
use super::ticket::Token;
use super::{Secret, Timeouts, VERSION, Violation, backoff};

/// Number of keep-alive times after which a connection counts as useful, even if nothing was sent on it:
/// twice as many as those of a connection on which nothing was heard.
const LASTING: u32 = 6;

/// The outcome of a session for its sender.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The receiver has verified the stream, prepared it, and put it in place.
    Done,
    /// The receiver failed.
    Failed(Failure),
    /// The receiver rejects this sender.
    Refused(Reason),
    /// The connection could not be restored within this time.
    Lost(Duration),
    /// The receiver's process has ended: for this time nobody has listened at its address, or another process
    /// does.
    Gone(Duration),
    /// This side gave up.
    Aborted,
}

#[derive(Debug)]
enum Link {
    Down { since: Duration, attempts: u32, retry: Duration },
    Greeting { down_since: Duration, attempts: u32, since: Duration },
    Up { alive: KeepAlive, trouble: Trouble },
}

/// The time since when no connection has been useful, and the number of attempts since then. A connection on
/// which a receiver admits this side and disconnects it at once, over and over, is not useful.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    down_since: Duration,
    attempts: u32,
    up_since: Duration,
    /// Number of bytes that were safe when the connection became the session's.
    held: u64,
}

/// The sending side of a session.
#[derive(Debug)]
pub struct Sender {
    token: Option<Token>,
    secret: Secret,
    patience: Timeouts,
    link: Link,
    was_up: bool,
    /// Number of bytes that were written so far.
    written: u64,
    finished: bool,
    /// Bytes that are safe.
    held: Ranges,
    /// Offset of the next byte to give to this connection.
    cursor: u64,
    /// Offset below which all bytes were given to some connection.
    high: u64,
    resent: u64,
    reconnects: u64,
    pace: FlowControl,
    greet: bool,
    tell_finish: bool,
    abort: Option<Failure>,
    seen: bool,
    outcome: Option<Outcome>,
    doing: Option<Doing>,
    /// What the receiver wants an increment of, as its first welcome says.
    base: Option<String>,
    /// Time since when every attempt to connect has found nobody listening.
    refused_since: Option<Duration>,
}

impl Sender {
    /// Creates a session that begins at `now` without a connection.
    pub fn new(token: Option<Token>, secret: Secret, patience: Timeouts, now: Duration) -> Sender {
        Sender {
            token,
            secret,
            patience,
            link: Link::Down { since: now, attempts: 0, retry: now },
            was_up: false,
            written: 0,
            finished: false,
            held: Ranges::default(),
            cursor: 0,
            high: 0,
            resent: 0,
            reconnects: 0,
            pace: FlowControl::default(),
            greet: false,
            tell_finish: false,
            abort: None,
            seen: false,
            outcome: None,
            doing: None,
            base: None,
            refused_since: None,
        }
    }

    /// Returns what the receiver wants an increment of; empty for a full backup, and before it is known.
    pub fn base(&self) -> &str {
        self.base.as_deref().unwrap_or_default()
    }

    /// Returns when to connect next; `None` while connected, or when the session is over.
    pub fn connect_at(&self) -> Option<Duration> {
        match self.link {
            Link::Down { retry, .. } if self.outcome.is_none() => Some(retry),
            _ => None,
        }
    }

    /// Records that a connection was established: the other side has proved who it is, this side has not yet.
    pub fn connected(&mut self, now: Duration) {
        if let Link::Down { since, attempts, .. } = self.link {
            self.link = Link::Greeting { down_since: since, attempts, since: now };
            self.greet = true;
        }
    }

    /// Records that no connection could be made: the receiver's machine answers, but nobody listens there, or
    /// another process does.
    pub fn refused(&mut self, now: Duration, random: u64) {
        let since = *self.refused_since.get_or_insert(now);
        self.down(now, random);
        let patience = self.patience.refused.min(self.patience.reconnect);
        if self.was_up && now >= since + patience && self.outcome.is_none() {
            self.outcome = Some(Outcome::Gone(patience));
        }
    }

    /// Records that the connection is lost, or that none could be made. `random` spreads attempts in time.
    pub fn lost(&mut self, now: Duration, random: u64) {
        self.refused_since = None;
        self.down(now, random);
    }

    fn down(&mut self, now: Duration, random: u64) {
        let (since, attempts) = match self.link {
            Link::Down { since, attempts, .. } => (since, attempts + 1),
            Link::Greeting { down_since, attempts, .. } => (down_since, attempts + 1),
            Link::Up { trouble, .. } if self.is_useless(&trouble, now) => {
                // Only the time without a connection counts.
                let before = trouble.up_since.saturating_sub(trouble.down_since);
                (now.saturating_sub(before), trouble.attempts + 1)
            }
            Link::Up { .. } => (now, 0),
        };
        self.link = Link::Down { since, attempts, retry: now + backoff::delay(attempts, random) };
        self.pace.lost();
        self.tick(now);
    }

    /// Returns whether a connection that was lost was useless: no more bytes have become safe, and it did not
    /// last.
    fn is_useless(&self, trouble: &Trouble, now: Duration) -> bool {
        self.held.total() == trouble.held && now < trouble.up_since + self.patience.keepalive * LASTING
    }

    /// Returns the name to ask the receiver for, which proves to it who this is.
    pub fn proof(&self, nonce: Nonce) -> String {
        proof::name(nonce, self.token.as_ref(), &self.secret)
    }

    /// Records that there are `len` more bytes to send.
    pub fn write(&mut self, len: u64) {
        self.written += len;
    }

    /// Records that the stream is complete.
    pub fn finish(&mut self) {
        self.finished = true;
        self.tell_finish = true;
    }

    /// Gives up before the end of the stream; tells the receiver why, if it can be told.
    pub fn abort(&mut self, why: Failure) {
        if self.outcome.is_none() {
            self.abort = Some(why);
            self.outcome = Some(Outcome::Aborted);
        }
    }

    /// Handles a message from the receiver.
    ///
    /// # Errors
    /// The connection is of no further use then.
    pub fn receive(&mut self, now: Duration, message: Message) -> Result<(), Violation> {
        if self.outcome.is_some() {
            return Ok(());
        }
        if let Link::Up { alive, .. } = &mut self.link {
            alive.heard(now);
        }
        match (&self.link, message) {
            (Link::Greeting { .. }, Message::Welcome(welcome)) => {
                if welcome.base.len() > BASE_MAX {
                    return Err(Violation::Base(welcome.base.len()));
                }
                let held = welcome.held.unwrap_or_default().ranges(self.high)?;
                self.base.get_or_insert(welcome.base);
                self.welcome(now, held)?;
            }
            (Link::Greeting { .. }, Message::Refused(refused)) => {
                self.outcome = Some(Outcome::Refused(refused.reason()));
            }
            (Link::Up { .. }, Message::Ack(held)) => {
                let held = held.ranges(self.high)?;
                self.take(now, &held)?;
            }
            (Link::Up { .. }, Message::Verdict(verdict)) => self.verdict(verdict.failure)?,
            (Link::Up { .. }, Message::Doing(doing)) => self.doing = Some(doing),
            (Link::Up { .. }, Message::Ping(_)) => {}
            (_, other) => return Err(Violation::Misplaced(other.name())),
        }
        Ok(())
    }

    fn welcome(&mut self, now: Duration, held: Ranges) -> Result<(), Violation> {
        if held.upto() < self.held.upto() {
            // The receiver accepts our secret, but lacks the bytes it had acknowledged: it is another
            // process, started anew, and takes us for its first sender.
            self.outcome = Some(Outcome::Gone(Duration::ZERO));
            return Ok(());
        }
        self.take(now, &held)?;
        self.refused_since = None;
        self.reconnects += u64::from(self.was_up);
        self.was_up = true;
        let (down_since, attempts) = match self.link {
            Link::Greeting { down_since, attempts, .. } => (down_since, attempts),
            _ => (now, 0),
        };
        let trouble = Trouble { down_since, attempts, up_since: now, held: self.held.total() };
        self.link = Link::Up { alive: KeepAlive::new(self.patience.keepalive, now), trouble };
        self.cursor = self.held.upto();
        self.tell_finish = self.finished;
        Ok(())
    }

    fn take(&mut self, now: Duration, held: &Ranges) -> Result<(), Violation> {
        if held.upto() < self.held.upto() {
            return Err(Violation::Forgotten { before: self.held.upto(), now: held.upto() });
        }
        let before = self.held.total();
        self.held.merge(held);
        if self.held.count() > RANGES_MAX {
            return Err(Violation::Ranges(self.held.count()));
        }
        let more = self.held.total() - before;
        if more > 0 {
            self.pace.acked(now, more);
        }
        Ok(())
    }

    fn verdict(&mut self, failure: Option<Failure>) -> Result<(), Violation> {
        self.outcome = Some(match failure {
            Some(failure) => Outcome::Failed(failure.sanitized()),
            None if self.finished && self.held.upto() == self.written => Outcome::Done,
            None => return Err(Violation::Misplaced("verdict of a stream that is not whole")),
        });
        self.seen = true;
        Ok(())
    }

    /// Returns the next message to send.
    pub fn poll_message(&mut self, now: Duration) -> Option<Message> {
        let message = self.next_message(now)?;
        if let Link::Up { alive, .. } = &mut self.link {
            alive.spoke(now);
        }
        Some(message)
    }

    fn next_message(&mut self, now: Duration) -> Option<Message> {
        if std::mem::take(&mut self.greet) {
            return Some(Message::Hello(Hello {
                version: VERSION,
                token: self.token.map_or_else(Vec::new, |t| t.0.to_vec()),
                secret: self.secret.to_vec(),
            }));
        }
        let Link::Up { alive, .. } = &self.link else { return None };
        if let Some(why) = self.abort.take() {
            return Some(Message::Abort(why));
        }
        if std::mem::take(&mut self.seen) {
            return Some(Message::Seen(Seen {}));
        }
        if self.outcome.is_some() {
            return None;
        }
        if std::mem::take(&mut self.tell_finish) {
            return Some(Message::Finish(Finish { total: self.written }));
        }
        alive.must_speak(now).then_some(Message::Ping(Ping {}))
    }

    /// Returns the range of the next bytes to send. From an offset on, it holds at most as many bytes as
    /// `max` returns for it.
    pub fn poll_segment(&mut self, now: Duration, max: impl Fn(u64) -> u64) -> Option<Range<u64>> {
        let Link::Up { alive, .. } = &mut self.link else { return None };
        if self.outcome.is_some() || !self.pace.allows() {
            return None;
        }
        let gap = self.held.gap(self.cursor)?;
        let end = gap.end.min(self.written).min(gap.start.saturating_add(max(gap.start)));
        if gap.start >= end {
            return None;
        }
        alive.spoke(now);
        self.pace.sent(now, end - gap.start);
        self.resent += end.min(self.high).saturating_sub(gap.start);
        self.cursor = end;
        self.high = self.high.max(end);
        Some(gap.start..end)
    }

    /// Handles the passing of time. Returns whether the connection is to be given up.
    pub fn tick(&mut self, now: Duration) -> bool {
        let (since, patience) = match &self.link {
            Link::Up { alive, .. } => return alive.is_dead(now),
            Link::Greeting { down_since, .. } => (*down_since, self.patience()),
            Link::Down { since, .. } => (*since, self.patience()),
        };
        if now >= since + patience && self.outcome.is_none() {
            self.outcome = Some(Outcome::Lost(patience));
        }
        match self.link {
            Link::Greeting { since, .. } => self.outcome.is_some() || now >= since + self.patience.handshake,
            _ => false,
        }
    }

    fn patience(&self) -> Duration {
        if self.was_up { self.patience.reconnect } else { self.patience.first }
    }

    /// Returns when to call [`Sender::tick`] and [`Sender::poll_message`] at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        if self.outcome.is_some() {
            return None;
        }
        Some(match &self.link {
            Link::Up { alive, .. } => alive.deadline(),
            Link::Greeting { down_since, since, .. } => {
                (*since + self.patience.handshake).min(*down_since + self.patience())
            }
            Link::Down { since, retry, .. } => (*retry).min(*since + self.patience()),
        })
    }

    /// Returns the offset below which all bytes are safe and need not be kept.
    pub fn released(&self) -> u64 {
        self.held.upto()
    }

    /// Returns the outcome, once there is one.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Returns whether the other side has been told everything about the end.
    pub fn is_told(&self) -> bool {
        self.outcome.is_some() && !self.seen && (self.abort.is_none() || !self.is_up())
    }

    /// Returns whether the present connection belongs to the session.
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Returns whether there ever was a connection that belonged to the session.
    pub fn was_up(&self) -> bool {
        self.was_up
    }

    /// Returns the number of bytes that were sent again on another connection.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// Returns the number of connections after the first.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Returns the progress that the receiver reported last.
    pub fn doing(&self) -> Option<&Doing> {
        self.doing.as_ref()
    }
}
