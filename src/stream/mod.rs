//! Defines the stream: xbstream frames, member names, digests, manifest and metadata members. The module is
//! pure: bytes in, events out.
//!
//! The written specification is `proto/stream.md`.
//!
//! * Writing: [`frame`] makes the headers that go before payload bytes; nothing is copied.
//! * Reading: [`demux::Demux`] turns bytes into [`chunk::Chunk`]s and ends of members, and refuses streams
//!   that break the format. It reads payload straight into the buffer that the chunk then owns.
//! * Verifying: [`digest`] gives every member a digest that can be computed block by block, in any order; the
//!   [`manifest`], last in the stream, lists the digests.
//! * [`delta`] is the layout of changed pages in an incremental backup; [`chain`] tells whether it fits its base.
//! * [`metadata`] holds the members that XtraBackup users' scripts read.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod chain;
pub mod chunk;
pub mod delta;
pub mod demux;
pub mod digest;
pub mod error;
pub mod frame;
mod header;
pub mod manifest;
pub mod metadata;
pub mod name;

pub use chunk::{Chunk, Event, Piece};
pub use demux::{Demux, Limits, MANIFEST_SHARE};
pub use error::{DemuxError, Fault};
pub use frame::Extent;
pub use manifest::{Manifest, ManifestError, ManifestMember, Received};
pub use name::{MemberName, NameError};
