//! Opens the redo log of a copy: its files, and their headers.
//!
//! It is a member `xtrabackup_logfile` (header blocks of a redo file, then log blocks from the checkpoint's on), or the
//! files of `#innodb_redo/` that [`crate::prepare::redo`] made of it: one after the other, each going on where the one
//! before ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::nofollow;
use crate::base::read::read_up_to;
use crate::base::{Code, Error, Lsn, Result};
use crate::innodb::encryption::{Cipher, Keyring, NoKey, Sealed};
use crate::innodb::redo::{
    BLOCK_LEN, BlockState, Fed, FileName, HEAD_LEN, HeadError, RedoFile, RedoHead, ScanError, Scanner,
    newest_checkpoint,
};
use crate::prepare::checks;
use crate::prepare::native::error::{corrupt, encrypted};
use crate::prepare::native::{RedoLocation, Watermark};

/// The redo log, its header read.
pub(super) struct Log {
    pub(super) files: Vec<(PathBuf, File, RedoFile)>,
    pub(super) checkpoint: Lsn,
    /// The watermark of a log that still grows.
    watermark: Option<Arc<Watermark>>,
    /// The cipher of what is encrypted of it, or why there is none.
    pub(super) cipher: std::result::Result<Arc<dyn Cipher>, NoKey>,
}

impl Log {
    /// Reads the headers.
    pub(super) fn open(place: &RedoLocation, keyring: &dyn Keyring) -> Result<Log> {
        let files = match place {
            RedoLocation::Logfile(path) => {
                let (path, file, mut redo) = open_file(path, RedoHead::read_logfile)?;
                // A checkpoint may lie in the block behind the last: nothing was logged after it.
                redo.len += BLOCK_LEN as u64;
                vec![(path, file, redo)]
            }
            RedoLocation::Folder(folder) => open_folder(folder)?,
        };
        Log::of(files, None, keyring)
    }

    /// Reads the header of a logfile that is being written. `None` if it never gets one.
    pub(super) fn follow(
        path: &Path,
        watermark: Arc<Watermark>,
        keyring: &dyn Keyring,
    ) -> Result<Option<Log>> {
        if watermark.wait(HEAD_LEN as u64)?.until < HEAD_LEN as u64 {
            return Ok(None);
        }
        let (path, file, mut redo) = open_file(path, RedoHead::read_logfile)?;
        redo.len = u64::MAX;
        Log::of(vec![(path, file, redo)], Some(watermark), keyring).map(Some)
    }

    fn of(
        files: Vec<(PathBuf, File, RedoFile)>,
        watermark: Option<Arc<Watermark>>,
        keyring: &dyn Keyring,
    ) -> Result<Log> {
        let checkpoint = newest_checkpoint(files.iter().map(|(_, _, redo)| redo))
            .ok_or_else(|| corrupt("it has no valid checkpoint"))?;
        let sealed = files.iter().find_map(|(_, _, redo)| redo.head.encryption.as_deref());
        let cipher = sealed.map_or(Err(NoKey::Unknown), |info| keyring.cipher(Sealed::Redo(info)));
        Ok(Log { files, checkpoint, watermark, cipher })
    }

    /// Whether it is being written.
    pub(super) fn grows(&self) -> bool {
        self.watermark.is_some()
    }

    /// Waits for a block at `at`; how much may be read there, not more than `wanted`.
    pub(super) fn readable(&self, at: u64, wanted: usize) -> Result<usize> {
        let Some(watermark) = &self.watermark else { return Ok(wanted) };
        let supplied = watermark.wait(at + BLOCK_LEN as u64)?;
        Ok(supplied.until.saturating_sub(at).min(wanted as u64) as usize)
    }
}

/// Feeds a block; false where the log ends with it.
pub(super) fn take(scanner: &mut Scanner, block: &[u8; BLOCK_LEN]) -> Result<bool> {
    let lsn = scanner.next_block();
    match scanner.feed(block).map_err(scan_error)? {
        Fed::Full => Ok(true),
        Fed::Partial | Fed::End(BlockState::NotWritten) => Ok(false),
        Fed::End(_) => Err(corrupt(format!("the block at LSN {lsn} is damaged"))),
    }
}

pub(super) fn scan_error(e: ScanError) -> Error {
    match e {
        ScanError::Encrypted { .. } => encrypted("the redo of the backup", &NoKey::Unknown),
        ScanError::TooLarge(over) => over.into(),
        e => corrupt(e),
    }
}

fn open_folder(folder: &Path) -> Result<Vec<(PathBuf, File, RedoFile)>> {
    let failed = |e| Error::io(Code::TargetIo, folder.display(), e);
    let mut files = Vec::new();
    for (entry, _) in nofollow::entries(folder).map_err(failed)? {
        let name = FileName::parse(&entry.to_string_lossy());
        if name.is_some_and(|name| !name.spare) {
            files.push(open_file(&folder.join(&entry), RedoHead::read)?);
        }
    }
    files.sort_by_key(|(_, _, redo)| redo.head.start_lsn);
    for pair in files.windows(2) {
        let [(_, _, one), (path, _, next)] = pair else { continue };
        if one.end_lsn() != next.head.start_lsn || one.head.uuid != next.head.uuid {
            return Err(corrupt(format!("{} does not go on where the file before it ends", path.display())));
        }
    }
    Ok(files)
}

fn open_file(
    path: &Path,
    read: fn(&[u8]) -> Result<RedoHead, HeadError>,
) -> Result<(PathBuf, File, RedoFile)> {
    let failed = |e| Error::io(Code::TargetIo, path.display(), e);
    let file = nofollow::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let mut head = [0; HEAD_LEN];
    let filled = read_up_to(&file, &mut head, 0).map_err(failed)?;
    let head = read(&head[..filled]).map_err(corrupt)?;
    checks::check_head(&head)?;
    Ok((path.to_owned(), file, RedoFile { head, len }))
}
