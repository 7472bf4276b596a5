//! Implements `xbrecv merge --stream FULL INCREMENT…`: makes one stored stream of several, without a datadir.
//!
//! The increments arrive first, whole, in a scratch folder. Then the full backup is read once, from its beginning to its end:
//! the pages of the increments replace its own while it passes, under the names that tablespaces have by now. What is new
//! since comes behind it, then the last increment's other members with its redo, and a manifest. Pages are not looked into,
//! and no redo is applied.

use std::collections::{BTreeMap, HashMap};
use std::io::{IoSlice, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use crate::base::nofollow;
use crate::base::progress::{Phase, Progress};
use crate::base::read::read_full;
use crate::base::{Code, Error, Lsn, PageBuffer, Result, SpaceId, Stop};
use crate::family;
use crate::innodb::page::{LOGICAL_MAX, is_all_zero};
use crate::restore::overlay::{self, ChangedPages};
use crate::restore::owner::DIR_MODE;
use crate::restore::staging_lock::LockedFolder;
use crate::stream::chain::{Fit, INCREMENT, Lineage};
use crate::stream::delta::{DELTA, META};
use crate::stream::digest::{BLOCK, BlockDigest};
use crate::stream::frame;
use crate::stream::manifest::{MANIFEST, Manifest};
use crate::stream::metadata::{
    BACKUP_CNF, BackupType, CHECKPOINTS, Checkpoints, INFO, Info, METADATA_MAX, TABLESPACES,
};
use crate::stream::{Chunk, Extent, ManifestMember, MemberName};
use crate::transport::StreamWriter;
use crate::transport::stream_writer::{Lane, Sink};

use super::arrival::{self, Hooks};
use super::base_folder::member;
use super::chain::Link;
use super::receiver::{Passing, Place};
use super::{ReceiveOptions, with_stream};

/// Name of the scratch folder, before what makes it unique.
const SCRATCH: &str = ".xbrecv-merge-";
/// Bytes that are looked at to tell holes from data.
const GRAIN: usize = 4096;

/// The result of merging streams.
#[derive(Debug, Default)]
pub struct StreamMergeSummary {
    /// Number of streams.
    pub streams: usize,
    /// Number of members.
    pub members: usize,
    /// Bytes of members, holes included.
    pub bytes: u64,
    /// Number of pages of increments in it.
    pub pages: u64,
    /// Time from start to end.
    pub time: Duration,
}

/// Merges `links`, a full backup and its increments, into `sink`. The increments are kept in `scratch` meanwhile.
///
/// # Errors
/// [`Code::WrongBase`] if they are no chain. What was written then has no manifest, and is no backup to anybody.
pub fn run(
    options: &ReceiveOptions,
    links: Vec<Link<'_>>,
    scratch: &Path,
    sink: Box<dyn Sink>,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<StreamMergeSummary> {
    let begun = Instant::now();
    progress.enter(Phase::Copying);
    let mut links = links.into_iter();
    let Some(full) = links.next() else { return Err(Error::new(Code::Usage, "no stream was given")) };
    let real = scratch.canonicalize().map_err(|e| Error::io(Code::TargetIo, scratch.display(), e))?;
    let scratch = LockedFolder::create(&real, SCRATCH)?;
    let mut pages = ChangedPages::default();
    let mut last: Option<Increment> = None;
    let mut first = None;
    let mut streams = 1;
    for link in links {
        let name = link.name.clone();
        let dir = scratch.path().join(streams.to_string());
        let new = Increment::receive(options, link, &dir, last.as_ref(), progress, stop)
            .and_then(|new| pages.add(&dir, &overlay::find(&dir)?).map(|()| new))
            .map_err(|e| Error { message: format!("{}: {}", name.escape_debug(), e.message), ..e })?;
        first.get_or_insert_with(|| new.lineage.clone());
        last = Some(new);
        streams += 1;
    }
    let (Some(last), Some(first)) = (last, first) else {
        return Err(Error::new(
            Code::Usage,
            "there is nothing to merge: give the increments behind the full backup",
        ));
    };
    let stream_writer = StreamWriter::new(sink);
    let lane = stream_writer.lane()?;
    let dir = scratch.path().join((streams - 1).to_string());
    let mut merge = Merge {
        lane,
        pages,
        dir,
        writing: HashMap::new(),
        members: Vec::new(),
        buffer: PageBuffer::new(BLOCK),
    };
    merge.metadata(BACKUP_CNF)?;
    merge.metadata(TABLESPACES)?;
    let lineage = merge.pass(options, full, progress, stop)?;
    if lineage.takes(&first)? == Fit::AfterRedo {
        return Err(Error::new(
            Code::WrongBase,
            "the full backup's redo would have to be applied before the first increment",
        )
        .hint("xbrecv DIR full.xb increment.xb … does it"));
    }
    let written = merge.finish(&last)?;
    stream_writer.finish()?;
    progress.enter(Phase::Done);
    Ok(StreamMergeSummary {
        streams,
        members: merge.members.len() + 1,
        bytes: merge.members.iter().map(|member| member.size).sum(),
        pages: written,
        time: begun.elapsed(),
    })
}

/// An increment that has arrived.
struct Increment {
    lineage: Lineage,
    manifest: Manifest,
}

impl Increment {
    fn receive(
        options: &ReceiveOptions,
        link: Link<'_>,
        dir: &Path,
        before: Option<&Increment>,
        progress: &Arc<Progress>,
        stop: &Stop,
    ) -> Result<Increment> {
        nofollow::create_dir(dir, DIR_MODE).map_err(|e| Error::io(Code::TargetIo, dir.display(), e))?;
        let place = Place { data: dir, target: dir, owner: None, alone: false, base: None };
        let mut fits = |lineage: &Lineage| match before {
            None if lineage.increment.is_some() => Ok(None),
            None => Err(crate::stream::chain::Misfit::NoIncrement.into()),
            Some(before) => match before.lineage.takes(lineage)? {
                Fit::Datafiles => Ok(Some(Fit::Datafiles)),
                Fit::AfterRedo => Err(Error::new(
                    Code::WrongBase,
                    "the redo of the increment before it would have to be applied first",
                )
                .hint("xbrecv DIR full.xb increment.xb … does it")),
            },
        };
        let mut stream_reader = (link.open)()?;
        let arrived = with_stream(options, &mut *stream_reader, progress, stop, |memory, opened| {
            let hooks = Hooks { fits: &mut fits, tap: None };
            arrival::receive(options, memory, opened, Some(place), hooks, progress, stop)
        })?;
        let lineage = arrived.book.lineage()?;
        fits(&lineage)?;
        let manifest = arrived.book.manifest().cloned().ok_or_else(|| {
            Error::new(Code::NoManifest, "streams without manifest can't be merged into one that has one")
        })?;
        Ok(Increment { lineage, manifest })
    }
}

/// The stream that is written.
struct Merge<'a> {
    lane: Lane<'a>,
    pages: ChangedPages,
    /// Folder of the last increment.
    dir: PathBuf,
    /// Datafiles of the full backup that are passing; `None` for one that is left out.
    writing: HashMap<MemberName, Option<Datafile>>,
    members: Vec<ManifestMember>,
    buffer: PageBuffer,
}

/// A datafile on its way.
struct Datafile {
    key: overlay::DatafileKey,
    member: MemberName,
    size: u64,
    /// Offset up to which it was written.
    at: u64,
    digest: BlockDigest,
}

impl Merge<'_> {
    /// Reads the full backup, and writes its datafiles as they are by now. Returns what it says of its place in a chain.
    fn pass(
        &mut self,
        options: &ReceiveOptions,
        full: Link<'_>,
        progress: &Arc<Progress>,
        stop: &Stop,
    ) -> Result<Lineage> {
        let mut stream_reader = (full.open)()?;
        let mut fits = |lineage: &Lineage| match lineage.increment {
            None => Ok(None),
            Some(_) => Err(super::chain::needs_base(lineage)),
        };
        let mut tap = |passing: Passing<'_>| match passing {
            Passing::Chunk(chunk) => self.chunk(chunk),
            Passing::End(member) => self.end(member),
        };
        let arrived = with_stream(options, &mut *stream_reader, progress, stop, |memory, opened| {
            let hooks = Hooks { fits: &mut fits, tap: Some(&mut tap) };
            arrival::receive(options, memory, opened, None, hooks, progress, stop)
        })?;
        let lineage = arrived.book.lineage()?;
        fits(&lineage)?;
        Ok(lineage)
    }

    fn chunk(&mut self, chunk: &Chunk) -> Result<()> {
        if chunk.offset == 0 && !self.writing.contains_key(&chunk.member) {
            let datafile = self.recognise(chunk)?;
            self.writing.insert(chunk.member.clone(), datafile);
        }
        let Some(Some(mut datafile)) = self.writing.remove(&chunk.member) else { return Ok(()) };
        if chunk.block().is_none() || chunk.offset != datafile.at && datafile.at < datafile.size {
            return Err(Error::new(
                Code::Unsupported,
                format!("member '{}' is not cut into blocks as xbsend does it", chunk.member),
            ));
        }
        if chunk.offset < datafile.size {
            let len = (datafile.size - chunk.offset).min(BLOCK as u64) as usize;
            let mut buffer = std::mem::take(&mut self.buffer);
            let given = (chunk.logical_len() as usize).min(len);
            chunk.copy(chunk.offset, &mut buffer[..given]);
            buffer[given..len].fill(0);
            let done = self.write_block(&mut datafile, &mut buffer[..len]);
            self.buffer = buffer;
            done?;
        }
        self.writing.insert(chunk.member.clone(), Some(datafile));
        Ok(())
    }

    /// Whether a member of the full backup is a datafile that the last increment still has, and what it is by now.
    fn recognise(&mut self, chunk: &Chunk) -> Result<Option<Datafile>> {
        let name = chunk.member.as_str();
        let key = match self.pages.is_system(name) {
            true => overlay::DatafileKey::system(name),
            false => {
                let mut first = vec![0; chunk.end().min(LOGICAL_MAX as u64) as usize];
                chunk.copy(0, &mut first);
                match family::redo_of_copies().pages().page0(&first) {
                    Ok(page0) if page0.space != SpaceId::SYSTEM && is_datafile(name) => {
                        overlay::DatafileKey::tablespace(page0.space)
                    }
                    _ => return Ok(None),
                }
            }
        };
        self.datafile(key, true)
    }

    /// The datafile with this key, about to be written; `None` if there is none, or it is not `of_full`.
    fn datafile(&mut self, key: overlay::DatafileKey, of_full: bool) -> Result<Option<Datafile>> {
        let Some(changed) = self.pages.get(&key).filter(|changed| changed.from_base || !of_full) else {
            return Ok(None);
        };
        let name = changed.file.name.to_string_lossy();
        let member = MemberName::parse(&*name).map_err(|e| Error::new(Code::StreamRefused, e.to_string()))?;
        let Some(size) = changed.file.meta.file_size else {
            return Err(Error::new(
                Code::Unsupported,
                format!(
                    "'{member}{META}' does not say how long the file is: the increment was made by another tool"
                ),
            ));
        };
        Ok(Some(Datafile { key, member, size, at: 0, digest: BlockDigest::new() }))
    }

    fn end(&mut self, member: &MemberName) -> Result<()> {
        match self.writing.remove(member).flatten() {
            Some(datafile) => self.complete(datafile),
            None => Ok(()),
        }
    }

    /// Writes the rest of a datafile, which the full backup has not.
    fn complete(&mut self, mut datafile: Datafile) -> Result<()> {
        while datafile.at < datafile.size {
            let len = (datafile.size - datafile.at).min(BLOCK as u64) as usize;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer[..len].fill(0);
            let done = self.write_block(&mut datafile, &mut buffer[..len]);
            self.buffer = buffer;
            done?;
        }
        self.pages.done(&datafile.key);
        let Datafile { member, size, digest, .. } = datafile;
        self.end_member(member, size, digest)
    }

    /// Lays pages over a block of a datafile, and writes it.
    fn write_block(&mut self, datafile: &mut Datafile, block: &mut [u8]) -> Result<()> {
        self.pages.lay_over(&datafile.key, datafile.at, block)?;
        self.write(&datafile.member, datafile.at, block)?;
        datafile.digest.update(block);
        datafile.at += block.len() as u64;
        Ok(())
    }

    /// Writes a chunk, its holes left out.
    fn write(&mut self, member: &MemberName, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut map: Vec<Extent> = Vec::new();
        let mut data: Vec<&[u8]> = Vec::new();
        let grains: Vec<&[u8]> = bytes.chunks(GRAIN).collect();
        let mut at = 0;
        for run in grains.chunk_by(|one, next| is_all_zero(one) == is_all_zero(next)) {
            let len: usize = run.iter().map(|grain| grain.len()).sum();
            if is_all_zero(run[0]) {
                map.push(Extent { skip: len as u32, len: 0 });
            } else {
                match map.last_mut() {
                    Some(hole) => hole.len = len as u32,
                    None => map.push(Extent { skip: 0, len: len as u32 }),
                }
                data.push(&bytes[at..at + len]);
            }
            at += len;
        }
        let has_holes = map.iter().any(|extent| extent.skip > 0);
        let head = match has_holes {
            true => {
                let crc = frame::sparse_crc(&map, data.iter().copied());
                frame::sparse_header(member, offset, crc, &map, data.iter().map(|d| d.len()).sum())
            }
            false => frame::payload_header(member, offset, frame::payload_crc(bytes), bytes.len()),
        };
        let mut parts: Vec<_> =
            std::iter::once(IoSlice::new(&head)).chain(data.into_iter().map(IoSlice::new)).collect();
        self.lane.write_now(&mut parts)
    }

    fn end_member(&mut self, name: MemberName, size: u64, digest: BlockDigest) -> Result<()> {
        self.lane.write_now(&mut [IoSlice::new(&frame::end_frame(&name))])?;
        let digest = digest.finish(size).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        self.members.push(ManifestMember { name, size, digest });
        Ok(())
    }

    fn send(&mut self, name: &str, mut content: impl Read) -> Result<()> {
        let member = MemberName::parse(name).map_err(|e| Error::new(Code::StreamRefused, e.to_string()))?;
        let mut digest = BlockDigest::new();
        let mut buffer = vec![0; BLOCK];
        let mut at = 0;
        loop {
            let n = read_full(&mut content, &mut buffer).map_err(|e| Error::io(Code::TargetIo, name, e))?;
            if n == 0 {
                break;
            }
            let head = frame::payload_header(&member, at, frame::payload_crc(&buffer[..n]), n);
            self.lane.write_now(&mut [IoSlice::new(&head), IoSlice::new(&buffer[..n])])?;
            digest.update(&buffer[..n]);
            at += n as u64;
        }
        self.end_member(member, at, digest)
    }

    /// A metadata member of the last increment, as it is.
    fn metadata(&mut self, name: &str) -> Result<()> {
        match member(&self.dir, name, METADATA_MAX)? {
            Some(content) => self.send(name, &*content),
            None => Ok(()),
        }
    }

    /// Writes what is new, the other members, and the manifest. Returns the number of pages of increments.
    fn finish(&mut self, last: &Increment) -> Result<u64> {
        for key in self.pages.left() {
            if let Some(datafile) = self.datafile(key, false)? {
                self.complete(datafile)?;
            }
        }
        let mut others = BTreeMap::new();
        walk(&self.dir, "", &mut others).map_err(|e| Error::io(Code::TargetIo, self.dir.display(), e))?;
        let known = [BACKUP_CNF, TABLESPACES, CHECKPOINTS, INFO, INCREMENT, MANIFEST];
        for (name, path) in others {
            if !known.contains(&&*name) {
                let file = nofollow::open(&path).map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
                self.send(&name, file)?;
            }
        }
        let broken =
            |name: &str| Error::new(Code::StreamCorrupt, format!("the last increment has no {name}"));
        let text = member(&self.dir, CHECKPOINTS, METADATA_MAX)?.ok_or_else(|| broken(CHECKPOINTS))?;
        let checkpoints = Checkpoints::parse(&text)?;
        let full = Checkpoints { backup_type: BackupType::FullBackuped, from_lsn: Lsn(0), ..checkpoints };
        self.send(CHECKPOINTS, full.render().as_bytes())?;
        let text = member(&self.dir, INFO, METADATA_MAX)?.ok_or_else(|| broken(INFO))?;
        let info = Info { incremental: false, innodb_from_lsn: Lsn(0), ..Info::parse(&text)? };
        self.send(INFO, info.render().as_bytes())?;
        let manifest = Manifest {
            increment: None,
            stands_for: last.lineage.identity,
            members: self.members.clone(),
            ..last.manifest.clone()
        };
        self.send(MANIFEST, &*manifest.encode())?;
        // The manifest does not list itself.
        self.members.pop();
        Ok(self.pages.laid)
    }
}

/// Whether a server takes the member for a tablespace, by its name (`Tablespace_dirs::scan`).
fn is_datafile(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.ends_with(".ibd") || last.ends_with(".ibu") || last.starts_with("undo_")
}

/// Lists all files below a folder by their names in a stream, those of changed pages left out.
fn walk(dir: &Path, below: &str, found: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for (entry, kind) in nofollow::entries(dir)? {
        let Some(name) = entry.to_str() else { continue };
        let member = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        if kind == FileType::Directory {
            walk(&dir.join(name), &member, found)?;
        } else if !member.ends_with(DELTA) && !member.ends_with(META) {
            found.insert(member, dir.join(name));
        }
    }
    Ok(())
}
