//! Facts about the server: its variables, and the place and owner of its files.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::{Code, Error, Result};

use super::session::Session;

/// Facts that are fixed for the length of a backup.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// `VERSION()`.
    pub version: String,
    /// `@@version_comment`.
    pub version_comment: String,
    /// `@@server_uuid`.
    pub server_uuid: String,
    /// `@@datadir`, or the path given instead of it; absolute.
    pub datadir: PathBuf,
    /// The user that the datadir belongs to: the server's.
    pub owner: u32,
    /// Global variables by name.
    variables: ServerVariables,
}

/// Global variables of a server, by name.
#[derive(Clone, Debug)]
pub struct ServerVariables(BTreeMap<String, String>);

impl ServerVariables {
    /// Asks the server.
    ///
    /// # Errors
    /// As of a session.
    pub fn ask(session: &mut Session) -> Result<ServerVariables> {
        let rows = session.query("SHOW GLOBAL VARIABLES")?;
        let pairs = rows.into_iter().filter_map(|row| match row.as_slice() {
            [Some(name), value, ..] => Some((name.clone(), value.clone().unwrap_or_default())),
            _ => None,
        });
        Ok(ServerVariables(pairs.collect()))
    }

    /// The value of a variable; empty where the server has none of that name.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl ServerFacts {
    /// Looks into the datadir. `datadir` replaces `@@datadir` where this machine sees it under another path.
    ///
    /// # Errors
    /// [`Code::SourceIo`] where it can't be entered.
    pub fn gather(variables: ServerVariables, datadir: Option<&Path>) -> Result<ServerFacts> {
        let get = |name: &str| variables.get(name).to_owned();
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
            version: get("version"),
            version_comment: get("version_comment"),
            datadir,
            variables,
        })
    }

    /// A global variable; empty where the server has none of that name.
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name)
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

    /// Whether the server reads its datafiles past the page cache.
    pub fn reads_past_cache(&self) -> bool {
        self.variable("innodb_flush_method").starts_with("O_DIRECT")
    }

    /// Whether transactions go to the binary log.
    pub fn has_binlog(&self) -> bool {
        self.is_on("log_bin")
    }
}
