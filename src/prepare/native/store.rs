//! All records of the log that pages may lack, those of neighbouring pages together, within bounds of memory.
//!
//! In memory the records of each stretch of pages are a run of bytes ([`super::records`]). When all of them together exceed
//! the memory, what pages are known to have is dropped; if that does not help, the whole goes to a file without a name, one
//! stretch behind the other in their order ([`super::spill`]). At the end these files and what is left in memory are
//! merged, so each record is written and read back at most once however small the memory is, and each page is read and
//! written once.
//!
//! What is given out at a time ends with a group of the log (mini-transaction): which records a page has is decided by
//! comparing its LSN, the end of the last group applied, with the start of a record, and a group that is applied in part
//! would look as if it were applied as a whole.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::merge::Merge;
use super::records::{self, Kept, STRETCH_PAGES, Stretch};
use super::spill::{Filter, Spill};
use crate::base::{Lsn, PageNo, SpaceId};

/// Bytes that a stretch takes beside its records: its place in the table.
const STRETCH_COST: u64 = 96;
/// The same for the LSNs of its pages.
const LANDED_COST: u64 = 8 * STRETCH_PAGES as u64;
/// LSNs of pages that have landed take so much of the memory at most.
const LANDED_SHARE: u64 = 8;
/// Dropping must free so much of the memory, or it is done again too soon.
const WORTH_SHARE: u64 = 4;
/// A stretch's first bytes.
const FIRST_LEN: usize = 64;
/// No stretch has more in memory: positions in it are kept in 32 bits.
const STRETCH_MAX: usize = 1 << 30;

/// The records of the log by page.
pub(super) struct Store {
    base: Lsn,
    stretches: HashMap<Stretch, Pending, foldhash::fast::RandomState>,
    /// Memory: what it may be, and what it is.
    memory: u64,
    used: u64,
    landed_used: u64,
    /// A stretch has become too long.
    full: bool,
    spill: Option<Spill>,
    spilled: Filter,
    spill_dir: PathBuf,
}

/// What one stretch waits for.
struct Pending {
    records: Vec<u8>,
    /// LSN of the last of them; that of the start of the log if there is none.
    last: Lsn,
    landed: Option<Box<Landed>>,
}

/// The pages of a stretch that were seen on their way to their file: each has what starts before its LSN.
#[derive(Clone)]
pub(super) struct Landed {
    lsns: [Lsn; STRETCH_PAGES],
    /// Pages of which records were dropped.
    dropped: u64,
}

impl Landed {
    /// Whether the page has this record.
    pub(super) fn has(&mut self, slot: usize, start: Lsn) -> bool {
        let has = start < self.lsns[slot];
        self.dropped |= u64::from(has) << slot;
        has
    }
}

impl Store {
    /// An empty one for the records of a log from `base` on, which take `memory` bytes at most. `dir` is where a file may be
    /// made.
    pub(super) fn new(base: Lsn, memory: u64, dir: &Path) -> Store {
        Store {
            base,
            stretches: HashMap::default(),
            memory,
            used: 0,
            landed_used: 0,
            full: false,
            spill: None,
            spilled: Filter::default(),
            spill_dir: dir.to_owned(),
        }
    }

    /// Adds a record; false if its page has it.
    pub(super) fn push(&mut self, space: SpaceId, page: PageNo, record: &Kept<'_>) -> bool {
        let (stretch, slot) = Stretch::of(space, page);
        let pending = pending_of(&mut self.stretches, &mut self.used, stretch, self.base);
        if pending.landed.as_mut().is_some_and(|landed| landed.has(slot, record.start_lsn)) {
            return false;
        }
        let before = pending.records.capacity();
        if before == 0 {
            pending.records.reserve_exact(FIRST_LEN);
        }
        records::put(&mut pending.records, pending.last, slot, record);
        pending.last = record.start_lsn;
        self.used += (pending.records.capacity() - before) as u64;
        self.full |= pending.records.len() > STRETCH_MAX;
        true
    }

    /// The group of records that was added is whole.
    pub(super) fn end_group(&mut self) -> io::Result<()> {
        if self.used <= self.memory && !self.full {
            return Ok(());
        }
        if !self.full && self.landed_used > 0 {
            self.drop_applied();
            if self.used <= self.memory - self.memory / WORTH_SHARE {
                return Ok(());
            }
        }
        self.full = false;
        self.spill()
    }

    /// A page with this LSN is on its way to its file.
    pub(super) fn note_landed(&mut self, space: SpaceId, page: PageNo, lsn: Lsn) {
        let (stretch, slot) = Stretch::of(space, page);
        let is_new = self.stretches.get(&stretch).is_none_or(|pending| pending.landed.is_none());
        if is_new {
            if self.landed_used + LANDED_COST > self.memory / LANDED_SHARE {
                return;
            }
            self.landed_used += LANDED_COST;
            self.used += LANDED_COST;
        }
        let pending = pending_of(&mut self.stretches, &mut self.used, stretch, self.base);
        let none = || Box::new(Landed { lsns: [Lsn(0); STRETCH_PAGES], dropped: 0 });
        let landed = pending.landed.get_or_insert_with(none);
        landed.lsns[slot] = landed.lsns[slot].max(lsn);
    }

    /// Copies all records so far for a stretch; false if there are none, or some of them are not in memory.
    pub(super) fn pending(&self, stretch: Stretch, into: &mut Vec<u8>) -> bool {
        into.clear();
        match self.stretches.get(&stretch) {
            Some(pending) if !pending.records.is_empty() && !self.spilled.may_have(stretch) => {
                into.extend_from_slice(&pending.records);
                true
            }
            _ => false,
        }
    }

    /// Pages that were taken for newer than `end`, so that they lack records that were dropped.
    pub(super) fn beyond(&self, end: Lsn) -> Option<(SpaceId, PageNo, Lsn)> {
        self.stretches.iter().find_map(|(stretch, pending)| {
            let landed = pending.landed.as_ref()?;
            let is_beyond = |slot: &usize| landed.dropped >> slot & 1 == 1 && landed.lsns[*slot] > end;
            let slot = (0..STRETCH_PAGES).find(is_beyond)?;
            Some((stretch.space(), stretch.page(slot), landed.lsns[slot]))
        })
    }

    /// All records by stretch.
    pub(super) fn into_merge(self) -> Merge {
        let mut rest: Vec<_> = self.stretches.into_iter().collect();
        rest.sort_unstable_by_key(|(stretch, _)| *stretch);
        let mut landed = HashMap::default();
        let mut memory = Vec::with_capacity(rest.len());
        for (stretch, pending) in rest {
            landed.extend(pending.landed.map(|pages| (stretch, pages)));
            if !pending.records.is_empty() {
                memory.push((stretch, pending.records));
            }
        }
        Merge::new(self.base, self.spill, memory, landed, self.memory)
    }

    /// Leaves out what pages have by now.
    fn drop_applied(&mut self) {
        for pending in self.stretches.values_mut() {
            let Some(landed) = &mut pending.landed else { continue };
            let (mut kept, mut last) = (Vec::new(), self.base);
            let (mut rest, mut lsn) = (&pending.records[..], self.base);
            while let Some((record, slot)) = records::take(&mut rest, lsn) {
                lsn = record.start_lsn;
                if !landed.has(slot, lsn) {
                    records::put(&mut kept, last, slot, &record);
                    last = lsn;
                }
            }
            kept.shrink_to_fit();
            self.used -=
                (pending.records.capacity() - kept.capacity().min(pending.records.capacity())) as u64;
            (pending.records, pending.last) = (kept, last);
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::create(&self.spill_dir)?),
        };
        let mut order: Vec<_> = self.stretches.keys().copied().collect();
        order.sort_unstable();
        spill.begin_run();
        for stretch in order {
            let Some(pending) = self.stretches.get_mut(&stretch) else { continue };
            let bytes = std::mem::take(&mut pending.records);
            pending.last = self.base;
            if !bytes.is_empty() {
                self.spilled.add(stretch);
                spill.put(stretch, &bytes)?;
            }
        }
        spill.end_run()?;
        self.stretches.retain(|_, pending| pending.landed.is_some());
        self.used = self.stretches.len() as u64 * STRETCH_COST + self.landed_used;
        Ok(())
    }
}

fn pending_of<'a>(
    stretches: &'a mut HashMap<Stretch, Pending, foldhash::fast::RandomState>,
    used: &mut u64,
    stretch: Stretch,
    base: Lsn,
) -> &'a mut Pending {
    stretches.entry(stretch).or_insert_with(|| {
        *used += STRETCH_COST;
        Pending { records: Vec::new(), last: base, landed: None }
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
