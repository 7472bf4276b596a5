//! What waits for each stretch of pages, found by the stretch.

use std::collections::HashMap;

use super::records::{self, Run, STRETCH_PAGES, Stretch};
use crate::base::Lsn;

/// What one stretch waits for.
pub(super) struct Pending {
    pub(super) stretch: Stretch,
    pub(super) row: Row,
    /// The first LSN of the last run of the row; the start of the log if there is none.
    pub(super) last: Lsn,
    pub(super) landed: Option<Box<Landed>>,
}

/// Pieces of rows that are no more, for the next ones: memory that is given back costs much to get again.
pub(super) type Pool = Vec<Vec<u8>>;

/// Runs of records in the order of the log. It grows at its end by pieces of memory, so nothing is ever copied and little
/// stays unused.
#[derive(Default)]
pub(super) struct Row {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
    len: usize,
}

impl Row {
    const PIECE_MIN: usize = 64;
    const PIECE_MAX: usize = 16 << 10;
    /// What a piece costs beside its bytes.
    const PIECE_COST: usize = 48;

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a run; gives how much more memory the row takes.
    pub(super) fn push(&mut self, head: &records::Head, bytes: &[u8], pool: &mut Pool) -> usize {
        let len = head.bytes().len() + bytes.len();
        let more = if self.last.capacity() - self.last.len() < len { self.add_piece(len, pool) } else { 0 };
        self.last.extend_from_slice(head.bytes());
        self.last.extend_from_slice(bytes);
        self.len += len;
        more
    }

    fn add_piece(&mut self, len: usize, pool: &mut Pool) -> usize {
        let next = (2 * self.last.capacity()).clamp(Self::PIECE_MIN, Self::PIECE_MAX).max(len);
        let pooled = if next == Self::PIECE_MAX { pool.pop() } else { None };
        let piece = pooled.unwrap_or_else(|| Vec::with_capacity(next));
        let full = std::mem::replace(&mut self.last, piece);
        if full.capacity() > 0 {
            self.full.push(full);
        }
        self.last.capacity() + Self::PIECE_COST
    }

    /// Gives its larger pieces to the pool.
    pub(super) fn recycle(self, pool: &mut Pool) {
        let pieces = self.full.into_iter().chain([self.last]);
        pool.extend(pieces.filter(|piece| piece.capacity() == Self::PIECE_MAX).map(|mut piece| {
            piece.clear();
            piece
        }));
    }

    /// The memory that it takes.
    pub(super) fn cost(&self) -> usize {
        let pieces = self.full.iter().chain([&self.last]).filter(|piece| piece.capacity() > 0);
        pieces.map(|piece| piece.capacity() + Self::PIECE_COST).sum()
    }

    /// Its bytes, one part after the other; no run is in two of them.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.full.iter().chain([&self.last]).map(|piece| &piece[..])
    }
}

/// The pages of a stretch whose LSN is known, from the time they passed by on their way to their file, or from there: each has
/// what starts before its LSN.
#[derive(Clone)]
pub(super) struct Landed {
    pub(super) lsns: [Lsn; STRETCH_PAGES],
    /// Pages that were asked for, whatever came of that.
    asked: u64,
    /// Pages of which records were dropped.
    dropped: u64,
}

impl Landed {
    pub(super) fn unknown() -> Box<Landed> {
        Box::new(Landed { lsns: [Lsn(0); STRETCH_PAGES], asked: 0, dropped: 0 })
    }

    /// Whether the page has what starts there.
    pub(super) fn has(&mut self, slot: usize, start: Lsn) -> bool {
        let has = start < self.lsns[slot];
        self.dropped |= u64::from(has) << slot;
        has
    }

    pub(super) fn note(&mut self, slot: usize, lsn: Lsn) {
        self.lsns[slot] = self.lsns[slot].max(lsn);
    }

    /// Asks for the LSN of a page that was not asked for before.
    pub(super) fn ask(&mut self, slot: usize, lsn: impl FnOnce() -> Option<Lsn>) {
        if self.asked >> slot & 1 == 0 {
            self.asked |= 1 << slot;
            self.note(slot, lsn().unwrap_or_default());
        }
    }

    /// The first page of which records were dropped, though its LSN lies behind `end`.
    pub(super) fn beyond(&self, end: Lsn) -> Option<usize> {
        (0..STRETCH_PAGES).find(|slot| self.dropped >> slot & 1 == 1 && self.lsns[*slot] > end)
    }
}

/// The stretches.
pub(super) struct Table {
    all: Vec<Pending>,
    places: HashMap<Stretch, usize, foldhash::fast::RandomState>,
    /// Where those met lately are, by their last bits: groups come back to the same few.
    recent: Vec<(Stretch, usize)>,
    pub(super) pool: Pool,
}

impl Table {
    const RECENT: usize = 1 << 10;

    pub(super) fn new() -> Table {
        Table { all: Vec::new(), places: HashMap::default(), recent: Vec::new(), pool: Pool::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, stretch: Stretch) -> Option<&Pending> {
        self.places.get(&stretch).map(|place| &self.all[*place])
    }

    /// The one for `stretch`, made if there is none; a row's first LSN is counted from `base`. With it comes what its row may
    /// grow by.
    pub(super) fn entry(&mut self, stretch: Stretch, base: Lsn) -> (&mut Pending, &mut Pool) {
        let recent = Self::recent(stretch);
        let place = match self.recent.get(recent) {
            Some((known, place)) if *known == stretch && *place < self.all.len() => *place,
            _ => self.find(stretch, recent, base),
        };
        (&mut self.all[place], &mut self.pool)
    }

    fn find(&mut self, stretch: Stretch, recent: usize, base: Lsn) -> usize {
        let place = *self.places.entry(stretch).or_insert_with(|| {
            self.all.push(Pending { stretch, row: Row::default(), last: base, landed: None });
            self.all.len() - 1
        });
        self.recent.resize(Self::RECENT, (stretch, place));
        self.recent[recent] = (stretch, place);
        place
    }

    fn recent(stretch: Stretch) -> usize {
        (stretch.key() ^ stretch.key() >> 32 << 4) as usize % Self::RECENT
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.all.iter_mut()
    }

    /// Takes all, in the order of the files.
    pub(super) fn take(&mut self) -> Vec<Pending> {
        self.places.clear();
        self.recent.clear();
        let mut all = std::mem::take(&mut self.all);
        all.sort_unstable_by_key(|pending| pending.stretch);
        all
    }
}

impl Pending {
    /// Appends a run for one of its pages; gives how much more memory it takes.
    pub(super) fn push(&mut self, slot: usize, run: &Run<'_>, pool: &mut Pool) -> usize {
        let head = records::Head::of(run, slot, self.last);
        self.last = run.start_lsn;
        self.row.push(&head, run.bytes, pool)
    }
}
