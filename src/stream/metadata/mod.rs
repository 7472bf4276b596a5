//! Reads and writes the metadata members: small text members with the names and keys that XtraBackup users'
//! scripts read.
//!
//! Every one is rendered and parsed here. Parsers accept the forms that XtraBackup and its relatives write,
//! ignore keys that they do not know, and refuse impossible values, since their input came over the network.

mod binlog_info;
mod checkpoints;
mod cnf;
mod delta_meta;
mod info;
mod slave_info;
mod tablespaces;

pub use binlog_info::{BINLOG_INFO, BinlogInfo, BinlogPosition, one_line};
pub use checkpoints::{BackupType, CHECKPOINTS, Checkpoints};
pub use cnf::{BACKUP_CNF, BackupCnf};
pub use delta_meta::DeltaMeta;
pub use info::{INFO, Info};
pub use slave_info::{Channel, SLAVE_INFO, SlaveInfo};
pub use tablespaces::{ExternalTablespace, TABLESPACES, TablespaceType, Tablespaces};

/// Name of the member with the keys of tablespaces and redo, encrypted to a receiver that lacks the source's keyring. It comes first.
pub const KEYS: &str = "xbpipe_keys";
/// Name of the member with the key of the binary log, encrypted in the same way.
pub const BINLOG_KEY: &str = "xbpipe_binlog_key";

use crate::base::{self, Code};

/// Name of the redo member: the header blocks of a redo file, then log blocks from the one that holds the
/// checkpoint on.
pub const LOGFILE: &str = "xtrabackup_logfile";
/// Maximum size in bytes of a metadata member that is accepted. A list of tablespaces, or a GTID set, may
/// have megabytes.
pub const METADATA_MAX: usize = 16 << 20;
/// Maximum number of characters that are shown of a text that is not understood.
const SHOWN_MAX: usize = 100;

/// Error: a metadata member was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("member {member}: {what}")]
pub struct MetadataError {
    /// Name of the member.
    pub member: &'static str,
    /// Description of the defect.
    pub what: String,
}

impl MetadataError {
    fn new(member: &'static str, what: impl Into<String>) -> Self {
        MetadataError { member, what: what.into() }
    }

    /// Creates an error that says `why` a text is not understood, and quotes its beginning.
    fn quoting(member: &'static str, why: impl std::fmt::Display, text: &str) -> Self {
        MetadataError::new(member, format!("{why} '{}'", excerpt(text)))
    }
}

impl From<MetadataError> for base::Error {
    fn from(e: MetadataError) -> Self {
        base::Error::new(Code::StreamCorrupt, e.to_string())
    }
}

/// Returns the text of `member`, if it is text and not too long.
fn text<'a>(member: &'static str, content: &'a [u8]) -> Result<&'a str, MetadataError> {
    if content.len() > METADATA_MAX {
        return Err(MetadataError::new(
            member,
            format!("{} bytes long, more than {METADATA_MAX}", content.len()),
        ));
    }
    let text = std::str::from_utf8(content).map_err(|_| MetadataError::new(member, "not UTF-8"))?;
    match text.contains('\0') {
        true => Err(MetadataError::new(member, "has a NUL")),
        false => Ok(text),
    }
}

/// Lines of `key = value`, as in `xtrabackup_checkpoints` and `xtrabackup_info`.
struct KeyValues<'a> {
    member: &'static str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> KeyValues<'a> {
    fn parse(member: &'static str, content: &'a [u8]) -> Result<Self, MetadataError> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for line in text(member, content)?.lines().filter(|line| !line.trim().is_empty()) {
            let Some((key, value)) = line.split_once('=') else {
                return Err(MetadataError::quoting(member, "no key and value in", line));
            };
            let key = key.trim();
            if pairs.len() == Self::KEYS_MAX {
                return Err(MetadataError::new(member, format!("more than {} keys", Self::KEYS_MAX)));
            }
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(MetadataError::new(member, format!("'{}' comes twice", excerpt(key))));
            }
            pairs.push((key, value.trim()));
        }
        Ok(KeyValues { member, pairs })
    }

    /// Maximum number of keys; XtraBackup and its relatives write about twenty.
    const KEYS_MAX: usize = 1000;

    fn get(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(k, _)| *k == key).map(|(_, value)| *value)
    }

    fn need(&self, key: &str) -> Result<&'a str, MetadataError> {
        self.get(key).ok_or_else(|| MetadataError::new(self.member, format!("'{key}' is missing")))
    }

    fn number(&self, key: &str) -> Result<u64, MetadataError> {
        let value = self.need(key)?;
        value
            .parse()
            .map_err(|_| MetadataError::quoting(self.member, format!("'{key}' is no number:"), value))
    }
}

/// Returns the beginning of a text, fit to be shown: the text may be as long as its member.
fn excerpt(text: &str) -> String {
    let end = text.char_indices().nth(SHOWN_MAX).map_or(text.len(), |(at, _)| at);
    let more = if end < text.len() { "…" } else { "" };
    format!("{}{more}", text[..end].escape_debug())
}

/// Returns the text for one line: control characters, including line breaks, become spaces.
fn without_control(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns a value in the form that a `key = value` line can hold.
fn line_value(value: &str) -> String {
    without_control(value).trim().to_owned()
}

#[cfg(test)]
mod tests;
