//! Writes a backup to its target folder: staged beside its place, renamed at the very end.
//!
//! * [`staging`]: the hidden folder, locked while its run lives, and how it takes the target's place.
//! * [`path_map`]: which file a member becomes. [`file_writer`]: chunks become files, in parallel.
//! * [`external_files`]: files that lay outside the source's datadir, and how a killed run is taken back.
//! * [`overlay`]: lays an increment over the datafiles of the backup before it; `arriving_overlay`: while it arrives.
//! * [`durability`]: durable before it is announced.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod arriving_overlay;
pub mod clone_file;
pub mod durability;
pub mod external_files;
mod external_journal;
pub mod file_cache;
pub mod file_writer;
pub mod flusher;
pub mod keyring_file;
pub mod overlay;
pub mod owner;
pub mod path_map;
pub mod publish_in_place;
pub mod staging;
pub mod staging_lock;
mod write;

pub use external_files::{ExternalFiles, Mapping};
pub use file_writer::{FileWriter, Received, WriteTask};
pub use owner::Owner;
pub use path_map::PathMap;
pub use staging::{Staging, Target};
