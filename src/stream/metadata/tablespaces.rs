//! Reads and writes `xtrabackup_tablespaces`: the tablespaces whose files lie outside the source's datadir
//! (`Tablespace_map` in XtraBackup).
//!
//! It is JSON: `{"version":2,"external_tablespaces":[{"file_name","tablespace_name","tablespace_type"}]}`.
//! `file_name` is the absolute path on the source. The file travels as the member `<tablespace_name>.ibd`,
//! or, if its type is `UNDO_LOG`, as `<tablespace_name>.ibu`. If the member has another name, the key
//! `member`, which other programs ignore, holds it.

use serde::{Deserialize, Serialize};

use super::super::name::{MemberName, NameError};
use super::{MetadataError, text};

/// Name of the member.
pub const TABLESPACES: &str = "xtrabackup_tablespaces";
/// Maximum length of a path in bytes: `PATH_MAX` of Linux without the closing NUL that C adds (servers accept
/// 512 bytes for their own paths).
const PATH_MAX: usize = 4095;
/// Version that is written here; older ones are read as well.
const VERSION: u32 = 2;

/// The tablespaces outside the datadir.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tablespaces {
    /// The tablespaces, in any order.
    pub external: Vec<ExternalTablespace>,
}

/// A tablespace outside the datadir.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExternalTablespace {
    /// Absolute path of its file on the source.
    pub file_name: String,
    /// Name of the tablespace: `db/t` for that of a table.
    pub tablespace_name: String,
    /// Type of its content. Version 1 had tables only.
    #[serde(default)]
    pub tablespace_type: TablespaceType,
    /// Name of the member, if it does not follow from the tablespace's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberName>,
}

/// The type of a tablespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum TablespaceType {
    /// Tables.
    #[default]
    #[serde(rename = "TABLESPACE")]
    Tables,
    /// Undo logs.
    #[serde(rename = "UNDO_LOG")]
    Undo,
}

impl ExternalTablespace {
    /// Creates the entry of a tablespace whose file travels as `member`.
    pub fn new(
        file_name: impl Into<String>,
        tablespace_name: impl Into<String>,
        tablespace_type: TablespaceType,
        member: MemberName,
    ) -> Self {
        let (file_name, tablespace_name) = (file_name.into(), tablespace_name.into());
        let mut tablespace = ExternalTablespace { file_name, tablespace_name, tablespace_type, member: None };
        if tablespace.member().as_ref() != Ok(&member) {
            tablespace.member = Some(member);
        }
        tablespace
    }

    /// Returns the name of the member that is its file.
    pub fn member(&self) -> Result<MemberName, NameError> {
        let suffix = match self.tablespace_type {
            TablespaceType::Tables => "ibd",
            TablespaceType::Undo => "ibu",
        };
        match &self.member {
            Some(member) => Ok(member.clone()),
            None => MemberName::parse(format!("{}.{suffix}", self.tablespace_name)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Json<'a> {
    version: u32,
    external_tablespaces: std::borrow::Cow<'a, [ExternalTablespace]>,
}

impl Tablespaces {
    /// Returns the content of the member.
    pub fn render(&self) -> String {
        let json = Json { version: VERSION, external_tablespaces: (&self.external).into() };
        serde_json::to_string(&json).expect("no map keys and no failing types")
    }

    /// Reads the content of the member. Every path must be absolute, not lead upwards, and be fit to be
    /// shown; every member must have a valid name, and occur only once.
    pub fn parse(content: &[u8]) -> Result<Self, MetadataError> {
        let error = |what: String| MetadataError::new(TABLESPACES, what);
        let json: Json<'_> = serde_json::from_str(text(TABLESPACES, content)?)
            .map_err(|e| error(super::excerpt(&e.to_string())))?;
        if !(1..=VERSION).contains(&json.version) {
            return Err(error(format!("has version {}, only {VERSION} is known", json.version)));
        }
        let external = json.external_tablespaces.into_owned();
        let mut members = std::collections::BTreeSet::new();
        for tablespace in &external {
            let ExternalTablespace { file_name, tablespace_name, .. } = tablespace;
            let name = super::excerpt(file_name);
            if file_name.len() > PATH_MAX {
                return Err(error(format!("'{name}' is longer than a path can be")));
            }
            if !file_name.starts_with('/') || file_name.contains(char::is_control) {
                return Err(error(format!("'{name}' is no absolute path")));
            }
            if file_name.split('/').any(|part| part == "..") {
                return Err(error(format!("'{name}' leads upwards")));
            }
            if tablespace_name.contains(char::is_control) {
                return Err(error(format!("'{name}' has a tablespace name with control characters")));
            }
            let member = tablespace.member().map_err(|e| error(format!("'{name}': {e}")))?;
            if !members.insert(member) {
                return Err(error(format!("'{name}' has the member of another file")));
            }
        }
        Ok(Tablespaces { external })
    }
}
