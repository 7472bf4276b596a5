//! The session of a line that may break: who may send, which bytes are safe, what became of it. Pure: messages and `now`
//! in, messages and events out.
//!
//! The written specification is `proto/session.md`, the schema of the control messages `proto/session.proto`.
//!
//! * The stream, with all its layers, is one numbered sequence of bytes. The [`sender`] keeps what is not known to be
//!   safe, the [`receiver`] says which [`ranges`] it holds, and after a cut only the rest is sent.
//! * The stranger who connects is told nothing: a [`ticket`] pins the listening end's certificate and is good for one
//!   session; that session's secret, chosen by the sender, is what proves a later connection to be the same sender.
//! * [`message`] and [`frame`] are what crosses the line; [`flow_control`] keeps little enough under way that a cut costs little;
//!   [`keep_alive`] finds out that nobody is there any more.
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

/// Version of the conversation.
pub const VERSION: u32 = 1;

/// Bytes of a session's secret.
pub const SECRET_LEN: usize = 32;

/// What is proved by it stays the same sender's.
pub type Secret = [u8; SECRET_LEN];

/// Timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Silence after which a sign of life is sent; three times as long a silence of the other side is its end.
    pub keepalive: Duration,
    /// Time that a session outlives its last connection.
    pub reconnect: Duration,
    /// Time that the first connection is tried.
    pub first: Duration,
    /// Time that a connection may take to become part of the session.
    pub handshake: Duration,
    /// Time that nobody may listen where the receiver did, at most as long as `reconnect`: nothing but refused connections
    /// means that its process has ended, and the session with it.
    pub refused: Duration,
    /// Time that the receiver waits, at most as long as `reconnect`, for the receipt of its verdict, whatever the sender does
    /// meanwhile: most often it has heard it, and only its receipt was lost.
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

/// The other side does what no sound program does. The connection is of no use; the session may be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message that has no place here.
    #[error("a {0} has no place here")]
    Misplaced(&'static str),
    /// The other side speaks another version.
    #[error("the other side speaks version {0} of the conversation, this one version {VERSION}")]
    Version(u32),
    /// A range that is empty, overlaps, or ends beyond what can be.
    #[error("bytes {start} to {end} can't be part of the stream")]
    Range {
        /// Its first byte.
        start: u64,
        /// The byte behind it.
        end: u64,
    },
    /// More ranges than a sound program makes.
    #[error("{0} ranges are more than can be")]
    Ranges(usize),
    /// Ranges that are not in order.
    #[error("the acknowledged ranges are not in order")]
    Disorder,
    /// The length of the stream changed, or is less than what came.
    #[error("the stream can't be {0} bytes long")]
    Total(u64),
    /// Something that was safe is not any more.
    #[error("what was safe up to byte {before} is said to be safe up to {now} only")]
    Forgotten {
        /// Said before.
        before: u64,
        /// Said now.
        now: u64,
    },
}
