//! Appends a list of records to an empty index page (`MLOG_LIST_END_COPY_CREATED`, as after a page split). The bytes are the same
//! as after inserting each record by itself, but page header and directory are written once.
//!
//! The last slot of the directory is supremum's, which owns what was appended last. With its ninth it gives the first four
//! away, to a new slot before it.

use super::directory::{OWNED_MAX, OWNED_MIN};
use super::index_page::IndexPage;
use super::insert::{self, HEAP_NO_MAX, MIN_SLOTS, assemble};
use super::offsets::{self, Extent};
use super::page_header::{
    DIRECTION, FREE, HEAP_TOP, LAST_INSERT, N_DIRECTION, N_HEAP, N_RECS, N_SLOTS, NO_DIRECTION,
};
use super::record_layout::RecordLayout;
use super::{Applied, ApplyScratch, Corruption};
use crate::innodb::redo::record::{Insert, Inserts, RowFormat};

const NO_ROOM: Corruption = Corruption("no room on the page for an inserted record");

/// Appends the records of the list to an empty page.
pub(super) fn list_end_copy_created(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    inserts: &Inserts<'_>,
    room: &mut ApplyScratch,
    ahead: &mut bool,
) -> Applied {
    let mut rest = inserts.iter().map(|insert| insert.map_err(Corruption));
    if let Some(mut appending) = Appending::to(page)? {
        appending.all(page, shape, &mut rest, &mut room.record)?;
        appending.finish(page)?;
    }
    let mut last = page.previous(page.supremum())?;
    for insert in rest {
        last = insert::apply(page, shape, last, &insert?, room, ahead)?;
    }
    page.set(LAST_INSERT, 0);
    if !page.is_rtree() {
        page.set(DIRECTION, usize::from(NO_DIRECTION));
        page.set(N_DIRECTION, 0);
    }
    Ok(())
}

/// An empty COMPACT page that is being filled.
pub(super) struct Appending {
    /// The last record, and its extent if that is known.
    last: (usize, Option<Extent>),
    heap_top: usize,
    n_heap: usize,
    n_recs: usize,
    n_slots: usize,
    /// The records that supremum owns, but for itself.
    owned: [usize; OWNED_MAX],
    n_owned: usize,
}

impl Appending {
    /// `None` if the page is not such a one.
    pub(super) fn to(page: &IndexPage<'_>) -> Applied<Option<Appending>> {
        let (infimum, supremum) = (page.infimum(), page.supremum());
        let is_new = page.zip.is_none()
            && page.format == RowFormat::Compact
            && page.get(N_RECS) == 0
            && page.get(FREE) == 0
            && page.get(N_SLOTS) == MIN_SLOTS
            && (page.slot(0), page.slot(1)) == (Ok(infimum), Ok(supremum))
            && page.next(infimum) == Ok(supremum)
            && (page.n_owned(infimum), page.n_owned(supremum)) == (1, 1);
        Ok(is_new.then(|| Appending {
            last: (infimum, None),
            heap_top: page.get(HEAP_TOP),
            n_heap: page.n_heap(),
            n_recs: 0,
            n_slots: MIN_SLOTS,
            owned: [0; OWNED_MAX],
            n_owned: 0,
        }))
    }

    /// Appends all records of the list.
    pub(super) fn all<'a>(
        &mut self,
        page: &mut IndexPage<'_>,
        shape: &RecordLayout,
        inserts: impl Iterator<Item = Applied<Insert<'a>>>,
        record: &mut Vec<u8>,
    ) -> Applied {
        for insert in inserts {
            let origin = assemble(page, shape, self.last, &insert?, record)?;
            let extent = offsets::extent(record, origin, shape)?;
            self.one(page, &record[origin - extent.extra..][..extent.size()], extent)?;
        }
        Ok(())
    }

    fn one(&mut self, page: &mut IndexPage<'_>, record: &[u8], extent: Extent) -> Applied {
        let (start, end) = (self.heap_top, self.heap_top + record.len());
        if start <= page.supremum() || end > self.directory_start(page)? || self.n_heap > HEAP_NO_MAX {
            return Err(NO_ROOM);
        }
        page.b[start..end].copy_from_slice(record);
        let rec = page.user_record(start + extent.extra)?;
        page.set_next(self.last.0, Some(rec));
        page.set_n_owned_only(rec, 0);
        page.set_heap_no(rec, self.n_heap);
        self.last = (rec, Some(extent));
        self.heap_top = end;
        self.n_heap += 1;
        self.n_recs += 1;
        self.owned[self.n_owned] = rec;
        self.n_owned += 1;
        if self.n_owned == OWNED_MAX { self.new_slot(page) } else { Ok(()) }
    }

    /// Supremum owns one too many.
    fn new_slot(&mut self, page: &mut IndexPage<'_>) -> Applied {
        let heir = self.owned[OWNED_MIN - 1];
        page.set_slot(self.n_slots - 1, heir)?;
        page.set_n_owned_only(heir, OWNED_MIN);
        self.n_slots += 1;
        if self.directory_start(page)? < self.heap_top {
            return Err(Corruption("no room for another directory slot"));
        }
        self.owned.copy_within(OWNED_MIN.., 0);
        self.n_owned = OWNED_MAX - OWNED_MIN;
        Ok(())
    }

    fn directory_start(&self, page: &IndexPage<'_>) -> Applied<usize> {
        page.slot_at(self.n_slots - 1)
    }

    /// Writes what all records have changed together.
    pub(super) fn finish(self, page: &mut IndexPage<'_>) -> Applied {
        if self.n_recs == 0 {
            return Ok(());
        }
        let supremum = page.supremum();
        page.set_next(self.last.0, Some(supremum));
        page.set_slot(self.n_slots - 1, supremum)?;
        page.set_n_owned_only(supremum, self.n_owned + 1);
        let compact = page.get(N_HEAP) - page.n_heap();
        page.set(N_HEAP, self.n_heap | compact);
        page.set(HEAP_TOP, self.heap_top);
        page.set(N_RECS, self.n_recs);
        page.set(N_SLOTS, self.n_slots);
        Ok(())
    }
}
