//! The way of the data on the sending side, top to bottom.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
