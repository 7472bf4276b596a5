//! What the server says of itself, and what the machine says of the server's files.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::format::Format;
use crate::base::{Code, Error, Result};

use super::files;
use super::session::Session;

/// Bytes of `auto.cnf` that are looked at; it has some sixty.
const AUTO_CNF_MAX: u64 = 64 << 10;

/// Facts that are fixed for the length of a backup.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// `VERSION()`.
    pub version: String,
    /// `@@version_comment`.
    pub version_comment: String,
    /// Format in hand.
    pub format: Format,
    /// `@@server_uuid`.
    pub server_uuid: String,
    /// `@@datadir`, or the path given instead of it; absolute.
    pub datadir: PathBuf,
    /// The user that the datadir belongs to: the server's.
    pub owner: u32,
    /// Global variables by name.
    variables: BTreeMap<String, String>,
}

impl ServerFacts {
    /// Asks the server. `datadir` replaces `@@datadir` where this machine sees it under another path.
    pub fn gather(session: &mut Session, datadir: Option<&Path>) -> Result<ServerFacts> {
        let rows = session.query("SHOW GLOBAL VARIABLES")?;
        let variables: BTreeMap<String, String> = rows
            .into_iter()
            .filter_map(|row| match row.as_slice() {
                [Some(name), value, ..] => Some((name.clone(), value.clone().unwrap_or_default())),
                _ => None,
            })
            .collect();
        let get = |name: &str| variables.get(name).cloned().unwrap_or_default();
        let (version, version_comment) = (get("version"), get("version_comment"));
        let format = Format::for_server(&version, &version_comment)?;
        let said = get("datadir");
        let datadir = datadir.map_or_else(|| PathBuf::from(&said), Path::to_path_buf);
        let datadir = datadir.canonicalize().map_err(|e| {
            Error::io(Code::SourceIo, format!("can't enter the server's datadir {}", datadir.display()), e)
                .hint("xbsend reads the datafiles itself: run it on the server's machine as the server's user (or root), or name the datadir with --datadir")
        })?;
        let owner = datadir
            .metadata()
            .map_err(|e| Error::io(Code::SourceIo, format!("can't enter {}", datadir.display()), e))?
            .uid();
        Ok(ServerFacts {
            owner,
            server_uuid: get("server_uuid"),
            version,
            version_comment,
            format,
            datadir,
            variables,
        })
    }

    /// A global variable; empty where the server has none of that name.
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// A boolean variable.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.variable(name), "ON" | "1" | "YES")
    }

    /// `@@innodb_page_size` in bytes.
    pub fn page_size(&self) -> Result<u32> {
        let text = self.variable("innodb_page_size");
        text.parse().ok().filter(|n: &u32| n.is_power_of_two() && (4096..=65536).contains(n)).ok_or_else(
            || Error::new(Code::Unsupported, format!("innodb_page_size is {text:?}, which is no page size")),
        )
    }

    /// A path as the server means it: relative to the datadir, or absolute. Empty means the datadir.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let relative = path.trim_start_matches("./");
        if relative.is_empty() || path == "." { self.datadir.clone() } else { self.datadir.join(relative) }
    }

    /// Where the redo files are.
    pub fn redo_dir(&self) -> PathBuf {
        self.resolve(self.variable("innodb_log_group_home_dir")).join("#innodb_redo")
    }

    /// Whether the server reads its datafiles past the page cache.
    pub fn reads_past_cache(&self) -> bool {
        self.variable("innodb_flush_method").starts_with("O_DIRECT")
    }

    /// Whether transactions go to the binary log.
    pub fn has_binlog(&self) -> bool {
        self.is_on("log_bin")
    }

    /// Checks that the datadir on this machine is the one of the server that answers: two servers on one
    /// machine, or a forwarded port, would otherwise give a mixture of both.
    pub fn check_same_server(&self) -> Result<()> {
        let path = self.datadir.join("auto.cnf");
        let mut text = String::new();
        let read =
            files::open(&path, self.owner).and_then(|f| f.take(AUTO_CNF_MAX).read_to_string(&mut text));
        read.map_err(|e| {
            files::failed(&path, e).hint("run xbsend as the server's user (or root) on the server's machine")
        })?;
        let on_disk = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| matches!(key.trim(), "server-uuid" | "server_uuid"))
            .map(|(_, value)| value.trim().to_owned());
        if on_disk.as_deref() == Some(self.server_uuid.as_str()) {
            return Ok(());
        }
        Err(Error::new(
            Code::SourceIo,
            format!(
                "the datadir {} belongs to another server ({}) than the one that answers ({})",
                self.datadir.display(),
                on_disk.as_deref().unwrap_or("no server-uuid in auto.cnf"),
                self.server_uuid
            ),
        )
        .hint("connect to the server whose files these are, or give its datadir with --datadir"))
    }
}
