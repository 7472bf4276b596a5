//! Pages of a copy brought up to date: each is read once, gets its redo records, and is written once.
//!
//! [`apply`] has the threads, [`bounds`] knows where they end when all redo is applied, [`cached_lsn`] reads the LSNs of pages that are in the page cache.

pub(crate) mod apply;
pub(crate) mod bounds;
pub(crate) mod cached_lsn;
