//! What carries the stream: pipes now, TCP and QUIC later.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod outlet;
pub mod stdin;
pub mod stdout;

pub use outlet::Outlet;
