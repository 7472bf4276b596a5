//! The folder that a backup lands in: staged beside its place, renamed at the very end.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
