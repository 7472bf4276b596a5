//! What must travel: every tablespace the data dictionary knows, the files of other engines, and nothing else.
//!
//! The data dictionary (`information_schema.FILES`) says which tablespaces there are; the file system says
//! whether their files are. A file that the dictionary names and the file system lacks fails the backup, and so does one
//! that is there and not named, unless it is proved that nobody needs it ([`orphans`]). It is read while
//! `LOCK INSTANCE FOR BACKUP` is held, so no DDL changes it meanwhile.

mod dictionary;
mod folders;
mod names;
mod orphans;
mod schemas;
mod system;
mod undo;

use std::path::PathBuf;

use crate::base::{Code, Error, Result, SpaceId};

use super::corrupt::too_short;
use super::other_engines::{OtherEngines, Unlocked};
use super::privileges::Privileges;
use super::server_facts::ServerFacts;
use super::session::Session;

use dictionary::{Dictionary, Tablespace};
use schemas::Schemas;

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
    /// Name of the tablespace in the dictionary.
    pub tablespace: String,
    /// `single`, `general`, `undo` or `system`.
    pub kind: &'static str,
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
    pub fn take(session: &mut Session, facts: &ServerFacts, privileges: &Privileges) -> Result<Inventory> {
        let mut found = Inventory::default();
        // Once more: what was created before the lock was taken is there now.
        let others = OtherEngines::find(session, facts, privileges)?;
        found.system_tablespace(facts)?;
        let dictionary = Dictionary::read(session)?;
        found.notes.extend(dictionary.notes());
        for tablespace in dictionary.tablespaces {
            found.tablespace(facts, tablespace)?;
        }
        let schemas = Schemas::read(session, privileges)?;
        let strangers = found.walk(facts, &schemas)?;
        orphans::check(session, facts, &strangers, &mut found)?;
        found.divide(others)?;
        found.name_members(facts)?;
        Ok(found)
    }

    /// Files of other engines: those of tables that are locked are copied under the lock, leftovers are not copied.
    fn divide(&mut self, others: OtherEngines) -> Result<()> {
        let found: Vec<_> = self.plain.drain(..).collect();
        for file in found {
            if !file.member.contains('/') {
                self.plain.push(file);
            } else if others.locks(&file.member) {
                self.locked.push(file);
            } else {
                match others.unlocked(&file.member)? {
                    Unlocked::Travels => self.plain.push(file),
                    Unlocked::Leftover => {
                        self.notes.push(format!("{} belongs to no table: left out", file.path.display()));
                    }
                }
            }
        }
        self.locked_tables = others.locked;
        Ok(())
    }

    /// The system tablespace is the concatenation of the files of `innodb_data_file_path`, in that order.
    fn system_tablespace(&mut self, facts: &ServerFacts) -> Result<()> {
        let home = facts.resolve(facts.variable("innodb_data_home_dir"));
        let spec = facts.variable("innodb_data_file_path");
        for (part, entry) in spec.split(';').filter(|e| !e.trim().is_empty()).enumerate() {
            let (name, size) = entry.split_once(':').unwrap_or((entry, ""));
            let name = name.trim();
            if entry.ends_with("raw") {
                return Err(Error::new(
                    Code::Unsupported,
                    format!("system tablespace file {name} is a raw device"),
                )
                .hint("raw devices can't be backed up by xbsend"));
            }
            let path = home.join(name.trim_start_matches("./"));
            let bytes = self.add(path.clone(), SpaceId::SYSTEM, part, "innodb_system", "system")?;
            let least = system::least(size);
            if bytes < least {
                return Err(too_short(&path, bytes, least));
            }
        }
        system::check_size(facts, &self.datafiles)
    }

    fn tablespace(&mut self, facts: &ServerFacts, t: Tablespace) -> Result<()> {
        let kind = match (t.undo, t.name.contains('/')) {
            (true, _) => "undo",
            (false, true) => "single",
            (false, false) => "general",
        };
        let path = if t.undo { undo::find(facts, &t.file, t.space) } else { facts.resolve(&t.file) };
        if !path.exists() {
            return Err(Error::new(
                Code::SourceIncomplete,
                format!("tablespace {} (id {}) has no file at {}", t.name, t.space, path.display()),
            )
            .hint("the server needs this file too: look into its error log; a backup without it would not be whole"));
        }
        self.add(path, t.space, 0, &t.name, kind).map(drop)
    }

    /// Notes a datafile, and says how long it is. Its member gets its name when all are known.
    fn add(
        &mut self,
        path: PathBuf,
        space: SpaceId,
        part: usize,
        tablespace: &str,
        kind: &'static str,
    ) -> Result<u64> {
        let bytes = path
            .metadata()
            .map_err(|e| Error::io(Code::SourceIo, format!("can't read {}", path.display()), e))?
            .len();
        let tablespace = tablespace.to_owned();
        self.datafiles.push(Datafile { member: String::new(), path, space, bytes, part, tablespace, kind });
        Ok(bytes)
    }
}
