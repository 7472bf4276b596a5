//! Asks the data dictionary for all tablespaces: two views, whose answers must agree and are counted.
//!
//! `information_schema.FILES` takes its id and type from the server's open files: both are NULL for a tablespace that is
//! discarded, and for one whose file is just being made new (an undo tablespace that is truncated). `INNODB_TABLESPACES`
//! takes its id from the dictionary itself. What one has and the other lacks is asked for again, and then is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::base::{Code, Error, Result, SpaceId};
use crate::source::session::{Session, TextRow};

/// Time that the two views may differ; and how long where it is about undo tablespaces, which the server truncates by itself.
const PATIENCE: Duration = Duration::from_secs(10);
const UNDO_PATIENCE: Duration = Duration::from_secs(120);
/// Pause before they are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// A tablespace with a file.
#[derive(Debug)]
pub(super) struct Tablespace {
    pub(super) space: SpaceId,
    /// As the dictionary spells it: absolute, or relative to a folder that depends on what it is.
    pub(super) file: String,
    pub(super) undo: bool,
    pub(super) name: String,
}

/// The tablespaces but for the system's and temporary ones, which no view is needed for.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    pub(super) tablespaces: Vec<Tablespace>,
    discarded: BTreeSet<String>,
}

/// Why the views can't be believed yet.
#[derive(Debug)]
struct Doubt {
    words: String,
    undo: bool,
}

impl Dictionary {
    /// Asks until the views agree.
    ///
    /// # Errors
    /// [`Code::SourceIncomplete`] where they don't.
    pub(super) fn read(session: &mut Session) -> Result<Dictionary> {
        let begun = Instant::now();
        loop {
            let doubt = match Views::read(session)?.compared() {
                Ok(dictionary) => return Ok(dictionary),
                Err(doubt) => doubt,
            };
            let patience = if doubt.undo { UNDO_PATIENCE } else { PATIENCE };
            if begun.elapsed() > patience {
                return Err(Error::new(
                    Code::SourceIncomplete,
                    format!(
                        "the data dictionary does not say clearly which tablespaces there are: {}",
                        doubt.words
                    ),
                )
                .hint("look into the server's error log for this tablespace; the account needs PROCESS"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Words about tablespaces that have no file.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> + '_ {
        self.discarded.iter().map(|name| format!("tablespace {name} is discarded and has no file: left out"))
    }
}

/// The answers of the views.
struct Views {
    files: Vec<TextRow>,
    tablespaces: Vec<TextRow>,
    /// How many rows each has, by its own word.
    counts: [Option<String>; 2],
}

impl Views {
    fn read(session: &mut Session) -> Result<Views> {
        Ok(Views {
            files: session.query(
                "SELECT FILE_ID, FILE_NAME, FILE_TYPE, TABLESPACE_NAME FROM information_schema.FILES \
                 WHERE ENGINE = 'InnoDB' ORDER BY FILE_ID DESC",
            )?,
            tablespaces: session
                .query("SELECT SPACE, NAME, STATE, SPACE_TYPE FROM information_schema.INNODB_TABLESPACES")?,
            counts: [
                session.scalar("SELECT COUNT(*) FROM information_schema.FILES WHERE ENGINE = 'InnoDB'")?,
                session.scalar("SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES")?,
            ],
        })
    }

    fn compared(self) -> Result<Dictionary, Doubt> {
        let doubt = |words: String| Doubt { words, undo: false };
        for (rows, count) in [&self.files, &self.tablespaces].into_iter().zip(&self.counts) {
            if count.as_deref() != Some(rows.len().to_string().as_str()) {
                let count = count.as_deref().unwrap_or("an unknown number of");
                return Err(doubt(format!("it gave {} rows of {count}", rows.len())));
            }
        }
        let mut known = BTreeMap::new();
        let mut dictionary = Dictionary::default();
        for row in &self.tablespaces {
            let [Some(id), Some(name), state, kind] = row.as_slice() else {
                return Err(doubt("a row of INNODB_TABLESPACES has no id or name".into()));
            };
            let id: u32 = id.parse().map_err(|_| doubt(format!("{id} is no tablespace id")))?;
            let undo = kind.as_deref() == Some("Undo");
            if state.as_deref() == Some("discarded") {
                dictionary.discarded.insert(name.clone());
            } else if SpaceId(id) != SpaceId::TEMPORARY {
                known.insert(SpaceId(id), (name.as_str(), undo));
            }
        }
        let undo_names: BTreeSet<&str> =
            known.values().filter(|(_, undo)| *undo).map(|(name, _)| *name).collect();
        for row in &self.files {
            dictionary.take(row, &undo_names)?;
        }
        let found: BTreeSet<SpaceId> = dictionary.tablespaces.iter().map(|t| t.space).collect();
        match known.iter().find(|(space, _)| !found.contains(space)) {
            Some((space, (name, undo))) => {
                Err(Doubt { words: format!("FILES lacks tablespace {name} (id {space})"), undo: *undo })
            }
            None => Ok(dictionary),
        }
    }
}

impl Dictionary {
    fn take(&mut self, row: &TextRow, undo_names: &BTreeSet<&str>) -> Result<(), Doubt> {
        let [id, file, kind, name] = row.as_slice() else {
            return Err(Doubt { words: "a row of FILES has other columns".into(), undo: false });
        };
        let shown = name.as_deref().or(file.as_deref()).unwrap_or("without a name");
        let doubt = |what: &str| Doubt {
            words: format!("tablespace {shown} has {what}"),
            undo: undo_names.contains(shown),
        };
        if kind.as_deref() == Some("TEMPORARY") || name.as_ref().is_some_and(|n| self.discarded.contains(n)) {
            return Ok(());
        }
        let (Some(id), Some(kind)) = (id, kind) else { return Err(doubt("no id, so no open file")) };
        let space = SpaceId(id.parse().map_err(|_| doubt("an id that is none"))?);
        if space == SpaceId::SYSTEM {
            return Ok(());
        }
        let undo = match kind.as_str() {
            "TABLESPACE" => false,
            "UNDO LOG" => true,
            _ => return Err(doubt("a type that is not known")),
        };
        let Some(file) = file else { return Err(doubt("no file name")) };
        let name = name.as_ref().unwrap_or(file).clone();
        self.tablespaces.push(Tablespace { space, file: file.clone(), undo, name });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: [Option<&str>; 4]) -> TextRow {
        values.map(|v| v.map(str::to_owned)).to_vec()
    }

    fn views() -> Views {
        let files = vec![
            row([Some("0"), Some("./ibdata1"), Some("TABLESPACE"), Some("innodb_system")]),
            row([Some("4294967293"), Some("./ibtmp1"), Some("TEMPORARY"), Some("innodb_temporary")]),
            row([Some("4294967279"), Some("./undo_001"), Some("UNDO LOG"), Some("innodb_undo_001")]),
            row([Some("5"), Some("./d/t.ibd"), Some("TABLESPACE"), Some("d/t")]),
            row([None, Some("./d/gone.ibd"), None, Some("d/gone")]),
        ];
        let tablespaces = vec![
            row([Some("4294967293"), Some("innodb_temporary"), Some("normal"), Some("System")]),
            row([Some("4294967279"), Some("innodb_undo_001"), Some("active"), Some("Undo")]),
            row([Some("5"), Some("d/t"), Some("normal"), Some("Single")]),
            row([Some("6"), Some("d/gone"), Some("discarded"), Some("Single")]),
        ];
        Views { files, tablespaces, counts: [Some("5".into()), Some("4".into())] }
    }

    #[test]
    fn views_that_agree_are_believed() {
        let dictionary = views().compared().unwrap();
        let names: Vec<_> = dictionary.tablespaces.iter().map(|t| (t.name.as_str(), t.undo)).collect();
        assert_eq!(names, [("innodb_undo_001", true), ("d/t", false)]);
        assert_eq!(dictionary.notes().count(), 1);
    }

    #[test]
    fn no_row_is_dropped_silently() {
        for lost in 0..5 {
            let mut short = views();
            short.files.remove(lost);
            assert!(short.compared().is_err(), "a row that was cut off: {lost}");
        }
        // A row that is missing from one view and its count. The system's and temporary ones need none.
        for lost in 2..4 {
            let mut short = views();
            short.files.remove(lost);
            short.counts[0] = Some("4".into());
            let doubt = short.compared().unwrap_err();
            assert_eq!(doubt.undo, lost == 2);
        }
        // An undo tablespace that is being truncated.
        for column in [0, 2] {
            let mut truncated = views();
            truncated.files[2][column] = None;
            assert!(truncated.compared().unwrap_err().undo);
        }
        let mut unopened = views();
        unopened.files[3][0] = None;
        assert!(!unopened.compared().unwrap_err().undo);
    }
}
