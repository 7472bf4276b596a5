//! Takes the backup position: LSN, binlog file and position, and GTID set, as one row of `performance_schema.log_status`.
//!
//! While it makes that row the server holds the binlog's locks, the GTID state and InnoDB's log in that order
//! (sql: `table_log_status`), so every transaction of the binlog prefix has its records below the LSN: either
//! committed, or prepared and then resolved by the tail of the binlog that travels with the backup.

use serde::Deserialize;

use crate::base::{Code, Error, Lsn, Result};
use crate::source::backup_position::BackupPosition;

use crate::source::session::{Session, TextRow};
use crate::source::sql_error::SqlFailure;

/// ER_WARN_ALLOWED_PACKET_OVERFLOWED.
const TOO_LARGE: SqlFailure = SqlFailure::Refused(1301);

#[derive(Deserialize)]
struct Local {
    #[serde(default)]
    gtid_executed: String,
    #[serde(default)]
    binary_log_file: String,
    #[serde(default)]
    binary_log_position: u64,
}

#[derive(Deserialize)]
struct Engines {
    #[serde(rename = "InnoDB")]
    innodb: InnoDb,
}

#[derive(Deserialize)]
struct InnoDb {
    #[serde(rename = "LSN")]
    lsn: u64,
}

/// Asks the server for its present position.
///
/// # Errors
/// [`Code::Sql`]; [`Code::Unsupported`] where the server can't make its row.
pub(super) fn take(session: &mut Session) -> Result<BackupPosition> {
    match session.attempt("SELECT LOCAL, STORAGE_ENGINES FROM performance_schema.log_status") {
        Ok(rows) => of_row(&rows),
        Err(e) if e.kind == TOO_LARGE => Err(Error::new(
            Code::Unsupported,
            "the server's GTID set is longer than its max_allowed_packet: performance_schema.log_status can't be read",
        )
        .hint("SET GLOBAL max_allowed_packet=67108864 (the server's default), then run the backup again")
        .cause(Error::from(e))),
        Err(e) => Err(e.into()),
    }
}

fn of_row(rows: &[TextRow]) -> Result<BackupPosition> {
    match rows.first().map(Vec::as_slice) {
        Some([Some(local), Some(engines)]) => parse(local, engines),
        _ => Err(Error::new(Code::Sql, "performance_schema.log_status gave no row")
            .hint("performance_schema must be on (it is by default)")),
    }
}

fn parse(local: &str, engines: &str) -> Result<BackupPosition> {
    let strange = |e| Error::new(Code::Sql, "performance_schema.log_status was not understood").cause(e);
    let local: Local = serde_json::from_str(local).map_err(strange)?;
    let engines: Engines = serde_json::from_str(engines).map_err(strange)?;
    let binlog =
        (!local.binary_log_file.is_empty()).then_some((local.binary_log_file, local.binary_log_position));
    let gtid_executed = local.gtid_executed.replace(['\n', ' '], "");
    Ok(BackupPosition { lsn: Lsn(engines.innodb.lsn), binlog, gtid_executed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read() {
        let cut = parse(
            r#"{"gtid_executed": "a-b:1-3,\nc-d:1", "binary_log_file": "binlog.000002", "binary_log_position": 157}"#,
            r#"{"InnoDB": {"LSN": 20471234, "LSN_checkpoint": 20471000}}"#,
        )
        .unwrap();
        assert_eq!(cut.lsn, Lsn(20471234));
        assert_eq!(cut.binlog, Some(("binlog.000002".into(), 157)));
        assert_eq!(cut.gtid_executed, "a-b:1-3,c-d:1");
    }

    #[test]
    fn a_server_without_binlog_has_none() {
        let cut = parse(r#"{"gtid_executed": ""}"#, r#"{"InnoDB": {"LSN": 9}}"#).unwrap();
        assert_eq!(cut.binlog, None);
        assert!(parse("{}", "{}").is_err());
    }
}
