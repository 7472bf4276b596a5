//! Stores all records of the log that pages may lack, those of neighbouring pages together, within bounds of memory.
//!
//! In memory the records of each page range are a run of bytes ([`super::run`]). When all of them together exceed
//! the memory, what pages are known to have is dropped; if that does not help, the whole goes to a file without a name, one
//! page range behind the other in their order ([`super::spill`]). At the end these files and what is left in memory are
//! merged, so each record is written and read back at most once however small the memory is, and each page is read and
//! written once.
//!
//! What is given out at a time ends with a group of the log (mini-transaction): which records a page has is decided by
//! comparing its LSN, the end of the last group applied, with the start of a record, and a group that is applied in part
//! would look as if it were applied as a whole.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::buffer::{Arena, RecordBuffer};
use super::index_dictionary::IndexDictionary;
use super::merge::Merge;
use super::run::{self, PageRange, RANGE_PAGES, RecordRun};
use super::spill::{Filter, Spill};
use super::table::{LandedLsns, Pending, Table};
use crate::base::{Lsn, PageNo, SpaceId};

/// Bytes that a page range takes beside its records: its place in the table, some of which is free, the list of its pieces,
/// and its place in the order of the files.
const STRETCH_COST: u64 = 288;
/// The same for the LSNs of its pages.
const LANDED_COST: u64 = 8 * RANGE_PAGES as u64 + 16;
/// LSNs of pages take so much of the memory at most.
const LANDED_SHARE: u64 = 8;
/// Dropping must free so much of the memory, or it is done again too soon.
const WORTH_SHARE: u64 = 4;
/// No page range has more in memory than this, or than this share of it, but for the last piece of the log: a page range is put
/// together and looked through as a whole.
const STRETCH_MAX: u64 = 8 << 20;
const STRETCH_SHARE: u64 = 32;
const STRETCH_MIN: u64 = 64 << 10;
/// What a page range may have when its pages land while all threads do so; the rest is for the end.
const PENDING_MAX: usize = 512 << 10;

/// Tells the LSN of a page that is in its file, if that is known.
pub(crate) type CachedLsnLookup = Box<dyn FnMut(SpaceId, PageNo) -> Option<Lsn> + Send>;

/// The records of the log by page.
pub(crate) struct Store {
    base: Lsn,
    dictionary: Arc<IndexDictionary>,
    table: Table,
    /// Memory: what it may be, and what it is.
    memory: u64,
    used: u64,
    landed_used: u64,
    ask: Option<CachedLsnLookup>,
    /// Stretches that have become too long.
    long: Vec<PageRange>,
    spill: Option<Spill>,
    spilled: Filter,
    spill_dir: PathBuf,
    /// Whether what is spilled is encrypted.
    encrypts: bool,
    /// Greatest length of a row.
    row_max: usize,
}

impl Store {
    /// An empty one for the records of a log from `base` on, which take `memory` bytes at most. `dir` is where a file may be
    /// made.
    pub(crate) fn new(base: Lsn, memory: u64, dir: &Path) -> Store {
        Store {
            base,
            dictionary: Arc::default(),
            table: Table::new(),
            memory,
            used: 0,
            landed_used: 0,
            ask: None,
            long: Vec::new(),
            spill: None,
            spilled: Filter::default(),
            spill_dir: dir.to_owned(),
            encrypts: false,
            row_max: (memory / STRETCH_SHARE).clamp(STRETCH_MIN, STRETCH_MAX) as usize,
        }
    }

    /// Sets whether the spill file is encrypted, so that nothing of an encrypted tablespace is on disk in the clear.
    pub(crate) fn encrypting(self, encrypts: bool) -> Store {
        Store { encrypts, ..self }
    }

    /// Makes the store look up the LSNs of pages that are already on disk, and leave out records that these pages have. All
    /// datafiles must be complete.
    pub(crate) fn asking(mut self, ask: CachedLsnLookup) -> Store {
        self.ask = Some(ask);
        self
    }

    /// The index descriptions that records are kept without.
    pub(crate) fn dictionary(&self) -> &Arc<IndexDictionary> {
        &self.dictionary
    }

    /// Adds records of a page; false if the page has them.
    pub(crate) fn push(&mut self, space: SpaceId, page: PageNo, run: &RecordRun<'_>) -> io::Result<bool> {
        let (range, slot) = PageRange::of(space, page);
        let before = self.table.len();
        let (pending, arena) = self.table.entry(range, self.base);
        if let Some(ask) = &mut self.ask {
            if pending.landed.is_none() && self.landed_used + LANDED_COST <= self.memory / LANDED_SHARE {
                pending.landed = Some(LandedLsns::unknown());
                self.landed_used += LANDED_COST;
                self.used += LANDED_COST;
            }
            if let Some(landed) = &mut pending.landed {
                landed.ask(slot, || ask(space, page));
            }
        }
        let has = pending.landed.as_mut().is_some_and(|landed| landed.has(slot, run.start_lsn));
        if !has {
            let (before, max) = (pending.row.len(), self.row_max);
            self.used += pending.push(slot, run, arena)? as u64;
            if before <= max && pending.row.len() > max {
                self.long.push(range);
            }
        }
        self.used += (self.table.len() - before) as u64 * STRETCH_COST;
        Ok(!has)
    }

    /// The groups of records that were added are whole.
    pub(crate) fn end_groups(&mut self) -> io::Result<()> {
        self.spill_long()?;
        if self.used <= self.memory {
            return Ok(());
        }
        if self.landed_used > 0 && self.ask.is_none() {
            self.drop_applied()?;
            if self.used <= self.memory - self.memory / WORTH_SHARE {
                return Ok(());
            }
        }
        self.spill()
    }

    /// A page with this LSN is on its way to its file.
    pub(crate) fn note_landed(&mut self, space: SpaceId, page: PageNo, lsn: Lsn) {
        let (range, slot) = PageRange::of(space, page);
        let known = self.table.get(range);
        if known.is_none_or(|pending| pending.landed.is_none()) {
            if self.landed_used + LANDED_COST > self.memory / LANDED_SHARE {
                return;
            }
            self.landed_used += LANDED_COST;
            self.used += LANDED_COST + if known.is_none() { STRETCH_COST } else { 0 };
        }
        let (pending, _) = self.table.entry(range, self.base);
        pending.landed.get_or_insert_with(LandedLsns::unknown).note(slot, lsn);
    }

    /// Copies all records so far for a page range; false if there are none, or some of them are not in memory.
    pub(crate) fn pending(&self, range: PageRange, into: &mut Vec<u8>) -> bool {
        into.clear();
        match self.table.get(range) {
            Some(pending)
                if (1..=PENDING_MAX).contains(&pending.row.len()) && !self.spilled.may_have(range) =>
            {
                pending.row.parts(&self.table.arena).for_each(|part| into.extend_from_slice(part));
                true
            }
            _ => false,
        }
    }

    /// Pages that were taken for newer than `end`, so that they lack records that were dropped.
    pub(crate) fn beyond(&self, end: Lsn) -> Option<(SpaceId, PageNo, Lsn)> {
        self.table.iter().find_map(|Pending { range, landed, .. }| {
            let landed = landed.as_ref()?;
            let slot = landed.beyond(end)?;
            Some((range.space(), range.page(slot), landed.lsns[slot]))
        })
    }

    /// Ends the store, and returns its records in the order of page ranges.
    pub(crate) fn into_merge(mut self) -> io::Result<Merge> {
        if self.spill.is_some() {
            // The memory is wanted for reading the others back.
            self.spill()?;
            self.table.arena = Arena::default();
        }
        let mut landed = HashMap::default();
        let mut memory = Vec::with_capacity(self.table.len());
        for pending in self.table.take() {
            landed.extend(pending.landed.map(|pages| (pending.range, pages)));
            if !pending.row.is_empty() {
                memory.push((pending.range, pending.row));
            }
        }
        let rows = (memory, self.table.arena);
        Ok(Merge::new(self.base, self.dictionary.list(), self.spill, rows, landed, self.memory))
    }

    /// Leaves out what pages have by now.
    fn drop_applied(&mut self) -> io::Result<()> {
        let Store { base, table, used, .. } = self;
        let mut bytes = Vec::new();
        let (all, arena) = table.all_mut();
        for pending in all {
            let Some(landed) = &mut pending.landed else { continue };
            bytes.clear();
            pending.row.parts(arena).for_each(|part| bytes.extend_from_slice(part));
            *used = used.saturating_sub(pending.row.cost() as u64);
            arena.recycle(std::mem::take(&mut pending.row));
            let (mut rest, mut lsn) = (&bytes[..], *base);
            let mut kept =
                Pending { range: pending.range, row: RecordBuffer::default(), last: lsn, landed: None };
            while let Some((run, slot)) = run::take(&mut rest, lsn) {
                lsn = run.start_lsn;
                if !landed.has(slot, lsn) {
                    *used += kept.push(slot, &run, arena)? as u64;
                }
            }
            (pending.row, pending.last) = (kept.row, kept.last);
        }
        Ok(())
    }

    /// Takes the page ranges that are too long out of memory, each as a run of its own.
    fn spill_long(&mut self) -> io::Result<()> {
        for range in std::mem::take(&mut self.long) {
            let (pending, arena) = self.table.entry(range, self.base);
            let row = std::mem::take(&mut pending.row);
            pending.last = self.base;
            self.used = self.used.saturating_sub(row.cost() as u64);
            let spill = opened(&mut self.spill, &self.spill_dir, self.encrypts)?;
            spill.begin_run();
            spill.put(range, &row, arena)?;
            spill.end_run()?;
            self.spilled.add(range);
            arena.recycle(row);
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let spill = opened(&mut self.spill, &self.spill_dir, self.encrypts)?;
        spill.begin_run();
        for pending in self.table.take() {
            if !pending.row.is_empty() {
                self.spilled.add(pending.range);
                spill.put(pending.range, &pending.row, &self.table.arena)?;
            }
            if pending.landed.is_some() {
                self.table.entry(pending.range, self.base).0.landed = pending.landed;
            }
        }
        spill.end_run()?;
        self.table.arena.clear();
        self.used = self.table.len() as u64 * STRETCH_COST + self.landed_used;
        Ok(())
    }
}

/// The file, made if there is none.
fn opened<'a>(spill: &'a mut Option<Spill>, dir: &Path, encrypts: bool) -> io::Result<&'a mut Spill> {
    Ok(match spill {
        Some(spill) => spill,
        none => none.insert(Spill::create(dir, encrypts)?),
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
