//! The steps of a backup of a running server of this family, each by the module that has its statements.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::other_engines::OtherEngines;
use super::privileges::Privileges;
use super::redo::consumer::RedoConsumer;
use super::redo::files::{Log, RedoFiles, redo_disabled};
use super::redo::page_list;
use super::replication::Replica;
use super::{discovery, identity, locks, page_tracking, position, undo_truncation};
use crate::base::{Lsn, Result, Stop};
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

/// A server that can be backed up.
pub(super) struct MySql8Server {
    facts: Arc<ServerFacts>,
    privileges: Privileges,
}

impl MySql8Server {
    /// Looks whether it can be.
    pub(super) fn examine(
        session: &mut Session,
        facts: Arc<ServerFacts>,
        stop: &Stop,
    ) -> Result<MySql8Server> {
        let privileges = Privileges::of_session(session)?;
        privileges.check()?;
        identity::check_same_server(&facts)?;
        OtherEngines::find(session, &facts, &privileges)?;
        // What can't be done at the end is better known now.
        position::take(session)?;
        let server = MySql8Server { facts, privileges };
        server.check_redo_enabled(session)?;
        undo_truncation::check_no_stale_marker(&server.facts, stop)?;
        Ok(server)
    }
}

impl SourceServer for MySql8Server {
    fn replica(&self, session: &mut Session, options: &ConnectOptions) -> Result<Box<dyn ReplicaStatus>> {
        Ok(Box::new(Replica::find(session, options)?))
    }

    fn lock_ddl(&self, session: &mut Session, timeout: Duration) -> Result<HeldLock> {
        locks::lock_ddl(session, timeout)
    }

    fn retain_redo(
        &self,
        options: &ConnectOptions,
        read: Arc<AtomicU64>,
    ) -> Result<Option<Box<dyn RedoRetention>>> {
        let consumer = RedoConsumer::register(options, read)?;
        Ok(consumer.map(|consumer| Box::new(consumer) as Box<dyn RedoRetention>))
    }

    fn redo_log(&self) -> Result<Box<dyn RedoLog>> {
        Ok(Box::new(RedoFiles::open(Log::of(&self.facts))?))
    }

    fn inventory(&self, session: &mut Session) -> Result<Inventory> {
        discovery::inventory(session, &self.facts, &self.privileges)
    }

    fn tables(&self, session: &mut Session) -> Result<Vec<TableName>> {
        let rows = session.query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'",
        )?;
        Ok(rows.into_iter().filter_map(|row| pair(&row)).collect())
    }

    fn foreign_keys(&self, session: &mut Session) -> Result<Vec<(TableName, TableName)>> {
        let rows = session.query(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME \
             FROM information_schema.REFERENTIAL_CONSTRAINTS",
        )?;
        let keys = rows.iter().filter_map(|row| Some((pair(row)?, pair(row.get(2..)?)?)));
        Ok(keys.collect())
    }

    fn redo_lsns(&self, session: &mut Session) -> Result<RedoLsns> {
        let rows = session.query(
            "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME IN \
             ('Innodb_redo_log_current_lsn', 'Innodb_redo_log_checkpoint_lsn', 'Innodb_redo_log_flushed_to_disk_lsn')",
        )?;
        let value = |name: &str| {
            let row = rows.iter().find(|r| r.first().and_then(Option::as_deref) == Some(name))?;
            row.get(1)?.as_deref()?.parse().ok().map(Lsn)
        };
        Ok(RedoLsns {
            current: value("Innodb_redo_log_current_lsn"),
            checkpoint: value("Innodb_redo_log_checkpoint_lsn"),
            flushed: value("Innodb_redo_log_flushed_to_disk_lsn"),
        })
    }

    fn lock_tables(
        &self,
        session: &mut Session,
        tables: &[(String, String)],
        timeout: Duration,
    ) -> Result<HeldLock> {
        locks::lock_tables(session, tables, timeout)
    }

    /// The ids of the undo tablespaces: a truncation changes one.
    fn steady_state(&self, session: &mut Session) -> Result<Option<BTreeSet<String>>> {
        if undo_truncation::truncation_runs(&self.facts)? {
            return Ok(None);
        }
        let ids = undo_truncation::ids(session)?;
        Ok(if undo_truncation::truncation_runs(&self.facts)? { None } else { ids })
    }

    fn position(&self, session: &mut Session) -> Result<BackupPosition> {
        position::take(session)
    }

    fn unlock_tables(&self, session: &mut Session) -> Result<()> {
        locks::unlock_tables(session)
    }

    fn check_redo_enabled(&self, session: &mut Session) -> Result<()> {
        let value = session.scalar(
            "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
             WHERE VARIABLE_NAME = 'Innodb_redo_log_enabled'",
        )?;
        if value.as_deref() == Some("OFF") { Err(redo_disabled()) } else { Ok(()) }
    }

    fn unlock_ddl(&self, session: &mut Session) -> Result<()> {
        locks::unlock_ddl(session)
    }

    fn track_pages(&self, session: &mut Session, start: bool) -> Result<Option<Lsn>> {
        match start || page_tracking::is_on(&self.facts) {
            true => page_tracking::start(session, &self.facts, start),
            false => Ok(None),
        }
    }

    fn changed_pages(&self, session: &mut Session, ask: &ChangeQuery, stop: &Stop) -> Result<ChangedPages> {
        page_tracking::changed(session, &self.facts, ask, |session| self.redo_lsns(session), stop)
    }

    fn pages_in_redo(&self, end: Lsn, wanted: &BTreeSet<PageKey>) -> Result<Option<BTreeSet<PageKey>>> {
        page_list::of_pages(&self.facts, end, wanted)
    }
}

/// The first two values of a row.
fn pair(row: &[Option<String>]) -> Option<(String, String)> {
    match row {
        [Some(one), Some(other), ..] => Some((one.clone(), other.clone())),
        _ => None,
    }
}
