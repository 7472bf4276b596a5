//! What must travel: every tablespace the data dictionary knows, the files of other engines, and nothing else.
//!
//! The data dictionary (`information_schema.FILES`) says which tablespaces there are; the file system says
//! whether their files are. A file that the dictionary names and the file system lacks fails the backup. It is
//! read while `LOCK INSTANCE FOR BACKUP` is held, so no DDL changes it meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::{Code, Error, Result, SpaceId};

use super::facts::ServerFacts;
use super::session::Session;

/// A file of a tablespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Datafile {
    /// Name in the stream, relative to the datadir.
    pub member: String,
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Tablespace.
    pub space: SpaceId,
    /// Bytes when it was found.
    pub bytes: u64,
    /// Which file of the system tablespace this is; 0 for every other tablespace.
    pub part: usize,
}

/// A file that is copied as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainFile {
    /// Name in the stream, relative to the datadir.
    pub member: String,
    /// Where it is on this machine.
    pub path: PathBuf,
}

/// A tablespace file outside the datadir.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalFile {
    /// Name in the stream.
    pub member: String,
    /// Absolute path on the source.
    pub path: PathBuf,
    /// Name of the tablespace in the dictionary.
    pub tablespace: String,
    /// `single`, `general`, `undo` or `system`.
    pub kind: &'static str,
}

/// Everything that travels.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Tablespace files; the parts of the system tablespace come first and in order.
    pub datafiles: Vec<Datafile>,
    /// Which of them lie outside the datadir.
    pub external: Vec<ExternalFile>,
    /// Files that are copied without a lock: dictionary leftovers of non-InnoDB tables, log tables.
    pub plain: Vec<PlainFile>,
    /// Files of user tables of other engines, to be copied under a read lock.
    pub locked: Vec<PlainFile>,
    /// Those tables: schema and name.
    pub locked_tables: Vec<(String, String)>,
    /// Schema folders (file-name encoded) without any file.
    pub empty_schemas: Vec<String>,
    /// Words for the user about what was left out.
    pub notes: Vec<String>,
}

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
/// Suffixes of other engines' files: MyISAM, MERGE, CSV, ARCHIVE, and the serialised dictionary information of
/// every table that is not InnoDB's.
const PLAIN_SUFFIXES: &[&str] = &["MYD", "MYI", "MRG", "CSV", "CSM", "ARZ", "sdi"];
/// Schemas whose non-InnoDB tables are the server's own and can't be locked.
const SYSTEM_SCHEMAS: &[&str] = &["mysql", "performance_schema", "information_schema", "sys"];
/// Files of the datadir itself that travel as they are.
const ROOT_FILES: &[(&str, &str)] =
    &[("ib_buffer_pool", "ib_buffer_pool"), ("mysqld-auto.cnf", "backup-mysqld-auto.cnf")];

/// A row of `information_schema.FILES`.
struct Tablespace {
    space: SpaceId,
    file: String,
    undo: bool,
    name: String,
}

impl Inventory {
    /// Bytes of datafiles.
    pub fn bytes(&self) -> u64 {
        self.datafiles.iter().map(|f| f.bytes).sum()
    }

    /// Looks for everything.
    ///
    /// # Errors
    /// [`Code::SourceIncomplete`] for a tablespace without its file, [`Code::Unsupported`] for tables of an engine
    /// that can't be copied, [`Code::SourceIo`].
    pub fn take(session: &mut Session, facts: &ServerFacts) -> Result<Inventory> {
        let mut found = Inventory::default();
        found.other_engines(session)?;
        found.system_tablespace(facts)?;
        for tablespace in tablespaces(session)? {
            found.tablespace(session, facts, tablespace)?;
        }
        found.walk(&facts.datadir)?;
        found.check_names()?;
        Ok(found)
    }

    fn other_engines(&mut self, session: &mut Session) -> Result<()> {
        let rows = session.query(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES \
             WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE <> 'InnoDB'",
        )?;
        for row in rows {
            let [Some(schema), Some(table), Some(engine)] = row.as_slice() else { continue };
            if !KNOWN_ENGINES.contains(&engine.as_str()) {
                return Err(Error::new(
                    Code::Unsupported,
                    format!("table `{schema}`.`{table}` has engine {engine}, which xbsend can't copy"),
                )
                .hint("ALTER TABLE … ENGINE=InnoDB, or drop the table"));
            }
            if !SYSTEM_SCHEMAS.contains(&schema.as_str()) {
                self.locked_tables.push((schema.clone(), table.clone()));
            }
        }
        Ok(())
    }

    /// The system tablespace is the concatenation of the files of `innodb_data_file_path`, in that order.
    fn system_tablespace(&mut self, facts: &ServerFacts) -> Result<()> {
        let home = facts.resolve(facts.variable("innodb_data_home_dir"));
        let spec = facts.variable("innodb_data_file_path");
        for (part, entry) in spec.split(';').filter(|e| !e.trim().is_empty()).enumerate() {
            let name = entry.split(':').next().unwrap_or("").trim();
            if entry.ends_with("raw") {
                return Err(Error::new(
                    Code::Unsupported,
                    format!("system tablespace file {name} is a raw device"),
                )
                .hint("raw devices can't be backed up by xbsend"));
            }
            let path = home.join(name.trim_start_matches("./"));
            self.add(facts, path, SpaceId::SYSTEM, part, "innodb_system", "system")?;
        }
        Ok(())
    }

    fn tablespace(&mut self, session: &mut Session, facts: &ServerFacts, t: Tablespace) -> Result<()> {
        let kind = match (t.undo, t.name.contains('/')) {
            (true, _) => "undo",
            (false, true) => "single",
            (false, false) => "general",
        };
        let path = facts.resolve(&t.file);
        if !path.exists() {
            if is_discarded(session, t.space)? {
                self.notes.push(format!("tablespace {} is discarded and has no file: left out", t.name));
                return Ok(());
            }
            return Err(Error::new(
                Code::SourceIncomplete,
                format!("tablespace {} (id {}) has no file at {}", t.name, t.space, path.display()),
            )
            .hint("the server needs this file too: look into its error log; a backup without it would not be whole"));
        }
        self.add(facts, path, t.space, 0, &t.name, kind)
    }

    fn add(
        &mut self,
        facts: &ServerFacts,
        path: PathBuf,
        space: SpaceId,
        part: usize,
        name: &str,
        kind: &'static str,
    ) -> Result<()> {
        let metadata = path
            .metadata()
            .map_err(|e| Error::io(Code::SourceIo, format!("can't read {}", path.display()), e))?;
        let inside = path.strip_prefix(&facts.datadir).ok().map(Path::to_path_buf).or_else(|| {
            // The server may spell its datadir through a symbolic link.
            let parent = path.parent()?.canonicalize().ok()?;
            Some(parent.strip_prefix(&facts.datadir).ok()?.join(path.file_name()?))
        });
        let member = match &inside {
            Some(relative) => text(relative.as_os_str())?,
            None => {
                let member = self.external_member(&path, space, kind)?;
                let tablespace = name.to_owned();
                self.external.push(ExternalFile {
                    member: member.clone(),
                    path: path.clone(),
                    tablespace,
                    kind,
                });
                member
            }
        };
        self.datafiles.push(Datafile { member, path, space, bytes: metadata.len(), part });
        Ok(())
    }

    /// `<dir>/<schema>/<table>.ibd` of `DATA DIRECTORY` keeps its last two components, other files their name.
    fn external_member(&self, path: &Path, space: SpaceId, kind: &str) -> Result<String> {
        let keep = if kind == "single" { 2 } else { 1 };
        let components: Vec<_> = path.components().collect();
        let tail: PathBuf = components[components.len().saturating_sub(keep)..].iter().collect();
        let member = text(tail.as_os_str())?;
        let taken = self.datafiles.iter().any(|f| f.member == member);
        Ok(if taken { format!("external_{space}_{}", member.replace('/', "_")) } else { member })
    }

    /// Files that the dictionary has no rows for: those of other engines, and folders of schemas without a file.
    fn walk(&mut self, datadir: &Path) -> Result<()> {
        for &(name, member) in ROOT_FILES {
            let path = datadir.join(name);
            if path.is_file() {
                self.plain.push(PlainFile { member: member.into(), path });
            }
        }
        let known: BTreeSet<PathBuf> = self.datafiles.iter().map(|f| f.path.clone()).collect();
        for folder in entries(datadir)? {
            let name = folder.file_name().unwrap_or(OsStr::new("")).to_owned();
            if !folder.is_dir()
                || name == "lost+found"
                || name.as_encoded_bytes().starts_with(b"#")
                || name.as_encoded_bytes().starts_with(b".")
            {
                continue;
            }
            self.walk_schema(&folder, &text(&name)?, &known)?;
        }
        Ok(())
    }

    fn walk_schema(&mut self, folder: &Path, schema: &str, known: &BTreeSet<PathBuf>) -> Result<()> {
        let mut any = false;
        for path in entries(folder)? {
            let suffix = path.extension().and_then(OsStr::to_str).unwrap_or("");
            if known.contains(&path) {
                any = true;
            } else if PLAIN_SUFFIXES.contains(&suffix) && path.is_file() {
                any = true;
                let member = format!("{schema}/{}", text(path.file_name().unwrap_or(OsStr::new("")))?);
                let list = if SYSTEM_SCHEMAS.contains(&schema) { &mut self.plain } else { &mut self.locked };
                list.push(PlainFile { member, path });
            } else if suffix == "ibd" {
                self.notes.push(format!("{} is unknown to the data dictionary: left out", path.display()));
            }
        }
        if !any {
            self.empty_schemas.push(schema.to_owned());
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let mut seen = BTreeMap::new();
        let all = self.datafiles.iter().map(|f| (&f.member, &f.path));
        let plain = self.plain.iter().chain(&self.locked).map(|f| (&f.member, &f.path));
        for (member, path) in all.chain(plain) {
            if let Some(other) = seen.insert(member, path) {
                let other: &PathBuf = other;
                return Err(Error::new(
                    Code::Internal,
                    format!("{} and {} would both be named {member}", other.display(), path.display()),
                ));
            }
        }
        Ok(())
    }
}

fn tablespaces(session: &mut Session) -> Result<Vec<Tablespace>> {
    let rows = session.query(
        "SELECT FILE_ID, FILE_NAME, FILE_TYPE, TABLESPACE_NAME FROM information_schema.FILES \
         WHERE FILE_TYPE IN ('TABLESPACE', 'UNDO LOG') AND FILE_ID <> 0 AND ENGINE = 'InnoDB' ORDER BY FILE_ID DESC",
    )?;
    if rows.is_empty() {
        return Err(Error::new(Code::SourceIncomplete, "information_schema.FILES names no tablespace")
            .hint("the account may lack PROCESS"));
    }
    rows.into_iter()
        .map(|row| match <[Option<String>; 4]>::try_from(row) {
            Ok([Some(id), Some(file), Some(kind), name]) => {
                let id =
                    id.parse().map_err(|_| Error::new(Code::Sql, format!("{id} is no tablespace id")))?;
                let name = name.unwrap_or_else(|| file.clone());
                Ok(Tablespace { space: SpaceId(id), file, undo: kind == "UNDO LOG", name })
            }
            _ => Err(Error::new(Code::Sql, "information_schema.FILES has a row without id or name")),
        })
        .collect()
}

fn is_discarded(session: &mut Session, space: SpaceId) -> Result<bool> {
    let state = session
        .scalar(&format!("SELECT STATE FROM information_schema.INNODB_TABLESPACES WHERE SPACE = {space}"))?;
    Ok(state.as_deref() == Some("discarded"))
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

fn text(name: &OsStr) -> Result<String> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(Code::SourceIo, format!("the file name {} is not UTF-8", name.to_string_lossy()))
    })
}
