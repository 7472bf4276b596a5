//! ROW_FORMAT=COMPRESSED pages (page0zip.cc, page0zip.ic).
//!
//! On disk such a page is (from both ends towards the middle):
//!
//! 1. FIL header and page header, 0..94, as on any index page.
//! 2. A zlib stream from 94 on: the list of fields, a full flush, then the records in the order of the heap without
//!    their five fixed header bytes and without the fields that lie uncompressed below.
//! 3. The modification log: records written since the page was compressed. It ends with a zero byte.
//! 4. Free space, all zeros.
//! 5. Clustered leaf pages: references to LOBs, 20 bytes each, of the records that are not deleted.
//! 6. By heap number, from the end: on leaf pages of a clustered index DB_TRX_ID and DB_ROLL_PTR (13 bytes), on node
//!    pages the child page number (4 bytes).
//! 7. The dense directory, two bytes a record, from the end of the page: the records in their order, then the free
//!    list. `4000`: the record owns a slot of the directory; `8000`: it is marked as deleted.
//!
//! In memory there is the uncompressed page (the frame) beside it. Records change both; what is written to disk is
//! the compressed one. Pages of such a tablespace that are not index pages are the same in memory and on disk.

mod compress;
mod dense;
mod fields;
mod image;
mod modlog;
mod record;
mod stream;
mod unzip;
mod zlib;

use fields::ZipFields;
pub(super) use image::{page_compress, write_blob_ptr, write_header, write_node_ptr};
pub(super) use record::{clear_free, delete, write, write_system};
pub(super) use stream::Inflaters;
pub(super) use unzip::unzip;

use super::offsets::NODE_POINTER;
use super::page_header::{LEVEL, N_HEAP, N_HEAP_COMPACT, PAGE_DATA};
use crate::innodb::bytes::be16;

pub(super) use compress::{compress, compress_and_reorganize};

/// DB_TRX_ID and DB_ROLL_PTR.
pub(super) const SYSTEM_FIELDS: usize = 13;
/// A reference to a LOB (`BTR_EXTERN_FIELD_REF_SIZE`).
pub(super) const BLOB_REF: usize = 20;
/// Bytes of an entry of the dense directory.
const SLOT: usize = 2;
/// Fixed header bytes of a COMPACT record, which are not stored.
const RECORD_HEADER: usize = 5;
/// First byte of the heap (`PAGE_ZIP_START`).
const HEAP_START: usize = 120;
/// Records of every heap that are not stored: infimum and supremum.
const HEAP_OWN: usize = 2;

/// State of a compressed page beside its bytes (`page_zip_des_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Meta {
    /// Offset of the zero byte that ends the modification log.
    pub(super) log_end: usize,
    /// LOB references on the page.
    pub(super) blobs: usize,
}

/// The compressed half of a page.
pub(super) struct Zip<'p> {
    pub(super) z: &'p mut [u8],
    pub(super) meta: &'p mut Meta,
}

/// A frame being filled.
pub(super) struct Unzip<'z> {
    pub(super) z: &'z [u8],
    pub(super) frame: Vec<u8>,
    /// The records of the heap by address, which is by heap number.
    pub(super) recs: Vec<usize>,
    pub(super) fields: ZipFields,
    /// Heap number of the next record that comes from the heap.
    pub(super) heap_no: usize,
}

/// A frame, its compressed page's meta data, and whether the frame is ahead of it: an insert that did not fit went
/// into the frame alone, and the record that compresses the page again is still to come.
pub(super) struct Unzipped {
    pub(super) frame: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) ahead: bool,
}

/// Whether the page (either half) is a leaf.
fn is_leaf(page: &[u8]) -> bool {
    be16(page, LEVEL) == 0
}

/// Records in the heap, infimum and supremum left out: entries of the dense directory.
fn dense_len(page: &[u8]) -> usize {
    usize::from(be16(page, N_HEAP) & !N_HEAP_COMPACT).saturating_sub(HEAP_OWN)
}

/// Uncompressed bytes that each record takes at the end of the page.
fn slot_size(page: &[u8], clustered: bool) -> usize {
    if !is_leaf(page) {
        SLOT + NODE_POINTER
    } else if clustered {
        SLOT + SYSTEM_FIELDS
    } else {
        SLOT
    }
}

impl Zip<'_> {
    /// Bytes of the trailer: dense directory, uncompressed fields, LOB references (`page_zip_get_trailer_len`).
    fn trailer_len(&self, clustered: bool) -> usize {
        dense_len(self.z) * slot_size(self.z, clustered) + self.meta.blobs * BLOB_REF
    }

    /// Whether a new record of `size` bytes fits (`page_zip_available`).
    pub(super) fn has_room(&self, clustered: bool, size: usize) -> bool {
        // Its five header bytes are not stored, its heap number is, in two bytes at most.
        let logged = size - RECORD_HEADER + 2;
        logged + self.trailer_len(clustered) + SLOT + self.meta.log_end < self.z.len()
    }

    /// First byte of the dense directory.
    fn directory_start(&self) -> usize {
        self.z.len().saturating_sub(SLOT * dense_len(self.z)).max(PAGE_DATA)
    }
}

#[cfg(test)]
mod tests;
