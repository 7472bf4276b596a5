//! The running server, as far as all families are alike: SQL sessions, facts, page readers, the redo tailer, the spool, and the types
//! that a family's own answers come in.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backup_position;
pub mod binlog;
mod catch_panic;
pub mod changed_pages;
pub mod corrupt;
pub mod extents;
pub mod file_names;
pub mod files;
pub mod inventory;
pub mod load_sampler;
pub mod locks;
pub mod low_priority_reads;
pub mod member_names;
pub mod page_filter;
pub mod pages;
pub mod priority;
pub mod replication;
pub mod selection;
pub mod server_facts;
pub mod session;
mod session_variables;
pub mod spool;
pub mod sql_error;
mod system_tablespace;
pub mod tailer;
pub mod uncached_reads;
pub mod zero_pages;
