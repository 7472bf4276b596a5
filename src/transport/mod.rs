//! Carries the stream over pipes, files, and the network.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod address;
mod ends;
pub mod network;
pub mod stdin;
pub mod stdout;
pub mod stream_reader;
pub mod stream_writer;

pub use address::Address;
pub use ends::{ConnectionStatistics, Destination, Invitation, Origin};
pub use stream_reader::StreamReader;
pub use stream_writer::{Lane, LayerOptions, StreamWriter};
