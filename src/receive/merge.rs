//! Implements `xbrecv merge DIR INCREMENT…`: brings a folder with a backup forward, in its place.
//!
//! An increment arrives whole in a hidden folder inside DIR and is compared with its manifest, with its base, and with what can
//! be laid over datafiles at all; until then DIR is as it was. Then a marker is written, and there is only forward: the datafiles
//! move into the hidden folder and get their pages ([`overlay`]), what is left of the old backup goes, and the hidden folder's
//! content takes its place. Each step can be killed and done again, by `xbrecv merge DIR`. At the end the redo of the last
//! increment is applied, as `xbrecv prepare` does.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use crate::base::nofollow;
use crate::base::progress::{Phase, Progress};
use crate::base::read::read_full;
use crate::base::{Code, Confined, Error, Result, Stop};
use crate::restore::overlay::{self, Fetch};
use crate::restore::owner::{DIR_MODE, FILE_MODE};
use crate::restore::{Mapping, Owner, clone_file, durability, external_files};
use crate::stream::chain::{Fit, INCREMENT, Increment, Lineage};
use crate::stream::digest::{BLOCK, BlockDigest};
use crate::stream::manifest::{MANIFEST, MANIFEST_MAX, Manifest};
use crate::stream::metadata::{
    BackupType, CHECKPOINTS, Checkpoints, LOGFILE, METADATA_MAX, TABLESPACES, Tablespaces,
};

use super::arrival::{self, Hooks};
use super::base_folder::{Access, BaseFolder, CLEARED, LAID, LAYING, MERGE_FOLDER, base_files, lock, member};
use super::chain::{Link, say_full};
use super::prepare_command::{self, FolderOptions, FolderSummary};
use super::receiver::Place;
use super::{ReceiveOptions, with_stream};

/// The increment inside the hidden folder; later the merged backup.
const NEXT: &str = "next";
/// Paths of the old backup's files that are not datafiles, each closed by a NUL; inside the hidden folder.
const OLD: &str = "old";
/// Identities of the increments that were merged into a folder: a run that is killed between two can be given all again.
const HISTORY: &str = "xbpipe_merged";
/// Maximum length in bytes of that file that is read.
const HISTORY_MAX: usize = 16 << 20;
/// Maximum length in bytes of the list of old files that is read: that of a manifest.
const OLD_MAX: usize = MANIFEST_MAX;

/// An increment to merge.
pub enum Source<'a> {
    /// A stream.
    Stream(Link<'a>),
    /// A folder that a stream was extracted to. It stays as it is.
    Folder(PathBuf),
}

/// The result of merging.
#[derive(Debug, Default)]
pub struct MergeSummary {
    /// The result of preparing the folder after that.
    pub folder: FolderSummary,
    /// Number of increments that were merged.
    pub merged: usize,
    /// Number of increments that were given and had been merged before.
    pub skipped: usize,
    /// Number of pages of them.
    pub pages: u64,
    /// Time from start to end.
    pub time: Duration,
}

/// Merges increments into the folder of `folder`, and prepares it.
///
/// # Errors
/// [`Code::WrongBase`] if one does not fit. The folder then stands for the last one that did.
pub fn run(
    options: &ReceiveOptions,
    folder: &FolderOptions,
    sources: Vec<Source<'_>>,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<MergeSummary> {
    let begun = Instant::now();
    progress.enter(Phase::Copying);
    let merge = Merge { options, folder, progress, stop };
    let mut summary = MergeSummary::default();
    summary.pages += merge.finish_unfinished()?.unwrap_or_default();
    for source in sources {
        match merge.one(source)? {
            Some(pages) => {
                summary.merged += 1;
                summary.pages += pages;
            }
            None => summary.skipped += 1,
        }
    }
    summary.folder = prepare_command::run(folder, progress, stop)?;
    summary.time = begun.elapsed();
    Ok(summary)
}

struct Merge<'a> {
    options: &'a ReceiveOptions,
    folder: &'a FolderOptions,
    progress: &'a Arc<Progress>,
    stop: &'a Stop,
}

impl Merge<'_> {
    /// Merges one increment; `None` if that was done before.
    fn one(&self, source: Source<'_>) -> Result<Option<u64>> {
        let name = match &source {
            Source::Stream(link) => link.name.clone(),
            Source::Folder(dir) => dir.display().to_string(),
        };
        self.merge(source).map_err(|e| {
            let message = format!("{}: {}", name.escape_debug(), e.message);
            Error { message, ..e }
        })
    }

    fn merge(&self, source: Source<'_>) -> Result<Option<u64>> {
        let base = BaseFolder::open(&self.folder.dir, &self.folder.mappings, Access::Exclusive)?;
        let root = base.root().to_owned();
        refuse_outside(&root, &base.external)?;
        let history = read_history(&root)?;
        let next = root.join(MERGE_FOLDER).join(NEXT);
        let failed = |e| Error::io(Code::TargetIo, next.display(), e);
        let hidden = root.join(MERGE_FOLDER);
        nofollow::create_dir(&hidden, 0o700)
            .and_then(|()| nofollow::create_dir(&next, DIR_MODE))
            .map_err(failed)?;
        let arrived = self.arrive(source, &next, &root, &base.lineage, &history);
        let lineage = match arrived {
            Ok(Some(lineage)) => lineage,
            other => {
                nofollow::remove_all(&hidden).map_err(failed)?;
                return other.map(|_| None);
            }
        };
        if base.lineage.takes(&lineage)? == Fit::AfterRedo && !base.prepared {
            // Its redo changes pages that the increment does not have.
            nofollow::remove_all(&hidden).map_err(failed)?;
            return Err(Error::new(
                Code::WrongBase,
                format!(
                    "the redo of {} must be applied before this increment is laid over it",
                    root.display()
                ),
            )
            .hint(format!("xbrecv prepare --apply-redo-only {}", root.display())));
        }
        let checked =
            overlay::find(&next).and_then(|_| refuse_outside_in(&next, &self.folder.mappings, &root));
        if let Err(e) = checked.and_then(|()| self.stop.check()) {
            nofollow::remove_all(&hidden).map_err(failed)?;
            return Err(e);
        }
        write_old(&hidden, &root, base.manifest.as_ref()).map_err(failed)?;
        write_history(&next, history, &lineage).map_err(failed)?;
        if let Some(owner) = Owner::of_target(&root) {
            nofollow::open_dir(&hidden).and_then(|dir| owner.give_tree(dir)).map_err(failed)?;
        }
        durability::sync_tree(base.handle(), &root)?;
        // From here on there is only forward.
        mark(&hidden, None, LAYING).map_err(failed)?;
        drop(base);
        self.finish_unfinished()
    }

    /// Brings an increment into the folder `next`; `None` if it was merged before.
    fn arrive(
        &self,
        source: Source<'_>,
        next: &Path,
        root: &Path,
        base: &Lineage,
        history: &[Lineage],
    ) -> Result<Option<Lineage>> {
        let was_merged = |increment: &Option<Increment>| {
            increment.is_some() && history.iter().any(|one| one.increment == *increment)
        };
        let lineage = match source {
            Source::Folder(dir) => copy_increment(&dir, next, self.stop)?,
            Source::Stream(link) => {
                let mut stream_reader = (link.open)()?;
                let place = Place {
                    data: next,
                    target: root,
                    owner: Owner::of_target(root),
                    alone: false,
                    base: None,
                };
                let mut fits = |lineage: &Lineage| match was_merged(&lineage.increment) {
                    true => Ok(None),
                    false => Ok(Some(base.takes(lineage)?)),
                };
                let stream = &mut *stream_reader;
                let arrived =
                    with_stream(self.options, stream, self.progress, self.stop, |memory, opened| {
                        let (progress, stop) = (self.progress, self.stop);
                        let hooks = Hooks { fits: &mut fits, tap: None };
                        arrival::receive(self.options, memory, opened, Some(place), hooks, progress, stop)
                    })?;
                arrived.book.lineage()?
            }
        };
        if lineage.identity.is_some() && history.iter().any(|one| one.identity == lineage.identity) {
            return Ok(None);
        }
        base.takes(&lineage)?;
        Ok(Some(lineage))
    }

    /// Goes on with a merge that was killed, or has come to where there is only forward. `None` if there is none.
    fn finish_unfinished(&self) -> Result<Option<u64>> {
        let root = self.folder.dir.canonicalize();
        let root = root.map_err(|e| Error::io(Code::TargetIo, self.folder.dir.display(), e))?;
        let hidden = root.join(MERGE_FOLDER);
        let failed = |e| Error::io(Code::TargetIo, hidden.display(), e);
        let (handle, _held) = lock(&root, Access::Exclusive)?;
        if !nofollow::is_dir(&hidden) {
            return Ok(None);
        }
        let is = |marker: &str| nofollow::is_file(&hidden.join(marker));
        let next = hidden.join(NEXT);
        if ![LAYING, LAID, CLEARED].into_iter().any(is) {
            // Killed while it arrived.
            nofollow::remove_all(&hidden).map_err(failed)?;
            return Ok(None);
        }
        let mut pages = 0;
        if is(LAYING) {
            let files = overlay::find(&next)?;
            let base = base_files(&root, &[])?;
            let threads = self.folder.parallel;
            pages = overlay::lay_over(&next, &files, &base, Fetch::Move, threads, self.progress, self.stop)?
                .pages;
            durability::sync_tree(&handle, &root)?;
            mark(&hidden, Some(LAYING), LAID).map_err(failed)?;
        }
        if is(LAID) {
            overlay::remove_deltas(&next, &overlay::list(&next)?)?;
            remove_if_there(&next.join(INCREMENT)).map_err(failed)?;
            say_full(&next)?;
            place_inside(&next, &self.folder.mappings, &root, self.stop)?;
            clear(&hidden, &root).map_err(failed)?;
            durability::sync_tree(&handle, &root)?;
            mark(&hidden, Some(LAID), CLEARED).map_err(failed)?;
        }
        if let Some(owner) = Owner::of_target(&root) {
            nofollow::open_dir(&next).and_then(|dir| owner.give_tree(dir)).map_err(failed)?;
        }
        move_all(&next, &root).map_err(failed)?;
        durability::sync_tree(&handle, &root)?;
        nofollow::remove_all(&hidden).map_err(failed)?;
        Ok(Some(pages))
    }
}

/// Writes the next marker, durably, in the place of the one before.
fn mark(hidden: &Path, from: Option<&str>, to: &str) -> io::Result<()> {
    match from {
        Some(from) => nofollow::rename(&hidden.join(from), &hidden.join(to))?,
        None => nofollow::create_new(&hidden.join(to), FILE_MODE)?.sync_all()?,
    }
    nofollow::sync_dir(hidden)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match nofollow::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn refuse_outside(root: &Path, external: &[(PathBuf, PathBuf)]) -> Result<()> {
    match external.iter().find(|(_, now)| !now.starts_with(root)) {
        None => Ok(()),
        Some((_, now)) => Err(Error::new(
            Code::Unsupported,
            format!(
                "{} lies outside {}: such a backup can't be merged in place",
                now.display(),
                root.display()
            ),
        )
        .hint("xbrecv --base makes a new folder")),
    }
}

/// Refuses an increment with files that lay outside the source's datadir and would lie outside the folder.
fn refuse_outside_in(next: &Path, mappings: &[Mapping], root: &Path) -> Result<()> {
    inside_places(next, mappings, root).map(drop)
}

/// The members of files that lay outside the source's datadir, and their places relative to the folder.
fn inside_places(next: &Path, mappings: &[Mapping], root: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let listed =
        member(next, TABLESPACES, METADATA_MAX)?.map(|text| Tablespaces::parse(&text)).transpose()?;
    let mut places = Vec::new();
    for external in listed.unwrap_or_default().external {
        let there = PathBuf::from(&external.file_name);
        let name = external.member().map_err(|e| Error::new(Code::StreamRefused, e.to_string()))?;
        match external_files::destination(&there, &name, false, mappings, root) {
            Ok(external_files::FileLocation::Inside(place)) => {
                places.push((name.as_str().into(), place.as_str().into()));
            }
            Ok(external_files::FileLocation::ExternalFiles(dir, rest)) => {
                refuse_outside(root, &[(there, dir.join(rest))])?;
            }
            Err(e) if e.code == Code::Unmapped => {}
            Err(e) => return Err(e),
        }
    }
    Ok(places)
}

fn place_inside(next: &Path, mappings: &[Mapping], root: &Path, stop: &Stop) -> Result<()> {
    for (from, to) in inside_places(next, mappings, root)? {
        let (from, to) = (next.join(from), next.join(to));
        if nofollow::is_file(&from) {
            clone_file::move_to(&from, &to, stop).map_err(|e| Error::io(Code::TargetIo, to.display(), e))?;
        }
    }
    Ok(())
}

/// Writes down which files of the old backup go, beside its datafiles.
fn write_old(hidden: &Path, root: &Path, manifest: Option<&Manifest>) -> io::Result<()> {
    let mut old: BTreeSet<PathBuf> = [LOGFILE, MANIFEST, HISTORY].into_iter().map(PathBuf::from).collect();
    match manifest {
        Some(manifest) => {
            for member in &manifest.members {
                // In a merged backup, the manifest is that of the last increment.
                old.insert(member.name.as_str().into());
            }
        }
        // Without a list: what lies in the schemas' folders, as XtraBackup does.
        None => {
            for (entry, kind) in nofollow::entries(root)? {
                let is_schema = kind == FileType::Directory && !entry.as_encoded_bytes().starts_with(b"#");
                if !is_schema || entry.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                for (file, kind) in nofollow::entries(&root.join(&entry))? {
                    if kind == FileType::RegularFile {
                        old.insert(Path::new(&entry).join(file));
                    }
                }
            }
        }
    }
    let mut text = Vec::new();
    for path in old {
        text.extend_from_slice(path.as_os_str().as_encoded_bytes());
        text.push(0);
    }
    remove_if_there(&hidden.join(OLD))?;
    let mut file = nofollow::create_new(&hidden.join(OLD), FILE_MODE)?;
    file.write_all(&text)?;
    file.sync_all()
}

/// Removes what is left of the old backup: its other files, and datafiles that the increment no longer has.
fn clear(hidden: &Path, root: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let text = nofollow::read(&hidden.join(OLD), OLD_MAX as u64)?;
    let listed = text.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    let listed = listed.filter_map(|path| Confined::parse(std::ffi::OsStr::from_bytes(path)).ok());
    let mut folders = BTreeSet::new();
    for path in listed {
        match nofollow::remove_file(&root.join(&path)) {
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(e);
            }
            _ => folders.extend(path.parent().map(|parent| root.join(parent))),
        }
    }
    let left = base_files(root, &[]).map_err(|e| io::Error::other(e.to_string()))?;
    for path in left.by_space.values() {
        nofollow::remove_file(path)?;
        folders.extend(path.parent().map(Path::to_owned).filter(|parent| parent != root));
    }
    for (entry, _) in nofollow::entries(root)? {
        // Redo of the old backup, applied or not.
        if entry.as_encoded_bytes().starts_with(b"#innodb_redo") {
            nofollow::remove_all(&root.join(entry))?;
        }
    }
    for folder in folders.iter().rev() {
        // One with other files stays.
        let _ = nofollow::remove_dir(folder);
    }
    Ok(())
}

/// Moves everything in `from` into `to`; what has the same name there is replaced.
fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    for (entry, kind) in nofollow::entries(from)? {
        let (one, other) = (from.join(&entry), to.join(&entry));
        if kind != FileType::Directory {
            nofollow::rename(&one, &other)?;
        } else if nofollow::is_dir(&other) {
            move_all(&one, &other)?;
        } else {
            nofollow::rename_new(&one, &other)?;
        }
    }
    Ok(())
}

fn read_history(root: &Path) -> Result<Vec<Lineage>> {
    let Some(text) = member(root, HISTORY, HISTORY_MAX)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&text).map_err(|e| {
        Error::new(Code::Target, format!("{} can't be read", root.join(HISTORY).display())).cause(e)
    })
}

fn write_history(dir: &Path, mut history: Vec<Lineage>, new: &Lineage) -> io::Result<()> {
    /// So many are remembered.
    const MERGED_MAX: usize = 10_000;
    history.push(new.clone());
    let recent = &history[history.len().saturating_sub(MERGED_MAX)..];
    nofollow::create_new(&dir.join(HISTORY), FILE_MODE)?.write_all(&serde_json::to_vec(recent)?)
}

/// Copies an increment that was extracted to the folder `dir` into `next`, and compares it with its manifest, if it has one.
fn copy_increment(dir: &Path, next: &Path, stop: &Stop) -> Result<Lineage> {
    let root = dir.canonicalize().map_err(|e| Error::io(Code::Usage, dir.display(), e))?;
    let (_handle, _held) = lock(&root, Access::Shared)?;
    let text = member(&root, MANIFEST, MANIFEST_MAX)?;
    let checkpoints =
        member(&root, CHECKPOINTS, METADATA_MAX)?.map(|c| Checkpoints::parse(&c)).transpose()?;
    let Some(checkpoints) = checkpoints else {
        return Err(Error::new(Code::Usage, format!("{} has no {CHECKPOINTS}", root.display()))
            .hint("give the folder of an increment"));
    };
    let lineage = match &text {
        Some(text) => {
            let manifest = Manifest::parse(text)?;
            verify(&root, &manifest, stop)?;
            Lineage::of_manifest(&manifest, text)
        }
        None => Lineage {
            to_lsn: checkpoints.to_lsn,
            end_lsn: checkpoints.last_lsn,
            increment: (checkpoints.backup_type == BackupType::Incremental)
                .then_some(Increment { from_lsn: checkpoints.from_lsn, base: None }),
            ..Lineage::default()
        },
    };
    copy_all(&root, next, stop).map_err(|e| Error::io(Code::TargetIo, next.display(), e))?;
    Ok(lineage)
}

/// Compares the files of an extracted stream with its manifest.
fn verify(root: &Path, manifest: &Manifest, stop: &Stop) -> Result<()> {
    let mut received = crate::stream::Received::new();
    let mut buffer = vec![0; BLOCK];
    for member in &manifest.members {
        stop.check()?;
        let path = root.join(member.name.as_str());
        let failed = |e| Error::io(Code::TargetIo, path.display(), e);
        let mut file = match nofollow::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed)?,
        };
        let (mut digest, mut size) = (BlockDigest::new(), 0);
        loop {
            let n = read_full(&mut file, &mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            digest.update(&buffer[..n]);
            size += n as u64;
        }
        let digest = digest.finish(size).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        received.insert(member.name.clone(), (size, digest));
    }
    Ok(manifest.verify(&received)?)
}

fn copy_all(from: &Path, to: &Path, stop: &Stop) -> io::Result<()> {
    for (entry, kind) in nofollow::entries(from)? {
        let (one, other) = (from.join(&entry), to.join(&entry));
        match kind {
            FileType::Directory => {
                nofollow::create_dir(&other, DIR_MODE)?;
                copy_all(&one, &other, stop)?;
            }
            FileType::RegularFile => clone_file::copy_to(&one, &other, stop)?,
            _ => return Err(io::Error::other(format!("{} is no regular file", one.display()))),
        }
    }
    Ok(())
}
