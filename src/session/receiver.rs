//! Implements the receiving side of a session.
//!
//! ```text
//!               Hello with the token          lost, silent
//!   Waiting ──────────────────────────► Up ◄──────────────► Down ──── for too long ────► Over
//!      │ Hello without: Refused,        │  Hello with the secret
//!      └─ and waits on                  └── Abort; receipt of the verdict ─────────────► Over
//! ```

use std::ops::Range;
use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::keep_alive::KeepAlive;
use super::message::{Doing, Failure, Held, Hello, Message, Ping, Reason, Refused, Verdict, Welcome};
use super::proof::{Proofs, Standing};
use super::ranges::{RANGES_MAX, Ranges};
use super::ticket::Token;
use super::{SECRET_LEN, Secret, Timeouts, VERSION, Violation, flow_control};

/// Number of bytes taken over after which an acknowledgement must be sent.
const ACK_BYTES: u64 = 128 << 10;
/// Maximum time for which bytes stay unacknowledged.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// Maximum distance from the first missing byte at which bytes are accepted.
pub const AHEAD_MAX: u64 = flow_control::CEILING + (8 << 20);

/// Number of a connection, given by the caller and never used twice.
pub type ConnectionId = u64;

/// The outcome of a session for its receiver.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The sender has received the verdict.
    Settled,
    /// The sender gave up.
    Aborted(Failure),
    /// The connection was lost and not restored within this time.
    Lost(Duration),
}

/// The receiving side of a session.
#[derive(Debug)]
pub struct Receiver {
    token: Option<Token>,
    patience: Timeouts,
    /// Secret of the sender that the session belongs to.
    secret: Option<Secret>,
    link: Option<(ConnectionId, KeepAlive)>,
    down_since: Duration,
    held: Ranges,
    total: Option<u64>,
    welcome: bool,
    told: u64,
    /// Time since when some byte is unacknowledged.
    untold_since: Option<Duration>,
    verdict: Option<Verdict>,
    tell_verdict: bool,
    /// Time since when the sender could have the verdict: when it was reached if there was a connection then,
    /// or else when the next one came.
    verdict_since: Option<Duration>,
    doing: Option<Doing>,
    outcome: Option<Outcome>,
    reconnects: u64,
    proofs: Proofs,
    /// What an increment is wanted of; empty for a full backup.
    base: String,
}

impl Receiver {
    /// Creates a session without a sender. Without a token, every peer that has a valid certificate may
    /// become its sender.
    pub fn new(token: Option<Token>, patience: Timeouts) -> Receiver {
        Receiver {
            token,
            patience,
            secret: None,
            link: None,
            down_since: Duration::ZERO,
            held: Ranges::default(),
            total: None,
            welcome: false,
            told: 0,
            untold_since: None,
            verdict: None,
            tell_verdict: false,
            verdict_since: None,
            doing: None,
            outcome: None,
            reconnects: 0,
            proofs: Proofs::default(),
            base: String::new(),
        }
    }

    /// Asks the sender for an increment of this backup.
    pub fn ask_for_increment(&mut self, base: String) {
        self.base = base;
    }

    /// Returns what is proved by the name that a peer asks for in the first packet.
    pub fn standing(&mut self, name: &str) -> Standing {
        self.proofs.standing(name, self.token.as_ref(), self.secret.as_ref())
    }

    /// Handles the greeting of a peer. If the peer is the session's sender, the session uses this connection
    /// from now on, and no other.
    ///
    /// # Errors
    /// The message to send to the peer before it is disconnected.
    pub fn hello(&mut self, now: Duration, connection: ConnectionId, hello: &Hello) -> Result<(), Refused> {
        let refused = |reason: Reason| Refused { reason: reason.into() };
        if hello.version != VERSION {
            return Err(refused(Reason::Version));
        }
        let Ok(secret) = <Secret>::try_from(hello.secret.as_slice()) else {
            return Err(refused(Reason::Token));
        };
        // Both are compared in any case, so that the time taken reveals nothing.
        let token = self.token.is_none_or(|token| token.is(&hello.token));
        let known = self.secret.unwrap_or([0; SECRET_LEN]).ct_eq(&secret);
        match self.secret {
            _ if !token => return Err(refused(Reason::Token)),
            Some(_) if !bool::from(known) => return Err(refused(Reason::Used)),
            _ if self.outcome.is_some() => return Err(refused(Reason::Over)),
            Some(_) => self.reconnects += 1,
            None => self.secret = Some(secret),
        }
        self.link = Some((connection, KeepAlive::new(self.patience.keepalive, now)));
        self.welcome = true;
        self.tell_verdict = self.verdict.is_some();
        if self.tell_verdict {
            self.verdict_since.get_or_insert(now);
        }
        Ok(())
    }

    /// Records that a connection is lost.
    pub fn lost(&mut self, now: Duration, connection: ConnectionId) {
        if self.is_current(connection) {
            self.link = None;
            self.down_since = now;
        }
    }

    /// Returns whether this connection is the session's.
    pub fn is_current(&self, connection: ConnectionId) -> bool {
        self.link.as_ref().is_some_and(|(current, _)| *current == connection)
    }

    /// Records that something was received, or that nothing could be because this side did not read.
    pub fn heard(&mut self, now: Duration) {
        if let Some((_, alive)) = &mut self.link {
            alive.heard(now);
        }
    }

    /// Handles a message from the session's connection.
    ///
    /// # Errors
    /// The connection is of no further use then.
    pub fn receive(&mut self, now: Duration, message: Message) -> Result<(), Violation> {
        self.heard(now);
        match message {
            Message::Finish(finish) => self.finish(finish.total)?,
            Message::Abort(why) if self.outcome.is_none() => {
                self.outcome = Some(Outcome::Aborted(why.sanitized()));
            }
            Message::Abort(_) | Message::Ping(_) => {}
            Message::Seen(_) if self.verdict.is_some() => self.outcome = Some(Outcome::Settled),
            other => return Err(Violation::Misplaced(other.name())),
        }
        Ok(())
    }

    fn finish(&mut self, total: u64) -> Result<(), Violation> {
        if self.total.is_some_and(|before| before != total) || total < self.held.end() {
            return Err(Violation::Total(total));
        }
        self.total = Some(total);
        Ok(())
    }

    /// Checks that the bytes of this range may be taken over: all of them are new, not too far ahead, and do
    /// not leave too many gaps.
    ///
    /// # Errors
    /// The connection is of no further use then.
    pub fn check(&self, range: &Range<u64>) -> Result<(), Violation> {
        let limit = self.total.unwrap_or(u64::MAX).min(self.held.upto().saturating_add(AHEAD_MAX));
        if self.held.count() >= RANGES_MAX && range.start != self.held.upto() {
            return Err(Violation::Ranges(RANGES_MAX));
        }
        match range.start < range.end && range.end <= limit && !self.held.touches(range) {
            true => Ok(()),
            false => Err(Violation::Range { start: range.start, end: range.end }),
        }
    }

    /// Records that these bytes are safe now; returns whether the sending task must be woken, to acknowledge
    /// them at once or soon.
    ///
    /// # Errors
    /// Those of [`Receiver::check`].
    pub fn took(&mut self, now: Duration, range: Range<u64>) -> Result<bool, Violation> {
        self.check(&range)?;
        self.heard(now);
        self.held.insert(range);
        let first = self.untold_since.is_none();
        self.untold_since.get_or_insert(now);
        Ok(first || self.held.total() - self.told >= ACK_BYTES || self.total == Some(self.held.upto()))
    }

    /// Sets the verdict on the stream, which the sender will be told.
    pub fn verdict(&mut self, now: Duration, failure: Option<Failure>) {
        if self.link.is_some() {
            self.verdict_since.get_or_insert(now);
        }
        self.verdict = Some(Verdict { failure });
        self.tell_verdict = true;
        self.doing = None;
    }

    /// Sets the receiver's progress, which the sender will be told.
    pub fn doing(&mut self, doing: Doing) {
        if self.verdict.is_none() {
            self.doing = Some(doing);
        }
    }

    /// Returns the next message to send on the session's connection.
    pub fn poll_message(&mut self, now: Duration) -> Option<Message> {
        let alive = self.link.as_ref()?.1;
        let message = self.next_message(now, alive)?;
        if let Some((_, alive)) = &mut self.link {
            alive.spoke(now);
        }
        Some(message)
    }

    fn next_message(&mut self, now: Duration, alive: KeepAlive) -> Option<Message> {
        if std::mem::take(&mut self.welcome) {
            self.acknowledged();
            return Some(Message::Welcome(Welcome {
                held: Some(Held::tell(&self.held)),
                base: self.base.clone(),
            }));
        }
        // The verdict on a whole stream is sent after the acknowledgement of its last byte.
        let all = self.total == Some(self.held.upto());
        let due = self.held.total() - self.told >= ACK_BYTES
            || self.untold_since.is_some_and(|since| all || now >= since + ACK_DELAY);
        if due {
            self.acknowledged();
            return Some(Message::Ack(Held::tell(&self.held)));
        }
        if std::mem::take(&mut self.tell_verdict) {
            return self.verdict.clone().map(Message::Verdict);
        }
        if let Some(doing) = self.doing.take() {
            return Some(Message::Doing(doing));
        }
        alive.must_speak(now).then_some(Message::Ping(Ping {}))
    }

    fn acknowledged(&mut self) {
        self.told = self.held.total();
        self.untold_since = None;
    }

    /// Handles the passing of time. Returns whether the connection was given up just now.
    pub fn tick(&mut self, now: Duration) -> bool {
        if self.link.as_ref().is_some_and(|(_, alive)| alive.is_dead(now)) {
            self.link = None;
            self.down_since = now;
            return true;
        }
        if self.outcome.is_none()
            && let Some((end, patience)) = self.end()
            && now >= end
        {
            self.outcome = Some(Outcome::Lost(patience));
        }
        false
    }

    /// Returns when waiting for the sender ends, and how long the wait is: for its return, or for its
    /// receipt. A peer that holds the ticket and knows the verdict can't prolong it by pings or new
    /// connections.
    fn end(&self) -> Option<(Duration, Duration)> {
        let receipt = self.patience.receipt.min(self.patience.reconnect);
        match (self.verdict_since, &self.link, self.secret) {
            (Some(since), ..) => Some((since + receipt, receipt)),
            (None, None, Some(_)) => {
                Some((self.down_since + self.patience.reconnect, self.patience.reconnect))
            }
            _ => None,
        }
    }

    /// Returns when to call [`Receiver::tick`] and [`Receiver::poll_message`] at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        let end = self.end().map(|(end, _)| end);
        match &self.link {
            _ if self.outcome.is_some() => None,
            Some((_, alive)) => {
                let ack = self.untold_since.map_or(Duration::MAX, |since| since + ACK_DELAY);
                Some(alive.deadline().min(ack).min(end.unwrap_or(Duration::MAX)))
            }
            None => end,
        }
    }

    /// Returns the offset below which all bytes have been received.
    pub fn held_upto(&self) -> u64 {
        self.held.upto()
    }

    /// Returns the length of the stream, once it is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Returns the outcome, once there is one.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Returns whether a sender was ever admitted.
    pub fn has_begun(&self) -> bool {
        self.secret.is_some()
    }

    /// Returns the number of connections after the first.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }
}
