//! MariaDB 10.8 to 11: recognised, its tablespaces found and its pages checked; it can't be backed up yet.
//!
//! Here are the parts that stand: [`Family::recognise`], [`PageFormat`] (`full_crc32` and the older format of
//! ROW_FORMAT=COMPRESSED) and [`SourceServer::inventory`]. Lock stages, redo and position are missing, and
//! [`Recognition::Unsupported`] keeps everybody from starting a backup without them.

mod discovery;
mod pages;
mod server;

use std::sync::Arc;

use super::{Family, Recognition, SourceServer};
use crate::base::{Result, Stop};
use crate::innodb::page::PageFormat;
use crate::prepare::RedoFormat;
use crate::source::server_facts::ServerFacts;
use crate::source::session::{ConnectOptions, Session};

/// The family.
#[derive(Debug)]
pub(super) struct MariaDb;

impl Family for MariaDb {
    fn name(&self) -> &'static str {
        "MariaDB"
    }

    fn recognise(&self, version: &str, comment: &str) -> Recognition {
        match [version, comment].iter().any(|text| text.to_ascii_lowercase().contains("mariadb")) {
            true => Recognition::Unsupported("for MariaDB use mariadb-backup"),
            false => Recognition::Other,
        }
    }

    fn pages(&self) -> &'static dyn PageFormat {
        &pages::MariaDbPages
    }

    fn redo(&self) -> Option<&'static dyn RedoFormat> {
        None
    }

    fn examine(
        &self,
        _session: &mut Session,
        facts: Arc<ServerFacts>,
        _options: &ConnectOptions,
        _stop: &Stop,
    ) -> Result<Box<dyn SourceServer>> {
        Ok(Box::new(server::MariaDbServer::new(facts)))
    }
}
