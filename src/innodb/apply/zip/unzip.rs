//! Decompresses a page (zipdecompress.cc, `page_zip_decompress_low`).

use super::super::create;
use super::super::index_page::IndexPage;
use super::super::offsets::{self, COMPACT_HEADER, FieldAt, NODE_POINTER};
use super::super::page_header::{self, HEAP_TOP, N_RECS, N_SLOTS, PAGE_DATA};
use super::super::{Applied, Corruption};
use super::dense::{DELETED, OFFSET, OWNED, entry};
use super::stream::{Inflaters, inflate};
use super::{
    BLOB_REF, HEAP_OWN, HEAP_START, Meta, SLOT, SYSTEM_FIELDS, Unzip, Unzipped, dense_len, fields, is_leaf,
    modlog, slot_size,
};
use crate::innodb::bytes::{be16, be32, put16};
use crate::innodb::page::{FIL_TRAILER, FilHeader, PageType, header};
use crate::innodb::redo::record::RowFormat;

const BROKEN: Corruption = Corruption("the records of a compressed page do not fit its directories");
/// `FIL_NULL`: no neighbour.
const NO_PAGE: u32 = u32::MAX;
/// `REC_INFO_MIN_REC_FLAG`, in a record's info byte.
const MIN_REC: u8 = 0x10;
const DELETED_REC: u8 = 0x20;
/// Status of a record of a node page.
const NODE: usize = 1;

/// The frame of `logical` bytes.
pub(in super::super) fn unzip(z: &[u8], logical: usize, inflaters: &mut Inflaters) -> Applied<Unzipped> {
    let page_type = FilHeader::of(z).map(FilHeader::page_type);
    if !page_type.is_some_and(PageType::is_index) {
        return Err(Corruption("not an index page"));
    }
    let parts = inflate(&z[PAGE_DATA..], logical - HEAP_START - FIL_TRAILER, inflaters)?;
    let fields = fields::decode(&parts.fields, is_leaf(z))?;
    if PAGE_DATA + dense_len(z) * slot_size(z, fields.trx_id.is_some()) >= z.len() {
        return Err(Corruption("the directories of a compressed page do not fit it"));
    }
    let mut page = Unzip { z, frame: vec![0; logical], recs: Vec::new(), fields, heap_no: HEAP_OWN };
    page.frame[..PAGE_DATA].copy_from_slice(&z[..PAGE_DATA]);
    page.directory()?;
    page.records(&parts.records)?;
    let clustered = page.fields.trx_id.is_some();
    let log_end = modlog::apply(&mut page, PAGE_DATA + parts.len)?;
    let mut meta = Meta { log_end, blobs: 0 };
    if log_end + dense_len(z) * slot_size(z, clustered) >= z.len() {
        return Err(Corruption("the modification log of a compressed page reaches into its trailer"));
    }
    page.uncompressed_fields(&mut meta)?;
    page.headers()?;
    Ok(Unzipped { frame: page.frame, meta, ahead: false })
}

impl Unzip<'_> {
    /// The frame's directory and infimum and supremum, from the dense directory (`page_zip_dir_decode`).
    fn directory(&mut self) -> Applied {
        let (dense, recs) = (dense_len(self.z), usize::from(be16(self.z, N_RECS)));
        let end = self.frame.len() - FIL_TRAILER;
        let (infimum, supremum) = page_header::ends(RowFormat::Compact);
        self.frame[PAGE_DATA..HEAP_START].copy_from_slice(&create::COMPACT_RECORDS);
        let mut slots = vec![infimum];
        for n in 0..dense {
            let entry = entry(self.z, n);
            let rec = usize::from(entry & OFFSET);
            let wrong_flags = n >= recs && entry & (OWNED | DELETED) != 0;
            if rec < HEAP_START + COMPACT_HEADER || rec >= end || wrong_flags {
                return Err(BROKEN);
            }
            if entry & OWNED != 0 {
                slots.push(rec);
            }
            self.recs.push(rec);
        }
        slots.push(supremum);
        self.recs.sort_unstable();
        let distinct = self.recs.windows(2).all(|pair| pair[0] < pair[1]);
        let heap_top = usize::from(be16(self.z, HEAP_TOP));
        let fits = end.checked_sub(2 * slots.len()).is_some_and(|start| start >= heap_top);
        if recs > dense || slots.len() != usize::from(be16(self.z, N_SLOTS)) || !distinct || !fits {
            return Err(BROKEN);
        }
        for (n, rec) in slots.into_iter().enumerate() {
            put16(&mut self.frame, end - 2 * (n + 1), rec as u16);
        }
        Ok(())
    }

    /// First byte of the frame's directory.
    pub(super) fn directory_start(&self) -> usize {
        self.frame.len() - FIL_TRAILER - 2 * usize::from(be16(self.z, N_SLOTS))
    }

    /// Spreads the inflated bytes over the heap. Where they end, the rest of the records were inserted later, and
    /// come from the modification log.
    fn records(&mut self, bytes: &[u8]) -> Applied {
        let mut source = Source { bytes, next: HEAP_START };
        for k in 0..self.recs.len() {
            let rec = self.recs[k];
            let gap = (rec - COMPACT_HEADER).checked_sub(source.next).ok_or(BROKEN)?;
            if source.bytes.len() <= gap {
                let rest = source.bytes.len();
                source.copy(&mut self.frame, rest)?;
                if rest == gap {
                    self.open_record(rec);
                }
                return Ok(());
            }
            source.copy(&mut self.frame, gap)?;
            self.open_record(rec);
            source.next = rec;
            self.record(rec, &mut source)?;
        }
        let rest = source.bytes.len();
        if source.next + rest > usize::from(be16(self.z, HEAP_TOP)) {
            return Err(BROKEN);
        }
        source.copy(&mut self.frame, rest)
    }

    /// Heap number and status of the next record of the heap (`page_zip_decompress_heap_no`).
    fn open_record(&mut self, rec: usize) {
        let status = if is_leaf(self.z) { 0 } else { NODE };
        put16(&mut self.frame, rec - 4, (self.heap_no << 3 | status) as u16);
        self.frame[rec - COMPACT_HEADER] = 0;
        self.heap_no += 1;
    }

    /// The data of a record, the fields that are stored apart left at zero. Records of a secondary index's leaf
    /// have none, so their data come with the bytes before the next record.
    fn record(&mut self, rec: usize, source: &mut Source<'_>) -> Applied {
        if is_leaf(self.z) && self.fields.trx_id.is_none() {
            return Ok(());
        }
        let mut fields = Vec::new();
        let extent = offsets::fields(&self.frame, rec, &self.fields.shape, &mut fields)?;
        let end = rec + extent.data;
        for (start, len) in self.apart(&fields)? {
            source.copy_to(&mut self.frame, rec + start)?;
            source.next += len;
        }
        source.copy_to(&mut self.frame, end)
    }

    /// Where a record has bytes that are stored apart: start from its origin, and length.
    pub(super) fn apart(&self, fields: &[FieldAt]) -> Applied<Vec<(usize, usize)>> {
        if !is_leaf(self.z) {
            let child = fields.last().ok_or(BROKEN)?;
            return Ok(vec![(child.start, NODE_POINTER)]);
        }
        let mut apart = Vec::new();
        for (i, field) in fields.iter().enumerate() {
            if Some(i) == self.fields.trx_id {
                if field.len < SYSTEM_FIELDS || field.external {
                    return Err(BROKEN);
                }
                apart.push((field.start, SYSTEM_FIELDS));
            } else if field.external {
                let before = field.len.checked_sub(BLOB_REF).ok_or(BROKEN)?;
                apart.push((field.start + before, BLOB_REF));
            }
        }
        Ok(apart)
    }

    /// The fields that are stored apart, by heap number from the end; LOB references only for records that exist.
    fn uncompressed_fields(&mut self, meta: &mut Meta) -> Applied {
        let (leaf, clustered) = (is_leaf(self.z), self.fields.trx_id.is_some());
        if leaf && !clustered {
            return Ok(());
        }
        let width = if leaf { SYSTEM_FIELDS } else { NODE_POINTER };
        let dense = self.recs.len();
        let mut storage = self.z.len() - SLOT * dense;
        let mut blobs = storage - width * dense;
        let recs = usize::from(be16(self.z, N_RECS));
        let mut free: Vec<_> = (recs..dense).map(|n| usize::from(entry(self.z, n) & OFFSET)).collect();
        free.sort_unstable();
        let mut fields = Vec::new();
        for k in 0..dense {
            let rec = self.recs[k];
            offsets::fields(&self.frame, rec, &self.fields.shape, &mut fields)?;
            storage -= width;
            for (start, len) in self.apart(&fields)? {
                let at = rec + start;
                let target = at..at + len;
                if len == width {
                    self.frame[target].copy_from_slice(&self.z[storage..storage + width]);
                } else if free.binary_search(&rec).is_ok() {
                    self.frame[target].fill(0);
                } else {
                    blobs = blobs.checked_sub(BLOB_REF).filter(|at| *at >= meta.log_end).ok_or(BROKEN)?;
                    self.frame[target].copy_from_slice(&self.z[blobs..blobs + BLOB_REF]);
                    meta.blobs += 1;
                }
            }
        }
        Ok(())
    }

    /// Links, info bits and owned records, from the dense directory (`page_zip_set_extra_bytes`).
    fn headers(&mut self) -> Applied {
        let (dense, recs) = (dense_len(self.z), usize::from(be16(self.z, N_RECS)));
        let leftmost = !is_leaf(self.z) && be32(self.z, header::PREV) == NO_PAGE;
        let mut page = IndexPage::any(&mut self.frame)?;
        let (mut at, mut owned) = (page.infimum(), 1);
        let mut info = if leftmost { MIN_REC } else { 0 };
        for n in 0..recs {
            let entry = entry(self.z, n);
            let rec = usize::from(entry & OFFSET);
            page.set_next(at, Some(rec));
            info |= if entry & DELETED != 0 { DELETED_REC } else { 0 };
            page.set_info_bits(rec, info);
            if entry & OWNED != 0 {
                page.set_n_owned_only(rec, owned);
                owned = 0;
            } else {
                page.set_n_owned_only(rec, 0);
            }
            owned += 1;
            (at, info) = (rec, 0);
        }
        page.set_next(at, Some(page.supremum()));
        page.set_n_owned_only(page.supremum(), owned);
        for n in recs..dense {
            let rec = usize::from(entry(self.z, n) & OFFSET);
            let next = (n + 1 < dense).then(|| usize::from(entry(self.z, n + 1) & OFFSET));
            page.set_info_bits(rec, 0);
            page.set_n_owned_only(rec, 0);
            page.set_next(rec, next);
        }
        Ok(())
    }
}

/// Inflated bytes on their way to the frame.
struct Source<'b> {
    bytes: &'b [u8],
    /// Where the next of them goes.
    next: usize,
}

impl Source<'_> {
    fn copy(&mut self, frame: &mut [u8], n: usize) -> Applied {
        let (now, later) = self.bytes.split_at_checked(n).ok_or(BROKEN)?;
        frame.get_mut(self.next..self.next + n).ok_or(BROKEN)?.copy_from_slice(now);
        (self.bytes, self.next) = (later, self.next + n);
        Ok(())
    }

    fn copy_to(&mut self, frame: &mut [u8], end: usize) -> Applied {
        let n = end.checked_sub(self.next).ok_or(BROKEN)?;
        self.copy(frame, n)
    }
}
