//! The redo log of a copy, read in order: cut into segments, parsed, and kept as records by page.
//!
//! How a log is found, cut and parsed is its family's ([`RedoFormat`](crate::prepare::RedoFormat)). Here are the types that pass from one
//! to the other ([`segment`], [`parsed_segment`]), the [`scan`] that several threads make of it, and the [`watermark`] behind
//! which a log is read that is still being written.

use std::path::PathBuf;

pub(crate) mod parsed_segment;
pub(crate) mod scan;
pub(crate) mod segment;
pub(crate) mod table_metadata;
pub(crate) mod watermark;

/// The place of a copy's redo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedoLocation {
    /// The member `xtrabackup_logfile`, as it came.
    Logfile(PathBuf),
    /// A folder of redo files.
    Folder(PathBuf),
}
