//! The running server: SQL session, discovery, page readers, redo tailer, locks, positions.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
