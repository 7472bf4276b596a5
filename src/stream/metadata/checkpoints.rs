//! Reads and writes `xtrabackup_checkpoints`: kind of the backup and its LSN range
//! (`xtrabackup_write_metadata` in XtraBackup).
//!
//! It consists of lines of `key = value`: backup_type, from_lsn, to_lsn, last_lsn, flushed_lsn.

use super::{KeyValues, MetadataError};
use crate::base::Lsn;

/// Name of the member.
pub const CHECKPOINTS: &str = "xtrabackup_checkpoints";

/// The kind and state of a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackupType {
    /// A full backup, not prepared.
    FullBackuped,
    /// The changes since another backup.
    Incremental,
    /// A backup to which redo was applied; an incremental backup can still be applied to it.
    LogApplied,
    /// A full backup, prepared.
    FullPrepared,
}

impl BackupType {
    const ALL: [BackupType; 4] =
        [Self::FullBackuped, Self::Incremental, Self::LogApplied, Self::FullPrepared];

    /// Returns the name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullBackuped => "full-backuped",
            Self::Incremental => "incremental",
            Self::LogApplied => "log-applied",
            Self::FullPrepared => "full-prepared",
        }
    }
}

/// The LSN range of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoints {
    /// Kind and state of the backup.
    pub backup_type: BackupType,
    /// LSN before which changes are not in the backup: 0 for a full one.
    pub from_lsn: Lsn,
    /// Newest checkpoint of the source at the end: an incremental backup based on this one begins there.
    pub to_lsn: Lsn,
    /// LSN that the redo reaches.
    pub last_lsn: Lsn,
    /// LSN up to which the source had written redo to disk at the end.
    pub flushed_lsn: Lsn,
}

impl Checkpoints {
    /// Returns the content of the member.
    pub fn render(&self) -> String {
        let Self { backup_type, from_lsn, to_lsn, last_lsn, flushed_lsn } = self;
        format!(
            "backup_type = {}\nfrom_lsn = {from_lsn}\nto_lsn = {to_lsn}\nlast_lsn = {last_lsn}\n\
             flushed_lsn = {flushed_lsn}\n",
            backup_type.as_str()
        )
    }

    /// Reads the content of the member. If `flushed_lsn` is missing, as in files of older programs,
    /// `last_lsn` is used for it.
    pub fn parse(content: &[u8]) -> Result<Self, MetadataError> {
        let pairs = KeyValues::parse(CHECKPOINTS, content)?;
        let named = pairs.need("backup_type")?;
        let Some(backup_type) = BackupType::ALL.into_iter().find(|t| t.as_str() == named) else {
            let what = format!("unknown backup_type '{}'", super::excerpt(named));
            return Err(MetadataError::new(CHECKPOINTS, what));
        };
        let last_lsn = Lsn(pairs.number("last_lsn")?);
        Ok(Checkpoints {
            backup_type,
            from_lsn: Lsn(pairs.number("from_lsn")?),
            to_lsn: Lsn(pairs.number("to_lsn")?),
            last_lsn,
            flushed_lsn: match pairs.get("flushed_lsn") {
                Some(_) => Lsn(pairs.number("flushed_lsn")?),
                None => last_lsn,
            },
        })
    }
}
