//! What carries the stream: pipes, files, and lines over the network.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod address;
pub mod inlet;
pub mod line;
pub mod outlet;
pub mod stdin;
pub mod stdout;
mod turnstile;

pub use address::Address;
pub use inlet::Inlet;
pub use outlet::{Lane, Outlet, Wraps};
