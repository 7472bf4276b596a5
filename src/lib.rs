//! # xbpipe: the manual for developers
//!
//! A hot-backup pair for MySQL: `xbsend` reads the datafiles of a running server while it tails the redo log
//! and writes one framed, checksummed stream; `xbrecv` takes that stream apart, verifies it, and leaves a
//! datadir that a server starts on.
//!
//! ## The sending side
//!
//! [`send`] reads, top to bottom, as this picture.
//!
//! ```text
//!                        send::run, on one SQL session that holds the locks      source::session
//!                          │ asks the server's family for each step              family::{Family, SourceServer}
//!   recognised? allowed? ──┤ examine                                             family::mysql8::{privileges, identity, …}
//!   no DDL from here on ───┤ lock_ddl                                            family::mysql8::locks
//!                          │
//!   redo files ──► tailer, a thread that is never throttled ──► spool ──┐        source::{tailer, spool}, family::mysql8::redo::files
//!                          │                                            │
//!   datafiles ──► reading threads: verify each page, read torn ones ────┤        source::pages (PageFormat, PageFilter, Keyring)
//!                          │ again, leave holes out                     │        send::datafiles
//!   other engines' files, under their short lock ───────────────────────┤        send::member_writer
//!                          │                                            ▼
//!   position: LSN, binlog, │                             frames, each in its turn     stream::frame, transport::stream_writer
//!   GTID set; redo to just ┤                                            │
//!   that LSN; unlock       │                            compress, encrypt, by the     codec
//!                          │                            same threads    │
//!   binlog's tail, metadata, manifest (last) ──────────────────────────►▼
//!                        send::closing_members          Destination: pipe, TCP, QUIC  transport::{stdout, network}, cli::schemes
//! ```
//!
//! ## The receiving side
//!
//! [`receive`] reads, top to bottom, as this picture.
//!
//! ```text
//!   Origin: pipe, TCP, QUIC             transport::{stdin, network}, cli::schemes
//!        │
//!   decrypt, decompress: a stage of     receive::{layers, decode}, codec
//!   threads for each layer found
//!        │
//!   demuxer: frames to chunks, names    stream::{demux, chunk, name}, receive::workers
//!   and sizes refused or charged
//!        ├── metadata, manifest ──────► kept and compared               receive::{stream_metadata, consistency}
//!        ├── datafiles ──► digest ──► pages get the redo that has come ──► staged files      prepare::native::streaming, restore
//!        └── redo ──► its file; a thread reads behind:                                       prepare::native::log::watermark
//!                  segments ──► parsed ──► store (by page range, spills) ──► merge           RedoFormat; prepare::native::{log, records}
//!                                                                              │
//!        manifest matches? all durable?                                        ▼
//!        │                                    pages read, records applied, pages written     prepare::native::pages, innodb::apply
//!        │                                                                     │
//!   the staging folder takes the              an empty redo log that a server starts on      family::mysql8::redo::empty_log
//!   target's place                      restore::staging
//! ```
//!
//! Where a redo record becomes a page change: [`innodb::redo`] reads it, [`innodb::apply`] applies it. Where a new thing goes:
//! `CONTRIBUTING.md` has a table.
//!
//! ## Layers
//!
//! Each imports only downwards, and no two files import each other; `tests/it/layers.rs` fails otherwise.
//!
//! `bin → cli → {send, receive} → family → {source, transport, restore, prepare} → {stream, codec, session, throttle, innodb} → base`
//!
//! * `stream`, `codec`, `session`, `throttle` and `innodb` are pure: bytes (and `now`) in, bytes and events out. No file,
//!   socket, clock or thread. They do not import each other: a frame carries opaque bytes.
//! * `source`, `transport`, `restore`, `prepare` do I/O and do not import each other. They know no server family.
//! * What differs between server families is behind traits that [`family`] implements, a folder for each:
//!   [`family::SourceServer`] (lock stages, discovery, redo log, position), [`innodb::page::PageFormat`] (layout, checksums),
//!   [`prepare::RedoFormat`] (how redo is found, cut, parsed, applied, and what an empty log looks like). What joins those who read
//!   redo and those who apply it is one type, [`prepare::native::ParsedSegment`]: runs of records by page, and events of files.
//! * Keys come in at one seam, [`innodb::encryption`]: a keyring gives the cipher of a tablespace or of the redo log by what stands in
//!   its page 0 or file header. [`prepare::native`] decrypts what it reads and encrypts what it writes, spill and journal included. Which pages travel is decided at another, [`source::page_filter`].
//!
//! ## Increments and partial backups
//!
//! [`stream::chain`] says when an increment fits its base: by server, redo log, identity and LSN. The sender compares pages with the
//! base's checkpoint ([`source::page_filter::SinceLsn`]), or reads only those that the server lists, where that list can be trusted
//! ([`family::SourceServer::changed_pages`]); they travel in clusters ([`stream::delta`]). The receiver has each stream of a chain arrive in a
//! folder of its own, to which the datafiles before it are moved by tablespace id, and lays the pages over them as they arrive
//! (`restore::arriving_overlay`, [`receive::chain`]): all of that is thrown away if the stream turns out to be bad. Over a folder of
//! the user's, pages are laid when their stream has proved to be whole ([`restore::overlay`], [`receive::merge`]). Since an increment begins at its base's checkpoint, redo is
//! applied once, at the end. What a partial backup lacks ([`source::selection`]) is in its manifest; redo for it is dropped.
//!
//! ## Single tables
//!
//! `xbrecv export` ([`receive::export_command`], [`prepare::export`]) reads what the dictionary says of a table from its own datafile
//! ([`innodb::sdi`], [`innodb::dictionary`]), and makes of it the metadata file that an import reads and the statement that defines the
//! table. An import takes each row for committed, so the undo logs ([`innodb::undo`]) have to prove that no transaction which was open or
//! prepared at the end of the backup has a record of the table. `xbrecv import` and `--import-into` ([`receive::import_command`]) do with a running
//! server what the statements of an export say, in a schema of their own, from which one RENAME TABLE brings the tables to their places.
//!
//! ## Glossary
//!
//! | Term | What it is here |
//! |---|---|
//! | base | the backup that an increment builds on |
//! | backup position | the LSN, binlog position and GTID set that a copy stands for; its redo ends at just that LSN |
//! | block (of a datafile) | 1 MiB that one thread reads, sends and hashes at a time |
//! | block (of redo) | 512 bytes of the log, with number and checksum |
//! | budget | memory that a stream may make us keep, charged before it is taken |
//! | checkpoint | the LSN below which all changes are in the datafiles |
//! | chunk | a part of a member, as a frame carries it |
//! | cluster | pages of a datafile in an increment, with a list of their numbers before them |
//! | compact record | a redo record as it is kept until its page's turn: without what all of its run have in common |
//! | digest | XXH3 tree hash of a member, independent of how it was cut |
//! | external tablespace | one whose file lies outside the datadir |
//! | family | a line of servers that are backed up and restored in one way |
//! | frame | the unit of xbstream, of a compressed layer, or of a session on a connection |
//! | full_crc32 | MariaDB's page format with one checksum at the very end |
//! | identity | the digest of a backup's manifest, by which increments name their base |
//! | increment | the pages that changed since another backup, and the redo of its own time |
//! | layer | compression or encryption around a stream |
//! | LSN | a byte position in the redo log |
//! | manifest | the last member: every other, with size and digest; without it a stream is no backup |
//! | member | a file in the stream |
//! | mini-transaction | a group of redo records that is applied as a whole or not at all |
//! | native prepare | crash recovery up to the rollback, by us instead of a server |
//! | page range | 64 neighbouring pages of a tablespace, whose records are kept together |
//! | parsed segment | the records and file events of one part of the log |
//! | redo consumer | a registration by which the server keeps redo that was not read yet |
//! | run | records of one page that follow each other in the log |
//! | segment | a part of the log that can be parsed by itself |
//! | session | one transfer over the network, however many connections it takes |
//! | spill file | holds records that exceed the memory |
//! | spool | holds redo that the receiver is too slow for |
//! | staging | the hidden folder in which a copy grows, beside its target |
//! | tailer | the thread that follows the redo log of the running server |
//! | ticket (of a listener) | a secret that lets its bearer send once |
//! | ticket (of a stream) | a thread's turn to write |
//! | torn page | one that was read while it was written |
//! | watermark | how far a file is written that another thread reads behind |
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
//! 4. Tables of other engines are flushed and locked by name, copied, and stay locked until the position is taken.
//! 5. The backup position ([`family::SourceServer::position`]): the tailer is paused, `log_status` gives LSN, binlog position and GTID set, and the
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
//! the redo consumer ([`family::SourceServer::retain_redo`]). Whatever fails, the server gets back what it holds before any thread is waited for. With `--throttle` reading threads wait for leave before each block ([`throttle`] decides, from what
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
//! has not acknowledged in a window; the threads that write see a sink that is full now and then, those that read a
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
//! before it is joined to anything: it can't lead upwards. `restore` and `prepare` reach files through [`base::nofollow`] alone, which
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
