//! The two ends of a stream as the command line sees them: where it goes, and where it comes from.
//!
//! A scheme (a pipe, the network, object storage some day) implements one trait for each end, and has a row in the command line's
//! table of schemes.

use super::StreamReader;
use super::network::NetworkFacts;
use super::stream_writer::Sink;
use crate::base::{Error, Result};

/// Where a stream goes.
pub trait Destination {
    /// What the stream is written into. It is asked for once.
    ///
    /// # Errors
    /// Where nothing can be written there.
    fn sink(&mut self) -> Result<Box<dyn Sink>>;

    /// Tells the other side why the stream will not be finished, where it can be told.
    fn abandon(&self, _why: &Error) {}

    /// What there is to say of the connection in the end; `None` where there is none.
    fn facts(&self) -> Option<NetworkFacts> {
        None
    }
}

/// Where a stream comes from.
pub trait Origin {
    /// What the stream is read from. It is asked for once.
    ///
    /// # Errors
    /// Where nothing can be read there.
    fn stream_reader(&mut self) -> Result<Box<dyn StreamReader>>;

    /// What the user must run on the other side, where this side waits for it.
    fn invitation(&self) -> Option<Invitation> {
        None
    }

    /// Tells the sender how it ended. False where it could not be told.
    fn settle(&self, _failed: Option<&Error>) -> bool {
        true
    }

    /// What there is to say of the connection in the end; `None` where there is none.
    fn facts(&self) -> Option<NetworkFacts> {
        None
    }
}

/// How a sender finds this side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// Address that is listened on.
    pub local: String,
    /// What `xbsend --to` takes; it holds a secret.
    pub to: String,
}
