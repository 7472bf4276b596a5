//! A hash table from page range to the records that wait for it.

use std::collections::HashMap;
use std::io;

use super::buffer::{Arena, RecordBuffer};
use super::run::{self, PageRange, RANGE_PAGES, RecordRun};
use crate::base::Lsn;

/// Records that wait for one page range.
pub(crate) struct Pending {
    pub(crate) range: PageRange,
    pub(crate) row: RecordBuffer,
    /// The first LSN of the last run of the row; the start of the log if there is none.
    pub(crate) last: Lsn,
    pub(crate) landed: Option<Box<LandedLsns>>,
}

/// LSNs of the pages of one page range, as far as they are known: from the stream, while the pages passed on their way to the
/// file, or read from the file. Records that start before a page's LSN are in the page already.
#[derive(Clone)]
pub(crate) struct LandedLsns {
    pub(crate) lsns: [Lsn; RANGE_PAGES],
    /// Pages that were asked for, whatever came of that.
    asked: u64,
    /// Pages of which records were dropped.
    dropped: u64,
}

impl LandedLsns {
    pub(crate) fn unknown() -> Box<LandedLsns> {
        Box::new(LandedLsns { lsns: [Lsn(0); RANGE_PAGES], asked: 0, dropped: 0 })
    }

    /// Whether the page has what starts there.
    pub(crate) fn has(&mut self, slot: usize, start: Lsn) -> bool {
        let has = start < self.lsns[slot];
        self.dropped |= u64::from(has) << slot;
        has
    }

    pub(crate) fn note(&mut self, slot: usize, lsn: Lsn) {
        self.lsns[slot] = self.lsns[slot].max(lsn);
    }

    /// Asks for the LSN of a page that was not asked for before.
    pub(crate) fn ask(&mut self, slot: usize, lsn: impl FnOnce() -> Option<Lsn>) {
        if self.asked >> slot & 1 == 0 {
            self.asked |= 1 << slot;
            self.note(slot, lsn().unwrap_or_default());
        }
    }

    /// The first page of which records were dropped, though its LSN lies behind `end`.
    pub(crate) fn beyond(&self, end: Lsn) -> Option<usize> {
        (0..RANGE_PAGES).find(|slot| self.dropped >> slot & 1 == 1 && self.lsns[*slot] > end)
    }
}

/// The page ranges.
pub(crate) struct Table {
    all: Vec<Pending>,
    places: HashMap<PageRange, usize, foldhash::fast::RandomState>,
    /// Where those met lately are, by their last bits: groups come back to the same few.
    recent: Vec<(PageRange, usize)>,
    pub(crate) arena: Arena,
}

impl Table {
    const RECENT: usize = 1 << 10;

    pub(crate) fn new() -> Table {
        Table { all: Vec::new(), places: HashMap::default(), recent: Vec::new(), arena: Arena::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, range: PageRange) -> Option<&Pending> {
        self.places.get(&range).map(|place| &self.all[*place])
    }

    /// The one for `range`, made if there is none; a row's first LSN is counted from `base`. With it comes what its row may
    /// grow by.
    pub(crate) fn entry(&mut self, range: PageRange, base: Lsn) -> (&mut Pending, &mut Arena) {
        let recent = Self::recent(range);
        let place = match self.recent.get(recent) {
            Some((known, place)) if *known == range && *place < self.all.len() => *place,
            _ => self.find(range, recent, base),
        };
        (&mut self.all[place], &mut self.arena)
    }

    fn find(&mut self, range: PageRange, recent: usize, base: Lsn) -> usize {
        let place = *self.places.entry(range).or_insert_with(|| {
            self.all.push(Pending { range, row: RecordBuffer::default(), last: base, landed: None });
            self.all.len() - 1
        });
        self.recent.resize(Self::RECENT, (range, place));
        self.recent[recent] = (range, place);
        place
    }

    fn recent(range: PageRange) -> usize {
        (range.key() ^ range.key() >> 32 << 4) as usize % Self::RECENT
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.all.iter()
    }

    /// All, and where their rows are.
    pub(crate) fn all_mut(&mut self) -> (&mut [Pending], &mut Arena) {
        (&mut self.all, &mut self.arena)
    }

    /// Takes all, in the order of the files.
    pub(crate) fn take(&mut self) -> Vec<Pending> {
        self.places.clear();
        self.recent.clear();
        let mut all = std::mem::take(&mut self.all);
        all.sort_unstable_by_key(|pending| pending.range);
        all
    }
}

impl Pending {
    /// Appends a run for one of its pages; gives how much more memory it takes.
    pub(crate) fn push(&mut self, slot: usize, run: &RecordRun<'_>, arena: &mut Arena) -> io::Result<usize> {
        let head = run::RunHeader::of(run, slot, self.last);
        self.last = run.start_lsn;
        self.row.push(&head, run.bytes, arena)
    }
}
