//! Undo tablespaces that the server truncates by itself while a backup runs.
//!
//! Truncation makes a new file under the old path with a new space id. All of it is in the redo log, so a copy is
//! whole if it ends before a truncation began or after it was over. In between the server relies on a marker file,
//! `undo_<number>_trunc.log` (trx0purge.cc, `undo::start_logging` and `undo::done_logging`), which does not travel.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::base::{Code, Error, Result};

use super::facts::ServerFacts;
use super::session::Session;

/// What a marker begins with once the truncation is over (`undo::s_magic`).
const DONE: [u8; 4] = 76_845_412u32.to_be_bytes();

/// Space ids of all undo tablespaces: a truncation changes one.
pub fn ids(session: &mut Session) -> Result<BTreeSet<String>> {
    let rows = session.query("SELECT FILE_ID FROM information_schema.FILES WHERE FILE_TYPE = 'UNDO LOG'")?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

/// Whether a truncation is under way.
pub fn truncation_runs(facts: &ServerFacts) -> Result<bool> {
    let dirs: BTreeSet<PathBuf> = ["innodb_undo_directory", "innodb_log_group_home_dir", "datadir"]
        .map(|v| facts.resolve(facts.variable(v)))
        .into();
    for dir in dirs {
        let failed = |e| Error::io(Code::SourceIo, format!("can't list {}", dir.display()), e);
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            if name.starts_with("undo_") && name.ends_with("_trunc.log") {
                // A marker that goes away meanwhile is over.
                let over = std::fs::read(&path).map_or(true, |bytes| bytes.starts_with(&DONE));
                if !over {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}
