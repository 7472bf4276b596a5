//! # xbpipe: the manual for developers
//!
//! A hot-backup pair for MySQL: `xbsend` reads the datafiles of a running server while it tails the redo log
//! and writes one framed, checksummed stream; `xbrecv` takes that stream apart, verifies it, and leaves a
//! datadir that a server starts on.
//!
//! ## The way of the data
//!
//! ```text
//! source server ── SQL session: facts, locks, positions            source::{session, facts, locks, position}
//!   │  datafiles ── page reader (checksum, torn-page retry) ─┐     source::{discovery, pages}
//!   │  redo files ─ tailer (never throttled) ────────────────┼──►  source::tailer
//!   │  other files ─ copier (under a short lock) ────────────┘     source::copier
//!   └─ positions, metadata, manifest (last) ──► xbstream frames    stream::{frame, metadata, manifest}
//!                                                │
//! ═══════════════════════════════════ transport ═╪══════════════════════════════════════════════════════
//!                                                ▼
//!          demux + verify ──► files, written beside the target     stream::demux, target
//!                         └─► redo ──► `#innodb_redo`, recovery    prepare
//!          manifest check, fsync, rename into place                receive, target::staging
//! ```
//!
//! [`send`] and [`receive`] read, top to bottom, as that picture.
//!
//! ## Layers
//!
//! Each imports only downwards; `tests/layers.rs` fails on an upward import.
//!
//! `bin → cli → {send, receive} → {source, transport, target, prepare} → {stream, codec, throttle, innodb} → base`
//!
//! * `stream`, `codec`, `throttle` and `innodb` are pure: bytes (and `now`) in, bytes and events out. No file,
//!   socket, clock or thread. They do not import each other: a frame carries opaque bytes.
//! * `source`, `transport`, `target`, `prepare` do I/O and do not import each other.
//! * What differs between server families and redo formats is one value, [`base::format::Format`], chosen once.
//!
//! ## Errors
//!
//! Pure layers have their own error enums. Towards the user everything becomes one [`base::Error`]: a stable
//! code, what happened, where, and the way out.

pub mod base;

pub mod innodb;
pub mod stream;

pub mod prepare;
pub mod source;
pub mod target;
pub mod transport;

pub mod receive;
pub mod send;

pub mod cli;
