//! The options that choose the tables of a partial backup.

use std::path::{Path, PathBuf};

use crate::base::{Code, Error, Result};
use crate::source::selection::Selection;

/// Longest file with names that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// The options as typed.
#[derive(clap::Args, Debug)]
pub(super) struct SelectionArgs {
    /// Only these schemas and tables, separated by blanks: schema or schema.table. May be given again
    #[arg(long, value_name = "NAMES", help_heading = "Partial")]
    databases: Vec<String>,
    /// The same from a file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Partial")]
    databases_file: Option<PathBuf>,
    /// All but these schemas and tables
    #[arg(long, value_name = "NAMES", help_heading = "Partial")]
    databases_exclude: Vec<String>,
    /// The same from a file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Partial")]
    databases_exclude_file: Option<PathBuf>,
    /// Only tables in whose schema.table one of these regular expressions is found, separated by commas
    #[arg(long, value_name = "PATTERNS", help_heading = "Partial")]
    tables: Vec<String>,
    /// Only the tables in this file, schema.table one a line, by their exact names
    #[arg(long, value_name = "FILE", help_heading = "Partial")]
    tables_file: Option<PathBuf>,
    /// All but tables in whose schema.table one of these regular expressions is found
    #[arg(long, value_name = "PATTERNS", help_heading = "Partial")]
    tables_exclude: Vec<String>,
    /// All but the tables in this file, schema.table one a line
    #[arg(long, value_name = "FILE", help_heading = "Partial")]
    tables_exclude_file: Option<PathBuf>,
}

impl SelectionArgs {
    /// Returns the choice of tables.
    ///
    /// # Errors
    /// [`Code::Usage`] for a name or pattern that is none, and a file that can't be read.
    pub(super) fn selection(&self) -> Result<Selection> {
        let blanks = |texts: &[String]| split(texts, |c| c == ' ' || c == '\t');
        let commas = |texts: &[String]| split(texts, |c| c == ',');
        let mut selection = Selection::default();
        selection.include_names(&blanks(&self.databases))?;
        selection.exclude_names(&blanks(&self.databases_exclude))?;
        selection.include_matching(&commas(&self.tables))?;
        selection.exclude_matching(&commas(&self.tables_exclude))?;
        for (file, qualified, include) in [
            (&self.databases_file, false, true),
            (&self.databases_exclude_file, false, false),
            (&self.tables_file, true, true),
            (&self.tables_exclude_file, true, false),
        ] {
            let Some(file) = file else { continue };
            let names = lines(file, qualified)?;
            if include { selection.include_names(&names)? } else { selection.exclude_names(&names)? }
        }
        Ok(selection)
    }
}

/// The parts of all texts, without blanks around them.
pub(super) fn split(texts: &[String], at: fn(char) -> bool) -> Vec<String> {
    let parts = texts.iter().flat_map(|text| text.split(at));
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The names in a file, one a line. `qualified` ones must have a schema.
fn lines(path: &Path, qualified: bool) -> Result<Vec<String>> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
        .map_err(|e| Error::io(Code::Usage, format!("can't read {}", path.display()), e))?;
    let names: Vec<_> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Error::new(Code::Usage, format!("{} has no names", path.display())));
    }
    match names.iter().find(|name| qualified && !name.contains('.')) {
        Some(name) => Err(Error::new(
            Code::Usage,
            format!("'{}' in {} is not schema.table", name.escape_debug(), path.display()),
        )),
        None => Ok(names),
    }
}
