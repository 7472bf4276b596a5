//! Real servers for the integration tests, by way of `scripts/servers`.
//!
//! ```ignore
//! use crate::support::{Kind, Server};
//!
//! let server = Server::start(Kind::Mysql97, &["--innodb-redo-log-capacity=8M"]);
//! server.execute("CREATE DATABASE d");
//! assert_eq!(server.query("SELECT 1"), [["1"]]);
//! ```
//!
//! Whatever goes wrong with a server is a panic that shows its log: a test is never skipped for want of one.
#![allow(unreachable_pub)]
// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod census;
pub mod chains;
mod checks;
pub mod crafted;
pub mod crafted_ends;
pub mod encryption;
pub mod folders;
pub mod hostile;
pub mod imports;
pub mod innodb;
pub mod layered;
pub mod listening;
mod load;
pub mod measured;
pub mod network;
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
pub use load::{WriteLoad, check_load};
pub use random::{Random, seed};
pub use server::{Kind, Server, tool};
pub use streams::StreamMaker;
pub use workload::{Restart, Workload};
pub use zoo::Zoo;
