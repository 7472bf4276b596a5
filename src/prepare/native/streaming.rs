//! Applies redo to pages while the stream arrives.
//!
//! A thread reads the redo behind those who write it, and fills the [`store`](super::records::store) from the first block on.
//! Pages pass by on the way to their files. Each then has, in memory, all records that came in before it, and its LSN, which
//! says what of the redo it will never need. So when the last byte has come, what is left is the redo of pages that had
//! landed before it.
//!
//! A page is changed only where the sender vouches that its redo ends with the backup, as in a stream with a manifest:
//! elsewhere there may be redo that is not to be applied, which only the end tells. What can't be done now (a damaged
//! page, one without content, one with records in the spill file) is left to the end.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use super::error::{corrupt, encrypted};
use super::log::parsed_segment::ParsedSegment;
use super::log::scan::{LogContents, beyond, promised};
use super::log::segment::Segment;
use super::log::watermark::Watermark;
use super::memory::store_memory;
use super::records::batch_index::BatchIndex;
use super::records::merge::Batch;
use super::records::run::{PageRange, RANGE_PAGES};
use super::records::store::Store;
use super::redo_format::{RecordApplier, RedoFormat};
use crate::base::progress::Progress;
use crate::base::sync::lock;
use crate::base::{Budget, Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::apply::Page;
use crate::innodb::encryption::{Keyring, Sealed};
use crate::innodb::page::{
    Expected, FIL_HEADER, FilHeader, PageFormat, PageLayout, PageType, Scratch, Verdict,
};
use crate::innodb::redo::IndexList;
use crate::prepare::Datadir;
use crate::stream::Chunk;
use crate::stream::chunk::View;
use crate::stream::metadata::LOGFILE;

/// Bytes of one chunk's pages that are brought up to date: those of two blocks. A page of a few bytes and a long hole takes
/// all of its length.
const AMENDED_MAX: usize = 2 << 20;
/// Pages of one chunk that are looked at.
const PAGES_MAX: u64 = 1 << 16;

/// Follows a stream. Dropping it gives up.
pub struct StreamingApply {
    shared: Arc<StreamingApplyHandle>,
    thread: Option<JoinHandle<Result<Option<ScannedLog>>>>,
}

/// The handle that threads which write chunks report to.
pub struct StreamingApplyHandle {
    format: &'static dyn RedoFormat,
    keyring: Arc<dyn Keyring>,
    watermark: Arc<Watermark>,
    /// Once the header of the redo was read.
    store: OnceLock<(Lsn, Mutex<Store>)>,
    /// Whether pages may be changed: the redo ends with the backup.
    changes: AtomicBool,
    hands: Mutex<Vec<Worker>>,
    has_failed: AtomicBool,
    failed: Mutex<Option<Error>>,
    applied: AtomicU64,
    pages: AtomicU64,
}

/// A tablespace file on its way.
#[derive(Clone, Copy, Debug)]
pub struct StreamedTablespace {
    id: SpaceId,
    layout: PageLayout,
}

/// The log as it was scanned, once the stream has ended.
pub(crate) struct ScannedLog {
    pub(crate) contents: LogContents,
    /// The end of the last whole group.
    scanned: Lsn,
    checkpoint: Lsn,
}

/// The result of reading and applying redo while the stream arrived.
pub(crate) struct StreamedLog {
    pub(crate) contents: LogContents,
    pub(crate) store: Store,
    /// Records applied, and pages that they were applied to.
    pub(crate) applied: u64,
    pub(crate) pages: u64,
}

struct Worker {
    format: &'static dyn PageFormat,
    records: Box<dyn RecordApplier>,
    /// Descriptions of indexes that records are kept without.
    indexes: Arc<IndexList>,
    scratch: Scratch,
    batch: Batch,
    index: BatchIndex,
    image: Vec<u8>,
}

impl StreamingApply {
    /// For a stream whose redo is going to be written to the folder `root`. `changes`: its redo ends with the backup.
    /// It takes `memory` bytes, and `budget` for what is not a page's.
    pub fn start(
        format: &'static dyn RedoFormat,
        keyring: Arc<dyn Keyring>,
        root: &Path,
        memory: u64,
        budget: &Budget,
        changes: bool,
        progress: Arc<Progress>,
    ) -> Result<StreamingApply> {
        let shared = Arc::new(StreamingApplyHandle::new(format, keyring, changes));
        let (of_thread, root, budget) = (shared.clone(), root.to_owned(), budget.clone());
        let thread = std::thread::Builder::new()
            .name("redo".to_owned())
            .spawn(move || of_thread.follow(&root, (memory, &budget), &progress))
            .map_err(|e| Error::new(Code::Internal, "can't start a thread").cause(e))?;
        Ok(StreamingApply { shared, thread: Some(thread) })
    }

    /// The handle that threads which write chunks report to.
    pub fn arriving(&self) -> &Arc<StreamingApplyHandle> {
        &self.shared
    }

    /// Fails with the defect that was found in the redo, if there is one.
    pub fn check(&self) -> Result<()> {
        match self.shared.has_failed.load(Ordering::Acquire) {
            true => lock(&self.shared.failed).take().map_or(Ok(()), Err),
            false => Ok(()),
        }
    }

    /// The stream has ended and all of it has landed. `None`: the redo must be read from its file again.
    pub(crate) fn finish(mut self, datadir: &Datadir<'_>) -> Result<Option<StreamedLog>> {
        let Some(thread) = self.thread.take() else { return Ok(None) };
        let found =
            thread.join().map_err(|_| Error::new(Code::Internal, "the thread that reads redo panicked"))?;
        self.check()?;
        let Some(ScannedLog { mut contents, scanned, checkpoint }) = found? else { return Ok(None) };
        let promised = promised(datadir, checkpoint);
        if promised.is_some_and(|promised| contents.end > promised) {
            return match self.shared.changes.load(Ordering::Acquire) {
                true => Err(corrupt(format!("it goes on to LSN {}, beyond the backup's end", contents.end))),
                false => Ok(None),
            };
        }
        contents.ends_at(scanned, promised)?;
        // Chunks that were landed hold no more than a moment to it.
        let shared = self.shared.clone();
        drop(self);
        let shared = Arc::into_inner(shared)
            .ok_or_else(|| Error::new(Code::Internal, "the stream is still landing"))?;
        let Some((_, store)) = shared.store.into_inner() else { return Ok(None) };
        let store = store.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((space, page, lsn)) = store.beyond(contents.end) {
            return Err(beyond(space, page, lsn, contents.end));
        }
        let (applied, pages) = (shared.applied.into_inner(), shared.pages.into_inner());
        Ok(Some(StreamedLog { contents, store, applied, pages }))
    }
}

impl Drop for StreamingApply {
    fn drop(&mut self) {
        self.shared.watermark.give_up();
        if let Some(thread) = self.thread.take() {
            // Nobody wants to know any more.
            let _ = thread.join();
        }
    }
}

impl StreamingApplyHandle {
    fn new(
        format: &'static dyn RedoFormat,
        keyring: Arc<dyn Keyring>,
        changes: bool,
    ) -> StreamingApplyHandle {
        StreamingApplyHandle {
            format,
            keyring,
            watermark: Arc::default(),
            store: OnceLock::new(),
            changes: AtomicBool::new(changes),
            hands: Mutex::default(),
            has_failed: AtomicBool::new(false),
            failed: Mutex::default(),
            applied: AtomicU64::new(0),
            pages: AtomicU64::new(0),
        }
    }

    /// Bytes of the redo are in their file.
    pub fn redo_written(&self, from: u64, to: u64) {
        self.watermark.written(from, to);
    }

    /// The redo has this size.
    pub fn redo_ended(&self, size: u64) {
        self.watermark.ended(size);
    }

    /// Recognises a tablespace by the first bytes of its member; `None` if it is none.
    ///
    /// # Errors
    /// If it is encrypted and its key is not known.
    pub fn space(&self, member: &str, first_bytes: &[u8]) -> Result<Option<StreamedTablespace>> {
        if FilHeader::of(first_bytes).is_none_or(|header| header.page_no() != PageNo(0)) {
            // Such is a further file of the system tablespace.
            return Ok(None);
        }
        let Ok(page0) = self.format.pages().page0(first_bytes) else { return Ok(None) };
        if page0.flags.is_encrypted() || page0.encryption.is_some() {
            // Its pages get their records at the end. Where page 0 does not say which key it has, redo may.
            return match page0.encryption.as_deref() {
                None => Ok(None),
                Some(info) => match self.keyring.cipher(Sealed::Tablespace(page0.space, info)) {
                    Ok(_) => Ok(None),
                    Err(lacking) => Err(encrypted(member, &lacking)),
                },
            };
        }
        Ok(Some(StreamedTablespace { id: page0.space, layout: page0.layout }))
    }

    /// Applies the records that are stored so far to the pages of a chunk that has arrived; returns the pages that changed, each with
    /// its offset in the file.
    pub fn pages(&self, space: StreamedTablespace, chunk: &Chunk) -> Vec<(u64, Vec<u8>)> {
        let Some((base, store)) = self.store.get() else { return Vec::new() };
        let page_len = space.layout.physical() as u64;
        let (first, end) = (chunk.offset.div_ceil(page_len), chunk.end() / page_len);
        // Holes may be longer than any tablespace.
        let end = end.min(first + PAGES_MAX).min(u64::from(u32::MAX));
        let mut worker = lock(&self.hands).pop().unwrap_or_else(|| Worker::new(self.format));
        let view = chunk.view();
        let (mut number, mut amended) = (first, Vec::new());
        while number < end {
            let (range, slot) = PageRange::of(space.id, PageNo(number as u32));
            let count = (RANGE_PAGES - slot).min((end - number) as usize);
            self.range(&mut worker, (*base, store), space, (range, slot..slot + count), &view, &mut amended);
            number += count as u64;
        }
        lock(&self.hands).push(worker);
        amended
    }

    /// Pages of one page range.
    fn range(
        &self,
        worker: &mut Worker,
        (base, store): (Lsn, &Mutex<Store>),
        space: StreamedTablespace,
        (range, slots): (PageRange, Range<usize>),
        chunk: &View<'_>,
        amended: &mut Vec<(u64, Vec<u8>)>,
    ) {
        let page_len = space.layout.physical();
        let has_records = self.changes.load(Ordering::Acquire) && worker.take(&lock(store), range, base);
        let mut seen = Vec::new();
        for slot in slots {
            let number = range.page(slot);
            let at = u64::from(number.0) * page_len as u64;
            let mut header = [0; FIL_HEADER];
            chunk.copy(at, &mut header);
            let lsn = FilHeader::of(&header).map(FilHeader::lsn).unwrap_or_default();
            let wanted = has_records && worker.index.has(slot);
            if (lsn <= base && !wanted) || !worker.read(space, number, chunk, at) {
                continue;
            }
            let has_room = amended.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < AMENDED_MAX;
            let brought = if wanted && has_room { worker.page(space, number, slot, lsn) } else { None };
            if let Some((to, records, image)) = brought {
                self.applied.fetch_add(records, Ordering::Relaxed);
                self.pages.fetch_add(1, Ordering::Relaxed);
                seen.push((number, to));
                match amended.last_mut().filter(|(from, bytes)| from + bytes.len() as u64 == at) {
                    Some((_, bytes)) => bytes.extend_from_slice(&image),
                    None => amended.push((at, image)),
                }
            } else if lsn > base {
                seen.push((number, lsn));
            }
        }
        if !seen.is_empty() {
            let mut store = lock(store);
            seen.iter().for_each(|(number, lsn)| store.note_landed(space.id, *number, *lsn));
        }
    }

    /// Reads the redo as it comes.
    fn follow(&self, root: &Path, memory: (u64, &Budget), progress: &Progress) -> Result<Option<ScannedLog>> {
        let path: PathBuf = root.join(LOGFILE);
        let followed = self.follow_log(&path, root, memory, progress);
        followed.map_err(|e| {
            let code = e.code;
            *lock(&self.failed) = Some(e);
            self.has_failed.store(true, Ordering::Release);
            Error::new(code, "the redo could not be read")
        })
    }

    fn follow_log(
        &self,
        path: &Path,
        root: &Path,
        (memory, budget): (u64, &Budget),
        progress: &Progress,
    ) -> Result<Option<ScannedLog>> {
        let Some(log) = self.format.follow(path, self.watermark.clone(), &*self.keyring)? else {
            return Ok(None);
        };
        if log.may_go_on() {
            self.changes.store(false, Ordering::Release);
        }
        let store = Store::new(log.start(), store_memory(memory), root).encrypting(self.keyring.has_keys());
        let store = Mutex::new(store);
        let (_, store) = self.store.get_or_init(|| (log.start(), store));
        let mut contents = LogContents::from(log.checkpoint(), budget);
        let (mut segments, mut segment) = (log.segments(budget), Segment::default());
        let mut parser = self.format.parser(log.checkpoint(), None, lock(store).dictionary().clone());
        let mut parsed = ParsedSegment::new(log.checkpoint(), budget);
        let mut scanned = log.checkpoint();
        while segments.next(&mut segment)? {
            parser.parse(&segment, &mut parsed)?;
            contents.take(&parsed, &mut lock(store), progress)?;
            scanned = parsed.reached;
            if parsed.over {
                break;
            }
        }
        Ok(Some(ScannedLog { contents, scanned, checkpoint: log.checkpoint() }))
    }
}

impl Worker {
    fn new(format: &dyn RedoFormat) -> Worker {
        Worker {
            format: format.pages(),
            records: format.applier(),
            indexes: Arc::default(),
            scratch: Scratch::new(),
            batch: Batch::default(),
            index: BatchIndex::default(),
            image: Vec::new(),
        }
    }

    /// Takes the records so far for a page range; false if there are none that could be applied.
    fn take(&mut self, store: &Store, range: PageRange, base: Lsn) -> bool {
        if !store.pending(range, &mut self.batch.bytes) {
            return false;
        }
        self.indexes = store.dictionary().list();
        self.batch.range = Some(range);
        self.batch.ends = vec![self.batch.bytes.len()];
        self.batch.landed = None;
        self.index.build(&mut self.batch, base).is_ok()
    }

    /// Reads a page out of its chunk; false if it is not sound.
    fn read(&mut self, space: StreamedTablespace, page: PageNo, chunk: &View<'_>, at: u64) -> bool {
        self.image.resize(space.layout.physical(), 0);
        let expected = Expected { space: space.id, page };
        chunk.copy(at, &mut self.image)
            && matches!(
                self.format.verify(&self.image, &space.layout, expected, &mut self.scratch),
                Ok(Verdict::Ok)
            )
    }

    /// Brings the page that was read up to date. `None`: it stays as it is, since it has all, or for the end to deal with.
    fn page(
        &mut self,
        space: StreamedTablespace,
        number: PageNo,
        slot: usize,
        from: Lsn,
    ) -> Option<(Lsn, u64, Vec<u8>)> {
        if FilHeader::of(&self.image)?.page_type() == PageType::COMPRESSED {
            // It would need more room than its hole leaves.
            return None;
        }
        let bytes = &mut self.image[..];
        let mut page = Page::load(space.id, number, space.layout, bytes, &mut self.scratch).ok()?;
        let mut runs = self.index.runs(&self.batch.bytes, slot);
        let brought = self.records.apply(&mut page, from, &self.indexes, &mut runs, &|| number.to_string());
        let brought = brought.ok()?;
        let to = brought.to?;
        Some((to, brought.records, page.finish(to).ok()?.to_vec()))
    }
}
