//! Implements `xbrecv info`: says what a stored stream or a folder is.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::base::nofollow;
use crate::base::progress::Progress;
use crate::base::{Code, Error, Result, Stop};
use crate::stream::chain::Lineage;
use crate::stream::manifest::{MANIFEST, MANIFEST_MAX, Manifest};
use crate::stream::metadata::{
    BINLOG_INFO, BackupType, BinlogInfo, BinlogPosition, CHECKPOINTS, Checkpoints, INFO, Info, METADATA_MAX,
};
use crate::transport::StreamReader;

use super::base_folder::{Access, lock, member};
use super::{ReceiveOptions, ReceiveSummary};

/// What a backup is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BackupInfo {
    /// `full` or `incremental`.
    pub kind: &'static str,
    /// Its place in a chain. `xbsend --since` reads it from the JSON text.
    #[serde(flatten)]
    pub lineage: Lineage,
    /// Version of the source's server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// Time when the backup began and ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The same for its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Bytes of members, holes included.
    pub bytes: u64,
    /// Number of members.
    pub members: u64,
    /// Of a stream: the layers around it, from the outside in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<String>>,
    /// Of a folder: `full-backuped`, `log-applied`, `full-prepared` or `incremental`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Whether a manifest proves that it is whole. Of a stream, it was compared with it.
    pub has_manifest: bool,
    /// Position in the binary log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binlog: Option<BinlogPosition>,
    /// GTID set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gtid_executed: Option<String>,
}

fn kind(lineage: &Lineage) -> &'static str {
    if lineage.increment.is_some() { "incremental" } else { "full" }
}

/// Reads a stream to its end, and says what it is.
///
/// # Errors
/// If it is not whole.
pub fn of_stream(
    options: &ReceiveOptions,
    stream_reader: &mut dyn StreamReader,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<BackupInfo> {
    let summary = super::run(options, stream_reader, progress, stop)?;
    let ReceiveSummary { lineage, server_version, has_manifest, binlog, gtid_executed, .. } = summary;
    let lineage = lineage.unwrap_or_default();
    Ok(BackupInfo {
        kind: kind(&lineage),
        lineage,
        server_version,
        started: summary.times.as_ref().map(|(started, _)| started.clone()),
        ended: summary.times.map(|(_, ended)| ended),
        bytes: summary.bytes,
        members: summary.members as u64,
        layers: Some(summary.layers.iter().map(ToString::to_string).collect()),
        state: None,
        has_manifest,
        binlog,
        gtid_executed,
    })
}

/// Reads the metadata of a folder, and says what it is.
///
/// # Errors
/// If it holds no backup.
pub fn of_folder(dir: &Path) -> Result<BackupInfo> {
    let root = dir.canonicalize().map_err(|e| Error::io(Code::TargetIo, dir.display(), e))?;
    let (_handle, _held) = lock(&root, Access::Shared)?;
    let text = member(&root, MANIFEST, MANIFEST_MAX)?;
    let manifest = text.as_ref().map(|text| Manifest::parse(text)).transpose()?;
    let checkpoints =
        member(&root, CHECKPOINTS, METADATA_MAX)?.map(|c| Checkpoints::parse(&c)).transpose()?;
    let info = member(&root, INFO, METADATA_MAX)?.map(|c| Info::parse(&c)).transpose()?;
    let binlog = member(&root, BINLOG_INFO, METADATA_MAX)?.map(|c| BinlogInfo::parse(&c)).transpose()?;
    let Some(checkpoints) = checkpoints else {
        return Err(Error::new(
            Code::Target,
            format!("{} holds no backup: it has no {CHECKPOINTS}", root.display()),
        ));
    };
    let mut lineage = match (&manifest, &text) {
        (Some(manifest), Some(text)) if manifest.end_lsn == checkpoints.last_lsn => {
            Lineage::of_manifest(manifest, text)
        }
        _ => Lineage { to_lsn: checkpoints.to_lsn, end_lsn: checkpoints.last_lsn, ..Lineage::default() },
    };
    let is_increment = checkpoints.backup_type == BackupType::Incremental;
    let base = lineage.increment.take().and_then(|increment| increment.base);
    if is_increment {
        let from_lsn = checkpoints.from_lsn;
        lineage.increment = Some(crate::stream::chain::Increment { from_lsn, base });
    }
    let (mut bytes, mut members) = (0, 0);
    size(&root, &mut bytes, &mut members).map_err(|e| Error::io(Code::TargetIo, root.display(), e))?;
    Ok(BackupInfo {
        kind: kind(&lineage),
        lineage,
        server_version: info.map(|info| info.server_version),
        started: manifest.as_ref().map(|manifest| manifest.started.clone()),
        ended: manifest.as_ref().map(|manifest| manifest.ended.clone()),
        bytes,
        members,
        layers: None,
        state: Some(checkpoints.backup_type.as_str()),
        has_manifest: manifest.is_some(),
        binlog: binlog.as_ref().map(|info| info.position.clone()),
        gtid_executed: binlog.and_then(|info| info.gtid_executed),
    })
}

/// Adds up the files below `dir`.
fn size(dir: &Path, bytes: &mut u64, files: &mut u64) -> std::io::Result<()> {
    for (entry, kind) in nofollow::entries(dir)? {
        let path = dir.join(entry);
        if kind == rustix::fs::FileType::Directory {
            size(&path, bytes, files)?;
        } else if kind == rustix::fs::FileType::RegularFile {
            *bytes += u64::try_from(nofollow::stat(&path)?.st_size).unwrap_or_default();
            *files += 1;
        }
    }
    Ok(())
}
