//! Datafiles that the dictionary did not name: left out only where it is proved that no table needs them.
//!
//! A server leaves such files behind: of a statement that it did not end (`#sql-…`), of a table that was discarded. Others are
//! copies that somebody put there. The dictionary is asked again, for this file alone: by the id that its page 0 has, and by its
//! path. What it knows by either is a tablespace that was missed, and then nothing else that it said is to be believed.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::base::{Code, Error, Result, SpaceId};
use crate::innodb::page::{Page0, Page0Error};
use crate::source::facts::ServerFacts;
use crate::source::files;
use crate::source::session::Session;

use super::Inventory;

/// Bytes of page 0 at the most.
const HEAD: u64 = 64 << 10;

/// Looks at each of the `strangers`; what is left out gets a note.
///
/// # Errors
/// [`Code::SourceIncomplete`] for a file that the dictionary knows when it is asked again.
pub(super) fn check(
    session: &mut Session,
    facts: &ServerFacts,
    strangers: &[PathBuf],
    found: &mut Inventory,
) -> Result<()> {
    for path in strangers {
        let why = match page0(path, facts.owner) {
            Err(why) => why,
            Ok(space) => judged(session, facts, path, space, found)?,
        };
        found.notes.push(format!("{} {why}: left out", path.display()));
    }
    Ok(())
}

/// The space id that the file's page 0 has, or why it is no tablespace.
fn page0(path: &Path, owner: u32) -> Result<SpaceId, String> {
    let read = || {
        let file = files::open(path, owner)?;
        let mut head = vec![0; file.metadata()?.len().min(HEAD) as usize];
        file.read_exact_at(&mut head, 0)?;
        Ok::<_, std::io::Error>(head)
    };
    let head = read().map_err(|e| format!("is unknown to the data dictionary and can't be read ({e})"))?;
    let said = |e: Page0Error| format!("is unknown to the data dictionary and no tablespace ({e})");
    Page0::read(&head).map(|page0| page0.space).map_err(said)
}

/// Why the file may be left out.
fn judged(
    session: &mut Session,
    facts: &ServerFacts,
    path: &Path,
    space: SpaceId,
    found: &Inventory,
) -> Result<String> {
    if let Some(other) = found.datafiles.iter().find(|f| f.space == space) {
        return Ok(format!(
            "is a leftover: tablespace {} (id {space}) is in {}",
            other.tablespace,
            other.path.display()
        ));
    }
    let by_id = rows(session, &format!("SPACE = {space}"))?;
    let by_path = match path.strip_prefix(&facts.datadir) {
        Ok(inside) => {
            in_dictionary(session, &[&format!("./{}", inside.display()), &inside.display().to_string()])?
        }
        Err(_) => in_dictionary(session, &[&path.display().to_string()])?,
    };
    match (by_id, by_path) {
        (None, None) => Ok(format!("is a leftover: the data dictionary has neither its id ({space}) nor its path")),
        (Some(state), _) | (None, Some(state)) if state == "discarded" => {
            Ok("belongs to a discarded tablespace".to_owned())
        }
        _ => Err(Error::new(
            Code::SourceIncomplete,
            format!("{} (tablespace {space}) was not named by the data dictionary, and is known to it when it is asked again", path.display()),
        )
        .hint("something cuts the server's answers short: look at its session defaults (sql_select_limit, for instance), then run the backup again")),
    }
}

/// The state of the tablespace that the dictionary knows under one of these paths.
fn in_dictionary(session: &mut Session, paths: &[&str]) -> Result<Option<String>> {
    let mut conditions = Vec::new();
    for path in paths {
        let hex: String = path.bytes().map(|b| format!("{b:02x}")).collect();
        conditions.push(format!("CAST(PATH AS BINARY) = 0x{hex}"));
    }
    let asked = format!(
        "SPACE IN (SELECT SPACE FROM information_schema.INNODB_DATAFILES WHERE {})",
        conditions.join(" OR ")
    );
    rows(session, &asked)
}

fn rows(session: &mut Session, condition: &str) -> Result<Option<String>> {
    // One row that can't be cut: how many there are, and the state of one.
    let sql =
        format!("SELECT COUNT(*), MIN(STATE) FROM information_schema.INNODB_TABLESPACES WHERE {condition}");
    match session.query(&sql)?.first().map(Vec::as_slice) {
        Some([Some(count), _]) if count == "0" => Ok(None),
        Some([Some(_), state]) => Ok(Some(state.clone().unwrap_or_default())),
        _ => Err(Error::new(Code::Sql, format!("`{sql}` gave no count"))),
    }
}
