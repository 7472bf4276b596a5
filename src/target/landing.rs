//! Chunks become files: workers verify, hash and write them, in any order, with bounded memory.
//!
//! The reader of the stream gives chunks in; it makes the files and keeps the books. Workers check the crc, compute
//! the leaf of the digest, and write the bytes at their place; holes are left as holes. Chunks that are not digest
//! blocks (redo, streams of other tools) are hashed by the reader, since only it sees them in order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::handles::Handles;
use super::places::Places;
use crate::base::progress::Progress;
use crate::base::{Code, Error, PageBuffer, Result};
use crate::stream::digest::{BLOCK, BlockDigest, Digest};
use crate::stream::{Chunk, MemberName, Piece};

/// Bytes of chunks that wait for workers or are in their hands. A chunk larger than this goes through alone.
pub const IN_FLIGHT_MAX: usize = 32 << 20;
/// More workers than this gain nothing: the disk is the limit.
pub const WORKERS_MAX: usize = 16;
/// Buffers kept to be read into again.
const SPARES_MAX: usize = 16;

/// Size and digest of every member.
pub type Received = BTreeMap<MemberName, (u64, Option<Digest>)>;

/// Members on their way into files.
pub struct Landing {
    /// `None`: chunks are verified and hashed, but not written.
    places: Option<Places>,
    members: HashMap<MemberName, Arc<Member>>,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// A job was queued, or there will be none any more.
    queued: Condvar,
    /// A job was done.
    done: Condvar,
    spares: Mutex<Vec<PageBuffer>>,
    handles: Handles,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    in_flight: usize,
    closed: bool,
    failed: Option<Error>,
}

struct Job {
    member: Arc<Member>,
    chunk: Chunk,
    /// The digest block that the chunk is.
    block: Option<u64>,
}

/// A member on its way.
struct Member {
    id: usize,
    /// Its file; `None` where nothing is written.
    path: Option<PathBuf>,
    digest: Mutex<Hashing>,
    /// Chunks given in and not done, plus one until its end was seen.
    pending: AtomicUsize,
    /// Set at the end.
    size: AtomicU64,
    /// Up to where bytes (not holes) were written.
    written: AtomicU64,
}

struct Hashing {
    digest: BlockDigest,
    order: Order,
}

/// How the chunks of a member come into its digest.
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

impl Landing {
    /// Starts `workers` threads. Without `places` nothing is written.
    pub fn start(places: Option<Places>, workers: usize, progress: Arc<Progress>) -> Result<Landing> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            queued: Condvar::new(),
            done: Condvar::new(),
            spares: Mutex::default(),
            handles: Handles::new(),
            progress,
        });
        let mut landing = Landing { places, members: HashMap::new(), shared, workers: Vec::new() };
        for n in 0..workers.clamp(1, WORKERS_MAX) {
            let shared = landing.shared.clone();
            let worker = std::thread::Builder::new()
                .name(format!("land-{n}"))
                .spawn(move || shared.work())
                .map_err(|e| Error::new(Code::Internal, "can't start a thread").cause(e))?;
            landing.workers.push(worker);
        }
        Ok(landing)
    }

    /// The places of members that have not begun yet may be changed.
    pub fn places(&mut self) -> Option<&mut Places> {
        self.places.as_mut()
    }

    /// Whether a member has begun.
    pub fn has_begun(&self, member: &MemberName) -> bool {
        self.members.contains_key(member)
    }

    /// Takes a chunk; waits while too much is under way. `serial` members are hashed in the order of the stream.
    pub fn chunk(&mut self, chunk: Chunk, serial: bool) -> Result<()> {
        let member = self.member(&chunk.member)?;
        let block = {
            let mut hashing = lock(&member.digest);
            hashing.order = hashing.order.after(&chunk, serial);
            match hashing.order {
                Order::Blocks | Order::LastBlock => chunk.block(),
                Order::Serial => {
                    chunk.update(&mut hashing.digest);
                    None
                }
                Order::Broken => None,
            }
        };
        member.pending.fetch_add(1, Ordering::AcqRel);
        self.shared.push(Job { member, chunk, block })
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

    /// Buffers of chunks that are done.
    pub fn spares(&self) -> Vec<PageBuffer> {
        std::mem::take(&mut *lock(&self.shared.spares))
    }

    /// Waits until all is written, and gives sizes and digests.
    pub fn finish(mut self) -> Result<(Received, Option<Places>)> {
        self.join();
        if let Some(e) = lock(&self.shared.queue).failed.take() {
            return Err(e);
        }
        let mut received = Received::new();
        for (name, member) in std::mem::take(&mut self.members) {
            if member.pending.load(Ordering::Acquire) != 0 {
                return Err(Error::new(
                    Code::Internal,
                    format!("member '{name}' was not written to its end"),
                ));
            }
            let size = member.size.load(Ordering::Acquire);
            let mut hashing = lock(&member.digest);
            let digest = match hashing.order {
                Order::Broken => None,
                _ => std::mem::take(&mut hashing.digest).finish(size).ok(),
            };
            received.insert(name, (size, digest));
        }
        Ok((received, self.places.take()))
    }

    fn member(&mut self, name: &MemberName) -> Result<Arc<Member>> {
        if let Some(member) = self.members.get(name) {
            return Ok(member.clone());
        }
        let id = self.members.len();
        let path = match &mut self.places {
            None => None,
            Some(places) => {
                let (path, file) = places.create(name)?;
                self.shared.handles.insert(id, file);
                Some(path)
            }
        };
        let member = Arc::new(Member {
            id,
            path,
            digest: Mutex::new(Hashing { digest: BlockDigest::new(), order: Order::Blocks }),
            pending: AtomicUsize::new(1),
            size: AtomicU64::new(0),
            written: AtomicU64::new(0),
        });
        self.members.insert(name.clone(), member.clone());
        Ok(member)
    }

    fn join(&mut self) {
        self.shared.close();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                self.shared.fail(Error::new(Code::Internal, "a writing thread panicked"));
            }
        }
    }
}

impl Drop for Landing {
    /// No thread writes into the staging folder while it is being removed.
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            let mut queue = lock(&self.shared.queue);
            queue.jobs.clear();
            drop(queue);
            self.join();
        }
    }
}

impl Order {
    fn after(self, chunk: &Chunk, serial: bool) -> Order {
        if chunk.logical_len() == 0 {
            return self;
        }
        let first = chunk.offset == 0;
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

impl Shared {
    /// Queues a job when there is room for it.
    fn push(&self, job: Job) -> Result<()> {
        let bytes = job.chunk.payload.len();
        let mut queue = lock(&self.queue);
        while queue.failed.is_none() && queue.in_flight > 0 && queue.in_flight + bytes > IN_FLIGHT_MAX {
            queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(e) = queue.failed.take() {
            return Err(e);
        }
        queue.in_flight += bytes;
        queue.jobs.push_back(job);
        drop(queue);
        self.queued.notify_one();
        Ok(())
    }

    /// A worker's life.
    fn work(&self) {
        // A panic must not leave the reader waiting for room for ever.
        struct OnPanic<'a>(&'a Shared);
        impl Drop for OnPanic<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.fail(Error::new(Code::Internal, "a writing thread panicked"));
                }
            }
        }
        let _guard = OnPanic(self);
        while let Some(job) = self.next() {
            let bytes = job.chunk.payload.len();
            let result = self.land(&job);
            self.recycle(job.chunk.payload);
            match result {
                Ok(()) => {
                    lock(&self.queue).in_flight -= bytes;
                    self.done.notify_one();
                }
                Err(e) => return self.fail(e),
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Verifies, hashes and writes one chunk.
    fn land(&self, job: &Job) -> Result<()> {
        let Job { member, chunk, block } = job;
        chunk.verify()?;
        if let Some(block) = block {
            let leaf = chunk.leaf();
            lock(&member.digest).digest.put_leaf(*block, leaf);
        }
        if let Some(path) = &member.path {
            let failed = |e| Error::io(Code::TargetIo, path.display(), e);
            let file = self.handles.get(member.id, path).map_err(failed)?;
            for (at, piece) in chunk.pieces() {
                if let Piece::Data(bytes) = piece {
                    file.write_all_at(bytes, at).map_err(failed)?;
                    member.written.fetch_max(at + bytes.len() as u64, Ordering::AcqRel);
                }
            }
        }
        Progress::add(&self.progress.bytes_done, chunk.logical_len());
        if member.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete(member)?;
        }
        Ok(())
    }

    /// The last chunk is written and the end was seen: a hole at the end gets its length, and the file is closed.
    fn complete(&self, member: &Member) -> Result<()> {
        if let Some(path) = &member.path {
            let size = member.size.load(Ordering::Acquire);
            if size > member.written.load(Ordering::Acquire) {
                let grown = self.handles.get(member.id, path).and_then(|file| file.set_len(size));
                grown.map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
            }
            self.handles.remove(member.id);
        }
        Progress::add(&self.progress.files_done, 1);
        Ok(())
    }

    fn recycle(&self, buffer: PageBuffer) {
        let mut spares = lock(&self.spares);
        if spares.len() < SPARES_MAX {
            spares.push(buffer);
        }
    }

    /// Keeps the first error, and wakes everyone.
    fn fail(&self, e: Error) {
        let mut queue = lock(&self.queue);
        queue.failed.get_or_insert(e);
        drop(queue);
        self.queued.notify_all();
        self.done.notify_all();
    }

    fn close(&self) {
        lock(&self.queue).closed = true;
        self.queued.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
