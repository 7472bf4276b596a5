//! An index page and the records on it: [`IndexPage`] reads and changes them in place (page0page.ic, rem/rec.h).
//!
//! From 38: directory slots (2), heap top (2 at 40), records in the heap (2 at 42; bit 15: COMPACT), head of the free
//! list (2 at 44), bytes of garbage (2 at 46), last insert (2 at 48), direction of inserts (2 at 50) and how many
//! went that way (2 at 52), user records (2 at 54), highest transaction id (8 at 56), level (2 at 64), index id (8
//! at 66), two segment headers (10 each). Records from 94 up, slots of two bytes from the trailer down.
//!
//! A record is known by the offset of its origin, where its data start. Before it, in a COMPACT record: next record,
//! relative (2), heap number and status (2: 13 and 3 bits), info bits and records owned (1: 4 bits each). REDUNDANT:
//! next record, absolute (2), number of fields and whether their ends take one byte (10 bits and 1), heap number (13
//! bits), info bits and records owned (1). Both are followed, further down, by the lengths or ends of fields.

use std::ops::Range;

use super::offsets::COMPACT_HEADER;
use super::page_header::{DIRECTORY_END, LEVEL, N_HEAP, N_HEAP_COMPACT, N_SLOTS, PAGE_DATA, ends};
use super::record_layout::RecordLayout;
use super::zip::Zip;
use super::{Applied, Corruption};
use crate::innodb::bytes::{be16, put16};
use crate::innodb::page::{FilHeader, LOGICAL_MIN, PageType};
use crate::innodb::redo::record::RowFormat;

/// Info bits of a record.
pub(super) const INFO_MIN_REC: u8 = 0x10;
pub(super) const INFO_DELETED: u8 = 0x20;
const INFO_BITS: u8 = 0xF0;
const N_OWNED_BITS: u8 = 0x0F;

/// An index page, read and changed in place.
pub(super) struct IndexPage<'p> {
    pub(super) b: &'p mut [u8],
    pub(super) format: RowFormat,
    /// The compressed half of a ROW_FORMAT=COMPRESSED page: header fields and owned records change in both.
    pub(super) zip: Option<Zip<'p>>,
}

/// The bytes of a page in memory and, if it is compressed, their other half.
pub(super) struct Frame<'p> {
    pub(super) bytes: &'p mut [u8],
    pub(super) zip: Option<Zip<'p>>,
}

impl<'p> IndexPage<'p> {
    /// `frame` as a page of records of this shape.
    pub(super) fn of(frame: Frame<'p>, shape: &RecordLayout) -> Applied<Self> {
        let page = Self::any_of(frame)?;
        if page.format != shape.format() {
            return Err(Corruption("the page and the record have different row formats"));
        }
        Ok(page)
    }

    /// `frame` as an index page of whichever format it has.
    pub(super) fn any_of(frame: Frame<'p>) -> Applied<Self> {
        let page = Self::any(frame.bytes)?;
        if frame.zip.is_some() && page.format != RowFormat::Compact {
            return Err(Corruption("a compressed page in REDUNDANT format"));
        }
        Ok(IndexPage { zip: frame.zip, ..page })
    }

    /// `page` as an index page of whichever format it has.
    pub(super) fn any(page: &'p mut [u8]) -> Applied<Self> {
        let page_type = FilHeader::of(page).map(FilHeader::page_type);
        if page.len() < LOGICAL_MIN || !page_type.is_some_and(PageType::is_index) {
            return Err(Corruption("not an index page"));
        }
        let compact = be16(page, N_HEAP) & N_HEAP_COMPACT != 0;
        let format = if compact { RowFormat::Compact } else { RowFormat::Redundant };
        Ok(IndexPage { b: page, format, zip: None })
    }

    pub(super) fn is_rtree(&self) -> bool {
        FilHeader::of(self.b).map(FilHeader::page_type) == Some(PageType::RTREE)
    }

    pub(super) fn is_leaf(&self) -> bool {
        be16(self.b, LEVEL) == 0
    }

    pub(super) fn infimum(&self) -> usize {
        ends(self.format).0
    }

    pub(super) fn supremum(&self) -> usize {
        ends(self.format).1
    }

    /// A field of the page header.
    pub(super) fn get(&self, field: usize) -> usize {
        usize::from(be16(self.b, field))
    }

    /// Sets a field of the page header.
    pub(super) fn set(&mut self, field: usize, value: usize) {
        put16(self.b, field, value as u16);
        if let Some(zip) = &mut self.zip {
            put16(zip.z, field, value as u16);
        }
    }

    /// Stores two bytes in the body.
    fn put(&mut self, at: usize, value: usize) {
        put16(self.b, at, value as u16);
    }

    pub(super) fn n_heap(&self) -> usize {
        usize::from(be16(self.b, N_HEAP) & !N_HEAP_COMPACT)
    }

    /// Offset of slot `n` of the directory.
    pub(super) fn slot_at(&self, n: usize) -> Applied<usize> {
        let at = self.b.len().checked_sub(DIRECTORY_END + 2 * (n + 1));
        at.filter(|at| *at > PAGE_DATA).ok_or(Corruption("the directory does not fit the page"))
    }

    /// The first byte of the directory.
    pub(super) fn directory_start(&self) -> Applied<usize> {
        match self.get(N_SLOTS) {
            0..2 => Err(Corruption("the directory has no slots")),
            n => self.slot_at(n - 1),
        }
    }

    /// The record that slot `n` points to.
    pub(super) fn slot(&self, n: usize) -> Applied<usize> {
        self.record(self.get(self.slot_at(n)?))
    }

    pub(super) fn set_slot(&mut self, n: usize, record: usize) -> Applied {
        let at = self.slot_at(n)?;
        self.put(at, record);
        Ok(())
    }

    /// Moves slots, so that the first of them becomes number `to`.
    pub(super) fn move_slots(&mut self, slots: Range<usize>, to: usize) -> Applied {
        let Some(last) = slots.end.checked_sub(1).filter(|last| *last >= slots.start) else { return Ok(()) };
        let (from, end) = (self.slot_at(last)?, self.slot_at(slots.start)? + 2);
        let to = self.slot_at(to + last - slots.start)?;
        self.b.copy_within(from..end, to);
        Ok(())
    }

    /// `at`, if a record's origin can be there: its fixed header lies inside the page's body.
    pub(super) fn record(&self, at: usize) -> Applied<usize> {
        if at < PAGE_DATA + COMPACT_HEADER || at >= self.b.len() - DIRECTORY_END {
            return Err(Corruption("a record outside of the page's body"));
        }
        Ok(at)
    }

    /// `at`, if a user record's origin can be there.
    pub(super) fn user_record(&self, at: usize) -> Applied<usize> {
        if at <= self.supremum() {
            return Err(Corruption("infimum or supremum in place of a user record"));
        }
        self.record(at)
    }

    /// The record after `rec`; `None` at the end of a list.
    pub(super) fn next_or_end(&self, rec: usize) -> Applied<Option<usize>> {
        let next = self.get(rec - 2);
        if next == 0 {
            return Ok(None);
        }
        let next = match self.format {
            RowFormat::Redundant => next,
            RowFormat::Compact => (rec + next) & (self.b.len() - 1),
        };
        self.record(next).map(Some)
    }

    /// The record after `rec`, which is not the last.
    pub(super) fn next(&self, rec: usize) -> Applied<usize> {
        self.next_or_end(rec)?.ok_or(Corruption("the list of records ends too early"))
    }

    pub(super) fn set_next(&mut self, rec: usize, next: Option<usize>) {
        let link = match (next, self.format) {
            (None, _) => 0,
            (Some(next), RowFormat::Redundant) => next,
            (Some(next), RowFormat::Compact) => next.wrapping_sub(rec),
        };
        self.put(rec - 2, link);
    }

    fn info_at(&self, rec: usize) -> usize {
        match self.format {
            RowFormat::Compact => rec - 5,
            RowFormat::Redundant => rec - 6,
        }
    }

    pub(super) fn info_bits(&self, rec: usize) -> u8 {
        self.b[self.info_at(rec)] & INFO_BITS
    }

    pub(super) fn set_info_bits(&mut self, rec: usize, bits: u8) {
        let at = self.info_at(rec);
        self.b[at] = self.b[at] & N_OWNED_BITS | bits & INFO_BITS;
    }

    pub(super) fn n_owned(&self, rec: usize) -> usize {
        usize::from(self.b[self.info_at(rec)] & N_OWNED_BITS)
    }

    pub(super) fn is_deleted(&self, rec: usize) -> bool {
        self.info_bits(rec) & INFO_DELETED != 0
    }

    pub(super) fn set_n_owned(&mut self, rec: usize, n: usize) -> Applied {
        self.set_n_owned_only(rec, n);
        // Every page has these, so the compressed half does not hold them.
        let own = rec == self.supremum() || rec == self.infimum();
        match &mut self.zip {
            Some(zip) if !own => zip.set_owned(rec, n != 0),
            _ => Ok(()),
        }
    }

    /// As [`IndexPage::set_n_owned`], in the frame alone.
    pub(super) fn set_n_owned_only(&mut self, rec: usize, n: usize) {
        let at = self.info_at(rec);
        self.b[at] = self.b[at] & INFO_BITS | n as u8 & N_OWNED_BITS;
    }

    fn heap_no_at(&self, rec: usize) -> usize {
        match self.format {
            RowFormat::Compact => rec - 4,
            RowFormat::Redundant => rec - 5,
        }
    }

    pub(super) fn heap_no(&self, rec: usize) -> usize {
        self.get(self.heap_no_at(rec)) >> 3
    }

    pub(super) fn set_heap_no(&mut self, rec: usize, heap_no: usize) {
        let at = self.heap_no_at(rec);
        let other = self.get(at) & 7;
        self.put(at, heap_no << 3 | other);
    }

    /// More than any list of records can have: a bound for walks over damaged ones.
    pub(super) fn steps_max(&self) -> usize {
        self.b.len() / COMPACT_HEADER
    }
}
