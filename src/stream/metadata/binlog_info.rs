//! Reads and writes `xtrabackup_binlog_info`: the position of the binary log at the end of the backup
//! (`write_binlog_info` in XtraBackup).
//!
//! It is one line: file TAB position, and, if the source has GTIDs, TAB and the set. Servers break a set into
//! lines behind its commas; it is written here on one line, and read in either form.

use serde::{Deserialize, Serialize};

use super::{MetadataError, text};

/// Name of the member.
pub const BINLOG_INFO: &str = "xtrabackup_binlog_info";

/// A position in a binary log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BinlogPosition {
    /// Name of the file, without a folder.
    pub file: String,
    /// Offset in the file: the end of the last transaction that is in the backup.
    pub position: u64,
}

/// The binary log position and GTID set of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BinlogInfo {
    /// Position in the binary log.
    pub position: BinlogPosition,
    /// `gtid_executed`, if the source has GTIDs; on one line.
    pub gtid_executed: Option<String>,
}

impl BinlogInfo {
    /// Returns the content of the member.
    pub fn render(&self) -> String {
        let BinlogPosition { file, position } = &self.position;
        match &self.gtid_executed {
            Some(set) => format!("{file}\t{position}\t{}\n", one_line(set)),
            None => format!("{file}\t{position}\n"),
        }
    }

    /// Reads the content of the member.
    pub fn parse(content: &[u8]) -> Result<Self, MetadataError> {
        let error = |what: &str| MetadataError::new(BINLOG_INFO, what);
        let mut fields = text(BINLOG_INFO, content)?.trim_end_matches(['\n', '\r']).splitn(3, '\t');
        let file = fields.next().unwrap_or_default();
        if file.is_empty() || file.contains('/') || file.contains(char::is_control) {
            return Err(error("the first field is no file name"));
        }
        let position = fields.next().and_then(|p| p.trim().parse().ok());
        let position = position.ok_or_else(|| error("the second field is no position"))?;
        let gtid_executed = fields.next().map(one_line).filter(|set| !set.is_empty());
        if gtid_executed.as_ref().is_some_and(|set| set.contains(char::is_control)) {
            return Err(error("the third field is no GTID set"));
        }
        Ok(BinlogInfo { position: BinlogPosition { file: file.to_owned(), position }, gtid_executed })
    }
}

/// Returns a GTID set without the line breaks that servers put behind its commas.
pub fn one_line(gtid_set: &str) -> String {
    gtid_set.chars().filter(|c| !matches!(c, '\n' | '\r')).collect::<String>().trim().to_owned()
}
