//! The two ends of a stream as the command line sees them: where it goes, and where it comes from.
//!
//! A scheme (a pipe, the network, object storage some day) implements one trait for each end, and has a row in the command line's
//! table of schemes.

use super::StreamReader;
use super::network::NetworkFacts;
use super::stream_writer::Sink;
use crate::base::{Error, Result};

/// An end that a stream is sent to.
pub trait Destination {
    /// Opens the sink that the stream is written into. It is asked for once.
    ///
    /// # Errors
    /// If nothing can be written there.
    fn sink(&mut self) -> Result<Box<dyn Sink>>;

    /// Tells the other side why the stream will not be finished, where it can be told.
    fn abandon(&self, _why: &Error) {}

    /// Statistics of the connection, for the summary; `None` where there is none.
    fn facts(&self) -> Option<NetworkFacts> {
        None
    }
}

/// An end that a stream is received from.
pub trait Origin {
    /// Opens the reader that the stream comes from. It is asked for once.
    ///
    /// # Errors
    /// If nothing can be read there.
    fn stream_reader(&mut self) -> Result<Box<dyn StreamReader>>;

    /// The command for the other side, where this side waits for it.
    fn invitation(&self) -> Option<Invitation> {
        None
    }

    /// Tells the sender how it ended. False where it could not be told.
    fn settle(&self, _failed: Option<&Error>) -> bool {
        true
    }

    /// Statistics of the connection, for the summary; `None` where there is none.
    fn facts(&self) -> Option<NetworkFacts> {
        None
    }
}

/// The invitation that this side prints for a sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// Address that is listened on.
    pub local: String,
    /// The value for `xbsend --to`; it holds a secret.
    pub to: String,
}
