//! Compresses an index page of a `ROW_FORMAT=COMPRESSED` table, byte for byte as the server does (`page_zip_compress`). Some redo
//! records say only that the page was compressed, not with which result.

use super::super::index_page::IndexPage;
use super::super::offsets::{self, NODE_POINTER};
use super::super::page_header::{FREE, HEAP_TOP, N_RECS, PAGE_DATA};
use super::super::record_layout::RecordLayout;
use super::super::reorganize::reorganize;
use super::super::{Applied, ApplyScratch, Corruption};
use super::dense::{DELETED, OWNED};
use super::{
    BLOB_REF, HEAP_OWN, HEAP_START, Meta, RECORD_HEADER, SLOT, SYSTEM_FIELDS, dense_len, fields, is_leaf,
    slot_size, zlib,
};
use crate::innodb::bytes::put16;
use crate::innodb::page::{FIL_HEADER, header};

const BROKEN: Corruption = Corruption("the records of the page do not make up its heap");
/// The end of the modification log.
const LOG_END: usize = 1;

/// A compressed page being made.
struct PageCompressor<'a> {
    frame: &'a [u8],
    shape: &'a RecordLayout,
    z: Vec<u8>,
    /// The records of the heap by heap number.
    recs: Vec<usize>,
    /// The records to be deflated.
    data: Vec<u8>,
    /// What of the frame's heap was taken already.
    from: usize,
    meta: Meta,
}

/// Compresses the frame of `page` into its compressed half.
pub(in super::super) fn compress(page: &mut IndexPage<'_>, shape: &RecordLayout, level: u8) -> Applied {
    if !zlib::LEVELS.contains(&level) {
        return Err(Corruption("no such compression level"));
    }
    let zip = page.zip.as_mut().ok_or(Corruption("no compressed page"))?;
    let mut c = PageCompressor {
        frame: page.b,
        shape,
        z: zip.z.to_vec(),
        recs: Vec::new(),
        data: Vec::new(),
        from: HEAP_START,
        meta: Meta::default(),
    };
    c.directory()?;
    c.records()?;
    c.stream(level)?;
    zip.z.copy_from_slice(&c.z);
    *zip.meta = c.meta;
    Ok(())
}

/// Rebuilds the frame without its garbage and compresses it.
pub(in super::super) fn compress_and_reorganize(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    level: u8,
    room: &mut ApplyScratch,
) -> Applied {
    let zip = page.zip.take();
    reorganize(page, shape, room)?;
    page.zip = zip;
    compress(page, shape, level)
}

impl PageCompressor<'_> {
    /// Headers and the dense directory, the latter in order: records, then the free list (`page_zip_dir_encode`).
    fn directory(&mut self) -> Applied {
        let dense = dense_len(self.frame);
        if PAGE_DATA + dense * slot_size(self.frame, self.shape.clustered) >= self.z.len() {
            return Err(Corruption("more records than fit the compressed page"));
        }
        // The rest of the FIL header is written when the page is.
        self.z[header::PREV..header::LSN].copy_from_slice(&self.frame[header::PREV..header::LSN]);
        self.z[header::TYPE..header::TYPE + 2].copy_from_slice(&self.frame[header::TYPE..header::TYPE + 2]);
        self.z[FIL_HEADER..PAGE_DATA].copy_from_slice(&self.frame[FIL_HEADER..PAGE_DATA]);
        self.z[PAGE_DATA..].fill(0);
        self.recs = vec![0; dense];
        let mut copy = self.frame.to_vec();
        let page = IndexPage::any(&mut copy)?;
        let mut n = 0;
        let mut at = page.next(page.infimum())?;
        while at != page.supremum() {
            let rec = page.user_record(at)?;
            let mut entry = rec as u16;
            entry |= if page.n_owned(rec) != 0 { OWNED } else { 0 };
            entry |= if page.is_deleted(rec) { DELETED } else { 0 };
            self.enter(n, rec, page.heap_no(rec), entry)?;
            (n, at) = (n + 1, page.next(rec)?);
        }
        if n != page.get(N_RECS) {
            return Err(BROKEN);
        }
        let mut free = Some(page.get(FREE)).filter(|at| *at != 0);
        while let Some(at) = free {
            let rec = page.user_record(at)?;
            self.enter(n, rec, page.heap_no(rec), rec as u16)?;
            (n, free) = (n + 1, page.next_or_end(rec)?);
        }
        if n == dense { Ok(()) } else { Err(BROKEN) }
    }

    fn enter(&mut self, n: usize, rec: usize, heap_no: usize, entry: u16) -> Applied {
        let place = heap_no.checked_sub(HEAP_OWN).and_then(|k| self.recs.get_mut(k)).ok_or(BROKEN)?;
        if std::mem::replace(place, rec) != 0 || n >= dense_len(self.frame) {
            return Err(BROKEN);
        }
        let at = self.z.len() - SLOT * (n + 1);
        put16(&mut self.z, at, entry);
        Ok(())
    }

    /// Takes the frame up to `end`.
    fn take_to(&mut self, end: usize) -> Applied {
        self.data.extend_from_slice(self.frame.get(self.from..end).ok_or(BROKEN)?);
        self.from = end;
        Ok(())
    }

    fn records(&mut self) -> Applied {
        let leaf = is_leaf(self.frame);
        for k in 0..self.recs.len() {
            let rec = self.recs[k];
            self.take_to(rec - RECORD_HEADER)?;
            self.from = rec;
            if !leaf {
                self.node(rec, k)?;
            } else if self.shape.clustered {
                self.clustered(rec, k)?;
            }
        }
        let top = usize::from(crate::innodb::bytes::be16(self.frame, HEAP_TOP));
        self.take_to(top)
    }

    /// Stores bytes of the record number `k` that lie apart, `width` of each record.
    fn store(&mut self, k: usize, at: usize, width: usize) -> Applied {
        let target = self.z.len() - SLOT * self.recs.len() - width * (k + 1);
        let bytes = self.frame.get(at..at + width).ok_or(BROKEN)?;
        self.z[target..target + width].copy_from_slice(bytes);
        self.from = at + width;
        Ok(())
    }

    fn node(&mut self, rec: usize, k: usize) -> Applied {
        let extent = offsets::extent(self.frame, rec, self.shape)?;
        let child = rec + extent.data.checked_sub(NODE_POINTER).ok_or(BROKEN)?;
        self.take_to(child)?;
        self.store(k, child, NODE_POINTER)
    }

    fn clustered(&mut self, rec: usize, k: usize) -> Applied {
        let mut fields = Vec::new();
        let extent = offsets::fields(self.frame, rec, self.shape, &mut fields)?;
        for (i, field) in fields.iter().enumerate() {
            let at = rec + field.start;
            if i == self.shape.unique {
                self.take_to(at)?;
                self.store(k, at, SYSTEM_FIELDS)?;
            } else if field.external {
                let reference = at + field.len.checked_sub(BLOB_REF).ok_or(BROKEN)?;
                self.take_to(reference)?;
                self.from = reference + BLOB_REF;
                self.blob(rec, reference)?;
            }
        }
        self.take_to(rec + extent.data)
    }

    /// Stores a LOB reference, unless the record is a free one.
    fn blob(&mut self, rec: usize, reference: usize) -> Applied {
        let recs = usize::from(crate::innodb::bytes::be16(self.frame, N_RECS));
        let exists =
            (0..recs).any(|n| usize::from(super::dense::entry(&self.z, n) & super::dense::OFFSET) == rec);
        if !exists {
            return Ok(());
        }
        self.meta.blobs += 1;
        let taken = self.recs.len() * (SLOT + SYSTEM_FIELDS) + self.meta.blobs * BLOB_REF;
        let at = self.z.len().checked_sub(taken).filter(|at| *at > PAGE_DATA).ok_or(BROKEN)?;
        self.z[at..at + BLOB_REF].copy_from_slice(&self.frame[reference..reference + BLOB_REF]);
        Ok(())
    }

    fn stream(&mut self, level: u8) -> Applied {
        let leaf = is_leaf(self.frame);
        let trx_id = (leaf && self.shape.clustered).then_some(self.shape.unique);
        let fields = fields::encode(self.shape, leaf, trx_id);
        let window_bits = self.frame.len().ilog2();
        let stream = zlib::deflate(&fields, &self.data, level, window_bits);
        let trailer =
            self.recs.len() * slot_size(self.frame, self.shape.clustered) + self.meta.blobs * BLOB_REF;
        self.meta.log_end = PAGE_DATA + stream.len();
        if self.meta.log_end + LOG_END + trailer > self.z.len() {
            return Err(Corruption("the page does not get as small as the server made it"));
        }
        self.z[PAGE_DATA..self.meta.log_end].copy_from_slice(&stream);
        Ok(())
    }
}
