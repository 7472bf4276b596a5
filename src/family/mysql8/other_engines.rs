//! Tables of engines other than InnoDB, and which file belongs to which.
//!
//! A file that is copied belongs to a table that was seen, and is locked and flushed meanwhile; or there is no backup. The
//! server shows an account only tables that it has some privilege on. What it can't hide are the files: every table that is
//! not InnoDB's has its dictionary information in `<first 16 characters>_<id>.sdi`, as JSON, in its schema's folder.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::{Code, Error, Result};

use crate::family::mysql8::privileges::Privileges;
use crate::source::file_names::is_spelled;
use crate::source::files;
use crate::source::server_facts::ServerFacts;
use crate::source::session::Session;

/// Engines whose tables have files that this tool copies, or none at all.
const KNOWN_ENGINES: &[&str] = &[
    "InnoDB",
    "MyISAM",
    "MRG_MYISAM",
    "CSV",
    "ARCHIVE",
    "BLACKHOLE",
    "MEMORY",
    "FEDERATED",
    "PERFORMANCE_SCHEMA",
];
/// Those among them whose tables have no data on disk: there is nothing to lock.
const WITHOUT_DATA: &[&str] = &["BLACKHOLE", "MEMORY", "FEDERATED", "PERFORMANCE_SCHEMA"];
/// The server's own logs, which can't be locked.
const LOGS: &[(&str, &str)] = &[("mysql", "general_log"), ("mysql", "slow_log")];
/// Most bytes of a table's dictionary information.
const SDI_MAX: u64 = 64 << 20;

/// A table that is not InnoDB's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Table {
    schema: String,
    name: String,
    engine: String,
}

/// The tables of other engines whose files travel.
#[derive(Debug)]
pub(super) struct OtherEngines {
    /// Those to be locked while their files are copied: schema and name.
    pub(super) locked: Vec<(String, String)>,
    sees_every_table: bool,
}

impl OtherEngines {
    /// Asks the dictionary, and holds the answer against the files.
    ///
    /// # Errors
    /// [`Code::Privilege`] for a table that the account can't see or can't lock, [`Code::Unsupported`] for one of an
    /// engine that can't be copied.
    pub(super) fn find(
        session: &mut Session,
        facts: &ServerFacts,
        privileges: &Privileges,
    ) -> Result<OtherEngines> {
        let shown = shown(session)?;
        let seen: BTreeSet<_> = shown.iter().map(|t| (t.schema.clone(), t.name.clone())).collect();
        let mut unseen = Vec::new();
        // To an account that sees every table, what it does not see is a leftover.
        let described = if privileges.sees_every_table() { Vec::new() } else { on_disk(facts)? };
        for table in described {
            let name = (table.schema.clone(), table.name.clone());
            if !seen.contains(&name) {
                check_engine(&table)?;
                unseen.push(name);
            }
        }
        shown.iter().try_for_each(check_engine)?;
        let locked: Vec<_> = shown
            .into_iter()
            .filter(|t| !WITHOUT_DATA.contains(&t.engine.as_str()))
            .map(|t| (t.schema, t.name))
            .filter(|(schema, name)| !LOGS.contains(&(schema.as_str(), name.as_str())))
            .collect();
        privileges.check_tables(&locked, &unseen)?;
        Ok(OtherEngines { locked, sees_every_table: privileges.sees_every_table() })
    }

    /// Whether a file of another engine (`schema/table.MYD`, encoded as files are) belongs to a table that is locked.
    pub(super) fn locks(&self, member: &str) -> bool {
        self.locked.iter().any(|(schema, name)| is_file_of(member, schema, name))
    }

    /// Decides about a file of another engine that belongs to no table that is locked: the server's logs and descriptions
    /// travel as they are, leftovers stay.
    ///
    /// # Errors
    /// [`Code::Privilege`] where it may belong to a table that the account can't see.
    pub(super) fn unlocked(&self, member: &str) -> Result<Unlocked> {
        // Descriptions change by DDL only, which waits.
        let is_log = LOGS.iter().any(|(schema, name)| is_file_of(member, schema, name));
        if member.ends_with(".sdi") || is_log {
            return Ok(Unlocked::Travels);
        }
        if self.sees_every_table {
            return Ok(Unlocked::Leftover);
        }
        Err(Error::new(
            Code::Privilege,
            format!("the file {member} belongs to no table that the account sees, and can't be copied without a lock"),
        )
        .hint("GRANT SELECT, LOCK TABLES ON *.* to the account; if it then is no table's, it is left out"))
    }
}

/// A file that needs no lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unlocked {
    /// It is copied.
    Travels,
    /// No table has it.
    Leftover,
}

fn check_engine(table: &Table) -> Result<()> {
    if KNOWN_ENGINES.contains(&table.engine.as_str()) {
        return Ok(());
    }
    Err(Error::new(
        Code::Unsupported,
        format!(
            "table `{}`.`{}` has engine {}, which xbsend can't copy",
            table.schema, table.name, table.engine
        ),
    )
    .hint("ALTER TABLE … ENGINE=InnoDB, or drop the table"))
}

/// Tables that the dictionary shows to this account.
fn shown(session: &mut Session) -> Result<Vec<Table>> {
    let rows = session.query(
        "SELECT TABLE_SCHEMA, TABLE_NAME, IFNULL(ENGINE, 'unknown') FROM information_schema.TABLES \
         WHERE TABLE_TYPE = 'BASE TABLE' AND IFNULL(ENGINE, '') <> 'InnoDB'",
    )?;
    rows.into_iter()
        .map(|row| match <[Option<String>; 3]>::try_from(row) {
            Ok([Some(schema), Some(name), Some(engine)]) => Ok(Table { schema, name, engine }),
            _ => Err(Error::new(Code::Sql, "information_schema.TABLES has a row without a name")),
        })
        .collect()
}

#[derive(Deserialize)]
struct Sdi {
    dd_object: Described,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    schema_ref: String,
    engine: String,
}

/// Tables that the `.sdi` files in folders of schemas describe.
fn on_disk(facts: &ServerFacts) -> Result<Vec<Table>> {
    let mut found = Vec::new();
    for folder in entries(&facts.datadir)? {
        if !folder.is_dir() || folder.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"#")) {
            continue;
        }
        // A folder that can't be listed is no schema's: the server could not either. Discovery says what becomes of it.
        let Ok(paths) = entries(&folder) else { continue };
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "sdi") && !p.is_dir()) {
            let mut text = String::new();
            let read = files::open(path, facts.owner).and_then(|f| f.take(SDI_MAX).read_to_string(&mut text));
            if let Err(e) = read {
                // Gone, or not the server's. Of a table that is there the data files have no lock, and are refused.
                tracing::debug!("{} is not read: {e}", path.display());
                continue;
            }
            // Tables in the making have files that are not whole yet; they have no rows in the dictionary either.
            let Ok(Sdi { dd_object: d }) = serde_json::from_str::<Sdi>(&text) else {
                tracing::debug!("{} is not understood", path.display());
                continue;
            };
            if d.engine != "PERFORMANCE_SCHEMA" && !LOGS.contains(&(d.schema_ref.as_str(), d.name.as_str())) {
                found.push(Table { schema: d.schema_ref, name: d.name, engine: d.engine });
            }
        }
    }
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(Code::SourceIo, format!("can't list {}", dir.display()), e);
    std::fs::read_dir(dir).map_err(failed)?.map(|e| Ok(e.map_err(failed)?.path())).collect()
}

/// Whether `member` is a data file of this table.
fn is_file_of(member: &str, schema: &str, name: &str) -> bool {
    let Some((folder, file)) = member.split_once('/') else { return false };
    let Some((stem, _)) = file.rsplit_once('.') else { return false };
    is_spelled(folder.as_bytes(), schema) && is_spelled(stem.as_bytes(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_table() {
        assert!(is_file_of("d@002d/m.MYD", "d-", "m"));
        assert!(!is_file_of("d/m.MYD", "e", "m"));
        assert!(!is_file_of("m.MYD", "", "m"));
    }

    #[test]
    fn a_file_without_a_lock_is_a_log_a_leftover_or_refused() {
        let mut found = OtherEngines { locked: vec![("d".into(), "m".into())], sees_every_table: true };
        assert!(found.locks("d/m.MYD"));
        assert!(!found.locks("d/n.MYD"));
        assert_eq!(found.unlocked("mysql/general_log.CSV").unwrap(), Unlocked::Travels);
        assert_eq!(found.unlocked("d/n_9.sdi").unwrap(), Unlocked::Travels);
        assert_eq!(found.unlocked("d/n.MYD").unwrap(), Unlocked::Leftover);
        found.sees_every_table = false;
        assert_eq!(found.unlocked("d/n.MYD").unwrap_err().code, Code::Privilege);
    }
}
