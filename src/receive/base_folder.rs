//! Opens a folder with a backup that increments are laid over, and decides whether it still is what it was.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::base::nofollow;
use crate::base::{Code, Error, Result, SpaceId};
use crate::family;
use crate::prepare::datafiles;
use crate::restore::overlay::BaseFiles;
use crate::restore::{Mapping, external_files};
use crate::stream::chain::Lineage;
use crate::stream::manifest::{MANIFEST, MANIFEST_MAX, Manifest};
use crate::stream::metadata::{BackupType, CHECKPOINTS, Checkpoints, METADATA_MAX, TABLESPACES, Tablespaces};

/// Name of a file that a server makes at its first start.
pub(super) const SERVER_MARK: &str = "auto.cnf";

/// Hidden folder of `xbrecv merge`, inside the folder that it changes.
pub(super) const MERGE_FOLDER: &str = ".xbrecv-merge";
/// Markers in it, for how far a merge has come: pages are being laid over datafiles, they all are, the old backup is gone.
pub(super) const LAYING: &str = "laying";
pub(super) const LAID: &str = "laid";
pub(super) const CLEARED: &str = "cleared";

/// A folder with a backup. It stays locked while this lives.
pub(super) struct BaseFolder {
    root: PathBuf,
    handle: File,
    _held: nofollow::Held,
    /// What the backup says of itself.
    pub(super) lineage: Lineage,
    /// Whether its redo was applied.
    pub(super) prepared: bool,
    /// Its manifest, if it has one.
    pub(super) manifest: Option<Manifest>,
    /// Files that lay outside the source's datadir: their paths there, and where they are now.
    pub(super) external: Vec<(PathBuf, PathBuf)>,
}

/// Whether others may read the folder at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// It is read.
    Shared,
    /// It is changed.
    Exclusive,
}

/// What a folder is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// An increment is laid over it: it must be what the backup was.
    Increment,
    /// Tables are taken out of it: transactions may have been rolled back.
    Tables,
}

impl Purpose {
    fn refuse(self, root: &Path, what: &str) -> Error {
        let purpose = match self {
            Purpose::Increment => "no increment can be laid over",
            Purpose::Tables => "no tables can be taken out of",
        };
        Error::new(Code::WrongBase, format!("{purpose} {}: {what}", root.display()))
    }
}

impl BaseFolder {
    /// Opens the folder `dir`.
    ///
    /// # Errors
    /// [`Code::WrongBase`] if no increment can be laid over it: it is none of a full backup, a server has started on it, or its
    /// transactions were rolled back. [`Code::Target`] if another run works on it.
    pub(super) fn open(dir: &Path, mappings: &[Mapping], access: Access) -> Result<BaseFolder> {
        BaseFolder::open_for(Purpose::Increment, dir, mappings, access)
    }

    /// Opens a folder that tables are taken out of. A private server may have prepared it, which has rolled back transactions.
    ///
    /// # Errors
    /// As [`BaseFolder::open`].
    pub(super) fn open_to_export(dir: &Path, mappings: &[Mapping], access: Access) -> Result<BaseFolder> {
        BaseFolder::open_for(Purpose::Tables, dir, mappings, access)
    }

    fn open_for(purpose: Purpose, dir: &Path, mappings: &[Mapping], access: Access) -> Result<BaseFolder> {
        let root = dir.canonicalize().map_err(|e| failed(dir, e))?;
        let (handle, held) = lock(&root, access)?;
        refuse_unfinished(&root)?;
        let text = member(&root, MANIFEST, MANIFEST_MAX)?;
        let manifest = text.as_ref().map(|text| Manifest::parse(text)).transpose()?;
        let checkpoints =
            member(&root, CHECKPOINTS, METADATA_MAX)?.map(|text| Checkpoints::parse(&text)).transpose()?;
        let Some(checkpoints) = checkpoints else {
            return Err(purpose
                .refuse(&root, &format!("it has no {CHECKPOINTS}"))
                .hint("give the folder of a backup"));
        };
        let lineage = match (&manifest, &text) {
            // Another program may have brought the folder forward since: it knows nothing of the manifest.
            (Some(manifest), Some(text)) if manifest.end_lsn == checkpoints.last_lsn => {
                Lineage::of_manifest(manifest, text)
            }
            _ => Lineage { to_lsn: checkpoints.to_lsn, end_lsn: checkpoints.last_lsn, ..Lineage::default() },
        };
        let prepared = is_prepared(&root, &checkpoints, purpose)?;
        let external = external(&root, mappings)?;
        Ok(BaseFolder { root, handle, _held: held, lineage, prepared, manifest, external })
    }

    /// The path of the folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder, open.
    pub(super) fn handle(&self) -> &File {
        &self.handle
    }

    /// Finds its datafiles.
    ///
    /// # Errors
    /// [`Code::WrongBase`] if two files have the same id.
    pub(super) fn files(&self) -> Result<BaseFiles> {
        base_files(&self.root, &self.external)
    }
}

/// Opens and locks the folder `root`, and holds it: paths below it begin at its descriptor.
///
/// # Errors
/// [`Code::Target`] if another run works on it.
pub(super) fn lock(root: &Path, access: Access) -> Result<(File, nofollow::Held)> {
    let handle = nofollow::open_dir(root).map_err(|e| failed(root, e))?;
    let how = match access {
        Access::Shared => FlockOperation::NonBlockingLockShared,
        Access::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(&handle, how) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(Error::new(Code::Target, format!("another run works on {}", root.display())));
        }
        Err(e) => return Err(failed(root, e.into())),
    }
    let held = nofollow::hold(root, &handle).map_err(|e| failed(root, e))?;
    Ok((handle, held))
}

/// Refuses a folder in which a merge has begun to change files and was killed.
///
/// # Errors
/// [`Code::Target`].
pub(super) fn refuse_unfinished(root: &Path) -> Result<()> {
    let hidden = root.join(MERGE_FOLDER);
    match [LAYING, LAID, CLEARED].iter().any(|marker| nofollow::is_file(&hidden.join(marker))) {
        false => Ok(()),
        true => Err(Error::new(
            Code::Target,
            format!("an increment was being merged into {} when that was killed", root.display()),
        )
        .hint(format!("finish it first: xbrecv merge {}", root.display()))),
    }
}

/// Finds the datafiles of the backup at `root`.
pub(super) fn base_files(root: &Path, external: &[(PathBuf, PathBuf)]) -> Result<BaseFiles> {
    let found = datafiles::find(root, external, family::redo_of_copies().pages())?;
    let mut by_space = BTreeMap::new();
    for (space, mut paths) in found {
        if let (SpaceId::SYSTEM, _) | (_, [_, _, ..]) = (space, &paths[..]) {
            let what = format!("{} and others are all tablespace {space}", paths[0].display());
            return Err(Purpose::Increment.refuse(root, &what));
        }
        by_space.extend(paths.pop().map(|path| (space, path)));
    }
    Ok(BaseFiles { by_space, root: root.to_owned() })
}

/// Decides whether its redo was applied, and whether it still is what the backup was, but for transactions that may be rolled back.
fn is_prepared(root: &Path, checkpoints: &Checkpoints, purpose: Purpose) -> Result<bool> {
    let again = "restore the backup anew, or take a full one";
    if nofollow::kind(&root.join(SERVER_MARK)).is_some() {
        return Err(purpose
            .refuse(root, &format!("a server was started on it (it has {SERVER_MARK})"))
            .hint(again));
    }
    match checkpoints.backup_type {
        BackupType::FullBackuped => Ok(false),
        BackupType::LogApplied => Ok(true),
        BackupType::FullPrepared if family::redo_of_copies().is_untouched(root) => Ok(true),
        BackupType::FullPrepared if purpose == Purpose::Tables => Ok(true),
        BackupType::FullPrepared => Err(purpose
            .refuse(root, "a server has recovered it, or was started on it: transactions were rolled back")
            .hint(again)),
        BackupType::Incremental => Err(purpose
            .refuse(root, "it is an increment itself")
            .hint("give the full backup first, then its increments in their order")),
    }
}

/// Returns the files that lay outside the source's datadir, with their present paths.
pub(super) fn external(root: &Path, mappings: &[Mapping]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let listed = member(root, TABLESPACES, METADATA_MAX)?.map(|c| Tablespaces::parse(&c)).transpose()?;
    let mut found = Vec::new();
    for external in listed.unwrap_or_default().external {
        let there = PathBuf::from(&external.file_name);
        let member = external.member().map_err(|e| Error::new(Code::StreamRefused, e.to_string()))?;
        let extracted = root.join(member.as_str());
        let now = match external_files::destination(&there, &member, false, mappings, root) {
            Ok(external_files::FileLocation::Inside(name)) => root.join(name.as_str()),
            Ok(external_files::FileLocation::ExternalFiles(dir, rest)) => {
                external_files::real(&dir).join(rest)
            }
            Err(e) if e.code == Code::Unmapped && !nofollow::is_file(&extracted) => return Err(e),
            Err(e) if e.code != Code::Unmapped => return Err(e),
            Err(_) => extracted,
        };
        found.push((there, now));
    }
    Ok(found)
}

/// Returns the content of a member in the folder `root`; `None` if it has none.
pub(super) fn member(root: &Path, name: &str, max: usize) -> Result<Option<Vec<u8>>> {
    let path = root.join(name);
    match nofollow::read(&path, max as u64) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(&path, e)),
    }
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io(Code::TargetIo, path.display(), e)
}
