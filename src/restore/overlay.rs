//! Lays an increment over the datafiles of the backup before it.
//!
//! The increment stands in a folder, with a `.delta` and a `.meta` for every datafile that the source had
//! ([`crate::stream::delta`]). The datafiles of the base come into that folder, each under the name that its tablespace has by
//! now, known by its id; then they get their length and their changed pages. What the increment does not list does not come. So a
//! tablespace that was renamed, moved, dropped, truncated or made again comes out right without a special case, and nothing in
//! the base changes but that files leave it.
//!
//! All of it may be done again after a kill: a datafile that has come already is not fetched again, and pages have the same
//! place and content each time. The `.delta` files stay until the caller removes them ([`remove_deltas`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, FileType, fallocate};

use super::clone_file;
use super::owner::{DIR_MODE, FILE_MODE};
use super::path_map::refuse_settings;
use crate::base::nofollow;
use crate::base::progress::Progress;
use crate::base::read::read_up_to;
use crate::base::{Code, Error, PageBuffer, Result, SpaceId, Stop};
use crate::stream::MemberName;
use crate::stream::delta::{ClusterHeader, DELTA, META};
use crate::stream::metadata::DeltaMeta;

/// Maximum length in bytes of a `.meta` file.
const META_MAX: u64 = 4096;
/// Maximum number of bytes of neighbouring pages that are written in one go.
const RUN_MAX: usize = 1 << 20;
/// Maximum depth of folders in a backup: schemas, and general tablespaces in folders of the user's.
const DEPTH_MAX: usize = 16;

/// A datafile in an increment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeltaFile {
    /// Path of the datafile, relative to the datadir.
    pub name: PathBuf,
    /// What it is.
    pub meta: DeltaMeta,
}

/// The datafiles of the backup before the increment.
#[derive(Clone, Debug, Default)]
pub struct BaseFiles {
    /// By tablespace id, those of tablespaces with one file.
    pub by_space: BTreeMap<SpaceId, PathBuf>,
    /// The folder; files of the system tablespace are found in it by their names.
    pub root: PathBuf,
}

impl BaseFiles {
    /// Finds the datafile `name` of the tablespace `space`.
    pub(super) fn find(&self, name: &Path, space: SpaceId) -> Option<PathBuf> {
        match space {
            SpaceId::SYSTEM => Some(self.root.join(name)).filter(|path| nofollow::is_file(path)),
            space => self.by_space.get(&space).cloned(),
        }
    }
}

/// How the datafiles of the base come into the folder of the increment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fetch {
    /// They are moved; both folders are on one file system.
    Move,
    /// They are copied; by reference, if the file system can.
    Copy,
}

/// Counts of datafiles and pages that were laid over.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Overlaid {
    /// Datafiles that came from the base.
    pub kept: u64,
    /// Datafiles that are new.
    pub made: u64,
    /// Pages written.
    pub pages: u64,
}

/// Finds the datafiles of the increment in the folder `dir`, and checks that every `.delta` is well-formed and stays inside its
/// datafile. So nothing of the base is touched for an increment that can't be laid over it.
///
/// # Errors
/// [`Code::StreamRefused`] for files that are not what a sender writes, [`Code::TargetIo`].
pub fn find(dir: &Path) -> Result<Vec<DeltaFile>> {
    let found = list(dir)?;
    found.iter().try_for_each(|file| check(dir, file))?;
    Ok(found)
}

/// Finds the datafiles of the increment in the folder `dir`, some of whose `.delta` files may be gone.
///
/// # Errors
/// Those of [`find`].
pub fn list(dir: &Path) -> Result<Vec<DeltaFile>> {
    let mut found = Vec::new();
    walk(dir, Path::new(""), 0, &mut found)?;
    Ok(found)
}

fn walk(root: &Path, below: &Path, depth: usize, found: &mut Vec<DeltaFile>) -> Result<()> {
    let dir = root.join(below);
    let failed = |e| Error::io(Code::TargetIo, dir.display(), e);
    for (entry, kind) in nofollow::entries(&dir).map_err(failed)? {
        let path = below.join(&entry);
        let Some(name) = path.to_str() else { continue };
        if kind == FileType::Directory {
            if depth == DEPTH_MAX {
                let what = format!("{} lies too deep for a folder of a backup", dir.join(&entry).display());
                return Err(Error::new(Code::StreamRefused, what));
            }
            walk(root, &path, depth + 1, found)?;
        } else if let Some(datafile) = name.strip_suffix(META).filter(|_| kind == FileType::RegularFile) {
            let text = nofollow::read(&root.join(&path), META_MAX)
                .map_err(|e| Error::io(Code::TargetIo, root.join(&path).display(), e))?;
            let meta = DeltaMeta::parse(&text)
                .map_err(|e| Error::new(Code::StreamRefused, format!("{}", path.display())).cause(e))?;
            let name = MemberName::parse(datafile)
                .map_err(|e| Error::new(Code::StreamRefused, format!("{}", path.display())).cause(e))?;
            refuse_settings(&name)?;
            found.push(DeltaFile { name: name.as_str().into(), meta });
        }
    }
    Ok(())
}

/// Reads all headers of a `.delta`.
fn check(dir: &Path, file: &DeltaFile) -> Result<()> {
    let mut reader = DeltaReader::open(dir, file)?;
    let pages = file.meta.file_size.map(|size| size / u64::from(file.meta.page_size));
    while let Some((header, _)) = reader.next_cluster()? {
        if let Some(number) = header.pages.iter().find(|n| pages.is_some_and(|pages| u64::from(**n) >= pages))
        {
            return Err(reader.refused(&format!("it has page {number}, behind the end of the datafile")));
        }
    }
    Ok(())
}

/// Lays the increment in `dir` over `base`.
///
/// # Errors
/// [`Code::StreamRefused`] if an increment does not go with a datafile of the base, [`Code::TargetIo`], [`Code::Interrupted`].
pub fn lay_over(
    dir: &Path,
    files: &[DeltaFile],
    base: &BaseFiles,
    fetch: Fetch,
    threads: usize,
    progress: &Progress,
    stop: &Stop,
) -> Result<Overlaid> {
    let next = AtomicUsize::new(0);
    let outcome = Mutex::new(Ok(Overlaid::default()));
    let lock = || outcome.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        let work = || {
            let mut buffer = PageBuffer::new(RUN_MAX);
            while lock().is_ok() {
                let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let done = stop.check().and_then(|()| one(dir, file, base, fetch, &mut buffer, stop));
                match (&mut *lock(), done) {
                    (Ok(all), Ok(one)) => {
                        all.kept += one.kept;
                        all.made += one.made;
                        all.pages += one.pages;
                    }
                    (outcome @ Ok(_), Err(e)) => *outcome = Err(e),
                    (Err(_), _) => {}
                }
                Progress::add(&progress.files_done, 1);
            }
        };
        for n in 1..threads.min(files.len()).max(1) {
            // Fewer threads only take longer.
            let _ = std::thread::Builder::new().name(format!("overlay-{n}")).spawn_scoped(scope, work);
        }
        work();
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Fetches one datafile, and gives it its length and its changed pages.
fn one(
    dir: &Path,
    file: &DeltaFile,
    base: &BaseFiles,
    fetch: Fetch,
    buffer: &mut PageBuffer,
    stop: &Stop,
) -> Result<Overlaid> {
    let path = dir.join(&file.name);
    let failed = |e| Error::io(Code::TargetIo, path.display(), e);
    let mut outcome = Overlaid::default();
    let source = base.find(&file.name, file.meta.space);
    let has_come = nofollow::is_file(&path);
    match source {
        Some(_) | None if has_come => {}
        Some(source) => {
            make_folder(dir, &file.name).map_err(failed)?;
            match fetch {
                Fetch::Move => nofollow::rename_new(&source, &path),
                Fetch::Copy => clone_file::clone(&source, &path, FILE_MODE, stop),
            }
            .map_err(failed)?;
            outcome.kept = 1;
        }
        None => {
            make_folder(dir, &file.name).map_err(failed)?;
            nofollow::create_new(&path, FILE_MODE).map_err(failed)?;
            outcome.made = 1;
        }
    }
    let target = nofollow::open_rw(&path).map_err(failed)?;
    let had = target.metadata().map_err(failed)?.len();
    if let Some(size) = file.meta.file_size.filter(|size| *size != had) {
        target.set_len(size).map_err(failed)?;
    }
    let mut reader = DeltaReader::open(dir, file)?;
    let size = reader.page_size;
    while let Some((header, at)) = reader.next_cluster()? {
        stop.check()?;
        let mut at = at;
        for run in runs(&header.pages, RUN_MAX / size) {
            let bytes = &mut buffer[..run.len() * size];
            reader.read(bytes, at)?;
            at += bytes.len() as u64;
            write_run(&target, bytes, u64::from(run[0]) * size as u64, size, had).map_err(failed)?;
            outcome.pages += run.len() as u64;
        }
    }
    Ok(outcome)
}

/// Cuts a list of page numbers into runs of neighbours of at most `max` pages.
fn runs(pages: &[u32], max: usize) -> impl Iterator<Item = &[u32]> {
    pages.chunk_by(|one, next| one.checked_add(1) == Some(*next)).flat_map(move |run| run.chunks(max))
}

/// Writes neighbouring pages. Pages that are all zero become holes; behind the end that the file had, they are.
fn write_run(target: &File, bytes: &[u8], at: u64, size: usize, had: u64) -> io::Result<()> {
    let mut offset = at;
    let is_zero = |page: &&[u8]| crate::innodb::page::is_all_zero(page);
    let pages: Vec<&[u8]> = bytes.chunks_exact(size).collect();
    for run in pages.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
        let len = run.len() * size;
        if !is_zero(&run[0]) {
            target.write_all_at(&bytes[(offset - at) as usize..][..len], offset)?;
        } else {
            clear(target, offset, len as u64, had)?;
        }
        offset += len as u64;
    }
    // Zeros at the end count for the length, where nothing else says it.
    if target.metadata()?.len() < offset { target.set_len(offset) } else { Ok(()) }
}

/// Makes bytes zero, as holes where the file system has them. What lies behind `had`, the length that the file had before, is.
pub(super) fn clear(target: &File, offset: u64, len: u64, had: u64) -> io::Result<()> {
    let len = len.min(had.saturating_sub(offset));
    if len == 0
        || fallocate(target, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len).is_ok()
    {
        return Ok(());
    }
    let zeros = vec![0; RUN_MAX.min(len as usize)];
    let mut at = 0;
    while at < len {
        let now = (len - at).min(zeros.len() as u64);
        target.write_all_at(&zeros[..now as usize], offset + at)?;
        at += now;
    }
    Ok(())
}

/// Makes the folders that `name` lies in.
fn make_folder(dir: &Path, name: &Path) -> io::Result<()> {
    let mut folder = dir.to_owned();
    for part in name.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match nofollow::create_dir(&folder, DIR_MODE) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Removes the `.delta` and `.meta` files, once what they held is durable.
///
/// # Errors
/// [`Code::TargetIo`].
pub fn remove_deltas(dir: &Path, files: &[DeltaFile]) -> Result<()> {
    for file in files {
        for suffix in [DELTA, META] {
            let path = dir.join(with_suffix(&file.name, suffix));
            match nofollow::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(Code::TargetIo, path.display(), e));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn with_suffix(name: &Path, suffix: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Identifies a datafile from one backup to the next: by its tablespace's id, or by its name in the system tablespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DatafileKey {
    space: SpaceId,
    name: String,
}

impl DatafileKey {
    /// The file `name` of the system tablespace.
    pub fn system(name: &str) -> DatafileKey {
        DatafileKey { space: SpaceId::SYSTEM, name: name.to_owned() }
    }

    /// The file of any other tablespace.
    pub fn tablespace(space: SpaceId) -> DatafileKey {
        DatafileKey { space, name: String::new() }
    }

    fn of(file: &DeltaFile) -> DatafileKey {
        match file.meta.space {
            SpaceId::SYSTEM => DatafileKey::system(&file.name.to_string_lossy()),
            space => DatafileKey::tablespace(space),
        }
    }
}

/// A datafile, and all pages that increments have of it.
#[derive(Debug)]
pub struct ChangedFile {
    /// What it is in the last increment.
    pub file: DeltaFile,
    /// Whether the full backup may have it: it was in every increment.
    pub from_base: bool,
    /// Bytes of the full backup's file that count: it may have been shorter in between.
    base_len: u64,
    /// Files with pages.
    sources: Vec<PathBuf>,
    /// Source and offset there of each page, by its number.
    pages: BTreeMap<u32, (u32, u64)>,
}

/// The pages of several increments, as the last of them has them.
#[derive(Debug, Default)]
pub struct ChangedPages {
    files: BTreeMap<DatafileKey, ChangedFile>,
    increments: usize,
    open: BTreeMap<PathBuf, File>,
    done: BTreeSet<DatafileKey>,
    /// Pages laid over so far.
    pub laid: u64,
}

impl ChangedPages {
    /// Maximum number of files that are kept open.
    const OPEN_MAX: usize = 64;

    /// Adds the next increment, in the folder `dir`.
    ///
    /// # Errors
    /// Those of [`find`].
    pub fn add(&mut self, dir: &Path, files: &[DeltaFile]) -> Result<()> {
        let mut before = std::mem::take(&mut self.files);
        for file in files {
            let key = DatafileKey::of(file);
            let size = file.meta.file_size.unwrap_or(u64::MAX);
            let mut changed = match before.remove(&key) {
                Some(old) => ChangedFile { file: file.clone(), base_len: old.base_len.min(size), ..old },
                None => ChangedFile {
                    file: file.clone(),
                    from_base: self.increments == 0,
                    base_len: size,
                    sources: Vec::new(),
                    pages: BTreeMap::new(),
                },
            };
            let end = u32::try_from(size / u64::from(file.meta.page_size)).unwrap_or(u32::MAX);
            changed.pages.split_off(&end);
            let mut reader = DeltaReader::open(dir, file)?;
            let source = changed.sources.len() as u32;
            changed.sources.push(reader.path.clone());
            while let Some((header, mut at)) = reader.next_cluster()? {
                for number in header.pages {
                    changed.pages.insert(number, (source, at));
                    at += reader.page_size as u64;
                }
            }
            self.files.insert(key, changed);
        }
        self.increments += 1;
        Ok(())
    }

    /// Whether the last increment has a file of the system tablespace with this name.
    pub fn is_system(&self, name: &str) -> bool {
        self.files.contains_key(&DatafileKey::system(name))
    }

    /// The datafile with this key in the last increment.
    pub fn get(&self, key: &DatafileKey) -> Option<&ChangedFile> {
        self.files.get(key)
    }

    /// Notes that a datafile is written.
    pub fn done(&mut self, key: &DatafileKey) {
        self.done.insert(key.clone());
    }

    /// The datafiles that are not written yet.
    pub fn left(&self) -> Vec<DatafileKey> {
        self.files.keys().filter(|key| !self.done.contains(*key)).cloned().collect()
    }

    /// Lays the pages of a datafile over `block`, its bytes in the full backup from `offset` on.
    ///
    /// # Errors
    /// [`Code::TargetIo`].
    pub fn lay_over(&mut self, key: &DatafileKey, offset: u64, block: &mut [u8]) -> Result<()> {
        let ChangedPages { files, open, laid, .. } = self;
        let Some(changed) = files.get(key) else { return Ok(()) };
        let gone = changed.base_len.clamp(offset, offset + block.len() as u64) - offset;
        block[gone as usize..].fill(0);
        let size = u64::from(changed.file.meta.page_size);
        let first = (offset / size) as u32;
        let end = (offset + block.len() as u64).div_ceil(size) as u32;
        for (number, (source, at)) in changed.pages.range(first..end) {
            let path = &changed.sources[*source as usize];
            let failed = |e| Error::io(Code::TargetIo, path.display(), e);
            if !open.contains_key(path) {
                if open.len() == Self::OPEN_MAX {
                    open.clear();
                }
                open.insert(path.clone(), nofollow::open(path).map_err(failed)?);
            }
            let start = (u64::from(*number) * size - offset) as usize;
            let page = block.get_mut(start..start + size as usize);
            if let (Some(file), Some(page)) = (open.get(path), page) {
                file.read_exact_at(page, *at).map_err(failed)?;
                *laid += 1;
            }
        }
        Ok(())
    }
}

/// A `.delta` that is read a cluster at a time.
struct DeltaReader {
    path: PathBuf,
    file: File,
    len: u64,
    at: u64,
    page_size: usize,
    over: bool,
}

impl DeltaReader {
    fn open(dir: &Path, file: &DeltaFile) -> Result<DeltaReader> {
        let path = dir.join(with_suffix(&file.name, DELTA));
        let failed = |e| Error::io(Code::TargetIo, path.display(), e);
        let open = nofollow::open(&path).map_err(failed)?;
        let len = open.metadata().map_err(failed)?.len();
        let page_size = file.meta.page_size as usize;
        Ok(DeltaReader { path, file: open, len, at: 0, page_size, over: false })
    }

    /// Returns the header of the next cluster, and the offset of its first page; `None` at the end.
    fn next_cluster(&mut self) -> Result<Option<(ClusterHeader, u64)>> {
        if self.over {
            return match self.at == self.len {
                true => Ok(None),
                false => Err(self.refused(&format!("it has {} bytes, and ends at {}", self.len, self.at))),
            };
        }
        let mut page = vec![0; self.page_size];
        self.read(&mut page, self.at)?;
        let header = ClusterHeader::parse(&page).map_err(|e| self.refused(&e.to_string()))?;
        let first = self.at + self.page_size as u64;
        let end = first + header.pages.len() as u64 * self.page_size as u64;
        if end > self.len {
            return Err(self.refused(&format!("it has {} bytes, {end} are needed", self.len)));
        }
        self.at = end;
        self.over = header.last;
        Ok(Some((header, first)))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        let read = read_up_to(&self.file, bytes, at)
            .map_err(|e| Error::io(Code::TargetIo, self.path.display(), e))?;
        if read < bytes.len() { Err(self.refused("it is cut")) } else { Ok(()) }
    }

    fn refused(&self, what: &str) -> Error {
        Error::new(Code::StreamRefused, format!("{} is no file of an increment: {what}", self.path.display()))
    }
}
