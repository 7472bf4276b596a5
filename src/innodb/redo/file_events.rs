//! Extracts what redo says about files: created, renamed, deleted, extended, and indexes built without redo.

use super::mini_transaction::MiniTransaction;
use super::record::{Body, Kind};
use crate::base::{Lsn, PageNo, SpaceId};

/// One event, owned: it outlives the redo that it was found in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEvent {
    /// LSN of its record.
    pub lsn: Lsn,
    /// The tablespace.
    pub space: SpaceId,
    /// The event.
    pub what: FileChange,
}

impl FileEvent {
    /// Bytes of memory that it takes, its paths included.
    pub fn memory(&self) -> usize {
        let paths = match &self.what {
            FileChange::Create { path, .. } | FileChange::Delete { path } => path.capacity(),
            FileChange::Rename { from, to } => from.capacity() + to.capacity(),
            FileChange::Extend { .. } | FileChange::IndexLoad { .. } => 0,
        };
        size_of::<FileEvent>() + paths
    }
}

/// The kind of a file event: a file was made, renamed, removed, extended, or filled without redo. Paths are as the server
/// wrote them: relative to the datadir (`./db/t.ibd`) or absolute, in the server's file name encoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileChange {
    /// It came into being. Its first size is not logged: see [`crate::innodb::page::MIN_USER_PAGES`] and
    /// [`crate::innodb::page::MIN_UNDO_BYTES`].
    Create {
        /// Tablespace flags, without those for SDI and encryption, which are set later.
        flags: u32,
        /// Its path.
        path: Vec<u8>,
    },
    /// It got another name.
    Rename {
        /// The old path.
        from: Vec<u8>,
        /// The new path.
        to: Vec<u8>,
    },
    /// It went away.
    Delete {
        /// Its path.
        path: Vec<u8>,
    },
    /// It grew.
    Extend {
        /// Where, in bytes.
        offset: u64,
        /// By how much, in bytes.
        size: u64,
    },
    /// An index was built without redo: what a copy had of these pages before this LSN is not brought up to date
    /// by redo.
    IndexLoad {
        /// The index.
        index_id: u64,
        /// Its root page.
        root: PageNo,
    },
}

/// The events of a group, those before the checkpoint left out. Bodies of other records are not looked at.
pub fn file_events<'g>(group: &'g MiniTransaction<'_>) -> impl Iterator<Item = FileEvent> + 'g {
    let any = group.outline().any(|(kind, ..)| kind.is_file_event() || kind == Kind::IndexLoad);
    let records = any.then(|| group.records()).into_iter().flatten();
    records.filter_map(|record| {
        let what = match record.body {
            Body::FileCreate { flags, path } => FileChange::Create { flags, path: path.to_vec() },
            Body::FileRename { from, to } => FileChange::Rename { from: from.to_vec(), to: to.to_vec() },
            Body::FileDelete { path } => FileChange::Delete { path: path.to_vec() },
            Body::FileExtend { offset, size } => FileChange::Extend { offset, size },
            Body::IndexLoad { index_id } => FileChange::IndexLoad { index_id, root: record.page },
            _ => return None,
        };
        Some(FileEvent { lsn: record.start_lsn, space: record.space, what })
    })
}
