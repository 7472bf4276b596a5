//! MySQL and Percona Server 8.0.30 to 9.7: redo format 6 in `#innodb_redo/`, `LOCK INSTANCE FOR BACKUP`,
//! `performance_schema.log_status`.

mod discovery;
mod grants;
mod identity;
mod locks;
mod other_engines;
mod page_tracking;
mod pages;
mod position;
mod privileges;
mod redo;
mod replication;
mod server;
mod undo_truncation;

use std::sync::Arc;

use super::{Family, Recognition, SourceServer};
use crate::base::version::ServerVersion;
use crate::base::{Result, Stop};
use crate::innodb::page::PageFormat;
use crate::prepare::RedoFormat;
use crate::source::server_facts::ServerFacts;
use crate::source::session::{ConnectOptions, Session};

/// The family.
#[derive(Debug)]
pub(super) struct MySql8;

/// The first version with redo format 6.
const FIRST: ServerVersion = ServerVersion::new(8, 0, 30);
/// The newest release line that was checked.
const LAST: ServerVersion = ServerVersion::new(9, 7, u16::MAX);

impl Family for MySql8 {
    fn name(&self) -> &'static str {
        "MySQL"
    }

    fn recognise(&self, version: &str, comment: &str) -> Recognition {
        if [version, comment].iter().any(|text| text.to_ascii_lowercase().contains("mariadb")) {
            return Recognition::Other;
        }
        match ServerVersion::parse(version) {
            None => Recognition::Other,
            Some(v) if v < FIRST => Recognition::Unsupported(
                "MySQL 8.0.30 to 9.7 are supported; for older servers use Percona XtraBackup 2.4 or 8.0",
            ),
            Some(v) if v > LAST => Recognition::Unsupported(
                "this server is newer than xbpipe knows; MySQL 8.0.30 to 9.7 are supported",
            ),
            Some(_) => Recognition::Supported,
        }
    }

    fn pages(&self) -> &'static dyn PageFormat {
        &pages::MySql8Pages
    }

    fn redo(&self) -> Option<&'static dyn RedoFormat> {
        Some(&redo::Format6)
    }

    fn examine(
        &self,
        session: &mut Session,
        facts: Arc<ServerFacts>,
        _options: &ConnectOptions,
        stop: &Stop,
    ) -> Result<Box<dyn SourceServer>> {
        Ok(Box::new(server::MySql8Server::examine(session, facts, stop)?))
    }
}
