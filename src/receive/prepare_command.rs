//! Implements `xbrecv prepare DIR`: turns a folder that holds a complete, unprepared backup into a datadir,
//! in place.
//!
//! The folder was received with `--prepare=none`, or extracted by another tool. `inspect` decides what
//! folders are accepted. Unlike a received copy, the folder can't be thrown away when something goes wrong.
//! So every step can be killed and done again: the redo stays until everything else is durable.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::base_folder::{Access, SERVER_MARK, external, lock, member, refuse_unfinished};
use super::consistency::Statements;
use crate::base::budget::Shares;
use crate::base::nofollow;
use crate::base::progress::{Phase, Progress};
use crate::base::{Budget, Code, Error, Lsn, Result, Stop};
use crate::family;
use crate::innodb::encryption::Keyring;
use crate::prepare::native::{self, RedoLocation, Writes};
use crate::prepare::{self, Datadir, Resources, checks};
use crate::restore::{Mapping, Owner, durability};
use crate::stream::manifest::{MANIFEST, MANIFEST_MAX, Manifest};
use crate::stream::metadata::{
    BACKUP_CNF, BINLOG_INFO, BackupCnf, BackupType, BinlogInfo, CHECKPOINTS, Checkpoints, INFO, Info,
    METADATA_MAX,
};

/// Options of `xbrecv prepare`.
#[derive(Debug)]
pub struct FolderOptions {
    /// Path of the folder.
    pub dir: PathBuf,
    /// Places of files that lay outside the source's datadir.
    pub mappings: Vec<Mapping>,
    /// Number of threads that apply redo.
    pub parallel: usize,
    /// Memory for redo records, in bytes.
    pub use_memory: u64,
    /// Keys of its encrypted tablespaces and redo.
    pub keyring: Arc<dyn Keyring>,
    /// True if the folder is to be marked as one that increments will still be laid over, as XtraBackup's scripts expect it.
    pub apply_redo_only: bool,
}

/// The result of preparing a folder.
#[derive(Debug, Default)]
pub struct FolderSummary {
    /// Path of the folder.
    pub dir: PathBuf,
    /// True if it had been prepared before: nothing was changed then.
    pub was_prepared: bool,
    /// Time from start to end.
    pub time: Duration,
    /// Version of the source.
    pub server_version: Option<String>,
    /// LSN at which recovery began, and LSN at which it ended.
    pub lsn: Option<(Lsn, Lsn)>,
    /// GTID set at the end of the backup.
    pub gtid_executed: Option<String>,
    /// Base name of the binary log whose last part is in the folder.
    pub log_bin: Option<String>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Steps, and the time that each took.
    pub steps: Vec<(&'static str, Duration)>,
}

/// Prepares a folder in place.
pub fn run(options: &FolderOptions, progress: &Progress, stop: &Stop) -> Result<FolderSummary> {
    progress.enter(Phase::Preparing);
    let begun = Instant::now();
    let root = options.dir.canonicalize().map_err(|e| failed(&options.dir, e))?;
    let (handle, _held) = lock(&root, Access::Exclusive)?;
    refuse_unfinished(&root)?;
    let cnf = member(&root, BACKUP_CNF, METADATA_MAX)?
        .map(|c| BackupCnf::parse(&c))
        .transpose()?
        .unwrap_or_default();
    let external = external(&root, &options.mappings)?;
    let info = member(&root, INFO, METADATA_MAX)?.map(|c| Info::parse(&c)).transpose()?;
    let version = info.as_ref().map(|info| info.server_version.clone());
    let binlog = member(&root, BINLOG_INFO, METADATA_MAX)?.map(|c| BinlogInfo::parse(&c)).transpose()?;
    let checkpoints =
        member(&root, CHECKPOINTS, METADATA_MAX)?.map(|c| Checkpoints::parse(&c)).transpose()?;
    let manifest = member(&root, MANIFEST, MANIFEST_MAX)?.map(|text| Manifest::parse(&text)).transpose()?;
    let left_out = manifest.map(|manifest| manifest.left_out).unwrap_or_default();
    let run = prepare::run_folder(&root);
    let gtid_executed = binlog.as_ref().and_then(|info| info.gtid_executed.clone());
    let datadir = Datadir {
        keyring: options.keyring.clone(),
        redo: family::redo_of_copies(),
        root: &root,
        left_out: &left_out,
        run: &run,
        external: &external,
        owner: Owner::of_target(&root).map(|o| (o.uid, o.gid)),
        cnf: &cnf,
        gtid_executed: gtid_executed.as_deref(),
        end_lsn: checkpoints.as_ref().map(|c| c.last_lsn),
        server_version: version.as_deref(),
    };
    let mut summary = FolderSummary {
        log_bin: prepare::options::binlog(&datadir)?,
        dir: root.clone(),
        server_version: version.clone(),
        gtid_executed: gtid_executed.clone(),
        ..FolderSummary::default()
    };
    match inspect(&root, checkpoints.as_ref())? {
        None => {
            // An earlier run may have been killed before it recorded this.
            native::mark_prepared(&root)?;
            summary.was_prepared = true;
        }
        Some(place) => {
            Statements {
                in_folder: true,
                left_out: &left_out,
                lineage: None,
                manifest: None,
                cnf: Some(&cnf),
                checkpoints: checkpoints.as_ref(),
                info: info.as_ref(),
                binlog: binlog.as_ref(),
                redo: None,
            }
            .check()?;
            let shares = Shares::of(options.use_memory);
            let (memory, budget) = (shares.redo(0), &Budget::new(shares.kept()));
            let means = Resources { memory, budget, threads: options.parallel, progress, stop };
            let (finish, prepared) = native::apply(&datadir, &place, None, Writes::InPlace, &means)
                .map_err(|e| if e.code == Code::Encrypted { e.hint(with_keys(&place)) } else { e })?;
            checks::check_required(&datadir)?;
            let syncing = Instant::now();
            finish.run(&datadir, || {
                stop.check()?;
                sync_all(&handle, &root, &external)
            })?;
            sync_all(&handle, &root, &external)?;
            summary.lsn = prepared.lsn;
            summary.notes = prepared.notes;
            summary.steps = prepared.steps;
            summary.steps.push(("sync", syncing.elapsed()));
        }
    }
    if options.apply_redo_only
        && let Some(mut checkpoints) = checkpoints
    {
        checkpoints.backup_type = BackupType::LogApplied;
        native::replace_checkpoints(&root, &checkpoints)?;
    }
    summary.time = begun.elapsed();
    progress.enter(Phase::Done);
    Ok(summary)
}

/// Returns the location of the redo that is to be applied; `None` if that was done already.
///
/// # Errors
/// If the folder is not a full backup, or a server was started on it.
fn inspect(root: &Path, checkpoints: Option<&Checkpoints>) -> Result<Option<RedoLocation>> {
    let place = family::redo_of_copies().find(root)?;
    match checkpoints.map(|c| c.backup_type) {
        Some(BackupType::FullPrepared) => return Ok(None),
        Some(BackupType::FullBackuped | BackupType::LogApplied) | None => {}
        Some(other) => {
            return Err(Error::new(
                Code::Prepare,
                format!("{} holds a backup of type {}, not a full one", root.display(), other.as_str()),
            )
            .hint("prepare it with the tool that made it"));
        }
    }
    if place.is_some() && nofollow::kind(&root.join(SERVER_MARK)).is_some() {
        return Err(Error::new(
            Code::Prepare,
            format!("a server was started on {} (it has {SERVER_MARK})", root.display()),
        )
        .hint("that server recovered it; to prepare the backup, receive or extract it again"));
    }
    Ok(place)
}

/// Returns a hint for a folder that only a server with the keys can recover. A server starts on redo files,
/// not on the member that they are made of.
fn with_keys(place: &RedoLocation) -> &'static str {
    match place {
        RedoLocation::Folder(_) => {
            "start your own server, which has the keys, on the folder: all its redo is still there"
        }
        RedoLocation::Logfile(_) => {
            "give the stream to `xbrecv --prepare=none` and start your own server, which has the keys, on what it makes; \
             or prepare the folder with the tool that made it"
        }
    }
}

/// Makes everything durable that was written to the folder and to files elsewhere.
fn sync_all(handle: &File, root: &Path, external: &[(PathBuf, PathBuf)]) -> Result<()> {
    for (_, file) in external.iter().filter(|(_, file)| !file.starts_with(root)) {
        // A file that redo removed needs no sync.
        match nofollow::open(file).and_then(|open| open.sync_all()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(file, e)),
            _ => {}
        }
    }
    durability::sync_tree(handle, root)
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io(Code::TargetIo, path.display(), e)
}
