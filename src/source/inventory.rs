//! What must travel: datafiles, files of other engines, and words about what was left out. A server family's discovery fills it in.

use std::path::PathBuf;

use crate::base::{Code, Error, Result, SpaceId};

/// A file of a tablespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Datafile {
    /// Name in the stream, relative to the datadir.
    pub member: String,
    /// Path on this machine.
    pub path: PathBuf,
    /// Tablespace.
    pub space: SpaceId,
    /// Bytes when it was found.
    pub bytes: u64,
    /// Number of the file in the system tablespace; 0 for every other tablespace.
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
    /// Path on this machine.
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
    /// Those of them that lie outside the datadir.
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

    /// Notes a datafile, and says how long it is. Its member gets its name when all are known.
    ///
    /// # Errors
    /// [`Code::SourceIo`].
    pub fn add(
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
