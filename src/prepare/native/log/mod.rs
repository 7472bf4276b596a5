//! The redo log of a copy: where it lies, and its files.
//!
//! It is a member `xtrabackup_logfile` (header blocks of a redo file, then log blocks from the checkpoint's on), or the
//! files of `#innodb_redo/` that [`super::super::redo`] made of it: one after the other, each going on where the one
//! before ends.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::watermark::Watermark;
use crate::base::nofollow;
use crate::base::read::read_up_to;
use crate::base::{Code, Error, Lsn, Result};
use crate::innodb::redo::file::DIRECTORY;
use crate::innodb::redo::{
    BLOCK_LEN, BlockState, Fed, FileName, HEAD_LEN, HeadError, RedoFile, RedoHead, ScanError, Scanner,
    newest_checkpoint,
};
use crate::prepare::checks;
use crate::prepare::native::error::{corrupt, encrypted};
use crate::stream::metadata::LOGFILE;

pub(crate) mod parsed_segment;
pub(crate) mod scan;
pub(crate) mod segments;
pub(crate) mod table_metadata;
pub(crate) mod watermark;

/// Where the old log waits for its removal while the new one takes its place.
pub(crate) const APPLIED: &str = "#innodb_redo.applied";

/// The id of every redo log that native prepare makes, by which it is known again.
pub(crate) const OUR_UUID: u32 = 0x7862_7031;

/// Where the redo of a copy is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedoLocation {
    /// The member `xtrabackup_logfile`, as it came.
    Logfile(PathBuf),
    /// A folder of redo files.
    Folder(PathBuf),
}

/// Looks for the redo of the copy at `root`: where an earlier run left it, too. `None`: it was applied already.
pub fn find(root: &Path) -> Result<Option<RedoLocation>> {
    let (logfile, applied, folder) = (root.join(LOGFILE), root.join(APPLIED), root.join(DIRECTORY));
    let ours = is_ours(&folder);
    if ours && nofollow::is_dir(&applied) {
        // All was durable before the new log took its place: an earlier run was killed while it removed the old one, of
        // which no more than a part may be left.
        remove_dir(&applied).map_err(|e| Error::io(Code::TargetIo, applied.display(), e))?;
    }
    if nofollow::is_file(&logfile) || nofollow::is_dir(&applied) {
        if nofollow::is_dir(&folder) && !ours {
            return Err(Error::new(
                Code::Prepare,
                format!("{} has the redo of a backup and that of a server", root.display()),
            )
            .hint("a server was started on it before it was prepared: extract the backup again"));
        }
        return Ok(Some(if nofollow::is_file(&logfile) {
            RedoLocation::Logfile(logfile)
        } else {
            RedoLocation::Folder(applied)
        }));
    }
    match nofollow::is_dir(&folder) {
        true => Ok((!ours).then_some(RedoLocation::Folder(folder))),
        false => Err(Error::new(
            Code::CorruptRedo,
            format!("{} has no redo: neither {LOGFILE} nor {DIRECTORY}", root.display()),
        )
        .hint("give the folder of a whole backup")),
    }
}

/// The redo log, its header read.
pub(crate) struct Log {
    pub(crate) files: Vec<(PathBuf, File, RedoFile)>,
    checkpoint: Lsn,
    /// Where it still grows.
    watermark: Option<Arc<Watermark>>,
}

impl Log {
    /// Reads the headers.
    pub(crate) fn open(place: &RedoLocation) -> Result<Log> {
        let files = match place {
            RedoLocation::Logfile(path) => {
                let (path, file, mut redo) = open_file(path, RedoHead::read_logfile)?;
                // A checkpoint may lie in the block behind the last: nothing was logged after it.
                redo.len += BLOCK_LEN as u64;
                vec![(path, file, redo)]
            }
            RedoLocation::Folder(folder) => open_folder(folder)?,
        };
        Log::of(files, None)
    }

    /// Reads the header of a logfile that is being written. `None` if it never gets one.
    pub(crate) fn follow(path: &Path, watermark: Arc<Watermark>) -> Result<Option<Log>> {
        if watermark.wait(HEAD_LEN as u64)?.until < HEAD_LEN as u64 {
            return Ok(None);
        }
        let (path, file, mut redo) = open_file(path, RedoHead::read_logfile)?;
        redo.len = u64::MAX;
        Log::of(vec![(path, file, redo)], Some(watermark)).map(Some)
    }

    fn of(files: Vec<(PathBuf, File, RedoFile)>, watermark: Option<Arc<Watermark>>) -> Result<Log> {
        let checkpoint = newest_checkpoint(files.iter().map(|(_, _, redo)| redo))
            .ok_or_else(|| corrupt("it has no valid checkpoint"))?;
        Ok(Log { files, checkpoint, watermark })
    }

    /// Recovery begins here.
    pub(crate) fn checkpoint(&self) -> Lsn {
        self.checkpoint
    }

    /// No record starts before this.
    pub(crate) fn start(&self) -> Lsn {
        self.checkpoint.block_start()
    }

    /// Whether it is being written.
    pub(crate) fn grows(&self) -> bool {
        self.watermark.is_some()
    }

    /// Waits for a block at `at`; how much may be read there, not more than `wanted`.
    pub(crate) fn readable(&self, at: u64, wanted: usize) -> Result<usize> {
        let Some(watermark) = &self.watermark else { return Ok(wanted) };
        let supplied = watermark.wait(at + BLOCK_LEN as u64)?;
        Ok(supplied.until.saturating_sub(at).min(wanted as u64) as usize)
    }
}

/// Feeds a block; false where the log ends with it.
pub(crate) fn take(scanner: &mut Scanner, block: &[u8; BLOCK_LEN]) -> Result<bool> {
    let lsn = scanner.next_block();
    match scanner.feed(block).map_err(scan_error)? {
        Fed::Full => Ok(true),
        Fed::Partial | Fed::End(BlockState::NotWritten) => Ok(false),
        Fed::End(_) => Err(corrupt(format!("the block at LSN {lsn} is damaged"))),
    }
}

pub(crate) fn scan_error(e: ScanError) -> Error {
    match e {
        ScanError::Encrypted { .. } => encrypted("the redo of the backup"),
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

/// Whether the redo log in the folder `dir` is one that native prepare made.
pub(crate) fn is_ours(dir: &Path) -> bool {
    let mut head = [0; HEAD_LEN];
    let name = dir.join(FileName { id: 0, spare: false }.to_string());
    let read = nofollow::open(&name).and_then(|file| crate::base::read::read_up_to(&file, &mut head, 0));
    let head = read.ok().and_then(|n| RedoHead::read(&head[..n]).ok());
    head.is_some_and(|head| head.uuid == OUR_UUID)
}

pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    match nofollow::remove_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
