//! Command lines, option files, words and progress.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
