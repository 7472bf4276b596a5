//! The last step: a log that the copy's server starts on takes the place of the one that was applied.
//!
//! What such a log looks like is the family's ([`RedoFormat::install_empty_log`]). The old log goes last, when all else is
//! durable: until then the whole may be done again.

use std::io::{self, Write};
use std::path::Path;

use rustix::fs::Mode;

use crate::base::nofollow;
use crate::base::{Code, Error, Result};
use crate::prepare::Datadir;
use crate::prepare::native::redo_format::{AppliedLog, RedoFormat};
use crate::stream::metadata::{BackupType, CHECKPOINTS, Checkpoints, METADATA_MAX};

pub(crate) mod prepared_transactions;

/// Permissions as mysqld gives them.
const FILE_MODE: u32 = 0o640;
/// Bits of a file's mode that say who may what.
const PERMISSIONS: u32 = 0o777;

/// The last step of a prepare, once all pages are up to date and durable: the empty redo log.
#[derive(Debug)]
pub struct Finish {
    pub(crate) format: &'static dyn RedoFormat,
    pub(crate) applied: AppliedLog,
}

impl Finish {
    /// Makes the copy startable. `sync` makes durable what was written so far; it is called before each step that can't be
    /// taken back.
    pub fn run(self, datadir: &Datadir<'_>, mut sync: impl FnMut() -> Result<()>) -> Result<()> {
        self.format.install_empty_log(datadir, &self.applied, &mut sync)?;
        mark_prepared(datadir.root)
    }
}

/// Says in `xtrabackup_checkpoints`, where there is one, that the backup is prepared: users' scripts read it.
pub fn mark_prepared(root: &Path) -> Result<()> {
    let path = root.join(CHECKPOINTS);
    let failed = |e| Error::io(Code::TargetIo, path.display(), e);
    if !nofollow::stat(&path).is_ok_and(|stat| stat.st_size <= METADATA_MAX as i64) {
        return Ok(());
    }
    let content = nofollow::read(&path, METADATA_MAX as u64).map_err(failed)?;
    let mut checkpoints = Checkpoints::parse(&content)?;
    if checkpoints.backup_type == BackupType::FullPrepared {
        return Ok(());
    }
    checkpoints.backup_type = BackupType::FullPrepared;
    replace_checkpoints(root, &checkpoints)
}

/// Puts these checkpoints in the place of those in the folder `root`, with their owner and permissions.
///
/// # Errors
/// [`Code::TargetIo`].
pub fn replace_checkpoints(root: &Path, checkpoints: &Checkpoints) -> Result<()> {
    let path = root.join(CHECKPOINTS);
    let failed = |e| Error::io(Code::TargetIo, path.display(), e);
    let now = nofollow::stat(&path).map_err(failed)?;
    let new = root.join(format!("{CHECKPOINTS}.new"));
    let replaced = (|| {
        // An earlier run may have been killed before it renamed its own; a link goes itself.
        match nofollow::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = nofollow::create_new(&new, FILE_MODE)?;
        file.write_all(checkpoints.render().as_bytes())?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(now.st_mode & PERMISSIONS))?;
        nofollow::give(&file, (now.st_uid, now.st_gid))?;
        nofollow::rename(&new, &path)
    })();
    replaced.map_err(failed)
}
