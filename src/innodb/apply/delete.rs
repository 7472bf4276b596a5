//! Deletes records (`page_cur_delete_rec`, `page_delete_rec_list_end`, `page_delete_rec_list_start`).
//!
//! A deleted record goes to the head of the free list, and its bytes count as garbage. The server logs the deletion
//! of a page's last record as the page made empty, so no such case is made here.

use super::directory::OWNED_MIN;
use super::index_page::IndexPage;
use super::page_header::{FREE, GARBAGE, LAST_INSERT, N_RECS, N_SLOTS};
use super::record_layout::RecordLayout;
use super::{Applied, Corruption, create, offsets, zip};

/// Deletes the record at `rec`.
pub(super) fn delete(page: &mut IndexPage<'_>, shape: &RecordLayout, rec: usize) -> Applied {
    let rec = page.user_record(rec)?;
    let size = offsets::extent(page.b, rec, shape)?.size();
    unlink(page, rec)?;
    let free = Some(page.get(FREE)).filter(|free| *free != 0);
    page.set_next(rec, free);
    page.set(FREE, rec);
    page.set(GARBAGE, page.get(GARBAGE) + size);
    if page.zip.is_some() {
        return zip::delete(page, shape, rec, free);
    }
    let recs = page.get(N_RECS).checked_sub(1).ok_or(Corruption("a deletion from an empty page"))?;
    page.set(N_RECS, recs);
    Ok(())
}

/// Takes `rec` out of the list of records and of the directory.
fn unlink(page: &mut IndexPage<'_>, rec: usize) -> Applied {
    let slot = page.owner_slot(rec)?;
    let owner = page.slot(slot)?;
    let owned = page.n_owned(owner);
    let (previous, next) = (page.previous(rec)?, page.next(rec)?);
    page.set(LAST_INSERT, 0);
    page.set_next(previous, Some(next));
    let heir = if rec == owner { previous } else { owner };
    if rec == owner {
        page.set_slot(slot, previous)?;
    }
    page.set_n_owned(heir, owned - 1)?;
    if owned <= OWNED_MIN {
        page.balance_slot(slot)?;
    }
    Ok(())
}

/// Deletes the record at `rec` and all after it.
pub(super) fn list_end(page: &mut IndexPage<'_>, shape: &RecordLayout, rec: usize) -> Applied {
    let rec = page.record(rec)?;
    let supremum = page.supremum();
    if rec == supremum {
        return Ok(());
    }
    let first = page.user_record(rec)?;
    if page.zip.is_some() {
        return delete_to_end(page, shape, first);
    }
    let (last, count, size) = measure_to_end(page, shape, first)?;
    let previous = page.previous(first)?;
    let slot = page.owner_slot(first)?;
    let owner = page.slot(slot)?;
    let mut before = 0;
    let mut at = first;
    while at != owner {
        at = page.next(at)?;
        before += 1;
    }
    let owned = page.n_owned(owner).checked_sub(before).filter(|n| *n != 0);
    page.set(LAST_INSERT, 0);
    page.set_slot(slot, supremum)?;
    page.set_n_owned(
        supremum,
        owned.ok_or(Corruption("a slot that owns fewer records than lie before it"))?,
    )?;
    page.set(N_SLOTS, slot + 1);
    page.set_next(previous, Some(supremum));
    let free = Some(page.get(FREE)).filter(|free| *free != 0);
    page.set_next(last, free);
    page.set(FREE, first);
    page.set(GARBAGE, page.get(GARBAGE) + size);
    page.set(
        N_RECS,
        page.get(N_RECS).checked_sub(count).ok_or(Corruption("fewer records than are deleted"))?,
    );
    Ok(())
}

/// On a compressed page, records go one by one.
fn delete_to_end(page: &mut IndexPage<'_>, shape: &RecordLayout, first: usize) -> Applied {
    page.set(LAST_INSERT, 0);
    let mut rec = first;
    for _ in 0..page.steps_max() {
        let next = page.next(rec)?;
        delete(page, shape, rec)?;
        if next == page.supremum() {
            return Ok(());
        }
        rec = next;
    }
    Err(Corruption("a list of records without end"))
}

/// Last record, number and bytes of those from `first` on.
fn measure_to_end(
    page: &IndexPage<'_>,
    shape: &RecordLayout,
    first: usize,
) -> Applied<(usize, usize, usize)> {
    let (mut last, mut count, mut size) = (first, 1, offsets::extent(page.b, first, shape)?.size());
    loop {
        let next = page.next(last)?;
        if next == page.supremum() {
            return Ok((last, count, size));
        }
        if count > page.steps_max() {
            return Err(Corruption("a list of records without end"));
        }
        last = page.user_record(next)?;
        size += offsets::extent(page.b, last, shape)?.size();
        count += 1;
    }
}

/// Deletes all records before the one at `rec`.
pub(super) fn list_start(page: &mut IndexPage<'_>, shape: &RecordLayout, rec: usize) -> Applied {
    let rec = page.record(rec)?;
    if rec == page.infimum() {
        return Ok(());
    }
    if rec == page.supremum() {
        if page.zip.is_some() {
            return Err(Corruption("a compressed page emptied by other than its image"));
        }
        let format = page.format;
        create::clear(page.b, format);
        return Ok(());
    }
    for _ in 0..page.steps_max() {
        let first = page.next(page.infimum())?;
        if first == rec {
            return Ok(());
        }
        delete(page, shape, first)?;
    }
    Err(Corruption("a list of records without end"))
}
