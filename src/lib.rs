//! # xbpipe: the manual for developers
//!
//! A hot-backup pair for MySQL: `xbsend` reads the datafiles of a running server while it tails the redo log
//! and writes one framed, checksummed stream; `xbrecv` takes that stream apart, verifies it, and leaves a
//! datadir that a server starts on.
//!
//! ## The way of the data
//!
//! ```text
//! source server ── SQL session: facts, locks, positions            source::{session, session_variables, facts, locks, position}
//!   │  datafiles ── page reader (checksum, torn-page retry) ─┐     source::{discovery, pages}
//!   │  redo files ─ tailer (never throttled) ────────────────┼──►  source::tailer
//!   │  other files ─ copier (under a short lock) ────────────┘     source::copier
//!   └─ positions, metadata, manifest (last) ──► xbstream frames    stream::{frame, metadata, manifest}
//!                                                │
//! ═══════════════════════════════════ transport ═╪══════════════════════════════════════════════════════
//!                                                ▼
//!          demux + verify ──► files, written beside the target     stream::demux, target
//!                         └─► redo ──► applied to the pages        prepare::native
//!          manifest check, fsync, rename into place                receive, restore::staging
//! ```
//!
//! [`send`] and [`receive`] read, top to bottom, as that picture.
//!
//! ## Layers
//!
//! Each imports only downwards; `tests/it/layers.rs` fails on an upward import.
//!
//! `bin → cli → {send, receive} → {source, transport, target, prepare} → {stream, codec, session, throttle, innodb} → base`
//!
//! * `stream`, `codec`, `session`, `throttle` and `innodb` are pure: bytes (and `now`) in, bytes and events out. No file,
//!   socket, clock or thread. They do not import each other: a frame carries opaque bytes.
//! * `source`, `transport`, `target`, `prepare` do I/O and do not import each other.
//! * What differs between server families and redo formats is one value, [`base::format::Format`], chosen once.
//!
//! ## Why a copy is consistent
//!
//! 1. `LOCK INSTANCE FOR BACKUP` first: no DDL from here on, so no sorted index build writes pages without redo
//!    (`INDEX_LOAD`), no file is made, renamed or dropped, and on 9.7 no undo tablespace is truncated. What happened
//!    before, back to the checkpoint, is in the redo and is followed by the receiver ([`prepare`]).
//! 2. The redo consumer is registered, then the newest checkpoint is read from the redo files
//!    ([`source::tailer`]). All changes below it are in the datafiles already. Blocks are passed on only when they
//!    will never change again; a block whose number or file header says that it was overwritten ends the backup.
//! 3. Pages are verified while they are read ([`source::pages`]). A page that a write of the server tears is read
//!    again; whatever it was in between, the redo above the checkpoint brings it up to date.
//! 4. Tables of other engines are flushed and locked by name, copied, and stay locked until the cut.
//! 5. The cut ([`source::backup_position`]): the tailer is paused, `log_status` gives LSN, binlog position and GTID set, and the
//!    tailer goes on to just that LSN: the last block is cut there ([`innodb::redo::block::cut`]). So no transaction that
//!    committed later is in the copy.
//! 6. Transactions that are in the binlog's prefix but only prepared in InnoDB at that LSN are settled by the server that
//!    recovers the copy: the last binlog file travels, up to the position. The recorded GTID set is completed from
//!    that file ([`source::binlog`]), because `log_status` may lack XA statements in the middle of a group commit.
//! 7. The manifest, last, lists every member with size and digest. A stream without it is no backup to anybody.
//!
//! ## How threads share the work
//!
//! A reading thread takes a block of a datafile and a ticket, reads, verifies and hashes into its own buffer, and
//! writes it itself when its ticket's turn comes ([`transport::stream_writer`]): no queue, no copy, one buffer a thread. Redo
//! goes out between turns; what the line is too slow for is spooled ([`source::spool`]), so that the tailer never waits
//! for the line. The main thread talks to the server meanwhile and notices a lost session; another, with a session of its own, is
//! the redo consumer ([`source::consumer`]). Whatever fails, the server gets back what it holds before any thread is waited for. With `--throttle` reading threads wait for leave before each block ([`throttle`] decides, from what
//! [`source::load_sampler`] saw of the server; with `auto` one small read is under way at a time, [`source::low_priority_reads`]). The first
//! failure of any thread closes the stream writer, and everybody gives up.
//!
//! ## Layers around the stream
//!
//! Compression and encryption ([`codec`], `proto/layers.md`) are made by the same threads, between reading and writing: frames before
//! a thread's turn; chunks of the age format after a first, short turn that settles what of the stream they hold, and before a second
//! in which they are written. Frames and chunks can be undone by any thread: the receiver has one stage of threads for each layer it finds,
//! between the line and the demultiplexer. Nothing is passed on that was not authenticated.
//!
//! ## How a line survives a cut
//!
//! Below all layers the stream is one numbered sequence of bytes ([`session`]). [`transport::network`] keeps what the receiver
//! has not acknowledged in a window; the threads that write see a sink that is full now and then, those that read an
//! stream reader that is empty, and neither knows of connections. When one is lost, the window stays full and reading datafiles
//! stalls by that, while redo goes on into the spool, which is bounded; the next connection's greeting proves the same
//! session by its secret and learns what is held. How much is under way is held down to what the line holds ([`session::flow_control`]):
//! the kernel's buffers would else make every cut cost megabytes. The state machines of both sides are pure and tested under
//! random cuts and reorderings; `proto/session.md` has them written down.
//!
//! ## How redo gets into pages
//!
//! A copy is a set of pages of different moments. What brings them to the same one is the redo from the checkpoint on, which
//! [`prepare::native`] applies as a server's crash recovery would, up to but without the rollback. It begins while the
//! stream arrives: a thread reads the redo behind those who write it and keeps its records by page; a page that lands gets
//! those that came before it while it is in memory, and its LSN tells which later ones it will not need. What is left at the
//! end is the redo of pages that landed before it: it is applied in parallel, each page read and written once. That module's
//! documentation says what is deliberately not applied, where pages differ from the server's own, and how all is proved.
//!
//! ## Paths on the receiving side
//!
//! A name that came from elsewhere (a stream, metadata, redo, a folder's entries) is a [`stream::MemberName`] or a [`base::Confined`]
//! before it is joined to anything: it can't lead upwards. `target` and `prepare` reach files through [`base::nofollow`] alone, which
//! follows no link and works from descriptors of the folders that a run holds (`tests/it/layers.rs` has the list of exceptions).
//!
//! ## Memory
//!
//! What a stream makes us keep (names, texts, lists) is charged to one [`base::budget::Budget`] before it is taken; over it the
//! stream is refused with [`base::Code::TooLarge`]. It has a quarter of `--use-memory`, redo records and their application have the
//! rest ([`base::budget::Shares`]) and go through a file beyond that; buffers are bounded by the number of threads.
//!
//! | What grows with what comes | Bound |
//! |---|---|
//! | names and sizes of members, digests | the budget ("the list of members") |
//! | metadata members | 16 MiB each ([`stream::metadata::METADATA_MAX`]), and the budget |
//! | the manifest | 256 MiB ([`stream::manifest::MANIFEST_MAX`]), and the budget |
//! | the payload of one chunk | 128 MiB ([`stream::frame::PAYLOAD_MAX`]), and the budget; of all chunks in hand 64 MiB |
//! | pieces and holes of one chunk | 65,536 ([`stream::frame::EXTENTS_MAX`]) |
//! | layers around a stream | 4, whose windows have 137 MiB together; 64 MiB without content |
//! | hardening of a passphrase | what `--use-memory` leaves, at most work factor 22 |
//! | one mini-transaction | 64 MiB ([`innodb::redo::MINI_TRANSACTION_MAX`]) and 524,288 records, and the budget |
//! | events of files, counters, growth of tablespaces in redo | the budget; 100,000 files that redo changes |
//! | redo records of pages | `--use-memory`, then a spill file |
//! | descriptions of indexes | 4 MiB ([`innodb::redo::IndexList`]); more stay in their records |
//! | a connection before its proof | 256 bytes of greeting; 384 connections over TCP, 512 over QUIC |
//! | a session: data that came too early, or waits | 32 MiB, 8 MiB; 65,536 gaps |
//! | texts that are shown or logged | 160 characters, 4,096 of a path, 8,192 of a message ([`base::show`]) |
//!
//! ## Errors
//!
//! Pure layers have their own error enums. Towards the user everything becomes one [`base::Error`]: a stable
//! code, what happened, where, and the way out.

pub mod base;

pub mod codec;
pub mod innodb;
pub mod session;
pub mod stream;
pub mod throttle;

pub mod prepare;
pub mod restore;
pub mod source;
pub mod transport;

pub mod family;

pub mod receive;
pub mod send;

pub mod cli;
