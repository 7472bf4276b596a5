//! The receiving side's part of a session.
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

/// Bytes that were taken over and not yet acknowledged, before they must be.
const ACK_BYTES: u64 = 128 << 10;
/// Time that bytes may stay unacknowledged.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// Bytes ahead of the first missing one that are taken at all.
pub const AHEAD_MAX: u64 = flow_control::CEILING + (8 << 20);

/// Number of a connection, given by the caller, never twice.
pub type ConnectionId = u64;

/// The outcome of a session for its receiver.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The sender has the verdict.
    Settled,
    /// The sender gave up.
    Aborted(Failure),
    /// The line was not mended for so long.
    Lost(Duration),
}

/// The receiving side of a session.
#[derive(Debug)]
pub struct Receiver {
    token: Option<Token>,
    patience: Timeouts,
    /// Of the sender that the session belongs to.
    secret: Option<Secret>,
    link: Option<(ConnectionId, KeepAlive)>,
    down_since: Duration,
    held: Ranges,
    total: Option<u64>,
    welcome: bool,
    told: u64,
    /// Since when something is not acknowledged.
    untold_since: Option<Duration>,
    verdict: Option<Verdict>,
    tell_verdict: bool,
    /// When the verdict was reached while there was a connection, or the next one came.
    verdict_since: Option<Duration>,
    doing: Option<Doing>,
    outcome: Option<Outcome>,
    reconnects: u64,
    proofs: Proofs,
}

impl Receiver {
    /// Nobody is there yet. Without a token, everybody that a certificate admitted may be the first.
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
        }
    }

    /// What the name that somebody asks for in the first packet proves.
    pub fn standing(&mut self, name: &str) -> Standing {
        self.proofs.standing(name, self.token.as_ref(), self.secret.as_ref())
    }

    /// Somebody says hello. If it is the session's sender, this is its connection from now on, and any other is not.
    ///
    /// # Errors
    /// What to tell it before it is sent away.
    pub fn hello(&mut self, now: Duration, connection: ConnectionId, hello: &Hello) -> Result<(), Refused> {
        let refused = |reason: Reason| Refused { reason: reason.into() };
        if hello.version != VERSION {
            return Err(refused(Reason::Version));
        }
        let Ok(secret) = <Secret>::try_from(hello.secret.as_slice()) else {
            return Err(refused(Reason::Token));
        };
        // Both are looked at in any case: how long it takes tells nothing.
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

    /// A connection is gone.
    pub fn lost(&mut self, now: Duration, connection: ConnectionId) {
        if self.is_current(connection) {
            self.link = None;
            self.down_since = now;
        }
    }

    /// Whether this connection is the session's.
    pub fn is_current(&self, connection: ConnectionId) -> bool {
        self.link.as_ref().is_some_and(|(current, _)| *current == connection)
    }

    /// Something came, or nothing could come because this side did not read.
    pub fn heard(&mut self, now: Duration) {
        if let Some((_, alive)) = &mut self.link {
            alive.heard(now);
        }
    }

    /// A message came on the session's connection.
    ///
    /// # Errors
    /// The connection is of no use then.
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

    /// Whether bytes of this range may be taken over: all of them are new, not too far ahead, and leave no gap too many.
    ///
    /// # Errors
    /// The connection is of no use then.
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

    /// These bytes are safe now; whether there is something to be said of it, at once or soon.
    ///
    /// # Errors
    /// As [`Receiver::check`].
    pub fn took(&mut self, now: Duration, range: Range<u64>) -> Result<bool, Violation> {
        self.check(&range)?;
        self.heard(now);
        self.held.insert(range);
        let first = self.untold_since.is_none();
        self.untold_since.get_or_insert(now);
        Ok(first || self.held.total() - self.told >= ACK_BYTES || self.total == Some(self.held.upto()))
    }

    /// Sets the verdict on the stream, for its sender.
    pub fn verdict(&mut self, now: Duration, failure: Option<Failure>) {
        if self.link.is_some() {
            self.verdict_since.get_or_insert(now);
        }
        self.verdict = Some(Verdict { failure });
        self.tell_verdict = true;
        self.doing = None;
    }

    /// Sets what the receiver is doing, for the sender.
    pub fn doing(&mut self, doing: Doing) {
        if self.verdict.is_none() {
            self.doing = Some(doing);
        }
    }

    /// The next message to send on the session's connection.
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
            return Some(Message::Welcome(Welcome { held: Some(Held::tell(&self.held)) }));
        }
        // The verdict on a whole stream comes behind the acknowledgement of its last byte.
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

    /// Looks at the clock. Whether the connection was given up just now.
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

    /// When the sender has been waited for long enough, and how long that was: for its return, or for its receipt. Who holds
    /// the ticket and knows the verdict can't keep this side by signs of life or by coming again.
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

    /// When to call [`Receiver::tick`] and [`Receiver::poll_message`] at the latest.
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

    /// All bytes below this are here.
    pub fn held_upto(&self) -> u64 {
        self.held.upto()
    }

    /// Length of the stream, once that is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The outcome.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Whether a sender was ever let in.
    pub fn has_begun(&self) -> bool {
        self.secret.is_some()
    }

    /// Connections after the first.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }
}
