//! Walks the datadir and the other folders of the server: finds files of other engines, schemas without a file, and files that nobody named.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::{Code, Error, Result};
use crate::source::server_facts::ServerFacts;

use super::schemas::Schemas;
use crate::source::inventory::{Inventory, PlainFile};
use crate::source::member_names::text;

/// Suffixes of other engines' files: MyISAM, MERGE, CSV, ARCHIVE, and the serialised dictionary information of
/// every table that is not InnoDB's.
const PLAIN_SUFFIXES: &[&str] = &["MYD", "MYI", "MRG", "CSV", "CSM", "ARZ", "sdi"];
/// Suffixes of tablespaces.
const DATAFILE_SUFFIXES: &[&str] = &["ibd", "ibu"];
/// Files of the datadir itself that travel as they are.
const ROOT_FILES: &[(&str, &str)] =
    &[("ib_buffer_pool", "ib_buffer_pool"), ("mysqld-auto.cnf", "backup-mysqld-auto.cnf")];
/// Variables that name folders in which a server looks for tablespaces, some of them several.
const DATAFILE_FOLDERS: &[&str] = &["innodb_directories", "innodb_undo_directory", "innodb_data_home_dir"];

impl Inventory {
    /// Looks for files that the dictionary has no rows for, and gives those back that look like tablespaces.
    pub(super) fn walk(&mut self, facts: &ServerFacts, schemas: &Schemas) -> Result<Vec<PathBuf>> {
        for &(name, member) in ROOT_FILES {
            let path = facts.datadir.join(name);
            if path.symlink_metadata().is_ok() {
                self.plain.push(PlainFile { member: member.into(), path });
            }
        }
        let mut walk = Walk { known: BTreeSet::new(), strangers: Vec::new(), seen: BTreeSet::new() };
        for file in &self.datafiles {
            walk.known.insert(real(&file.path));
        }
        walk.strangers(&entries(&facts.datadir)?);
        for folder in entries(&facts.datadir)? {
            let name = folder.file_name().unwrap_or(OsStr::new("")).to_owned();
            let hidden = matches!(name.as_encoded_bytes().first(), Some(b'#' | b'.'));
            if folder.is_dir() && !hidden && name != "lost+found" {
                walk.seen.insert(real(&folder));
                self.walk_folder(facts, &folder, &mut walk, schemas)?;
            }
        }
        for variable in DATAFILE_FOLDERS {
            for folder in facts.variable(variable).split(';').filter(|f| !f.trim().is_empty()) {
                self.walk_known_folder(&facts.resolve(folder.trim()), &mut walk);
            }
        }
        Ok(walk.strangers)
    }

    fn walk_folder(
        &mut self,
        facts: &ServerFacts,
        folder: &Path,
        walk: &mut Walk,
        schemas: &Schemas,
    ) -> Result<()> {
        let name = folder.file_name().unwrap_or_default();
        let left_out = |why: &str| format!("folder {} {why}: left out", folder.display());
        let files = entries(folder);
        if files.is_err()
            && !name.to_str().is_some_and(|n| schemas.name(n))
            && !is_owned_by(folder, facts.owner)
        {
            self.notes.push(left_out("can't be read, and is not the server's"));
            return Ok(());
        }
        let has_datafile = files.iter().flatten().any(|path| walk.is_known(path));
        let schema = match name.to_str() {
            Some(schema) if has_datafile || schemas.have(schema) => schema,
            Some(_) => {
                walk.strangers(&files.unwrap_or_default());
                self.notes.push(left_out("is no schema's"));
                return Ok(());
            }
            None => {
                self.notes.push(left_out("has a name that no schema's has"));
                return Ok(());
            }
        };
        let files = files?;
        walk.strangers(&files);
        if !schemas.have(schema) {
            // The folder of undo tablespaces, for instance.
            return Ok(());
        }
        self.walk_schema(schema, &files, has_datafile)
    }

    fn walk_schema(&mut self, schema: &str, files: &[PathBuf], has_datafile: bool) -> Result<()> {
        let mut any = has_datafile;
        for path in files {
            let suffix = path.extension().and_then(OsStr::to_str).unwrap_or("");
            if PLAIN_SUFFIXES.contains(&suffix) && !path.is_dir() {
                any = true;
                let member = format!("{schema}/{}", text(path.file_name().unwrap_or(OsStr::new("")))?);
                self.plain.push(PlainFile { member, path: path.clone() });
            }
        }
        if !any {
            self.empty_schemas.push(schema.to_owned());
        }
        Ok(())
    }

    /// A folder outside the datadir, or elsewhere inside it, and the folders of schemas in it.
    fn walk_known_folder(&mut self, folder: &Path, walk: &mut Walk) {
        let mut folders = vec![(folder.to_owned(), 1)];
        while let Some((folder, deeper)) = folders.pop() {
            if !walk.seen.insert(real(&folder)) {
                continue;
            }
            let Ok(files) = entries(&folder) else {
                self.notes
                    .push(format!("folder {} can't be read: nothing was looked for there", folder.display()));
                continue;
            };
            walk.strangers(&files);
            if deeper > 0 {
                folders.extend(files.into_iter().filter(|f| f.is_dir()).map(|f| (f, deeper - 1)));
            }
        }
    }
}

/// Files and folders that were met so far.
struct Walk {
    /// Datafiles that the dictionary named, without links in their paths.
    known: BTreeSet<PathBuf>,
    /// Files that look like tablespaces and are not among them.
    strangers: Vec<PathBuf>,
    /// Folders that were walked.
    seen: BTreeSet<PathBuf>,
}

impl Walk {
    fn is_known(&self, path: &Path) -> bool {
        self.known.contains(path) || self.known.contains(&real(path))
    }

    fn strangers(&mut self, files: &[PathBuf]) {
        for path in files {
            if looks_like_datafile(path) && !self.is_known(path) && !path.is_dir() {
                self.strangers.push(path.clone());
            }
        }
    }
}

/// By its name: what a server looks into when it searches its folders for tablespaces.
fn looks_like_datafile(path: &Path) -> bool {
    let suffix = path.extension().and_then(OsStr::to_str).unwrap_or("");
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or("");
    let number = name.strip_prefix("undo_").unwrap_or("");
    DATAFILE_SUFFIXES.contains(&suffix) || number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit())
}

fn is_owned_by(path: &Path, owner: u32) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.uid() == owner)
}

/// The path without links in its folders.
fn real(path: &Path) -> PathBuf {
    let resolved = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    resolved().unwrap_or_else(|| path.to_owned())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(Code::SourceIo, format!("can't list {}", dir.display()), e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}
