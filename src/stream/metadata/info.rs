//! Reads and writes `xtrabackup_info`: what was backed up, by which program, and when
//! (`write_xtrabackup_info` in XtraBackup).
//!
//! It consists of lines of `key = value`, in the order of the fields of [`Info`]. Flags are `Y` and `N`;
//! times are local, without time zone: `2026-11-22 10:00:00`.

use super::{KeyValues, MetadataError, line_value};
use crate::base::Lsn;

/// Name of the member.
pub const INFO: &str = "xtrabackup_info";

/// The facts of a backup, under XtraBackup's keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// UUID of this backup.
    pub uuid: String,
    /// Name given by the user; may be empty.
    pub name: String,
    /// Name of the program.
    pub tool_name: String,
    /// Command line of the program, without secrets.
    pub tool_command: String,
    /// Version of the program.
    pub tool_version: String,
    /// `VERSION()` of the source.
    pub server_version: String,
    /// `@@version_comment` of the source.
    pub server_flavor: String,
    /// Time when the backup began.
    pub start_time: String,
    /// Time when the backup ended.
    pub end_time: String,
    /// Time that the source was locked, in seconds.
    pub lock_time: u64,
    /// Text of the form `filename 'F', position 'P'[, GTID of the last change 'G']`, or empty.
    pub binlog_pos: String,
    /// Start of the LSN range, as in `xtrabackup_checkpoints`.
    pub innodb_from_lsn: Lsn,
    /// End of the LSN range, as in `xtrabackup_checkpoints`.
    pub innodb_to_lsn: Lsn,
    /// True if only some tables were backed up.
    pub partial: bool,
    /// True for an incremental backup.
    pub incremental: bool,
    /// Format of the stream: `xbstream`.
    pub format: String,
    /// True if files are compressed one by one (not: the stream as a whole).
    pub compressed: bool,
    /// True if files are encrypted one by one (not: the stream as a whole).
    pub encrypted: bool,
    /// Number of bytes of all members together, if they were counted.
    pub backup_size: Option<u64>,
}

impl Info {
    /// Returns the text of `binlog_pos`.
    pub fn binlog_pos(file: &str, position: u64, gtid_executed: Option<&str>) -> String {
        let gtid = gtid_executed.map(|set| format!(", GTID of the last change '{}'", super::one_line(set)));
        format!("filename '{file}', position '{position}'{}", gtid.unwrap_or_default())
    }

    /// Returns the content of the member.
    pub fn render(&self) -> String {
        let flag = |set: bool| if set { "Y" } else { "N" }.to_owned();
        let mut lines = vec![
            ("uuid", line_value(&self.uuid)),
            ("name", line_value(&self.name)),
            ("tool_name", line_value(&self.tool_name)),
            ("tool_command", line_value(&self.tool_command)),
            ("tool_version", line_value(&self.tool_version)),
            ("server_version", line_value(&self.server_version)),
            ("server_flavor", line_value(&self.server_flavor)),
            ("start_time", line_value(&self.start_time)),
            ("end_time", line_value(&self.end_time)),
            ("lock_time", self.lock_time.to_string()),
            ("binlog_pos", line_value(&self.binlog_pos)),
            ("innodb_from_lsn", self.innodb_from_lsn.to_string()),
            ("innodb_to_lsn", self.innodb_to_lsn.to_string()),
            ("partial", flag(self.partial)),
            ("incremental", flag(self.incremental)),
            ("format", line_value(&self.format)),
            ("compressed", flag(self.compressed)),
            ("encrypted", flag(self.encrypted)),
        ];
        lines.extend(self.backup_size.map(|size| ("backup_size", size.to_string())));
        lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    }

    /// Reads the content of the member. Fields that the writing program's version does not know are left
    /// empty.
    pub fn parse(content: &[u8]) -> Result<Self, MetadataError> {
        let pairs = KeyValues::parse(INFO, content)?;
        let text = |key| pairs.get(key).map(line_value).unwrap_or_default();
        // Other programs write the kind of compression in place of `Y`.
        let flag = |key| pairs.get(key).is_some_and(|value| !matches!(value, "N" | ""));
        let optional = |key| match pairs.get(key) {
            None | Some("") => Ok(None),
            Some(_) => pairs.number(key).map(Some),
        };
        Ok(Info {
            uuid: text("uuid"),
            name: text("name"),
            tool_name: text("tool_name"),
            tool_command: text("tool_command"),
            tool_version: text("tool_version"),
            server_version: line_value(pairs.need("server_version")?),
            server_flavor: text("server_flavor"),
            start_time: text("start_time"),
            end_time: text("end_time"),
            lock_time: optional("lock_time")?.unwrap_or_default(),
            binlog_pos: text("binlog_pos"),
            innodb_from_lsn: Lsn(pairs.number("innodb_from_lsn")?),
            innodb_to_lsn: Lsn(pairs.number("innodb_to_lsn")?),
            partial: flag("partial"),
            incremental: flag("incremental"),
            format: text("format"),
            compressed: flag("compressed"),
            encrypted: flag("encrypted"),
            backup_size: optional("backup_size")?,
        })
    }
}
