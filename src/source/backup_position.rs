//! The point of a server's history that a backup stands for.

use crate::base::Lsn;

/// One consistent cut through server, binlog and InnoDB.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupPosition {
    /// InnoDB's current LSN.
    pub lsn: Lsn,
    /// Binlog file and position; `None` without a binlog.
    pub binlog: Option<(String, u64)>,
    /// `gtid_executed`; empty without GTIDs.
    pub gtid_executed: String,
}
