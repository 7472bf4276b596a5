//! `xtrabackup_info`: what was backed up, by what, and when (`write_xtrabackup_info` in XtraBackup).
//!
//! Lines of `key = value`, in the order of the fields of [`Info`]. Flags are `Y` and `N`; times are local, without zone:
//! `2026-11-22 10:00:00`.

use super::{KeyValues, MetadataError, line_value};
use crate::base::Lsn;

/// Name of the member.
pub const INFO: &str = "xtrabackup_info";

/// The facts of a backup, under XtraBackup's keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// Of this backup.
    pub uuid: String,
    /// Given by the user; may be empty.
    pub name: String,
    /// The program.
    pub tool_name: String,
    /// Its command line, secrets left out.
    pub tool_command: String,
    /// Its version.
    pub tool_version: String,
    /// `VERSION()` of the source.
    pub server_version: String,
    /// `@@version_comment` of the source.
    pub server_flavor: String,
    /// When the backup began.
    pub start_time: String,
    /// When it ended.
    pub end_time: String,
    /// Time that the source was locked, in seconds.
    pub lock_time: u64,
    /// `filename 'F', position 'P'[, GTID of the last change 'G']`, or empty.
    pub binlog_pos: String,
    /// As in `xtrabackup_checkpoints`.
    pub innodb_from_lsn: Lsn,
    /// As in `xtrabackup_checkpoints`.
    pub innodb_to_lsn: Lsn,
    /// Whether only some tables were backed up.
    pub partial: bool,
    /// Whether it is an incremental backup.
    pub incremental: bool,
    /// `xbstream`.
    pub format: String,
    /// Whether files are compressed one by one (not: the stream as a whole).
    pub compressed: bool,
    /// Whether files are encrypted one by one (not: the stream as a whole).
    pub encrypted: bool,
    /// Bytes of all members together, if they were counted.
    pub backup_size: Option<u64>,
}

impl Info {
    /// The text of `binlog_pos`.
    pub fn binlog_pos(file: &str, position: u64, gtid_executed: Option<&str>) -> String {
        let gtid = gtid_executed.map(|set| format!(", GTID of the last change '{}'", super::one_line(set)));
        format!("filename '{file}', position '{position}'{}", gtid.unwrap_or_default())
    }

    /// The content of the member.
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

    /// Reads the content of the member. What a peer's version does not write is left empty.
    pub fn parse(content: &[u8]) -> Result<Self, MetadataError> {
        let pairs = KeyValues::parse(INFO, content)?;
        let text = |key| pairs.get(key).map(line_value).unwrap_or_default();
        // Peers write the kind of compression in place of `Y`.
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
