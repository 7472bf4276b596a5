//! The running server: SQL session, discovery, page readers, redo tailer, locks, positions.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod binlog;
pub mod consumer;
pub mod discovery;
pub mod facts;
pub mod files;
pub mod gives_way;
pub mod load;
pub mod locks;
mod mentions;
pub mod pages;
pub mod position;
pub mod priority;
pub mod privileges;
pub mod session;
pub mod spool;
pub mod tailer;
pub mod uncached;
pub mod undo;
pub mod zeros;
