//! The stream: xbstream frames, member names, manifest and metadata members. Pure: bytes in, events out.
//!
//! The written specification is `proto/stream.md`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
