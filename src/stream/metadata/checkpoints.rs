//! `xtrabackup_checkpoints`: kind of the backup and its LSN range (`xtrabackup_write_metadata` in XtraBackup).
//!
//! Lines of `key = value`: backup_type, from_lsn, to_lsn, last_lsn, flushed_lsn.

use super::{KeyValues, MetadataError};
use crate::base::Lsn;

/// Name of the member.
pub const CHECKPOINTS: &str = "xtrabackup_checkpoints";

/// Kind and state of a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackupType {
    /// A full backup, not prepared.
    FullBackuped,
    /// The changes since another backup.
    Incremental,
    /// Redo was applied; an incremental backup can still be put on top.
    LogApplied,
    /// Prepared.
    FullPrepared,
}

impl BackupType {
    const ALL: [BackupType; 4] =
        [Self::FullBackuped, Self::Incremental, Self::LogApplied, Self::FullPrepared];

    /// As it is written.
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
    /// Kind and state.
    pub backup_type: BackupType,
    /// Changes before this are not in the backup: 0 for a full one.
    pub from_lsn: Lsn,
    /// The source's newest checkpoint at the end: where an incremental backup on top begins.
    pub to_lsn: Lsn,
    /// The redo reaches this.
    pub last_lsn: Lsn,
    /// The source had written redo to disk up to this at the end.
    pub flushed_lsn: Lsn,
}

impl Checkpoints {
    /// The content of the member.
    pub fn render(&self) -> String {
        let Self { backup_type, from_lsn, to_lsn, last_lsn, flushed_lsn } = self;
        format!(
            "backup_type = {}\nfrom_lsn = {from_lsn}\nto_lsn = {to_lsn}\nlast_lsn = {last_lsn}\n\
             flushed_lsn = {flushed_lsn}\n",
            backup_type.as_str()
        )
    }

    /// Reads the content of the member. `flushed_lsn`, which older peers don't write, is `last_lsn` where it is missing.
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
