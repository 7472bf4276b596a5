//! Redo records of pages, kept between the scan of the log and their page's turn.
//!
//! The [`store`] keeps them by page range ([`run`] has the format), in memory ([`buffer`], [`table`]) and, beyond what may be used
//! of it, in a [`spill`] file. The [`merge`] of both gives them back in the order of the files, in batches that [`batch_index`]
//! sorts by page. Descriptions of indexes are kept once, in the [`index_dictionary`].

pub(crate) mod batch_index;
pub(crate) mod buffer;
pub(crate) mod index_dictionary;
pub(crate) mod merge;
pub(crate) mod run;
pub(crate) mod spill;
pub(crate) mod store;
pub(crate) mod table;
