//! Offsets in the header of an index page, and where its heap begins (page0types.h).

use crate::innodb::page::FIL_TRAILER;
use crate::innodb::redo::record::RowFormat;

pub(super) const HEADER: usize = 38;
pub(super) const N_SLOTS: usize = 38;
pub(super) const HEAP_TOP: usize = 40;
pub(super) const N_HEAP: usize = 42;
pub(super) const FREE: usize = 44;
pub(super) const GARBAGE: usize = 46;
pub(super) const LAST_INSERT: usize = 48;
pub(super) const DIRECTION: usize = 50;
pub(super) const N_DIRECTION: usize = 52;
pub(super) const N_RECS: usize = 54;
pub(super) const MAX_TRX_ID: usize = 56;
pub(super) const LEVEL: usize = 64;
pub(super) const PAGE_DATA: usize = 94;
/// The directory ends where the trailer starts.
pub(super) const DIRECTORY_END: usize = FIL_TRAILER;

/// In [`N_HEAP`]: the page is COMPACT.
pub(super) const N_HEAP_COMPACT: u16 = 0x8000;

/// Values of [`DIRECTION`].
pub(super) const LEFT: u16 = 1;
pub(super) const RIGHT: u16 = 2;
pub(super) const NO_DIRECTION: u16 = 5;

/// Infimum and supremum.
pub(super) fn ends(format: RowFormat) -> (usize, usize) {
    match format {
        RowFormat::Compact => (99, 112),
        RowFormat::Redundant => (101, 116),
    }
}
