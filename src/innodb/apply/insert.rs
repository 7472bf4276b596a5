//! Inserts records (`page_cur_parse_insert_rec`, `page_cur_insert_rec_low`,
//! `page_parse_copy_rec_list_to_created_page`).
//!
//! Redo gives a record as its difference from the one before it: bytes shared with that one's start, then the rest.
//! The heap place of the new record is the head of the free list, if that is large enough (only the head is ever
//! looked at), else the heap's top.

use super::directory::{OWNED_MAX, OWNED_MIN};
use super::index_page::IndexPage;
use super::offsets::{self, Extent};
use super::page_header::{
    DIRECTION, FREE, GARBAGE, HEAP_TOP, LAST_INSERT, LEFT, N_DIRECTION, N_HEAP, N_RECS, NO_DIRECTION, RIGHT,
};
use super::record_layout::RecordLayout;
use super::{Applied, ApplyScratch, Corruption, zip};
use crate::innodb::page::FIL_TRAILER;
use crate::innodb::redo::record::{Insert, RowFormat};

const STATUS_BITS: u8 = 7;
const INFO_BITS: u8 = 0xF0;
/// First byte of a COMPACT heap.
const HEAP_START: usize = 120;
/// A heap number has 13 bits.
pub(super) const HEAP_NO_MAX: usize = (1 << 13) - 1;
/// Slots of an empty page's directory.
pub(super) const MIN_SLOTS: usize = 2;
const NO_ZIP: Corruption = Corruption("no compressed page");

/// Inserts after the record at `after`; the place of the new one. `ahead` is set if it went into the frame of a
/// compressed page alone.
pub(super) fn apply(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    after: usize,
    insert: &Insert<'_>,
    room: &mut ApplyScratch,
    ahead: &mut bool,
) -> Applied<usize> {
    let after = page.record(after)?;
    if after == page.supremum() {
        return Err(Corruption("an insert after supremum"));
    }
    let origin = assemble(page, shape, (after, None), insert, &mut room.record)?;
    if page.zip.is_some() {
        insert_zip(page, shape, after, &room.record, origin, ahead)
    } else {
        self::insert(page, shape, after, &room.record, origin)
    }
}

/// Puts the new record together in `record`; its origin in there. `before` is the record before it and its extent, if that is
/// known.
#[inline]
pub(super) fn assemble(
    page: &IndexPage<'_>,
    shape: &RecordLayout,
    before: (usize, Option<Extent>),
    insert: &Insert<'_>,
    record: &mut Vec<u8>,
) -> Applied<usize> {
    let after = before.0;
    let extent = || before.1.map_or_else(|| offsets::extent(page.b, after, shape), Ok);
    let (info, status, origin, shared, start) = match insert.header {
        Some(h) => {
            let (origin, shared) = (h.origin as usize, h.shared as usize);
            let start = if shared == 0 { 0 } else { after - extent()?.extra };
            (h.info_and_status & INFO_BITS, h.info_and_status & STATUS_BITS, origin, shared, start)
        }
        None => {
            let extent = extent()?;
            let shared = extent.size().checked_sub(insert.end.len()).ok_or(Corruption(
                "an inserted record that differs from the one before in more than that has",
            ))?;
            let status = page.b[after - 3] & STATUS_BITS;
            (page.info_bits(after), status, extent.extra, shared, after - extent.extra)
        }
    };
    record.clear();
    record.extend_from_slice(
        page.b.get(start..start + shared).ok_or(Corruption("shared bytes outside of the page"))?,
    );
    record.extend_from_slice(insert.end);
    set_bits(record, origin, shape.format(), info, status)?;
    Ok(origin)
}

/// Sets info bits and, in a COMPACT record, status.
fn set_bits(record: &mut [u8], origin: usize, format: RowFormat, info: u8, status: u8) -> Applied {
    const CUT: Corruption = Corruption("an inserted record shorter than its header");
    let info_at = match format {
        RowFormat::Compact => origin.checked_sub(5).ok_or(CUT)?,
        RowFormat::Redundant => origin.checked_sub(6).ok_or(CUT)?,
    };
    if origin > record.len() {
        return Err(CUT);
    }
    record[info_at] = record[info_at] & !INFO_BITS | info;
    if format == RowFormat::Compact {
        record[origin - 3] = record[origin - 3] & !STATUS_BITS | status;
    }
    Ok(())
}

/// Inserts the record in `record` (its origin at `origin`) after the one at `after`; its place.
pub(super) fn insert(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    after: usize,
    record: &[u8],
    origin: usize,
) -> Applied<usize> {
    let extent = offsets::extent(record, origin, shape)?;
    let (start, heap_no) = allocate(page, shape, extent.size())?;
    let from = origin - extent.extra;
    page.b[start..start + extent.size()].copy_from_slice(&record[from..from + extent.size()]);
    let rec = page.user_record(start + extent.extra)?;
    let next = link(page, after, rec, heap_no)?;
    note_direction(page, after, rec, next);
    own(page, rec)?;
    Ok(rec)
}

/// Links the record at `rec` in after the one at `after`; the one that follows it.
fn link(page: &mut IndexPage<'_>, after: usize, rec: usize, heap_no: usize) -> Applied<usize> {
    let next = page.next(after)?;
    page.set_next(rec, Some(next));
    page.set_next(after, Some(rec));
    page.set(N_RECS, page.get(N_RECS) + 1);
    page.set_n_owned_only(rec, 0);
    page.set_heap_no(rec, heap_no);
    Ok(next)
}

/// Counts a new record with the one that owns it.
fn own(page: &mut IndexPage<'_>, rec: usize) -> Applied {
    let owner = page.owner(rec)?;
    let owned = page.n_owned(owner) + 1;
    page.set_n_owned(owner, owned)?;
    if owned > OWNED_MAX {
        page.split_slot(page.owner_slot(owner)?)?;
    }
    Ok(())
}

/// As [`insert`], on both halves of a compressed page (`page_cur_insert_rec_zip`).
fn insert_zip(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    after: usize,
    record: &[u8],
    origin: usize,
    ahead: &mut bool,
) -> Applied<usize> {
    let extent = offsets::extent(record, origin, shape)?;
    if needs_compression(page, shape, extent.size())? {
        let zip = page.zip.take();
        let rec = insert(page, shape, after, record, origin);
        page.zip = zip;
        *ahead = true;
        return rec;
    }
    let (start, heap_no, free) = allocate_zip(page, shape, extent)?;
    let from = origin - extent.extra;
    page.b[start..start + extent.size()].copy_from_slice(&record[from..from + extent.size()]);
    let rec = page.user_record(start + extent.extra)?;
    let next = link(page, after, rec, heap_no)?;
    let before = Some(after).filter(|at| *at != page.infimum());
    page.zip.as_mut().ok_or(NO_ZIP)?.insert(before, free, rec)?;
    note_direction(page, after, rec, next);
    own(page, rec)?;
    zip::write(page, shape, rec, true)?;
    Ok(rec)
}

/// Whether the server found that the compressed page has no room for the record, or that the page is better
/// rebuilt: then it inserted into the frame and compressed that, which is a record of its own.
fn needs_compression(page: &IndexPage<'_>, shape: &RecordLayout, size: usize) -> Applied<bool> {
    let zip = page.zip.as_ref().ok_or(NO_ZIP)?;
    if !zip.has_room(shape.clustered, size) {
        return Ok(true);
    }
    let data =
        page.get(HEAP_TOP).checked_sub(HEAP_START).ok_or(Corruption("the heap ends before it starts"))?;
    let room = page.b.len() - FIL_TRAILER - 2 * MIN_SLOTS - HEAP_START;
    let directory = |recs: usize| (2 * recs).div_ceil(OWNED_MIN);
    let heap_recs = page.n_heap().checked_sub(1).ok_or(Corruption("a heap without the infimum"))?;
    let free = room.saturating_sub(data + directory(heap_recs));
    let garbage = page.get(GARBAGE);
    let free_rebuilt = room.saturating_sub(data.saturating_sub(garbage) + directory(page.get(N_RECS) + 1));
    Ok(garbage != 0 && size > free && size <= free_rebuilt)
}

/// A place for a record of this extent: its first byte, its heap number, and the free record it was.
fn allocate_zip(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    extent: Extent,
) -> Applied<(usize, usize, Option<usize>)> {
    if let Some((free, old)) = reusable(page, shape, extent.size())? {
        // Origins of records stay where they are: a shorter head leaves a gap before it, a longer one does not fit.
        let gap = old.extra.checked_sub(extent.extra);
        if let Some(gap) = gap.filter(|gap| old.size() >= extent.size() + gap) {
            let heap_no = page.heap_no(free);
            take_free(page, free, extent.size())?;
            zip::clear_free(page, shape, free, extent.size())?;
            return Ok((free - old.extra + gap, heap_no, Some(free)));
        }
    }
    let (start, heap_no) = allocate_heap(page, extent.size())?;
    page.zip.as_mut().ok_or(NO_ZIP)?.add_entry(shape.clustered)?;
    Ok((start, heap_no, None))
}

/// A place of `size` bytes, from the free list or the heap: its first byte and its heap number.
fn allocate(page: &mut IndexPage<'_>, shape: &RecordLayout, size: usize) -> Applied<(usize, usize)> {
    if let Some((free, extent)) = reusable(page, shape, size)? {
        let heap_no = page.heap_no(free);
        take_free(page, free, size)?;
        return Ok((free - extent.extra, heap_no));
    }
    allocate_heap(page, size)
}

/// The head of the free list and its extent, if it has room for `size` bytes.
fn reusable(page: &IndexPage<'_>, shape: &RecordLayout, size: usize) -> Applied<Option<(usize, Extent)>> {
    let free = page.get(FREE);
    if free == 0 {
        return Ok(None);
    }
    let free = page.user_record(free)?;
    let extent = offsets::extent(page.b, free, shape)?;
    if free - extent.extra <= page.supremum() || free + extent.data > page.directory_start()? {
        return Err(Corruption("a free record outside of the heap"));
    }
    Ok((extent.size() >= size).then_some((free, extent)))
}

/// Takes the head off the free list. What is left of its bytes counts as garbage still.
fn take_free(page: &mut IndexPage<'_>, free: usize, size: usize) -> Applied {
    let next = page.next_or_end(free)?.unwrap_or(0);
    page.set(FREE, next);
    let garbage = page.get(GARBAGE).checked_sub(size).ok_or(Corruption("less garbage than free records"))?;
    page.set(GARBAGE, garbage);
    Ok(())
}

/// `size` bytes from the top of the heap.
fn allocate_heap(page: &mut IndexPage<'_>, size: usize) -> Applied<(usize, usize)> {
    let (start, heap_no) = (page.get(HEAP_TOP), page.n_heap());
    if start <= page.supremum() || start + size > page.directory_start()? || heap_no > HEAP_NO_MAX {
        return Err(Corruption("no room on the page for an inserted record"));
    }
    page.set(HEAP_TOP, start + size);
    page.set(N_HEAP, page.get(N_HEAP) + 1);
    Ok((start, heap_no))
}

/// Where inserts go, for the next page split. An R-tree does not keep that.
fn note_direction(page: &mut IndexPage<'_>, after: usize, rec: usize, next: usize) {
    let (last, direction) = (page.get(LAST_INSERT), page.get(DIRECTION));
    page.set(LAST_INSERT, rec);
    if page.is_rtree() {
        return;
    }
    let goes_on = if last != 0 && last == after && direction != usize::from(LEFT) {
        Some(RIGHT)
    } else if last != 0 && last == next && direction != usize::from(RIGHT) {
        Some(LEFT)
    } else {
        None
    };
    let many = if goes_on.is_some() { page.get(N_DIRECTION) + 1 } else { 0 };
    page.set(DIRECTION, usize::from(goes_on.unwrap_or(NO_DIRECTION)));
    page.set(N_DIRECTION, many);
}
