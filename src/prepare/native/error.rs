//! Errors that several steps of native prepare give.

use crate::base::{Code, Error, Lsn};
use crate::innodb::encryption::NoKey;

/// Redo, or a page, that can't be read without a key.
pub(crate) fn encrypted(what: impl std::fmt::Display, lacking: &NoKey) -> Error {
    let hint = match lacking {
        NoKey::NotGiven(_) => {
            "give the server's keyring file with --keyring; or receive with --prepare=none and start your own server, which has \
             the keys, on the copy"
        }
        NoKey::Missing(_) | NoKey::Wrong(_) => {
            "give the keyring file of the server that the backup is of, with all its keys; or receive with --prepare=none and \
             start a server that has them on the copy"
        }
        NoKey::Unknown => {
            "receive with --prepare=none and start your own server, which has the keys, on the copy"
        }
    };
    Error::new(Code::Encrypted, format!("{what} is encrypted: it {lacking}")).hint(hint)
}

/// Redo that can't be applied.
pub(crate) fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::new(Code::CorruptRedo, format!("the backup's redo can't be used: {what}"))
        .hint("take the backup again; if it happens again, report it")
}

/// Redo records that find no room, in memory or in their file.
pub(crate) fn spill_error(e: std::io::Error) -> Error {
    if e.kind() == std::io::ErrorKind::OutOfMemory {
        return Error::new(Code::Prepare, "there is no memory for redo records")
            .cause(e)
            .hint("make --use-memory smaller");
    }
    Error::io(Code::TargetIo, "a file for redo records", e)
}

/// Redo that ends too early.
pub(crate) fn too_short(end: Lsn, wanted: Lsn, what: &str) -> Error {
    corrupt(format!("it ends at LSN {end}, before {what} {wanted}"))
}
