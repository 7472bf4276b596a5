//! Datafiles that the dictionary did not name: left out only where it is proved that no table needs them.
//!
//! A server leaves such files behind: of a statement that it did not end (`#sql-…`), of a table that was discarded. Others are
//! copies that somebody put there. The dictionary is asked again, by other views than before and whole: about the id that the
//! file's page 0 has, and about its path. What it knows by either is a tablespace that was missed, and then nothing else that
//! it said is to be believed. Ids are never given twice, so a file whose id neither a tablespace nor a table has is nobody's.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::{Code, Error, Result, SpaceId};
use crate::innodb::page::{Page0, Page0Error};
use crate::source::files;
use crate::source::server_facts::ServerFacts;
use crate::source::session::{Session, TextRow};

use crate::source::inventory::Inventory;

/// Bytes of page 0 at the most.
const HEAD: u64 = 64 << 10;
/// How often a view is asked whose rows are not as many as it says, and the pause in between.
const READS_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(200);

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
    let mut unknown = Vec::new();
    for path in strangers {
        let page0 = page0(path, facts.owner);
        let copied = page0.as_ref().ok().and_then(|space| found.datafiles.iter().find(|f| f.space == *space));
        match copied {
            Some(other) => found.notes.push(format!(
                "{} is a leftover: tablespace {} (id {}) is in {}: left out",
                path.display(),
                other.tablespace,
                other.space,
                other.path.display()
            )),
            None => unknown.push((path, page0)),
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let known = Known::read(session, unknown.iter().any(|(_, page0)| page0.is_ok()))?;
    for (path, page0) in unknown {
        let why = known.judged(&facts.datadir, path, page0)?;
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

/// The answers of the dictionary when it is asked again about files that nobody named.
#[derive(Debug, Default)]
struct Known {
    /// Ids of tablespaces, and whether they are discarded.
    tablespaces: BTreeMap<u32, bool>,
    /// Their paths as the dictionary spells them.
    paths: BTreeMap<String, u32>,
    /// The tables that live in a tablespace. Undo tablespaces have none.
    tables: BTreeMap<u32, String>,
}

impl Known {
    fn read(session: &mut Session, with_tables: bool) -> Result<Known> {
        let mut known = Known::default();
        for row in whole(session, "SPACE, STATE", "INNODB_TABLESPACES")? {
            known
                .tablespaces
                .insert(id(&row)?, row.get(1).is_some_and(|s| s.as_deref() == Some("discarded")));
        }
        for row in whole(session, "SPACE, PATH", "INNODB_DATAFILES")? {
            if let [_, Some(path)] = row.as_slice() {
                known.paths.insert(spelled(path).to_owned(), id(&row)?);
            }
        }
        if with_tables {
            for row in whole(session, "SPACE, NAME", "INNODB_TABLES")? {
                known.tables.insert(id(&row)?, row.get(1).cloned().flatten().unwrap_or_default());
            }
        }
        Ok(known)
    }

    /// Why the file may be left out.
    fn judged(&self, datadir: &Path, path: &Path, page0: Result<SpaceId, String>) -> Result<String> {
        let inside = path.strip_prefix(datadir).unwrap_or(path);
        let by_path = inside.to_str().and_then(|p| self.paths.get(p)).copied();
        let by_id = page0.as_ref().ok().map(|space| space.0);
        let mut discarded = false;
        for id in [by_path, by_id].into_iter().flatten() {
            let state = self.tablespaces.get(&id).copied();
            discarded |= state == Some(true);
            let table = self.tables.get(&id).filter(|_| by_id == Some(id));
            if state == Some(false) || state.is_none() && (by_path == Some(id) || table.is_some()) {
                let of = table.map(|name| format!(" of table {name}")).unwrap_or_default();
                return Err(missed(path, id, &of));
            }
        }
        match (discarded, page0) {
            (true, _) => Ok("belongs to a discarded tablespace".to_owned()),
            (false, Ok(space)) => {
                Ok(format!("is a leftover: the data dictionary has neither its id ({space}) nor its path"))
            }
            (false, Err(why)) => Ok(why),
        }
    }
}

fn missed(path: &Path, id: u32, of: &str) -> Error {
    Error::new(
        Code::SourceIncomplete,
        format!(
            "{} (tablespace {id}{of}) was not named by the data dictionary, and is known to it when it is asked again",
            path.display()
        ),
    )
    .hint("something cuts the server's answers short: look at its session defaults (sql_select_limit, for instance), then run the backup again")
}

/// A path relative to the datadir without its dot.
fn spelled(path: &str) -> &str {
    path.strip_prefix("./").unwrap_or(path)
}

fn id(row: &TextRow) -> Result<u32> {
    let id = row.first().and_then(|id| id.as_deref()).unwrap_or("NULL");
    // Some views have a signed column.
    let signed = || id.parse::<i32>().ok().map(i32::cast_unsigned);
    id.parse()
        .ok()
        .or_else(signed)
        .ok_or_else(|| Error::new(Code::SourceIncomplete, format!("{id} is no tablespace id")))
}

/// Reads all rows of a view of `information_schema`, and checks that there are as many as it says.
fn whole(session: &mut Session, columns: &str, view: &str) -> Result<Vec<TextRow>> {
    let mut said = String::new();
    for _ in 0..READS_MAX {
        let rows = session.query(&format!("SELECT {columns} FROM information_schema.{view}"))?;
        let count = session.scalar(&format!("SELECT COUNT(*) FROM information_schema.{view}"))?;
        if count.as_deref() == Some(rows.len().to_string().as_str()) {
            return Ok(rows);
        }
        said = format!("{view} gave {} rows of {}", rows.len(), count.as_deref().unwrap_or("NULL"));
        std::thread::sleep(PAUSE);
    }
    Err(Error::new(Code::SourceIncomplete, format!("the data dictionary is not clear: {said}")).hint(
        "look at the server's session defaults (sql_select_limit, for instance), then run the backup again",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            tablespaces: [(5, false), (6, true), (7, false), (4_294_967_279, false)].into(),
            paths: [("d/t.ibd", 5), ("d/gone.ibd", 6), ("/ext/g.ibd", 7), ("undo_001", 4_294_967_279)]
                .map(|(path, id)| (path.to_owned(), id))
                .into(),
            tables: [(5, "d/t".to_owned()), (9, "d/only_a_table".to_owned())].into(),
        }
    }

    fn judged(path: &str, page0: Result<u32, &str>) -> Result<String> {
        let page0 = page0.map(SpaceId).map_err(str::to_owned);
        known().judged(Path::new("/data"), Path::new(path), page0)
    }

    #[test]
    fn what_any_view_knows_is_no_orphan() {
        for (path, page0) in [
            ("/data/d/t.ibd", Ok(5)),
            // By its path alone, whatever is in it; by its id alone, wherever it is.
            ("/data/d/t.ibd", Ok(99)),
            ("/data/d/t.ibd", Err("is empty")),
            ("/ext/g.ibd", Ok(100)),
            ("/data/undo_001", Err("is empty")),
            ("/elsewhere/x.ibd", Ok(5)),
            // A table lives in it, though no tablespace has its id.
            ("/data/d/only_a_table.ibd", Ok(9)),
            // A tablespace that is discarded, and another one.
            ("/data/d/gone.ibd", Ok(5)),
        ] {
            assert_eq!(judged(path, page0).unwrap_err().code, Code::SourceIncomplete, "{path} {page0:?}");
        }
    }

    #[test]
    fn what_no_view_knows_is_left_out() {
        assert!(judged("/data/d/#sql-1.ibd", Ok(8)).unwrap().contains("neither its id (8)"));
        assert!(judged("/data/g.ibd", Ok(8)).unwrap().contains("leftover"), "another folder's path");
        assert_eq!(judged("/data/d/x.ibd", Err("is empty")).unwrap(), "is empty");
        for (path, page0) in
            [("/data/d/gone.ibd", Ok(6)), ("/data/d/gone.ibd", Ok(8)), ("/data/y.ibd", Ok(6))]
        {
            assert!(judged(path, page0).unwrap().contains("discarded"), "{path}");
        }
    }

    #[test]
    fn ids_of_both_kinds_of_columns() {
        let of = |text: Option<&str>| id(&vec![text.map(str::to_owned)]).ok();
        assert_eq!(of(Some("4294967294")), Some(u32::MAX - 1));
        assert_eq!(of(Some("-2")), Some(u32::MAX - 1));
        assert_eq!((of(Some("x")), of(None)), (None, None));
    }
}
