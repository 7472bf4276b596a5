//! From received files to a datadir that a server starts on.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
