//! The seam between page readers and the stream: which pages of a datafile travel.

use std::fmt::Debug;

use crate::base::Lsn;
use crate::innodb::page::{Expected, FilHeader};

/// Selects pages. It is asked of every page that is sound and has content, by several threads at a time.
///
/// A page that is not selected is a hole of its member. A full backup sends every page ([`EveryPage`]); whoever leaves pages out
/// (those below an LSN) must say in the stream's metadata that its holes are not zeros.
pub trait PageFilter: Debug + Sync {
    /// Whether the page travels that was read from `place`. Its header shows its LSN and type.
    fn selects(&self, place: Expected, header: FilHeader<'_>) -> bool;
}

/// Selects every page: a full backup.
#[derive(Debug)]
pub struct EveryPage;

impl PageFilter for EveryPage {
    fn selects(&self, _place: Expected, _header: FilHeader<'_>) -> bool {
        true
    }
}

/// Selects the pages whose LSN is not below this one: an increment. A page whose LSN equals it is selected too: while redo
/// logging is disabled the log stands still, and all pages that change get just that LSN.
#[derive(Debug)]
pub struct SinceLsn(pub Lsn);

impl PageFilter for SinceLsn {
    fn selects(&self, _place: Expected, header: FilHeader<'_>) -> bool {
        header.lsn() >= self.0
    }
}
