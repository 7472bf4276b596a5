//! Checks what a copy must have, and what its redo may not do, whichever way it is prepared.

use std::collections::BTreeSet;

use super::{Datadir, datafiles};
use crate::base::{Code, Error, Result, SpaceId};
use crate::innodb::redo::{FileChange, FileEvent, RedoHead};

/// Numbers of the undo tablespaces that every server has: it makes them itself, and they can't be dropped.
pub const UNDO_NUMBERS: [u32; 2] = [1, 2];

/// Refuses redo that says of itself that it does not cover all changes.
///
/// # Errors
/// [`Code::RedoDisabled`].
pub fn check_head(head: &RedoHead) -> Result<()> {
    let flags = head.flags;
    let what = match () {
        () if flags.is_logging_disabled() => "redo logging is disabled",
        () if flags.is_crash_unsafe() => "a crash is unsafe (redo logging was disabled)",
        () if flags.is_uninitialized() => "the datadir is still being initialised",
        () => return Ok(()),
    };
    Err(Error::new(Code::RedoDisabled, format!("the backup's redo says in its header that {what}"))
        .hint("ALTER INSTANCE ENABLE INNODB REDO_LOG on the source, then take the backup again"))
}

/// Refuses redo that takes a tablespace away without which no server starts. Truncating an undo tablespace deletes it under
/// one id and makes it again under the next.
///
/// # Errors
/// [`Code::CorruptRedo`].
pub fn check_events(events: &[FileEvent]) -> Result<()> {
    let mut undo_gone = BTreeSet::new();
    for event in events {
        let space = event.space;
        let verb = match event.what {
            FileChange::Create { .. } => "creates",
            FileChange::Rename { .. } => "renames",
            FileChange::Delete { .. } => "deletes",
            FileChange::Extend { .. } | FileChange::IndexLoad { .. } => continue,
        };
        let name = match space {
            SpaceId::SYSTEM => Some("the system tablespace"),
            SpaceId::DICTIONARY => Some("the dictionary (mysql.ibd)"),
            _ => None,
        };
        if let Some(name) = name {
            return Err(refused(format!("it {verb} {name} at LSN {}", event.lsn)));
        }
        let Some(number) = space.undo_number().filter(|n| UNDO_NUMBERS.contains(n)) else { continue };
        match event.what {
            FileChange::Create { .. } => drop(undo_gone.remove(&number)),
            FileChange::Delete { .. } => drop(undo_gone.insert(number)),
            _ => return Err(refused(format!("it renames undo tablespace {number} at LSN {}", event.lsn))),
        }
    }
    match undo_gone.first() {
        Some(number) => {
            Err(refused(format!("it deletes undo tablespace {number} and does not make it again")))
        }
        None => Ok(()),
    }
}

/// Makes sure that the files of a prepared copy hold what no server starts without.
///
/// # Errors
/// [`Code::Prepare`].
pub fn check_required(datadir: &Datadir<'_>) -> Result<()> {
    let files = datafiles::tablespaces(datadir)?;
    let undo: BTreeSet<u32> = files.keys().filter_map(|space| space.undo_number()).collect();
    check_spaces(files.contains_key(&SpaceId::DICTIONARY), &undo)
}

/// Makes sure that the dictionary and the undo tablespaces are there, by what is known of the files.
pub fn check_spaces(has_dictionary: bool, undo: &BTreeSet<u32>) -> Result<()> {
    let missing = match UNDO_NUMBERS.into_iter().find(|n| !undo.contains(n)) {
        _ if !has_dictionary => "mysql.ibd, the dictionary".to_owned(),
        Some(number) => format!("undo tablespace {number} (undo_{number:03})"),
        None => return Ok(()),
    };
    Err(Error::new(Code::Prepare, format!("the backup lacks {missing}"))
        .hint("no server recovers a copy without it: take the backup again"))
}

fn refused(what: String) -> Error {
    Error::new(Code::CorruptRedo, format!("the backup's redo can't be used: {what}"))
        .hint("no server writes such redo: look where the stream comes from")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Lsn;

    fn event(space: u32, what: FileChange) -> FileEvent {
        FileEvent { lsn: Lsn(1), space: SpaceId(space), what }
    }

    fn delete(space: u32) -> FileEvent {
        event(space, FileChange::Delete { path: b"./x".to_vec() })
    }

    fn create(space: u32) -> FileEvent {
        event(space, FileChange::Create { flags: 0, path: b"./undo_001".to_vec() })
    }

    #[test]
    fn undo_truncation_and_user_tables_pass() {
        check_events(&[delete(5), delete(0xFFFF_FFEF), create(0xFFFF_FF70)]).unwrap();
        // The third undo tablespace is a user's own.
        check_events(&[delete(0xFFFF_FFED)]).unwrap();
    }

    #[test]
    fn what_no_server_starts_without_stays() {
        let rename = |space| event(space, FileChange::Rename { from: b"./a".to_vec(), to: b"./b".to_vec() });
        for events in [
            vec![delete(0)],
            vec![delete(0xFFFF_FFFE)],
            vec![create(0xFFFF_FFFE)],
            vec![rename(0)],
            vec![rename(0xFFFF_FFEF)],
            vec![delete(0xFFFF_FFEF)],
            vec![create(0xFFFF_FF70), delete(0xFFFF_FF70)],
            vec![delete(0xFFFF_FFEE), create(0xFFFF_FF70)],
        ] {
            assert_eq!(check_events(&events).unwrap_err().code, Code::CorruptRedo, "{events:?}");
        }
    }
}
