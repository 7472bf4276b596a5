//! The way of the data on the receiving side, top to bottom.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
