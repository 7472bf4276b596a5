//! The seam between native prepare and server families: how a family's redo is found, read, applied and replaced.
//!
//! What is common knows no family: the scan of the log by several threads, the store of records, the spill file, the merge, the
//! journal, and the threads that read pages, have records applied and write them.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log::RedoLocation;
use super::log::parsed_segment::ParsedSegment;
use super::log::segment::Segment;
use super::log::table_metadata::TableMetadata;
use super::log::watermark::Watermark;
use super::records::index_dictionary::IndexDictionary;
use super::records::run::RecordRun;
use crate::base::{Budget, Lsn, PageNo, Result, SpaceId};
use crate::innodb::apply::Page;
use crate::innodb::encryption::Keyring;
use crate::innodb::page::PageFormat;
use crate::innodb::redo::IndexList;
use crate::prepare::Datadir;

/// How the redo of one server family is read, and how it is applied to pages.
pub trait RedoFormat: Debug + Sync {
    /// How the pages are laid out and checked that this redo is for.
    fn pages(&self) -> &'static dyn PageFormat;

    /// Looks for the redo of the copy in the folder `root`: also where an earlier run left it. `None`: it was applied already.
    ///
    /// # Errors
    /// Where there is none, or that of a server which was started on the copy.
    fn find(&self, root: &Path) -> Result<Option<RedoLocation>>;

    /// Returns whether the redo log of the copy at `root` is the empty one of [`RedoFormat::install_empty_log`], and no
    /// server has written to it since.
    fn is_untouched(&self, root: &Path) -> bool;

    /// Opens the log, and reads where recovery begins. `keyring` may know its key.
    ///
    /// # Errors
    /// [`Code::CorruptRedo`](crate::base::Code::CorruptRedo), [`Code::TargetIo`](crate::base::Code::TargetIo).
    fn open(&self, place: &RedoLocation, keyring: &dyn Keyring) -> Result<Box<dyn CopiedLog>>;

    /// Opens a log that is still being written to the file `path`; `None` if it never gets a header.
    ///
    /// # Errors
    /// As [`RedoFormat::open`].
    fn follow(
        &self,
        path: &Path,
        watermark: Arc<Watermark>,
        keyring: &dyn Keyring,
    ) -> Result<Option<Box<dyn CopiedLog>>>;

    /// A parser for one thread. Mini-transactions that end behind `promised` are not wanted; descriptions of indexes go into
    /// `dictionary`.
    fn parser(
        &self,
        checkpoint: Lsn,
        promised: Option<Lsn>,
        dictionary: Arc<IndexDictionary>,
    ) -> Box<dyn SegmentParser>;

    /// Creates an applier of records for one thread.
    fn applier(&self) -> Box<dyn RecordApplier>;

    /// Puts a log that the copy's server starts on into the place of the one that was applied. `sync` makes durable what was
    /// written so far; it is called before each step that can't be taken back.
    ///
    /// # Errors
    /// [`Code::TargetIo`](crate::base::Code::TargetIo), and those of `sync`.
    fn install_empty_log(
        &self,
        datadir: &Datadir<'_>,
        applied: &AppliedLog,
        sync: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>;
}

/// A log whose records are all applied.
#[derive(Debug)]
pub struct AppliedLog {
    /// Where it lies.
    pub(crate) place: RedoLocation,
    /// The LSN at which it ends.
    pub(crate) end: Lsn,
    /// The first file of the system tablespace.
    pub(crate) system: PathBuf,
    /// What it alone knows of tables: the new log must have it, too.
    pub(crate) dynamic: TableMetadata,
}

/// The redo log of a copy, open.
pub trait CopiedLog: Send + Sync {
    /// The LSN at which recovery begins.
    fn checkpoint(&self) -> Lsn;

    /// An LSN before which no record starts.
    fn start(&self) -> Lsn;

    /// Returns whether it may go on behind the end of the backup: the sender could not cut its last block, which is encrypted.
    fn may_go_on(&self) -> bool;

    /// Reads it from the start, in segments that can be parsed each by itself.
    fn segments<'a>(&'a self, budget: &Budget) -> Box<dyn SegmentReader + 'a>;
}

/// Cuts a log into segments.
pub trait SegmentReader: Send {
    /// Reads the next segment; false if there is none.
    ///
    /// # Errors
    /// As [`RedoFormat::open`].
    fn next(&mut self, segment: &mut Segment) -> Result<bool>;
}

/// Parses segments, in any order.
pub trait SegmentParser: Send {
    /// Replaces what is in `into` by what `segment` says.
    ///
    /// # Errors
    /// [`Code::CorruptRedo`](crate::base::Code::CorruptRedo); redo that is encrypted, or takes too much memory.
    fn parse(&mut self, segment: &Segment, into: &mut ParsedSegment) -> Result<()>;
}

/// Applies records to pages.
pub trait RecordApplier: Send {
    /// Applies those records of `runs` that start at `from` or later. `shown` names the page.
    ///
    /// # Errors
    /// [`Code::CorruptRedo`](crate::base::Code::CorruptRedo) for a record that does not fit its page.
    fn apply(
        &mut self,
        page: &mut Page<'_>,
        from: Lsn,
        indexes: &IndexList,
        runs: &mut dyn Iterator<Item = RecordRun<'_>>,
        shown: &dyn Fn() -> String,
    ) -> Result<PageUpdate>;

    /// The LSN of the last record that makes irrelevant what was in its page before.
    fn last_init(
        &mut self,
        page: (SpaceId, PageNo),
        indexes: &IndexList,
        runs: &mut dyn Iterator<Item = RecordRun<'_>>,
    ) -> Option<Lsn>;
}

/// The result of applying records to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageUpdate {
    /// The end of the last mini-transaction with a record that was applied; `None`: the page had all.
    pub to: Option<Lsn>,
    /// How many records were applied.
    pub records: u64,
}
