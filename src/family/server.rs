//! The steps of a backup that each server family takes in its own way: locks, discovery of files, redo, position.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::base::{Lsn, Result, Stop};
use crate::source::backup_position::BackupPosition;
use crate::source::changed_pages::ChangedPages;
use crate::source::inventory::Inventory;
use crate::source::locks::HeldLock;
use crate::source::replication::ReplicaStatus;
use crate::source::session::{ConnectOptions, Session};
use crate::source::tailer::RedoLog;
use crate::source::zero_pages::PageKey;

/// A running server that was examined, and how it is backed up.
///
/// The order in which a backup calls the methods stands in `send::run`. `session` is always the one that holds the backup's locks.
pub trait SourceServer: Send + Sync {
    /// Whether the server is a replica itself, and where its channels stand.
    ///
    /// # Errors
    /// As of a session.
    fn replica(&self, session: &mut Session, options: &ConnectOptions) -> Result<Box<dyn ReplicaStatus>>;

    /// The first lock stage, before the first datafile is read: what must not change while datafiles are copied.
    ///
    /// # Errors
    /// [`Code::LockTimeout`](crate::base::Code::LockTimeout).
    fn lock_ddl(&self, session: &mut Session, timeout: Duration) -> Result<HeldLock>;

    /// Has the server keep redo that was not read yet; `None` where it can't, or does so for somebody else. `read` is the LSN
    /// below which redo was read, 0 for none yet.
    ///
    /// # Errors
    /// As of a session of its own.
    fn retain_redo(
        &self,
        options: &ConnectOptions,
        read: Arc<AtomicU64>,
    ) -> Result<Option<Box<dyn RedoRetention>>>;

    /// Opens the redo log at its newest checkpoint.
    ///
    /// # Errors
    /// [`Code::RedoDisabled`](crate::base::Code::RedoDisabled), [`Code::CorruptRedo`](crate::base::Code::CorruptRedo),
    /// [`Code::SourceIo`](crate::base::Code::SourceIo).
    fn redo_log(&self) -> Result<Box<dyn RedoLog>>;

    /// Looks for everything that must travel.
    ///
    /// # Errors
    /// [`Code::SourceIncomplete`](crate::base::Code::SourceIncomplete) for a tablespace without its file,
    /// [`Code::Unsupported`](crate::base::Code::Unsupported) for tables of an engine that can't be copied,
    /// [`Code::SourceIo`](crate::base::Code::SourceIo).
    fn inventory(&self, session: &mut Session) -> Result<Inventory>;

    /// Lists the tables of all schemas, by schema and name.
    ///
    /// # Errors
    /// As of a session.
    fn tables(&self, session: &mut Session) -> Result<Vec<TableName>>;

    /// Lists the pairs of tables of which the first has a foreign key that refers to the second.
    ///
    /// # Errors
    /// As of a session.
    fn foreign_keys(&self, session: &mut Session) -> Result<Vec<(TableName, TableName)>>;

    /// The LSNs of the server's redo now.
    ///
    /// # Errors
    /// As of a session: the server is gone, or ended it.
    fn redo_lsns(&self, session: &mut Session) -> Result<RedoLsns>;

    /// The second lock stage, after the datafiles: writes to these tables (schema, name) of other engines, while their files are
    /// copied.
    ///
    /// # Errors
    /// [`Code::LockTimeout`](crate::base::Code::LockTimeout).
    fn lock_tables(
        &self,
        session: &mut Session,
        tables: &[(String, String)],
        timeout: Duration,
    ) -> Result<HeldLock>;

    /// Returns the state of the server that must be the same right before and right after the position is taken; `None` while
    /// the server changes it (it truncates an undo tablespace, for instance), so that no position taken now would do.
    ///
    /// # Errors
    /// As of a session; [`Code::SourceIo`](crate::base::Code::SourceIo).
    fn steady_state(&self, session: &mut Session) -> Result<Option<BTreeSet<String>>>;

    /// Takes the backup's position: one point through InnoDB, the binary log and the GTID set.
    ///
    /// # Errors
    /// As of a session.
    fn position(&self, session: &mut Session) -> Result<BackupPosition>;

    /// Ends the second lock stage.
    ///
    /// # Errors
    /// As of a session.
    fn unlock_tables(&self, session: &mut Session) -> Result<()>;

    /// Fails where the server has logged no redo meanwhile.
    ///
    /// # Errors
    /// [`Code::RedoDisabled`](crate::base::Code::RedoDisabled).
    fn check_redo_enabled(&self, session: &mut Session) -> Result<()>;

    /// Ends the first lock stage.
    ///
    /// # Errors
    /// As of a session.
    fn unlock_ddl(&self, session: &mut Session) -> Result<()>;

    /// Has the server record from now on which pages it writes, if it does so already or is told to `start`. Returns the
    /// LSN at which that began; `None` if it does not.
    ///
    /// # Errors
    /// As of a session.
    fn track_pages(&self, session: &mut Session, start: bool) -> Result<Option<Lsn>>;

    /// Lists the pages that the server has changed. It must have run all the time since the LSN that is asked for, DDL must
    /// be locked out, and redo be read already.
    ///
    /// # Errors
    /// As of a session; [`Code::Interrupted`](crate::base::Code::Interrupted).
    fn changed_pages(&self, session: &mut Session, ask: &ChangeQuery, stop: &Stop) -> Result<ChangedPages>;

    /// Returns those of the `wanted` pages that the redo from the server's newest checkpoint to `end` changes. `None` where
    /// that can't be told.
    ///
    /// # Errors
    /// [`Code::SourceIo`](crate::base::Code::SourceIo).
    fn pages_in_redo(&self, end: Lsn, wanted: &BTreeSet<PageKey>) -> Result<Option<BTreeSet<PageKey>>>;
}

/// Redo that the server keeps for us; it ends when this is dropped.
pub trait RedoRetention: Send {
    /// Whether the server no longer keeps it, since that would have held up its writes.
    fn was_dropped(&self) -> bool;

    /// Gives up without waiting: redo may be overwritten soon.
    fn let_go(&self);
}

/// Schema and name of a table.
pub type TableName = (String, String);

/// Which changed pages are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangeQuery {
    /// Those changed since this LSN.
    pub from: Lsn,
    /// Whether the server is to write all its changed pages to its files first, however many there are.
    pub force: bool,
}

/// LSNs of a server's redo; `None` where it does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RedoLsns {
    /// The end of what was logged.
    pub current: Option<Lsn>,
    /// The newest checkpoint.
    pub checkpoint: Option<Lsn>,
    /// The end of what is durable.
    pub flushed: Option<Lsn>,
}
