//! The steps of a backup of a running MariaDB server that exist so far.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::discovery;
use crate::base::{Code, Error, Lsn, Result, Stop};
use crate::family::server::{ChangeQuery, RedoLsns, RedoRetention, SourceServer, TableName};
use crate::source::backup_position::BackupPosition;
use crate::source::changed_pages::ChangedPages;
use crate::source::inventory::Inventory;
use crate::source::locks::HeldLock;
use crate::source::replication::ReplicaStatus;
use crate::source::server_facts::ServerFacts;
use crate::source::session::{ConnectOptions, Session};
use crate::source::tailer::RedoLog;
use crate::source::zero_pages::PageKey;

/// A MariaDB server.
pub(super) struct MariaDbServer {
    facts: Arc<ServerFacts>,
}

impl MariaDbServer {
    /// Creates the server from facts that are known; no statement is sent.
    pub(super) fn new(facts: Arc<ServerFacts>) -> MariaDbServer {
        MariaDbServer { facts }
    }
}

/// The error of every step that is missing.
fn missing(step: &str) -> Error {
    Error::new(Code::Unsupported, format!("{step} of MariaDB is not supported yet"))
        .hint("for MariaDB use mariadb-backup")
}

impl SourceServer for MariaDbServer {
    fn replica(&self, _: &mut Session, _: &ConnectOptions) -> Result<Box<dyn ReplicaStatus>> {
        Err(missing("the replication state"))
    }

    fn lock_ddl(&self, _: &mut Session, _: Duration) -> Result<HeldLock> {
        Err(missing("the backup lock"))
    }

    /// MariaDB keeps redo for nobody.
    fn retain_redo(&self, _: &ConnectOptions, _: Arc<AtomicU64>) -> Result<Option<Box<dyn RedoRetention>>> {
        Ok(None)
    }

    fn redo_log(&self) -> Result<Box<dyn RedoLog>> {
        Err(missing("the redo log"))
    }

    fn inventory(&self, _: &mut Session) -> Result<Inventory> {
        discovery::inventory(&self.facts)
    }

    fn tables(&self, _: &mut Session) -> Result<Vec<TableName>> {
        Err(missing("the list of tables"))
    }

    fn foreign_keys(&self, _: &mut Session) -> Result<Vec<(TableName, TableName)>> {
        Err(missing("the list of foreign keys"))
    }

    fn redo_lsns(&self, session: &mut Session) -> Result<RedoLsns> {
        let rows = session.query("SHOW GLOBAL STATUS LIKE 'Innodb\\_lsn\\_%'")?;
        let value = |name: &str| {
            let row = rows.iter().find(|r| r.first().and_then(Option::as_deref) == Some(name))?;
            row.get(1)?.as_deref()?.parse().ok().map(Lsn)
        };
        Ok(RedoLsns {
            current: value("Innodb_lsn_current"),
            checkpoint: value("Innodb_lsn_last_checkpoint"),
            flushed: value("Innodb_lsn_flushed"),
        })
    }

    fn lock_tables(&self, _: &mut Session, _: &[(String, String)], _: Duration) -> Result<HeldLock> {
        Err(missing("the lock on tables of other engines"))
    }

    /// The id of an undo tablespace does not change when it is truncated.
    fn steady_state(&self, _: &mut Session) -> Result<Option<BTreeSet<String>>> {
        Ok(Some(BTreeSet::new()))
    }

    fn position(&self, _: &mut Session) -> Result<BackupPosition> {
        Err(missing("the position"))
    }

    fn unlock_tables(&self, _: &mut Session) -> Result<()> {
        Err(missing("the lock on tables of other engines"))
    }

    /// Redo can't be switched off.
    fn check_redo_enabled(&self, _: &mut Session) -> Result<()> {
        Ok(())
    }

    fn unlock_ddl(&self, _: &mut Session) -> Result<()> {
        Err(missing("the backup lock"))
    }

    /// It does not record which pages it writes.
    fn track_pages(&self, _: &mut Session, _: bool) -> Result<Option<Lsn>> {
        Ok(None)
    }

    fn changed_pages(&self, _: &mut Session, _: &ChangeQuery, _: &Stop) -> Result<ChangedPages> {
        Ok(ChangedPages::Unknown("MariaDB has no page tracking".into()))
    }

    fn pages_in_redo(&self, _: Lsn, _: &BTreeSet<PageKey>) -> Result<Option<BTreeSet<PageKey>>> {
        Ok(None)
    }
}
