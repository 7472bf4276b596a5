//! Defines the two ends of a stream as the command line sees them: the end that it is sent to, and the end
//! that it comes from.
//!
//! A scheme (a pipe, the network, object storage in the future) implements one trait for each end, and has a
//! row in the command line's table of schemes.

use super::StreamReader;
use super::stream_writer::Sink;
use crate::base::{Error, Result};

/// An end that a stream is sent to.
pub trait Destination {
    /// Opens the sink that the stream is written into. It is called once.
    ///
    /// # Errors
    /// If nothing can be written there.
    fn sink(&mut self) -> Result<Box<dyn Sink>>;

    /// Returns the description of the backup that the other side wants an increment of; `None` for a full backup.
    fn base(&self) -> Option<String> {
        None
    }

    /// Tells the other side why the stream will not be finished, if there is a way to tell it.
    fn abandon(&self, _why: &Error) {}

    /// Returns statistics of the connection for the summary; `None` if there is no connection.
    fn facts(&self) -> Option<ConnectionStatistics> {
        None
    }
}

/// An end that a stream is received from.
pub trait Origin {
    /// Opens the reader that the stream comes from. It is called once.
    ///
    /// # Errors
    /// If nothing can be read there.
    fn stream_reader(&mut self) -> Result<Box<dyn StreamReader>>;

    /// Returns the command to be run on the other side, if this side waits for a sender.
    fn invitation(&self) -> Option<Invitation> {
        None
    }

    /// Tells the sender how the run ended. Returns false if it could not be told.
    fn settle(&self, _failed: Option<&Error>) -> bool {
        true
    }

    /// Returns statistics of the connection for the summary; `None` if there is no connection.
    fn facts(&self) -> Option<ConnectionStatistics> {
        None
    }
}

/// Statistics of a connection, for the summary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectionStatistics {
    /// Number of connections after the first.
    pub reconnects: u64,
    /// Number of bytes that were sent again on another connection.
    pub resent: u64,
}

/// The invitation that this side prints for a sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// Address that this side listens on.
    pub local: String,
    /// Value for `xbsend --to`; it holds a secret.
    pub to: String,
}
