//! Reads and writes `xtrabackup_slave_info`: if the source is itself a replica, the statements that make the
//! copy a replica of the same source (`write_slave_info` in XtraBackup).
//!
//! It has one statement per line. With GTIDs: `SET GLOBAL gtid_purged='…';` and `CHANGE REPLICATION SOURCE TO
//! SOURCE_AUTO_POSITION=1;`, otherwise `CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='…', SOURCE_LOG_POS=…;`,
//! each with `FOR CHANNEL '…'` if the channel has a name. Older programs write `CHANGE MASTER TO MASTER_…`;
//! that is read as well.

use super::{MetadataError, one_line, text};

/// Name of the member.
pub const SLAVE_INFO: &str = "xtrabackup_slave_info";

/// The replication position of a replica.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlaveInfo {
    /// GTID set that the copy must regard as applied, if any channel uses GTIDs.
    pub gtid_purged: Option<String>,
    /// Channels of the replica.
    pub channels: Vec<Channel>,
}

/// One channel of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channel {
    /// Name of the channel; empty for the default channel.
    pub name: String,
    /// File and position in the source's binary log; `None` if the channel finds its position by GTID.
    pub position: Option<(String, u64)>,
}

impl SlaveInfo {
    /// Returns the content of the member.
    pub fn render(&self) -> String {
        let mut lines = String::new();
        if let Some(set) = &self.gtid_purged {
            lines += &format!("SET GLOBAL gtid_purged={};\n", quote(&one_line(set)));
        }
        for Channel { name, position } in &self.channels {
            lines += "CHANGE REPLICATION SOURCE TO ";
            lines += &match position {
                None => "SOURCE_AUTO_POSITION=1".to_owned(),
                Some((file, at)) => format!("SOURCE_LOG_FILE={}, SOURCE_LOG_POS={at}", quote(file)),
            };
            if !name.is_empty() {
                lines += &format!(" FOR CHANNEL {}", quote(name));
            }
            lines += ";\n";
        }
        lines
    }

    /// Reads the content of the member.
    pub fn parse(content: &[u8]) -> Result<Self, MetadataError> {
        let mut info = SlaveInfo::default();
        for line in text(SLAVE_INFO, content)?.lines().map(str::trim).filter(|line| !line.is_empty()) {
            info.take(line)
                .ok_or_else(|| MetadataError::quoting(SLAVE_INFO, "statement not understood:", line))?;
        }
        Ok(info)
    }

    fn take(&mut self, statement: &str) -> Option<()> {
        let statement = statement.strip_suffix(';').unwrap_or(statement);
        if let Some(set) = statement.strip_prefix("SET GLOBAL gtid_purged=") {
            let (set, rest) = unquote(set)?;
            self.gtid_purged = Some(one_line(&set));
            return rest.is_empty().then_some(());
        }
        let clauses = ["CHANGE REPLICATION SOURCE TO ", "CHANGE MASTER TO "]
            .into_iter()
            .find_map(|start| statement.strip_prefix(start))?;
        let (position, rest) = position(clauses)?;
        let name = match rest.strip_prefix(" FOR CHANNEL ") {
            None if rest.is_empty() => String::new(),
            None => return None,
            Some(name) => unquote(name).filter(|(_, rest)| rest.is_empty())?.0,
        };
        self.channels.push(Channel { name, position });
        Some(())
    }
}

/// Reads a position clause; returns it with the text that follows it.
fn position(clauses: &str) -> Option<(Option<(String, u64)>, &str)> {
    let either = |text: &'_ str, clause: &str| -> Option<usize> {
        ["SOURCE_", "MASTER_"]
            .into_iter()
            .find(|start| text.strip_prefix(start).is_some_and(|rest| rest.starts_with(clause)))
            .map(|start| start.len() + clause.len())
    };
    if let Some(end) = either(clauses, "AUTO_POSITION=1") {
        return Some((None, &clauses[end..]));
    }
    let (file, rest) = unquote(&clauses[either(clauses, "LOG_FILE=")?..])?;
    let rest = rest.strip_prefix(',')?.trim_start();
    let rest = &rest[either(rest, "LOG_POS=")?..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((Some((file, rest[..digits].parse().ok()?)), &rest[digits..]))
}

fn quote(text: &str) -> String {
    format!("'{}'", super::without_control(text).replace('\\', "\\\\").replace('\'', "''"))
}

/// Reads a quoted text at the start of `sql`; returns it with the text that follows. Control characters are
/// refused: no server writes them, and they could not be shown.
fn unquote(sql: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = sql.strip_prefix('\'')?.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if chars.next_if(|(_, next)| *next == '\'').is_some() => text.push('\''),
            '\'' => return Some((text, &sql[1 + at + 1..])),
            '\\' => text.push(chars.next().map(|(_, c)| c).filter(|c| !c.is_control())?),
            c if c.is_control() => return None,
            c => text.push(c),
        }
    }
    None
}
