//! The redo log of MySQL 8.0.30 and later (format 6): files, blocks, records.
//!
//! The log is a set of files `#ib_redoN` in `#innodb_redo/`. Each starts with four header blocks ([`mod@file`]); the
//! rest is a run of 512-byte [`block`]s, each with 496 bytes of payload. Payloads strung together are a
//! stream of records in mini-transaction groups, which the [`Scanner`] gives out. An LSN counts block headers
//! and trailers too ([`lsn`]).

pub mod block;
pub mod compact_record;
pub(in crate::innodb) mod cursor;
mod dump;
mod dynamic_meta;
pub mod file;
mod file_events;
pub mod index_info;
pub mod lsn;
mod mini_transaction;
mod parse;
pub mod record;
mod scanner;

pub use block::{Block, BlockState, BlockWriter};
pub use compact_record::CompactRun;
pub use dynamic_meta::{auto_increment_group, corrupted_indexes_group};
pub use file::{
    CHECKPOINT_BLOCKS, FileName, HEAD_LEN, HeadError, RedoFile, RedoFlags, RedoHead, newest_checkpoint,
};
pub use file_events::{FileChange, FileEvent, file_events};
pub use index_info::{IndexList, IndexNumbers};
pub use mini_transaction::{MiniTransaction, RawRecord};
pub use record::{Body, Kind, Record};
pub use scanner::{Fed, MINI_TRANSACTION_MAX, ScanError, Scanner};

use crate::base::{PageNo, SpaceId};
use cursor::{Cursor, Stop};

/// Bytes of a log block (`OS_FILE_LOG_BLOCK_SIZE`).
pub const BLOCK_LEN: usize = 512;
/// Bytes of a block's header (`LOG_BLOCK_HDR_SIZE`).
pub const BLOCK_HEADER: usize = 12;
/// Bytes of a block's trailer (`LOG_BLOCK_TRL_SIZE`).
pub const BLOCK_TRAILER: usize = 4;
/// Bytes of payload in a full block.
pub const BLOCK_PAYLOAD: usize = BLOCK_LEN - BLOCK_HEADER - BLOCK_TRAILER;

/// Reads the body of a record that was kept as [`Record::kind`] and [`Record::bytes`]; an error says what is
/// wrong with it.
pub fn parse_body(kind: Kind, space: SpaceId, bytes: &[u8]) -> Result<Body<'_>, &'static str> {
    let head = parse::Head { kind, single: false, space, page: PageNo(0) };
    let mut cursor = Cursor::new(bytes);
    whole(parse::body(&head, &mut cursor), &cursor)
}

fn whole<'a>(read: cursor::Read<Body<'a>>, cursor: &Cursor<'_>) -> Result<Body<'a>, &'static str> {
    match read {
        Ok(_) if !cursor.is_empty() => Err("the record is followed by something"),
        Ok(body) => Ok(body),
        Err(stop) => Err(said(stop)),
    }
}

fn said(stop: Stop) -> &'static str {
    match stop {
        Stop::More => "the record is cut",
        Stop::Bad(what) => what,
    }
}
