//! A part of the log that can be parsed by itself.

use crate::base::{Charge, Lsn, PageBuffer};

/// A part of the log, cut by its family such that no mini-transaction lies on both sides of a cut.
#[derive(Default)]
pub struct Segment {
    /// Its number, counted from 0.
    pub(crate) number: u64,
    pub(crate) bytes: PageBuffer,
    /// Where the segment begins in `bytes`.
    pub(crate) begin: usize,
    /// Memory beyond the usual, charged to the budget.
    pub(crate) charge: Option<Charge>,
    /// LSN of its first byte.
    pub(crate) start: Lsn,
    /// Where the next segment's first mini-transaction starts; `None`: the log ends with this segment.
    pub(crate) next: Option<Lsn>,
}
