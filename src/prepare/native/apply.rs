//! Threads that bring pages up to date, one part of the store after the other.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::journal::Journal;
use super::records::{self, Kept, PageId};
use super::spaces::{OpenSpace, Spaces};
use super::store::{Part, Spill, Store};
use super::{Writes, corrupt, encrypted, gather};
use crate::base::progress::Progress;
use crate::base::{Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::apply::{Applier, Page};
use crate::innodb::page::{Expected, Scratch, Verdict, verify};
use crate::innodb::redo::{Kind, Record, parse_body};
use crate::prepare::Means;

/// Bytes of pages that are written together.
const WRITE_LEN: usize = 1 << 20;

/// What all threads share.
pub(super) struct Job<'a> {
    pub(super) spaces: &'a Spaces,
    /// Records' LSNs are kept relative to this.
    pub(super) base: Lsn,
    /// No page may be newer.
    pub(super) end: Lsn,
    /// Where journals go.
    pub(super) root: &'a Path,
    pub(super) writes: Writes,
}

/// What was done.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Outcome {
    pub(super) records_applied: u64,
    pub(super) pages_changed: u64,
    pub(super) pages_unchanged: u64,
}

/// Applies all records in `store`.
pub(super) fn apply(job: &Job<'_>, store: Store, means: &Means<'_>) -> Result<Outcome> {
    let (parts, spill) = store.into_parts();
    let parts = Mutex::new(parts.into_iter());
    let failed = AtomicBool::new(false);
    let work = |thread: usize| {
        let mut worker = Worker::new(job, spill.as_ref(), means, thread)?;
        while !failed.load(Ordering::Relaxed) {
            let next = parts.lock().unwrap_or_else(|e| e.into_inner()).next();
            let Some(part) = next else { break };
            worker.part(part).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(worker.outcome)
    };
    let outcomes: Vec<Result<Outcome>> = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..means.threads.max(1)).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    outcomes.into_iter().try_fold(Outcome::default(), |sum, outcome| {
        let outcome = outcome?;
        Ok(Outcome {
            records_applied: sum.records_applied + outcome.records_applied,
            pages_changed: sum.pages_changed + outcome.pages_changed,
            pages_unchanged: sum.pages_unchanged + outcome.pages_unchanged,
        })
    })
}

fn panicked() -> Error {
    Error::new(Code::Internal, "a thread that applies redo panicked")
}

struct Worker<'a> {
    job: &'a Job<'a>,
    spill: Option<&'a Spill>,
    means: &'a Means<'a>,
    run_len: usize,
    applier: Applier,
    scratch: Scratch,
    index: Index,
    space: Option<OpenSpace>,
    writer: Writer,
    outcome: Outcome,
}

impl<'a> Worker<'a> {
    fn new(
        job: &'a Job<'a>,
        spill: Option<&'a Spill>,
        means: &'a Means<'a>,
        thread: usize,
    ) -> Result<Worker<'a>> {
        let journal = match job.writes {
            Writes::Disposable => None,
            Writes::InPlace => Some(Journal::create(job.root, thread)?),
        };
        Ok(Worker {
            job,
            spill,
            means,
            run_len: gather::run_len(means) as usize,
            applier: Applier::new(),
            scratch: Scratch::new(),
            index: Index::default(),
            space: None,
            writer: Writer { journal, numbers: Vec::new(), images: Vec::with_capacity(WRITE_LEN) },
            outcome: Outcome::default(),
        })
    }

    /// Brings the pages of a part up to date: at once, or, where its records are longer than the memory for them, run after
    /// run.
    fn part(&mut self, mut part: Part) -> Result<()> {
        loop {
            let more = part.next_run(self.spill, self.run_len, &mut self.index.chunks);
            if !more.map_err(|e| Error::io(Code::TargetIo, "a file for redo records", e))? {
                return Ok(());
            }
            self.index.build(self.job.base)?;
            for page in std::mem::take(&mut self.index.pages) {
                self.means.stop.check()?;
                self.page(&page)?;
            }
            self.close()?;
        }
    }

    fn close(&mut self) -> Result<()> {
        match self.space.take() {
            Some(space) => self.writer.flush(&space),
            None => Ok(()),
        }
    }

    fn page(&mut self, entry: &PageEntry) -> Result<()> {
        let (id, number) = entry.id;
        Progress::add(&self.means.progress.records_done, entry.records.into());
        if !self.enter(id, number)? {
            return Ok(());
        }
        let Some(space) = self.space.take() else { return Ok(()) };
        let done = self.bring_up_to_date(&space, number, entry);
        self.space = Some(space);
        done
    }

    /// Opens the tablespace; false if its records are of no interest.
    fn enter(&mut self, id: SpaceId, page: PageNo) -> Result<bool> {
        if self.space.as_ref().is_some_and(|open| open.id == id) {
            return Ok(true);
        }
        self.close()?;
        let Some(space) = self.job.spaces.get(id) else {
            return match self.job.spaces.is_removed(id) {
                true => Ok(false),
                false => Err(corrupt(format!(
                    "it has records for page {page} of tablespace {id}, which has no file in the backup"
                ))),
            };
        };
        let open = space.open(id)?;
        if space.encrypted {
            return Err(encrypted(open.shown(PageNo(0))));
        }
        self.space = Some(open);
        Ok(true)
    }

    fn bring_up_to_date(&mut self, space: &OpenSpace, number: PageNo, entry: &PageEntry) -> Result<()> {
        let (mut page, from) = self.load(space, number, entry)?;
        let mut end = None;
        let mut at = entry.first;
        while let Some((kept, next)) = self.index.get(at, self.job.base)? {
            at = next;
            if kept.start_lsn < from {
                continue;
            }
            let body = parse_body(kept.kind, space.id, kept.bytes).map_err(corrupt)?;
            let Kept { kind, start_lsn, end_lsn, bytes } = kept;
            let record = Record { start_lsn, end_lsn, space: space.id, page: number, kind, bytes, body };
            self.applier.apply(&mut page, &record).map_err(|e| {
                Error::new(Code::CorruptRedo, format!("{} can't be brought up to date", space.shown(number)))
                    .cause(e)
                    .hint("take the backup again; if it happens again, report it, and use --prepare=server meanwhile")
            })?;
            end = Some(end_lsn);
            self.outcome.records_applied += 1;
        }
        Progress::add(&self.means.progress.pages_done, 1);
        match end {
            Some(end) => {
                self.outcome.pages_changed += 1;
                let image = page.finish(end).map_err(|e| {
                    corrupt(format!("{} can't be brought up to date", space.shown(number))).cause(e)
                })?;
                self.writer.push(space, number, image)
            }
            None => {
                self.outcome.pages_unchanged += 1;
                Ok(())
            }
        }
    }

    /// The page as it is, and the LSN from which on it lacks records. What can't be read starts empty, if a record says that
    /// its content does not matter.
    fn load(&mut self, space: &OpenSpace, number: PageNo, entry: &PageEntry) -> Result<(Page, Lsn)> {
        let blank = || Page::blank(space.id, number, space.layout);
        let mut bytes = vec![0; space.layout.physical()];
        if space.read(number, &mut bytes)? < bytes.len() {
            return Ok((blank(), Lsn(0)));
        }
        let expected = Expected { space: space.id, page: number };
        match verify(&bytes, &space.layout, expected, &mut self.scratch) {
            Ok(Verdict::Encrypted) => return Err(encrypted(space.shown(number))),
            Ok(Verdict::AllZero) => return Ok((blank(), Lsn(0))),
            Ok(Verdict::Ok) => {}
            Err(defect) => {
                let damaged = || Error::new(Code::CorruptPage, space.shown(number)).cause(defect);
                let from = self.index.last_init(entry, self.job.base)?.ok_or_else(damaged)?;
                return Ok((blank(), from));
            }
        }
        let page = Page::load(space.id, number, space.layout, bytes, &mut self.scratch)
            .map_err(|e| Error::new(Code::CorruptPage, space.shown(number)).cause(e))?;
        let lsn = page.lsn();
        if lsn > self.job.end {
            return Err(corrupt(format!(
                "{} has LSN {lsn}, beyond the end {} of the redo",
                space.shown(number),
                self.job.end
            )));
        }
        Ok((page, lsn))
    }
}

/// Finished pages of one tablespace on their way to its files.
struct Writer {
    journal: Option<Journal>,
    numbers: Vec<PageNo>,
    images: Vec<u8>,
}

impl Writer {
    fn push(&mut self, space: &OpenSpace, number: PageNo, image: &[u8]) -> Result<()> {
        if self.images.len() + image.len() > WRITE_LEN {
            self.flush(space)?;
        }
        self.numbers.push(number);
        self.images.extend_from_slice(image);
        Ok(())
    }

    fn flush(&mut self, space: &OpenSpace) -> Result<()> {
        if let Some(journal) = self.journal.as_mut().filter(|_| !self.numbers.is_empty()) {
            journal.keep(space.id, &self.numbers, &self.images)?;
        }
        let page_len = space.layout.physical();
        let mut rest = &self.images[..];
        for run in self.numbers.chunk_by(|before, page| space.follows(*before, *page)) {
            let (now, later) = rest.split_at(run.len() * page_len);
            space.write(run[0], now)?;
            rest = later;
        }
        self.numbers.clear();
        self.images.clear();
        Ok(())
    }
}

/// Where the records of each page are in some chunks.
#[derive(Default)]
struct Index {
    chunks: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    pages: Vec<PageEntry>,
    by_page: HashMap<PageId, u32>,
}

/// A record, and the next one of its page.
struct Entry {
    chunk: u32,
    at: u32,
    next: u32,
}

/// A page, and its records as a list.
struct PageEntry {
    id: PageId,
    first: u32,
    last: u32,
    records: u32,
}

/// The end of a list.
const NONE: u32 = u32::MAX;

impl Index {
    fn build(&mut self, base: Lsn) -> Result<()> {
        self.entries.clear();
        self.pages.clear();
        self.by_page.clear();
        for number in 0..self.chunks.len() {
            self.add_chunk(number, base)?;
        }
        self.pages.sort_unstable_by_key(|page| page.id);
        Ok(())
    }

    fn add_chunk(&mut self, number: usize, base: Lsn) -> Result<()> {
        let (mut at, mut current) = (0, None);
        let chunk = &self.chunks[number];
        while at < chunk.len() {
            let (_, named, next) = records::get(chunk, base, at).ok_or_else(broken)?;
            let entry = u32::try_from(self.entries.len()).ok().filter(|n| *n != NONE).ok_or_else(broken)?;
            self.entries.push(Entry { chunk: number as u32, at: at as u32, next: NONE });
            if let Some(id) = named {
                let pages = &mut self.pages;
                let page = *self.by_page.entry(id).or_insert_with(|| {
                    pages.push(PageEntry { id, first: entry, last: NONE, records: 0 });
                    pages.len() as u32 - 1
                });
                current = Some(page);
            }
            let page = &mut self.pages[current.ok_or_else(broken)? as usize];
            if page.last != NONE {
                self.entries[page.last as usize].next = entry;
            }
            page.last = entry;
            page.records += 1;
            at = next;
        }
        Ok(())
    }

    /// The record at `at` of its list, and the next place; `None` at the end.
    fn get(&self, at: u32, base: Lsn) -> Result<Option<(Kept<'_>, u32)>> {
        if at == NONE {
            return Ok(None);
        }
        let entry = self.entries.get(at as usize).ok_or_else(broken)?;
        let chunk = self.chunks.get(entry.chunk as usize).ok_or_else(broken)?;
        let (kept, ..) = records::get(chunk, base, entry.at as usize).ok_or_else(broken)?;
        Ok(Some((kept, entry.next)))
    }

    /// The LSN of the page's last record that makes what was in it before irrelevant.
    fn last_init(&self, page: &PageEntry, base: Lsn) -> Result<Option<Lsn>> {
        let (mut at, mut found) = (page.first, None);
        while let Some((kept, next)) = self.get(at, base)? {
            if matches!(kept.kind, Kind::InitFilePage | Kind::InitFilePage2) {
                found = Some(kept.start_lsn);
            }
            at = next;
        }
        Ok(found)
    }
}

fn broken() -> Error {
    Error::new(Code::Internal, "kept redo records are not what they were")
}
