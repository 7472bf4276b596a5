//! The running server: SQL session, discovery, page readers, redo tailer, locks, positions.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backup_position;
pub mod binlog;
mod catch_panic;
pub mod consumer;
mod corrupt;
pub mod discovery;
mod file_names;
pub mod files;
mod grants;
pub mod load_sampler;
pub mod locks;
pub mod low_priority_reads;
pub mod other_engines;
pub mod pages;
pub mod priority;
pub mod privileges;
mod redo_page_list;
pub mod replication;
pub mod server_facts;
pub mod session;
mod session_variables;
pub mod spool;
pub mod sql_error;
pub mod tailer;
pub mod uncached_reads;
pub mod undo;
pub mod zero_pages;
