//! Arguments that `xbrecv` and several of its subcommands take.

use std::path::PathBuf;

use crate::base::{Code, Error, Result};
use crate::codec::age::Keys;
use crate::receive::export_command::ChosenTables;
use crate::receive::prepare_command::FolderOptions;
use crate::restore::Mapping;
use crate::source::selection::Selection;

use super::{keys, selection};

/// The program's name.
pub(super) const XBRECV: &str = "xbrecv";
/// Least memory for applying redo: below it, chunks of kept records are too small to be read back at speed.
const NATIVE_MEMORY_MIN: u64 = 32 << 20;
/// Most memory for applying redo where none is asked for: what exceeds it goes through a file, at little cost.
const NATIVE_MEMORY_DEFAULT_MAX: u64 = 512 << 20;
/// Most memory a private server gets where none is asked for.
const MEMORY_DEFAULT_MAX: u64 = 4 << 30;

/// The keys that encrypted streams are opened with.
#[derive(clap::Args, Debug)]
pub(super) struct StreamKeyArgs {
    /// File with the secret key that encrypted streams were made for (of age-keygen). May be given again
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// File with the passphrase that encrypted streams were made with
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl StreamKeyArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Code::Usage`]: a file can't be read or understood.
    pub(super) fn keys(&self) -> Result<Keys> {
        keys::keys(&self.identity, self.passphrase_file.as_deref())
    }
}

/// How a folder with a backup is prepared in its place.
#[derive(clap::Args, Debug)]
pub(super) struct FolderArgs {
    /// Where files are that lay outside the source's datadir; a relative NEW lies inside DIR. May be given again
    #[arg(long, value_name = "OLD=NEW", value_parser = Mapping::parse)]
    map: Vec<Mapping>,
    /// Keyring file of the server that the backup is of: encrypted tablespaces and redo are prepared natively. That of
    /// component_keyring_file, or of the plugin keyring_file
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Threads [default: number of cores]
    #[arg(long, value_name = "N")]
    pub(super) parallel: Option<usize>,
    /// Memory for redo records, as 512M or 4G [default: a quarter of what is free, at most 512M]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    use_memory: Option<u64>,
}

impl FolderArgs {
    /// Returns what they ask for in `dir`.
    ///
    /// # Errors
    /// [`Code::Usage`]: the keyring can't be read, or a number is out of range.
    pub(super) fn options(self, dir: PathBuf, apply_redo_only: bool) -> Result<FolderOptions> {
        Ok(FolderOptions {
            dir,
            mappings: self.map,
            parallel: threads(self.parallel)?,
            use_memory: native_memory(self.use_memory),
            apply_redo_only,
            keyring: keys::keyring(self.keyring.as_deref())?,
        })
    }
}

/// Tables of a backup in a folder.
#[derive(clap::Args, Debug)]
pub(super) struct ChosenTablesArgs {
    /// The folder of a prepared backup, on which no server was started
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The tables, separated by commas: schema.table, or schema for all of its tables. May be given again
    #[arg(long, value_name = "NAMES", required = true)]
    tables: Vec<String>,
    /// Keyring file of the server that the backup is of, for encrypted tables
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Where files are that lay outside the source's datadir; a relative NEW lies inside DIR. May be given again
    #[arg(long, value_name = "OLD=NEW", value_parser = Mapping::parse)]
    map: Vec<Mapping>,
}

impl ChosenTablesArgs {
    /// Returns what they choose.
    ///
    /// # Errors
    /// [`Code::Usage`]: a name is none, or the keyring can't be read.
    pub(super) fn tables(self) -> Result<ChosenTables> {
        let mut chosen = Selection::default();
        let names = selection::split(&self.tables, |c| c == ',');
        // No name would be every name.
        if names.is_empty() {
            return Err(Error::new(Code::Usage, "--tables has no names"));
        }
        chosen.include_names(&names)?;
        Ok(ChosenTables {
            dir: self.dir,
            selection: chosen,
            mappings: self.map,
            keyring: keys::keyring(self.keyring.as_deref())?,
        })
    }
}

/// `--parallel`, or as many as there are cores.
pub(super) fn threads(asked: Option<usize>) -> Result<usize> {
    match asked {
        Some(0) => Err(Error::new(Code::Usage, "--parallel must be at least 1")),
        Some(n) => Ok(n),
        None => Ok(std::thread::available_parallelism().map_or(2, usize::from)),
    }
}

/// Memory for applying redo.
pub(super) fn native_memory(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| default_memory().min(NATIVE_MEMORY_DEFAULT_MAX)).max(NATIVE_MEMORY_MIN)
}

/// A quarter of the memory that is free now.
pub(super) fn default_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0);
    (kib * 1024 / 4).min(MEMORY_DEFAULT_MAX)
}

/// A number of bytes with an optional K, M, G or T, as MySQL's options have it.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        None => (text, 1),
        Some(at) => {
            let power = match text[at..].to_ascii_uppercase().as_str() {
                "K" => 1,
                "M" => 2,
                "G" => 3,
                "T" => 4,
                _ => return Err("expected a number, with K, M, G or T behind it".to_owned()),
            };
            (&text[..at], 1u64 << (10 * power))
        }
    };
    let number: u64 = number.parse().map_err(|_| "expected a number".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read() {
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("2g"), Ok(2 << 30));
        assert_eq!(bytes("1000"), Ok(1000));
        for bad in ["", "x", "1X", "1GB", "-1", "99999999999999T", "G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(default_memory() <= MEMORY_DEFAULT_MAX);
    }
}
