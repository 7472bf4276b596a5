//! The folder that a backup lands in: staged beside its place, renamed at the very end.
//!
//! * [`staging`]: the hidden folder, locked while its run lives, and how it takes the target's place.
//! * [`places`]: which file a member becomes. [`landing`]: chunks become files, in parallel.
//! * [`outside`]: files that lay outside the source's datadir, and how a killed run is taken back.
//! * [`sync`]: durable before it is announced.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod flusher;
pub mod handles;
pub mod hidden;
pub mod inside;
pub mod landing;
pub mod outside;
mod outside_journal;
pub mod owner;
pub mod places;
pub mod staging;
pub mod sync;

pub use landing::{Landing, Received, Work};
pub use outside::{Mapping, Outside};
pub use owner::Owner;
pub use places::Places;
pub use staging::{Staging, Target};
