//! The redo log of MySQL 8.0.30 and later (format 6): files, blocks, records.
//!
//! The log is a set of files `#ib_redoN` in `#innodb_redo/`. Each starts with four header blocks ([`file`]); the
//! rest is a run of 512-byte [`block`]s, each with 496 bytes of payload. Payloads strung together are a
//! stream of records in mini-transaction groups. An LSN counts block headers and trailers too ([`lsn`]).

pub mod block;
pub mod file;
pub mod lsn;

pub use block::{Block, BlockState, BlockWriter};
pub use file::{
    CHECKPOINT_BLOCKS, FileName, HEAD_LEN, HeadError, RedoFile, RedoFlags, RedoHead, newest_checkpoint,
};

/// Bytes of a log block (`OS_FILE_LOG_BLOCK_SIZE`).
pub const BLOCK_LEN: usize = 512;
/// Bytes of a block's header (`LOG_BLOCK_HDR_SIZE`).
pub const BLOCK_HEADER: usize = 12;
/// Bytes of a block's trailer (`LOG_BLOCK_TRL_SIZE`).
pub const BLOCK_TRAILER: usize = 4;
/// Bytes of payload in a full block.
pub const BLOCK_PAYLOAD: usize = BLOCK_LEN - BLOCK_HEADER - BLOCK_TRAILER;
