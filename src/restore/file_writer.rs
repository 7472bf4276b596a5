//! Writes chunks to their files.
//!
//! Whoever reads the stream gives every chunk in ([`FileWriter::chunk`]), in order; that makes the files and keeps the books.
//! What comes back is work that any thread can do at any time ([`WriteTask::land`]): check the crc, compute the leaf
//! of the digest, and write the bytes at their place; holes are left as holes. Chunks that are not digest blocks (redo,
//! streams of other tools) are hashed as they are given in, since only there they are in order.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::arriving_overlay::{ArrivingDelta, ArrivingOverlay, DeltaCounts};
use super::file_cache::FileCache;
use super::flusher::{FLUSH_EVERY, FLUSH_LAST, Flusher};
use super::overlay::{BaseFiles, clear};
use super::path_map::PathMap;
use super::write::write_at;
use crate::base::progress::Progress;
use crate::base::{Code, Error, PageBuffer, Result};
use crate::stream::delta::{DELTA, META, Run};
use crate::stream::digest::{BLOCK, BlockDigest, Digest};
use crate::stream::metadata::DeltaMeta;
use crate::stream::{Chunk, MemberName, Piece};

/// Longest holes of one chunk that are hashed, as zeros. A few bytes of a stream can have 256 TiB of them; where digests are
/// wanted, chunks are no longer than a block.
const HASHED_HOLE_MAX: u64 = 1 << 30;

/// Size and digest of every member.
pub type Received = BTreeMap<MemberName, (u64, Option<Digest>)>;

/// Members on their way into files.
pub struct FileWriter {
    /// `None`: chunks are verified and hashed, but not written.
    places: Option<PathMap>,
    members: HashMap<MemberName, Arc<Member>>,
    shared: Arc<Shared>,
    /// Set for an increment whose pages go straight into the datafiles of its base.
    overlay: Option<ArrivingOverlay>,
    deltas: Arc<DeltaCounts>,
}

/// What was written, in the end.
pub struct Finished {
    /// Size and digest of every member.
    pub received: Received,
    /// Where they are.
    pub places: Option<PathMap>,
    /// Number of pages that were laid over datafiles of the base, if that was asked for.
    pub overlaid: Option<u64>,
}

struct Shared {
    handles: FileCache,
    flusher: Mutex<Option<Flusher>>,
    progress: Arc<Progress>,
}

/// A chunk that is to be verified, hashed and written.
pub struct WriteTask {
    shared: Arc<Shared>,
    member: Arc<Member>,
    chunk: Chunk,
    /// The digest block that the chunk is.
    block: Option<u64>,
    /// For pages of a datafile: where in it they belong.
    runs: Vec<Run>,
    amend: Option<Amend>,
    after: Option<After>,
}

/// Sees a chunk when it is verified and hashed; gives what is to stand in its file instead: offsets in the member, and bytes.
type Amend = Box<dyn FnOnce(&Chunk) -> Vec<(u64, Vec<u8>)> + Send>;
/// Is told that the chunk is in its file.
type After = Box<dyn FnOnce() + Send>;

/// A member on its way.
struct Member {
    id: usize,
    name: MemberName,
    /// Its file; `None` where nothing is written.
    path: Option<PathBuf>,
    /// Length of the file before: bytes up to there are none of the member's until they are written.
    had: u64,
    /// Set if its bytes are changed pages that go to their places in that file.
    delta: Option<ArrivingDelta>,
    hashing: Mutex<Hashing>,
    /// One writer a file: the kernel lets no two write the same file at a time, and lets those that wait for each other
    /// spin. Meanwhile the others verify and hash.
    writing: Mutex<()>,
    /// Chunks given in and not done, plus one until its end was seen.
    pending: AtomicUsize,
    /// Set at the end.
    size: AtomicU64,
    /// Up to where bytes (not holes) were written.
    written: AtomicU64,
    /// Bytes written and not given to the flusher.
    unflushed: AtomicU64,
}

/// The state of a hash is half a KiB, and a stream may have very many members: it goes when a member is complete.
enum Hashing {
    UnderWay(Box<BlockDigest>, Order),
    /// `None`: its chunks were not cut so that it has one.
    Done(Option<Digest>),
}

/// The order in which chunks of a member come into its digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// Every chunk so far was a full block: leaves, computed in any order.
    Blocks,
    /// The last chunk was a block that is not full: the end, if the chunks are cut as xbsend does.
    LastBlock,
    /// Whatever borders: in the order of the stream.
    Serial,
    /// After a short block came more: there is no digest.
    Broken,
}

impl FileWriter {
    /// Without `places` nothing is written.
    pub fn new(places: Option<PathMap>, progress: Arc<Progress>) -> Result<FileWriter> {
        let flusher = Mutex::new(places.as_ref().map(|_| Flusher::start()).transpose()?);
        let shared = Arc::new(Shared { handles: FileCache::new(), flusher, progress });
        Ok(FileWriter { places, members: HashMap::new(), shared, overlay: None, deltas: Arc::default() })
    }

    /// Has changed pages go straight into the datafiles of `base`, which come into this folder for it; unless some have arrived
    /// already.
    pub fn lay_over(&mut self, base: BaseFiles) {
        let is_part = |name: &MemberName| name.as_str().ends_with(DELTA) || name.as_str().ends_with(META);
        if !self.members.keys().any(is_part) {
            self.overlay = Some(ArrivingOverlay::new(base));
        }
    }

    /// Begins a member with the changed pages of the datafile that `meta` describes. Where nothing is written, they are verified.
    ///
    /// # Errors
    /// [`Code::StreamRefused`] if there can be no such datafile, [`Code::TargetIo`].
    pub fn begin_delta(&mut self, member: &MemberName, meta: &DeltaMeta) -> Result<()> {
        if self.members.contains_key(member) {
            return Ok(());
        }
        match (&mut self.overlay, &mut self.places) {
            (Some(overlay), Some(places)) => {
                let (path, file, delta) = overlay.begin(member, meta, places, &self.deltas)?;
                self.shared.handles.insert(self.members.len(), file);
                self.insert(member, Some(path), 0, Some(delta));
            }
            (_, None) => {
                let delta = ArrivingDelta::new(member, meta, &self.deltas)?;
                self.insert(member, None, 0, Some(delta));
            }
            (None, Some(_)) => {}
        }
        Ok(())
    }

    /// The places of members that have not begun yet may be changed.
    pub fn places(&mut self) -> Option<&mut PathMap> {
        self.places.as_mut()
    }

    /// Whether a member has begun.
    pub fn has_begun(&self, member: &MemberName) -> bool {
        self.members.contains_key(member)
    }

    /// Takes a chunk. `serial` members are hashed here, in the order of the stream, whatever their chunks are.
    pub fn chunk(&mut self, chunk: Chunk, serial: bool) -> Result<WriteTask> {
        let member = self.member(&chunk.member)?;
        let runs = member.delta.as_ref().map(|delta| delta.chunk(&chunk)).transpose()?.unwrap_or_default();
        let block = {
            match &mut *lock(&member.hashing) {
                Hashing::Done(_) => None,
                Hashing::UnderWay(digest, order) => {
                    *order = order.after(&chunk, serial);
                    match order {
                        Order::Blocks | Order::LastBlock => chunk.block(),
                        Order::Serial => {
                            chunk.update(digest);
                            None
                        }
                        Order::Broken => None,
                    }
                }
            }
        };
        member.pending.fetch_add(1, Ordering::AcqRel);
        Ok(WriteTask { shared: self.shared.clone(), member, chunk, block, runs, amend: None, after: None })
    }

    /// Takes the end of a member.
    pub fn end(&mut self, member: &MemberName, size: u64) -> Result<()> {
        let member = self.member(member)?;
        member.size.store(size, Ordering::Release);
        if member.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.complete(&member)?;
        }
        Ok(())
    }

    /// Ends writing, once all chunks and ends were given in and all work is done.
    pub fn finish(mut self) -> Result<Finished> {
        let flusher = lock(&self.shared.flusher).take();
        flusher.map_or(Ok(()), Flusher::finish)?;
        let mut received = Received::new();
        for (name, member) in std::mem::take(&mut self.members) {
            if member.pending.load(Ordering::Acquire) != 0 {
                return Err(Error::new(
                    Code::Internal,
                    format!("member '{name}' was not written to its end"),
                ));
            }
            let size = member.size.load(Ordering::Acquire);
            let digest = lock(&member.hashing).finish(size);
            received.insert(name, (size, digest));
        }
        let overlaid = self.overlay.as_ref().map(|_| self.deltas.pages());
        Ok(Finished { received, places: self.places.take(), overlaid })
    }

    fn member(&mut self, name: &MemberName) -> Result<Arc<Member>> {
        if let Some(member) = self.members.get(name) {
            return Ok(member.clone());
        }
        let (path, had) = match &mut self.places {
            Some(_) if self.overlay.is_some() && name.as_str().ends_with(META) => (None, 0),
            Some(_) if self.overlay.is_some() && name.as_str().ends_with(DELTA) => {
                let message = format!("member '{name}' comes before its description");
                return Err(Error::new(Code::StreamRefused, message));
            }
            None => (None, 0),
            Some(places) => {
                let (path, file) = match &self.overlay {
                    Some(overlay) => overlay.create(name, places)?,
                    None => places.create(name)?,
                };
                let had = match &self.overlay {
                    Some(_) => {
                        file.metadata().map_err(|e| Error::io(Code::TargetIo, path.display(), e))?.len()
                    }
                    None => 0,
                };
                self.shared.handles.insert(self.members.len(), file);
                (Some(path), had)
            }
        };
        Ok(self.insert(name, path, had, None))
    }

    fn insert(
        &mut self,
        name: &MemberName,
        path: Option<PathBuf>,
        had: u64,
        delta: Option<ArrivingDelta>,
    ) -> Arc<Member> {
        let member = Arc::new(Member {
            id: self.members.len(),
            name: name.clone(),
            path,
            had,
            delta,
            hashing: Mutex::new(Hashing::UnderWay(Box::default(), Order::Blocks)),
            writing: Mutex::new(()),
            pending: AtomicUsize::new(1),
            size: AtomicU64::new(0),
            written: AtomicU64::new(0),
            unflushed: AtomicU64::new(0),
        });
        self.members.insert(name.clone(), member.clone());
        member
    }
}

impl Hashing {
    /// Ends hashing, once all chunks were given in.
    fn finish(&mut self, size: u64) -> Option<Digest> {
        if let Hashing::UnderWay(digest, order) = self {
            let digest = std::mem::take(&mut **digest);
            *self = Hashing::Done(match order {
                Order::Broken => None,
                _ => digest.finish(size).ok(),
            });
        }
        match self {
            Hashing::Done(digest) => *digest,
            Hashing::UnderWay(..) => None,
        }
    }
}

impl Order {
    fn after(self, chunk: &Chunk, serial: bool) -> Order {
        if chunk.logical_len() == 0 {
            return self;
        }
        let first = chunk.offset == 0;
        if chunk.logical_len() - chunk.payload.len() as u64 > HASHED_HOLE_MAX {
            return Order::Broken;
        }
        match self {
            Order::Serial => Order::Serial,
            Order::Blocks if first && (serial || chunk.block().is_none()) => Order::Serial,
            Order::Blocks if chunk.block().is_none() => Order::Broken,
            Order::Blocks if chunk.logical_len() == BLOCK as u64 => Order::Blocks,
            Order::Blocks => Order::LastBlock,
            Order::LastBlock | Order::Broken => Order::Broken,
        }
    }
}

impl WriteTask {
    /// Bytes that it holds in memory.
    pub fn bytes(&self) -> usize {
        self.chunk.payload.len()
    }

    /// Has `amend` look at the chunk when it is verified and hashed, and say what else its file is to hold in its place.
    pub fn amend_with(&mut self, amend: impl FnOnce(&Chunk) -> Vec<(u64, Vec<u8>)> + Send + 'static) {
        self.amend = Some(Box::new(amend));
    }

    /// Has `then` called when the chunk is written.
    pub fn when_written(&mut self, then: impl FnOnce() + Send + 'static) {
        self.after = Some(Box::new(then));
    }

    /// Verifies, hashes and writes the chunk; gives its buffer back.
    pub fn land(self) -> Result<PageBuffer> {
        let WriteTask { shared, member, chunk, block, runs, amend, after } = self;
        chunk.verify()?;
        if let Some(block) = block {
            let leaf = chunk.leaf();
            if let Hashing::UnderWay(digest, _) = &mut *lock(&member.hashing) {
                digest.put_leaf(block, leaf);
            }
        }
        let amended = amend.map(|amend| amend(&chunk)).unwrap_or_default();
        match &member.delta {
            Some(delta) => shared.lay_over(&member, delta, &chunk, &runs)?,
            None => shared.write(&member, &chunk, &amended)?,
        }
        if let Some(then) = after {
            then();
        }
        Progress::add(&shared.progress.bytes_done, chunk.logical_len());
        if member.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.complete(&member)?;
        }
        Ok(chunk.payload)
    }
}

impl Shared {
    fn write(&self, member: &Member, chunk: &Chunk, amended: &[(u64, Vec<u8>)]) -> Result<()> {
        let Some(path) = &member.path else { return Ok(()) };
        let failed = |e| Error::io(Code::TargetIo, path.display(), e);
        let file = self.handles.get(member.id, path).map_err(failed)?;
        let mut written = 0;
        let mut end = 0;
        let writing = lock(&member.writing);
        for (at, piece) in chunk.pieces() {
            let bytes = match piece {
                Piece::Data(bytes) => bytes,
                Piece::Hole(len) => {
                    clear(&file, at, len, member.had).map_err(failed)?;
                    continue;
                }
            };
            write_at(&file, bytes, at).map_err(failed)?;
            written += bytes.len() as u64;
            end = at + bytes.len() as u64;
        }
        for (at, bytes) in amended {
            file.write_all_at(bytes, *at).map_err(failed)?;
            end = end.max(at + bytes.len() as u64);
        }
        drop(writing);
        member.written.fetch_max(end, Ordering::AcqRel);
        member.unflushed.fetch_add(written, Ordering::AcqRel);
        self.flush(member, FLUSH_EVERY, &file);
        Ok(())
    }

    fn lay_over(&self, member: &Member, delta: &ArrivingDelta, chunk: &Chunk, runs: &[Run]) -> Result<()> {
        let Some(path) = &member.path else { return Ok(()) };
        let failed = |e| Error::io(Code::TargetIo, path.display(), e);
        let file = self.handles.get(member.id, path).map_err(failed)?;
        let writing = lock(&member.writing);
        let written = delta.write(&file, chunk, runs).map_err(failed)?;
        drop(writing);
        member.unflushed.fetch_add(written, Ordering::AcqRel);
        self.flush(member, FLUSH_EVERY, &file);
        Ok(())
    }

    /// The last chunk is written and the end was seen: a hole at the end gets its length, and the file is closed.
    fn complete(&self, member: &Member) -> Result<()> {
        lock(&member.hashing).finish(member.size.load(Ordering::Acquire));
        member.delta.as_ref().map_or(Ok(()), |delta| delta.end(&member.name))?;
        if let Some(path) = &member.path {
            let failed = |e| Error::io(Code::TargetIo, path.display(), e);
            let size = member.size.load(Ordering::Acquire);
            if let Some(delta) = &member.delta {
                self.handles.get(member.id, path).and_then(|file| delta.lengthen(&file)).map_err(failed)?;
            } else if size > member.written.load(Ordering::Acquire) || size < member.had {
                self.handles.get(member.id, path).and_then(|file| file.set_len(size)).map_err(failed)?;
            }
            if member.unflushed.load(Ordering::Acquire) >= FLUSH_LAST {
                let file = self.handles.get(member.id, path).map_err(failed)?;
                self.flush(member, FLUSH_LAST, &file);
            }
            self.handles.remove(member.id);
        }
        Progress::add(&self.progress.files_done, 1);
        Ok(())
    }

    /// Gives a file to the flusher if `enough` bytes of it wait for that.
    fn flush(&self, member: &Member, enough: u64, file: &Arc<File>) {
        let Some(path) = &member.path else { return };
        if member.unflushed.load(Ordering::Acquire) < enough {
            return;
        }
        member.unflushed.store(0, Ordering::Release);
        if let Some(flusher) = &*lock(&self.flusher) {
            flusher.flush(file, || path.display().to_string());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
