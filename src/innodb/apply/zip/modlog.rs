//! The modification log of a compressed page (`page_zip_apply_log`).
//!
//! An entry starts with the record's heap number less 1, times two, in one byte or (bit 7 of the first set) in 15
//! bits of two. Bit 0 set: the record's data were cleared. Else follow the bytes of the record: those before its
//! fixed header in reverse order, then its data without the fields that are stored apart. A zero byte ends the log.

use super::super::offsets::{self, COMPACT_HEADER, Extent, FieldAt};
use super::super::{Applied, Corruption};
use super::{HEAP_START, Unzip, is_leaf, slot_size};
use crate::innodb::bytes::put16;

const BROKEN: Corruption = Corruption("the modification log of a compressed page can't be read");

/// Applies the log that starts at `start`; the offset of its end.
pub(super) fn apply(page: &mut Unzip<'_>, start: usize) -> Applied<usize> {
    let end = page.z.len() - page.recs.len() * slot_size(page.z, page.fields.trx_id.is_some());
    let log = page.z.get(start..end).ok_or(BROKEN)?;
    let mut rest = log;
    let mut fields = Vec::new();
    loop {
        let (first, more) = rest.split_first().ok_or(BROKEN)?;
        if *first == 0 {
            return Ok(end - rest.len());
        }
        rest = more;
        let mut value = usize::from(*first);
        if value & 0x80 != 0 {
            let (second, more) = rest.split_first().ok_or(BROKEN)?;
            value = (value & 0x7F) << 8 | usize::from(*second);
            rest = more;
        }
        let heap_no = (value >> 1) + 1;
        let rec = *(value >> 1).checked_sub(1).and_then(|k| page.recs.get(k)).ok_or(BROKEN)?;
        let cleared = value & 1 != 0;
        if heap_no > page.heap_no || (heap_no == page.heap_no && cleared) {
            return Err(BROKEN);
        }
        if heap_no == page.heap_no {
            page.heap_no += 1;
        }
        put16(&mut page.frame, rec - 4, (heap_no << 3 | usize::from(!is_leaf(page.z))) as u16);
        if cleared {
            let extent = offsets::extent(&page.frame, rec, &page.fields.shape)?;
            page.frame[rec..rec + extent.data].fill(0);
        } else {
            rest = write(page, rec, rest, &mut fields)?;
        }
    }
}

/// Writes an entry's record; what follows the entry.
fn write<'l>(
    page: &mut Unzip<'_>,
    rec: usize,
    log: &'l [u8],
    fields: &mut Vec<FieldAt>,
) -> Applied<&'l [u8]> {
    let extent = measure(page, log, fields)?;
    let variable = extent.extra - COMPACT_HEADER;
    if rec < HEAP_START + extent.extra || rec + extent.data > page.directory_start() {
        return Err(BROKEN);
    }
    let (head, mut rest) = log.split_at_checked(variable).ok_or(BROKEN)?;
    for (i, byte) in head.iter().enumerate() {
        page.frame[rec - COMPACT_HEADER - 1 - i] = *byte;
    }
    let mut at = 0;
    let apart = page.apart(fields)?;
    for (start, len) in apart.into_iter().chain([(extent.data, 0)]) {
        let n = start.checked_sub(at).ok_or(BROKEN)?;
        let (now, later) = rest.split_at_checked(n).ok_or(BROKEN)?;
        page.frame[rec + at..rec + start].copy_from_slice(now);
        (rest, at) = (later, start + len);
    }
    Ok(rest)
}

/// The extent and fields of the record whose reversed head starts the log (`rec_get_offsets_reverse`).
fn measure(page: &Unzip<'_>, log: &[u8], fields: &mut Vec<FieldAt>) -> Applied<Extent> {
    let shape = &page.fields.shape;
    // A head that is longer than any of this index can be, in the order that records have it.
    let longest = (2 * shape.fields.len() + shape.nullable.div_ceil(8)).min(log.len());
    let mut head: Vec<u8> = log[..longest].iter().rev().copied().collect();
    head.extend([0, 0, u8::from(!is_leaf(page.z)), 0, 0]);
    offsets::fields_of_header(&head, shape, fields)
}
