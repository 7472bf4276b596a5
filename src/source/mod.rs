//! The running server: SQL session, discovery, page readers, redo tailer, locks, positions.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod binlog;
pub mod consumer;
mod corrupt;
pub mod discovery;
pub mod facts;
mod file_names;
pub mod files;
pub mod gives_way;
mod grants;
pub mod load;
pub mod locks;
mod mentions;
pub mod other_engines;
pub mod pages;
pub mod position;
pub mod priority;
pub mod privileges;
mod quiet;
pub mod replication;
pub mod session;
mod session_variables;
pub mod spool;
pub mod sql_error;
pub mod tailer;
pub mod uncached;
pub mod undo;
pub mod zeros;
