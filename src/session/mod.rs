//! Implements the protocol of a session, which survives lost connections: it decides who may send, which
//! bytes are safe, and what the result is. The module is pure: messages and `now` go in, messages and events
//! come out.
//!
//! The written specification is `proto/session.md`; the schema of the control messages is
//! `proto/session.proto`.
//!
//! * The stream, with all its layers, is one numbered sequence of bytes. The [`sender`] keeps the bytes that
//!   are not known to be safe, the [`receiver`] says which [`ranges`] it holds, and after a lost connection
//!   only the rest is sent.
//! * An unauthenticated peer that connects is told nothing. A [`ticket`] pins the listening end's certificate
//!   and is valid for one session. That session's secret, which the sender chooses, proves that a later
//!   connection comes from the same sender.
//! * [`message`] and [`frame`] define the data that crosses the network. [`flow_control`] keeps so few bytes
//!   in flight that losing a connection costs little. [`keep_alive`] notices when the other side is gone.
//!
//! Time is a [`Duration`] since some moment of the caller's choice.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backoff;
pub mod flow_control;
pub mod frame;
#[cfg(test)]
mod hostile_tests;
pub mod keep_alive;
pub mod message;
pub mod proof;
pub mod ranges;
pub mod receiver;
pub mod sender;
#[cfg(test)]
mod tests;
pub mod ticket;

pub use frame::{Frame, FrameError, Frames};
pub use message::{Failure, Message};
pub use proof::Standing;
pub use ranges::Ranges;
pub use receiver::Receiver;
pub use sender::Sender;
pub use ticket::Ticket;

use std::time::Duration;

/// Version of the protocol.
pub const VERSION: u32 = 1;

/// Length in bytes of a session's secret.
pub const SECRET_LEN: usize = 32;

/// The secret of a session: whoever knows it is the same sender as before.
pub type Secret = [u8; SECRET_LEN];

/// Timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Time of silence after which a ping is sent; if the other side is silent for three times as long, the
    /// connection is considered dead.
    pub keepalive: Duration,
    /// Time that a session outlives its last connection.
    pub reconnect: Duration,
    /// Time for which the first connection is tried.
    pub first: Duration,
    /// Time that a connection may take to become part of the session.
    pub handshake: Duration,
    /// Time for which it is accepted that nobody listens at the receiver's address, at most as long as
    /// `reconnect`: if all connections are refused, the receiver's process has ended, and the session with
    /// it.
    pub refused: Duration,
    /// Time that the receiver waits for the receipt of its verdict, at most as long as `reconnect`, whatever
    /// the sender does meanwhile: most often the sender has received the verdict, and only its receipt was
    /// lost.
    pub receipt: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            keepalive: Duration::from_secs(5),
            reconnect: Duration::from_secs(300),
            first: Duration::from_secs(15),
            handshake: Duration::from_secs(10),
            refused: Duration::from_secs(30),
            receipt: Duration::from_secs(15),
        }
    }
}

/// Error: the other side does something that no correct program does. The connection is then of no further
/// use; the session may be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The message is not allowed in this state.
    #[error("a {0} has no place here")]
    Misplaced(&'static str),
    /// The range is empty, overlaps others, or ends beyond the possible end.
    #[error("bytes {start} to {end} can't be part of the stream")]
    Range {
        /// Offset of its first byte.
        start: u64,
        /// Offset of the byte behind it.
        end: u64,
    },
    /// There are more ranges than a correct program makes.
    #[error("{0} ranges are more than can be")]
    Ranges(usize),
    /// The description of a base is too long.
    #[error("{0} bytes are too many to describe a backup")]
    Base(usize),
    /// The ranges are not in order.
    #[error("the acknowledged ranges are not in order")]
    Disorder,
    /// The length of the stream changed, or is less than the number of bytes received.
    #[error("the stream can't be {0} bytes long")]
    Total(u64),
    /// Bytes that were acknowledged as safe are not any more.
    #[error("what was safe up to byte {before} is said to be safe up to {now} only")]
    Forgotten {
        /// Offset said before.
        before: u64,
        /// Offset said now.
        now: u64,
    },
}
