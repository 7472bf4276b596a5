//! Real servers for the integration tests, by way of `scripts/servers`.
//!
//! ```ignore
//! mod support;
//! use support::{Kind, Server};
//!
//! let server = Server::start(Kind::Mysql97, &["--innodb-redo-log-capacity=8M"]);
//! server.execute("CREATE DATABASE d");
//! assert_eq!(server.query("SELECT 1"), [["1"]]);
//! ```
//!
//! Whatever goes wrong with a server is a panic that shows its log: a test is never skipped for want of one.
// Each test file uses its own part of this.
#![allow(dead_code, unused_imports, unreachable_pub)]
// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod census;
mod checks;
pub mod crafted;
pub mod crafted_ends;
pub mod folders;
pub mod hostile;
pub mod imports;
pub mod innodb;
pub mod layered;
pub mod line;
pub mod listening;
mod load;
pub mod measured;
pub mod pages;
pub mod pipe;
mod random;
pub mod relay;
mod server;
pub mod streams;
mod workload;
mod zoo;

pub use census::Census;
pub use checks::{assert_same, check_tables, checksums, definitions, gtid_executed};
pub use load::{Stats, WriteLoad, check_load};
pub use random::{Random, seed};
pub use server::{Kind, Server, tool};
pub use streams::StreamMaker;
pub use workload::{KINDS, Restart, Workload};
pub use zoo::Zoo;
