//! Errors about datafiles of the server that are not sound.

use std::path::Path;

use crate::base::{Code, Error};

/// The way out where a page is corrupt.
pub const CORRUPT_HINT: &str = "a backup of it would be corrupt too: CHECK TABLE finds the table, \
                            then restore it from an older backup or rebuild it from its readable rows";

/// A datafile that lacks pages which its tablespace has.
pub fn too_short(path: &Path, bytes: u64, needed: u64) -> Error {
    Error::new(
        Code::SourceIncomplete,
        format!("{} has {bytes} bytes, and its tablespace at least {needed}", path.display()),
    )
    .hint("the file was cut or emptied: restore it, or drop its tablespace, since a backup of it would not be whole either")
}
