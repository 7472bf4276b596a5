//! Writes records of the uncompressed page to the compressed one (`page_zip_write_rec`, `page_zip_dir_delete`,
//! `page_zip_clear_rec`, `page_zip_write_trx_id_and_roll_ptr`).

use super::super::index_page::IndexPage;
use super::super::offsets::{COMPACT_HEADER, Extent, FieldAt, NODE_POINTER};
use super::super::page_header::N_RECS;
use super::super::record_layout::RecordLayout;
use super::super::{Applied, Corruption, offsets};
use super::dense::{OFFSET, entry};
use super::{BLOB_REF, SYSTEM_FIELDS, Zip, dense_len};
use crate::innodb::bytes::be16;

const BROKEN: Corruption = Corruption("a record does not fit the compressed page");
/// Heap numbers of the log are less by one, since 0 ends it.
const HEAP_NO_BASE: usize = 1;

/// The compressed half of `page`, which has one.
fn zip<'a, 'p>(page: &'a mut IndexPage<'p>) -> Applied<(&'a mut Zip<'p>, &'a mut [u8])> {
    let zip = page.zip.as_mut().ok_or(Corruption("no compressed page"))?;
    Ok((zip, page.b))
}

/// Number of LOB references of the record at `rec`.
fn externals(frame: &[u8], rec: usize, shape: &RecordLayout) -> Applied<usize> {
    let mut fields = Vec::new();
    offsets::fields(frame, rec, shape, &mut fields)?;
    Ok(fields.iter().filter(|f| f.external).count())
}

impl Zip<'_> {
    /// Where the LOB references end, and where they start.
    fn blobs(&self) -> Applied<(usize, usize)> {
        let top = self.directory_start().checked_sub(dense_len(self.z) * SYSTEM_FIELDS).ok_or(BROKEN)?;
        let bottom = top.checked_sub(self.meta.blobs * BLOB_REF).filter(|at| *at >= self.meta.log_end);
        Ok((top, bottom.ok_or(BROKEN)?))
    }

    /// LOB references of existing records with a lower heap number (`page_zip_get_n_prev_extern`).
    fn blobs_before(&self, frame: &[u8], heap_no: usize, shape: &RecordLayout) -> Applied<usize> {
        let recs = usize::from(be16(self.z, N_RECS)).min(dense_len(self.z));
        let mut count = 0;
        for n in 0..recs {
            let rec = usize::from(entry(self.z, n) & OFFSET);
            let number = frame.get(rec.wrapping_sub(4)..).filter(|b| b.len() > 4).ok_or(BROKEN)?;
            if usize::from(be16(number, 0) >> 3) < heap_no {
                count += externals(frame, rec, shape)?;
            }
        }
        Ok(count)
    }

    /// The bytes that the record with this heap number has apart.
    fn storage(&mut self, heap_no: usize, width: usize) -> Applied<&mut [u8]> {
        let top = self.directory_start();
        let at =
            (heap_no.checked_sub(HEAP_NO_BASE)).and_then(|n| top.checked_sub(n * width)).ok_or(BROKEN)?;
        if at < self.meta.log_end {
            return Err(BROKEN);
        }
        self.z.get_mut(at..at + width).ok_or(BROKEN)
    }
}

/// Appends the record at `rec` to the modification log and stores what lies apart. `create`: it is new.
pub(in super::super) fn write(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    rec: usize,
    create: bool,
) -> Applied {
    let mut fields = Vec::new();
    let extent = offsets::fields(page.b, rec, shape, &mut fields)?;
    let (deleted, heap_no, leaf) = (page.is_deleted(rec), page.heap_no(rec), page.is_leaf());
    let (zip, frame) = zip(page)?;
    zip.check(shape.clustered)?;
    zip.set_deleted(rec, deleted)?;
    let mut log = Log { bytes: Vec::new() };
    log.head(frame, rec, extent, heap_no);
    if !leaf {
        let data = extent.data.checked_sub(NODE_POINTER).ok_or(BROKEN)?;
        log.bytes.extend_from_slice(&frame[rec..rec + data]);
        zip.storage(heap_no, NODE_POINTER)?.copy_from_slice(&frame[rec + data..rec + extent.data]);
    } else if shape.clustered {
        let target = Target { rec, heap_no, extent, create };
        clustered(zip, frame, shape, &target, &fields, &mut log)?;
    } else {
        log.bytes.extend_from_slice(&frame[rec..rec + extent.data]);
    }
    log.append(zip, shape.clustered)
}

/// Bytes for the modification log.
struct Log {
    bytes: Vec<u8>,
}

impl Log {
    /// Heap number, and the bytes before the record's fixed header, backwards.
    fn head(&mut self, frame: &[u8], rec: usize, extent: Extent, heap_no: usize) {
        let number = heap_no - HEAP_NO_BASE;
        if number >= 64 {
            self.bytes.push(0x80 | (number >> 7) as u8);
        }
        self.bytes.push((number << 1) as u8);
        self.bytes.extend(frame[rec - extent.extra..rec - COMPACT_HEADER].iter().rev());
    }

    fn append(self, zip: &mut Zip<'_>, clustered: bool) -> Applied {
        let at = zip.meta.log_end;
        let end = at + self.bytes.len();
        if end + zip.trailer_len(clustered) >= zip.z.len() {
            return Err(Corruption("the modification log of a compressed page is full"));
        }
        zip.z[at..end].copy_from_slice(&self.bytes);
        zip.meta.log_end = end;
        Ok(())
    }
}

/// A record being written.
struct Target {
    rec: usize,
    heap_no: usize,
    extent: Extent,
    create: bool,
}

/// The data of a record of a clustered leaf: system fields and LOB references go apart.
fn clustered(
    zip: &mut Zip<'_>,
    frame: &[u8],
    shape: &RecordLayout,
    target: &Target,
    fields: &[FieldAt],
    log: &mut Log,
) -> Applied {
    let rec = target.rec;
    let mut blob = place_blobs(zip, frame, shape, target, fields)?;
    let mut from = rec;
    for (i, field) in fields.iter().enumerate() {
        let at = rec + field.start;
        if i == shape.unique {
            let system = frame.get(at..at + SYSTEM_FIELDS).ok_or(BROKEN)?;
            zip.storage(target.heap_no, SYSTEM_FIELDS)?.copy_from_slice(system);
            log.bytes.extend_from_slice(frame.get(from..at).ok_or(BROKEN)?);
            from = at + SYSTEM_FIELDS;
        } else if field.external {
            let reference = at + field.len.checked_sub(BLOB_REF).ok_or(BROKEN)?;
            log.bytes.extend_from_slice(frame.get(from..reference).ok_or(BROKEN)?);
            from = reference + BLOB_REF;
            blob -= BLOB_REF;
            zip.z[blob..blob + BLOB_REF].copy_from_slice(&frame[reference..from]);
        }
    }
    log.bytes.extend_from_slice(frame.get(from..rec + target.extent.data).ok_or(BROKEN)?);
    Ok(())
}

/// Where the LOB references of the record go (the end of that place); makes room for those of a new one.
fn place_blobs(
    zip: &mut Zip<'_>,
    frame: &[u8],
    shape: &RecordLayout,
    target: &Target,
    fields: &[FieldAt],
) -> Applied<usize> {
    let count = fields.iter().filter(|f| f.external).count();
    if count == 0 {
        return Ok(0);
    }
    let before = zip.blobs_before(frame, target.heap_no, shape)?;
    let (top, bottom) = zip.blobs()?;
    let place = top.checked_sub(before * BLOB_REF).filter(|at| *at >= bottom).ok_or(BROKEN)?;
    if target.create {
        let new_bottom = bottom.checked_sub(count * BLOB_REF).filter(|at| *at > zip.meta.log_end);
        zip.z.copy_within(bottom..place, new_bottom.ok_or(BROKEN)?);
        zip.meta.blobs += count;
    }
    if before + count > zip.meta.blobs {
        return Err(BROKEN);
    }
    Ok(place)
}

/// DB_TRX_ID and DB_ROLL_PTR, which the frame has already at `at`, of the record at `rec`.
pub(in super::super) fn write_system(page: &mut IndexPage<'_>, rec: usize, at: usize) -> Applied {
    let heap_no = page.heap_no(rec);
    let (zip, frame) = zip(page)?;
    zip.check(true)?;
    let system = frame.get(at..at + SYSTEM_FIELDS).ok_or(BROKEN)?;
    zip.storage(heap_no, SYSTEM_FIELDS)?.copy_from_slice(system);
    Ok(())
}

/// After the frame's record at `rec` went to the head of the free list, which began with `free`: the same in the
/// dense directory, and what lies apart cleared. Lowers N_RECS.
pub(in super::super) fn delete(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    rec: usize,
    free: Option<usize>,
) -> Applied {
    let mut fields = Vec::new();
    offsets::fields(page.b, rec, shape, &mut fields)?;
    let (heap_no, leaf) = (page.heap_no(rec), page.is_leaf());
    let recs = page.get(N_RECS).checked_sub(1).ok_or(Corruption("a deletion from an empty page"))?;
    let (half, _) = zip(page)?;
    half.check(shape.clustered)?;
    half.delete(rec, free)?;
    page.set(N_RECS, recs);
    let (zip, frame) = zip(page)?;
    if leaf && shape.clustered {
        remove_blobs(zip, frame, shape, heap_no, fields.iter().filter(|f| f.external).count())?;
    }
    frame[rec - COMPACT_HEADER] = 0;
    clear(zip, frame, shape, (rec, heap_no), &fields)
}

/// Before the free record at `free` becomes a new one of `size` bytes: clears what lies apart of it in the frame, as
/// far as the new one does not cover it (`page_cur_insert_rec_zip`).
pub(in super::super) fn clear_free(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    free: usize,
    size: usize,
) -> Applied {
    let mut fields = Vec::new();
    let extent = offsets::fields(page.b, free, shape, &mut fields)?;
    if !page.is_leaf() {
        if extent.size() > size {
            let end = free + extent.data;
            page.b[end - NODE_POINTER.min(extent.data)..end].fill(0);
        }
    } else if shape.clustered {
        let system = fields.get(shape.unique).ok_or(BROKEN)?.start;
        if SYSTEM_FIELDS + system + extent.extra > size {
            page.b.get_mut(free + system..free + system + SYSTEM_FIELDS).ok_or(BROKEN)?.fill(0);
        }
    }
    Ok(())
}

/// Takes the references of a deleted record out of the array.
fn remove_blobs(
    zip: &mut Zip<'_>,
    frame: &[u8],
    shape: &RecordLayout,
    heap_no: usize,
    count: usize,
) -> Applied {
    if count == 0 {
        return Ok(());
    }
    let before = zip.blobs_before(frame, heap_no, shape)?;
    let (top, bottom) = zip.blobs()?;
    let end = top.checked_sub(before * BLOB_REF).ok_or(BROKEN)?;
    let start = end.checked_sub(count * BLOB_REF).filter(|at| *at >= bottom).ok_or(BROKEN)?;
    zip.z.copy_within(bottom..start, bottom + count * BLOB_REF);
    zip.z[bottom..bottom + count * BLOB_REF].fill(0);
    zip.meta.blobs -= count;
    Ok(())
}

/// Clears what lies apart, in both halves.
fn clear(
    zip: &mut Zip<'_>,
    frame: &mut [u8],
    shape: &RecordLayout,
    (rec, heap_no): (usize, usize),
    fields: &[FieldAt],
) -> Applied {
    let leaf = super::is_leaf(zip.z);
    if !leaf {
        let child = fields.last().ok_or(BROKEN)?;
        frame[rec + child.start..rec + child.start + NODE_POINTER].fill(0);
        zip.storage(heap_no, NODE_POINTER)?.fill(0);
    } else if shape.clustered {
        let system = rec + fields.get(shape.unique).ok_or(BROKEN)?.start;
        frame.get_mut(system..system + SYSTEM_FIELDS).ok_or(BROKEN)?.fill(0);
        zip.storage(heap_no, SYSTEM_FIELDS)?.fill(0);
        for field in fields.iter().filter(|f| f.external) {
            let end = rec + field.start + field.len;
            frame[end - BLOB_REF.min(field.len)..end].fill(0);
        }
    }
    Ok(())
}
