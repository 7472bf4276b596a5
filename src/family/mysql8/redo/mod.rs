//! Redo of this family: format 6, blocks of 512 bytes in the files of `#innodb_redo/`, MySQL's record types.
//!
//! On the source it is found and followed ([`files`]) and kept by the server ([`consumer`]). In the copy it is found again
//! ([`location`], [`copied_log`]), cut ([`segments`]), parsed ([`parser`]), applied to pages ([`applier`]), and an empty one takes its
//! place ([`empty_log`]). The bytes themselves are [`crate::innodb::redo`]'s, what records do to a page is [`crate::innodb::apply`]'s.

mod applier;
pub(super) mod consumer;
mod copied_log;
mod empty_log;
pub(super) mod files;
mod location;
pub(super) mod page_list;
mod parser;
mod segments;

use std::path::Path;
use std::sync::Arc;

use crate::base::{Lsn, Result};
use crate::innodb::encryption::Keyring;
use crate::innodb::page::PageFormat;
use crate::prepare::Datadir;
use crate::prepare::native::{
    AppliedLog, CopiedLog, IndexDictionary, RecordApplier, RedoFormat, RedoLocation, SegmentParser, Watermark,
};

/// The format.
#[derive(Debug)]
pub(super) struct Format6;

impl RedoFormat for Format6 {
    fn pages(&self) -> &'static dyn PageFormat {
        &super::pages::MySql8Pages
    }

    fn find(&self, root: &Path) -> Result<Option<RedoLocation>> {
        location::find(root)
    }

    fn is_untouched(&self, root: &Path) -> bool {
        location::is_untouched(root)
    }

    fn open(&self, place: &RedoLocation, keyring: &dyn Keyring) -> Result<Box<dyn CopiedLog>> {
        Ok(Box::new(copied_log::Log::open(place, keyring)?))
    }

    fn follow(
        &self,
        path: &Path,
        watermark: Arc<Watermark>,
        keyring: &dyn Keyring,
    ) -> Result<Option<Box<dyn CopiedLog>>> {
        let log = copied_log::Log::follow(path, watermark, keyring)?;
        Ok(log.map(|log| Box::new(log) as Box<dyn CopiedLog>))
    }

    fn parser(
        &self,
        checkpoint: Lsn,
        promised: Option<Lsn>,
        dictionary: Arc<IndexDictionary>,
    ) -> Box<dyn SegmentParser> {
        Box::new(parser::BlockParser::new(checkpoint, promised, dictionary))
    }

    fn applier(&self) -> Box<dyn RecordApplier> {
        Box::<applier::PageApplier>::default()
    }

    fn install_empty_log(
        &self,
        datadir: &Datadir<'_>,
        log: &AppliedLog,
        sync: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        empty_log::install(datadir, log, sync)
    }
}
