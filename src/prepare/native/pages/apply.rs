//! Brings pages up to date: threads take one page range after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::bounds::TablespaceBounds;
use crate::base::progress::Progress;
use crate::base::{Code, Error, Lsn, PageBuffer, PageNo, Result, SpaceId};
use crate::innodb::apply::Page;
use crate::innodb::encryption::NoKey;
use crate::innodb::page::{Scratch, Verdict};
use crate::innodb::redo::IndexList;
use crate::prepare::Resources;
use crate::prepare::native::error::{corrupt, encrypted, spill_error};
use crate::prepare::native::journal::Journal;
use crate::prepare::native::journal::Writes;
use crate::prepare::native::memory::batch_len;
use crate::prepare::native::records::batch_index::BatchIndex;
use crate::prepare::native::records::merge::{Batch, Merge};
use crate::prepare::native::records::run::{PageRange, RANGE_PAGES, RecordRun};
use crate::prepare::native::redo_format::{RecordApplier, RedoFormat};
use crate::prepare::native::tablespaces::{OpenTablespace, TablespaceFiles};

/// Pages between two wanted ones that are read with them, not left out: one call for more bytes is cheaper than two.
const GAP_MAX: usize = 2;

/// The work of one application of redo, shared by all threads.
pub(crate) struct Job<'a> {
    pub(crate) format: &'static dyn RedoFormat,
    pub(crate) spaces: &'a TablespaceFiles,
    pub(crate) ends: &'a TablespaceBounds,
    /// No page may be newer.
    pub(crate) end: Lsn,
    /// Where journals go.
    pub(crate) root: &'a std::path::Path,
    pub(crate) writes: Writes,
}

/// Counts of records and pages, and the time taken.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Outcome {
    pub(crate) records_applied: u64,
    pub(crate) pages_changed: u64,
    pub(crate) pages_unchanged: u64,
    /// Start to end.
    pub(crate) time: Duration,
}

/// Applies all records of `merge`.
pub(crate) fn apply(job: &Job<'_>, mut merge: Merge, means: &Resources<'_>) -> Result<Outcome> {
    let begun = Instant::now();
    merge.start().map_err(spill_error)?;
    let (base, indexes) = (merge.base, merge.indexes.clone());
    let merge = Mutex::new(merge);
    let failed = AtomicBool::new(false);
    let work = |thread: usize| {
        let mut worker = Worker::new(job, base, indexes.clone(), means, thread)?;
        worker.work(&merge, &failed).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        Ok(worker.outcome)
    };
    let outcomes: Vec<Result<Outcome>> = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..means.threads.max(1)).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    outcomes.into_iter().try_fold(Outcome { time: begun.elapsed(), ..Outcome::default() }, |sum, outcome| {
        let outcome = outcome?;
        Ok(Outcome {
            records_applied: sum.records_applied + outcome.records_applied,
            pages_changed: sum.pages_changed + outcome.pages_changed,
            pages_unchanged: sum.pages_unchanged + outcome.pages_unchanged,
            ..sum
        })
    })
}

fn panicked() -> Error {
    Error::new(Code::Internal, "a thread that applies redo panicked")
}

/// Applies records to pages, with the buffers of one thread.
struct ThreadApplier {
    records: Box<dyn RecordApplier>,
    /// Descriptions of indexes that records are kept without.
    indexes: Arc<IndexList>,
    scratch: Scratch,
}

impl ThreadApplier {
    fn last_init(
        &mut self,
        page: (SpaceId, PageNo),
        runs: &mut dyn Iterator<Item = RecordRun<'_>>,
    ) -> Option<Lsn> {
        self.records.last_init(page, &self.indexes, runs)
    }
}

struct Worker<'a> {
    job: &'a Job<'a>,
    base: Lsn,
    means: &'a Resources<'a>,
    applier: ThreadApplier,
    batch: Batch,
    index: BatchIndex,
    space: Option<Arc<OpenTablespace>>,
    /// The pages of a page range, as far as they are read.
    pages: PageBuffer,
    /// Which of them were changed.
    changed: Vec<usize>,
    journal: Option<Journal>,
    outcome: Outcome,
}

impl<'a> Worker<'a> {
    fn new(
        job: &'a Job<'a>,
        base: Lsn,
        indexes: Arc<IndexList>,
        means: &'a Resources<'a>,
        thread: usize,
    ) -> Result<Worker<'a>> {
        let journal = match job.writes {
            Writes::Disposable => None,
            Writes::InPlace => Some(Journal::create(job.root, thread)?),
        };
        Ok(Worker {
            job,
            base,
            means,
            applier: ThreadApplier { records: job.format.applier(), indexes, scratch: Scratch::new() },
            batch: Batch::default(),
            index: BatchIndex::default(),
            space: None,
            pages: PageBuffer::new(0),
            changed: Vec::new(),
            journal,
            outcome: Outcome::default(),
        })
    }

    fn work(&mut self, merge: &Mutex<Merge>, failed: &AtomicBool) -> Result<()> {
        let len_max = batch_len(self.means);
        while !failed.load(Ordering::Relaxed) {
            self.means.stop.check()?;
            let mut all = merge.lock().unwrap_or_else(|e| e.into_inner());
            if !all.next(len_max, &mut self.batch).map_err(spill_error)? {
                break;
            }
            let first = self.batch.range.filter(|range| range.page(0) == PageNo(0));
            let _begun = first.map(|range| self.job.ends.begin(range.space()));
            // Younger records of the same pages must wait for these.
            while self.batch.more {
                self.batch()?;
                all.next(len_max, &mut self.batch).map_err(spill_error)?;
            }
            // One that is longer than a thread's share is worked on alone: the others wait for their next one.
            let alone = (self.batch.bytes.len() > len_max).then_some(all);
            self.batch()?;
            self.batch.shrink(len_max);
            self.index.shrink(len_max);
            drop(alone);
        }
        match &mut self.journal {
            Some(journal) => journal.flush(),
            None => Ok(()),
        }
    }

    /// Brings the pages of a page range up to date.
    fn batch(&mut self) -> Result<()> {
        let Some(range) = self.batch.range else { return Ok(()) };
        let dropped = self.index.build(&mut self.batch, self.base)?;
        let wanted: Vec<usize> = (0..RANGE_PAGES).filter(|slot| self.index.has(*slot)).collect();
        let kept = self.index.records();
        if let [first, ..] = wanted[..]
            && self.enter(range.space(), range.page(first))?
            && let Some(space) = self.space.take()
        {
            let done = self.apply_to_range(&space, range, &wanted);
            self.space = Some(space);
            done?;
        }
        Progress::add(&self.means.progress.records_done, dropped + kept);
        Progress::add(&self.means.progress.pages_done, wanted.len() as u64);
        Ok(())
    }

    /// Opens the tablespace; false if its records are of no interest.
    fn enter(&mut self, id: SpaceId, page: PageNo) -> Result<bool> {
        if self.space.as_ref().is_some_and(|open| open.id == id) {
            return Ok(true);
        }
        self.space = None;
        let Some(space) = self.job.spaces.get(id) else {
            return match self.job.spaces.is_removed(id) {
                true => Ok(false),
                false => Err(corrupt(format!(
                    "it has records for page {page} of tablespace {id}, which has no file in the backup"
                ))),
            };
        };
        let open = space.open(id)?;
        if let Some(lacking) = space.lacking() {
            return Err(encrypted(open.shown(PageNo(0)), lacking));
        }
        self.space = Some(Arc::new(open));
        Ok(true)
    }

    fn apply_to_range(
        &mut self,
        space: &Arc<OpenTablespace>,
        range: PageRange,
        wanted: &[usize],
    ) -> Result<()> {
        let page_len = space.layout.physical();
        self.check_end(space, range, wanted)?;
        self.pages.resize(RANGE_PAGES * page_len);
        self.changed.clear();
        for run in wanted.chunk_by(|before, slot| slot - before <= GAP_MAX + 1) {
            let (first, last) = (run[0], run[run.len() - 1]);
            let bytes = first * page_len..(last + 1) * page_len;
            let filled = first * page_len + space.read(range.page(first), &mut self.pages[bytes])?;
            for &slot in run {
                self.page(space, range, slot, filled >= (slot + 1) * page_len)?;
            }
        }
        if wanted[0] == 0 && range.page(0) == PageNo(0) {
            self.job.ends.note(space, &self.pages[..page_len]);
        }
        self.write(space, range)
    }

    /// Refuses pages behind the end of their tablespace, but for those that lie beside its first one.
    fn check_end(&self, space: &OpenTablespace, range: PageRange, wanted: &[usize]) -> Result<()> {
        let last = wanted.last().map_or(PageNo(0), |slot| range.page(*slot));
        if range.page(0) == PageNo(0) || last.0 < space.pages() {
            return Ok(());
        }
        let pages = self.job.ends.pages(space)?;
        match u64::from(last.0) < pages {
            true => Ok(()),
            false => Err(corrupt(format!(
                "it has records for {}, behind the end of its tablespace, which has {pages} pages",
                space.shown(last)
            ))),
        }
    }

    /// Brings a page up to date in the buffer, where it stands unless the file does not reach so far.
    fn page(&mut self, space: &OpenTablespace, range: PageRange, slot: usize, is_there: bool) -> Result<()> {
        let number = range.page(slot);
        let Worker { applier, index, batch, outcome, .. } = self;
        let runs = || index.runs(&batch.bytes, slot);
        let range = slot * space.layout.physical()..(slot + 1) * space.layout.physical();
        let bytes = &mut self.pages[range.clone()];
        let (mut page, from) = match is_there {
            true => load(space, number, bytes, applier, runs, self.job.end)?,
            false => (Page::blank(space.id, number, space.layout), Lsn(0)),
        };
        let ThreadApplier { records, indexes, .. } = applier;
        let brought = records.apply(&mut page, from, indexes, &mut runs(), &|| space.shown(number))?;
        outcome.records_applied += brought.records;
        let Some(end) = brought.to else {
            outcome.pages_unchanged += 1;
            return Ok(());
        };
        page.finish(end)
            .map_err(|e| corrupt(format!("{} can't be brought up to date", space.shown(number))).cause(e))?;
        if let Some(image) = page.into_owned() {
            self.pages[range].copy_from_slice(&image);
        }
        self.changed.push(slot);
        outcome.pages_changed += 1;
        Ok(())
    }

    /// Writes the changed pages to their places, those that follow each other together.
    fn write(&mut self, space: &Arc<OpenTablespace>, range: PageRange) -> Result<()> {
        let page_len = space.layout.physical();
        let images = |slots: &[usize]| slots[0] * page_len..(slots[slots.len() - 1] + 1) * page_len;
        if let Some(journal) = &mut self.journal {
            for run in self.changed.chunk_by(|before, slot| before + 1 == *slot) {
                journal.write(space, range.page(run[0]), &self.pages[images(run)])?;
            }
            return match self.batch.more {
                // The next batch reads these pages again.
                true => journal.flush(),
                false => Ok(()),
            };
        }
        for run in self.changed.chunk_by(|before, slot| before + 1 == *slot) {
            space.write(range.page(run[0]), &self.pages[images(run)])?;
        }
        Ok(())
    }
}

/// The page as it is in `bytes`, and the LSN from which on it lacks records; those for it are `runs`. What can't be read starts
/// empty, if a record says that its content does not matter. No page may be newer than `end`.
fn load<'b, 'r, R: Iterator<Item = RecordRun<'r>>>(
    space: &OpenTablespace,
    number: PageNo,
    bytes: &'b mut [u8],
    applier: &mut ThreadApplier,
    runs: impl FnOnce() -> R,
    end: Lsn,
) -> Result<(Page<'b>, Lsn)> {
    let blank = || Page::blank(space.id, number, space.layout);
    match space.verify(number, bytes, &mut applier.scratch) {
        Ok(Verdict::Encrypted) => return Err(encrypted(space.shown(number), &NoKey::Unknown)),
        Ok(Verdict::AllZero) => return Ok((blank(), Lsn(0))),
        Ok(Verdict::Ok) => {}
        Err(defect) => {
            let damaged = || Error::new(Code::CorruptPage, space.shown(number)).cause(defect);
            return Ok((blank(), applier.last_init((space.id, number), &mut runs()).ok_or_else(damaged)?));
        }
    }
    let page = Page::load(space.id, number, space.layout, bytes, &mut applier.scratch)
        .map_err(|e| Error::new(Code::CorruptPage, space.shown(number)).cause(e))?;
    let lsn = page.lsn();
    if lsn > end {
        return Err(corrupt(format!(
            "{} has LSN {lsn}, beyond the end {end} of the redo",
            space.shown(number)
        )));
    }
    Ok((page, lsn))
}
