//! InnoDB's on-disk structures: pages and redo. Pure: bytes in, values out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod apply;
mod bytes;
pub mod dictionary;
pub mod encryption;
pub mod page;
pub mod page_tracking;
pub mod redo;
pub mod sdi;
pub mod undo;
