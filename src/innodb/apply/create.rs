//! Makes an index page empty (`page_create_low`).

use super::page_header::{
    DIRECTION, DIRECTORY_END, HEADER, HEAP_TOP, LEVEL, N_HEAP, N_HEAP_COMPACT, N_SLOTS, NO_DIRECTION,
    PAGE_DATA,
};
use super::{Applied, Corruption};
use crate::innodb::bytes::put16;
use crate::innodb::page::{LOGICAL_MIN, PageType, header};
use crate::innodb::redo::record::{RowFormat, Tree};

/// Infimum and supremum, with their headers, as every COMPACT page has them from offset 94 on: the first is
/// followed by the second, which ends the list.
pub(super) const COMPACT_RECORDS: [u8; 26] = *b"\x01\x00\x02\x00\x0dinfimum\x00\x01\x00\x0b\x00\x00supremum";
/// The same for REDUNDANT pages.
const REDUNDANT_RECORDS: [u8; 31] =
    *b"\x08\x01\x00\x00\x03\x00\x74infimum\x00\x09\x01\x00\x08\x03\x00\x00supremum\x00";

/// Records of an empty page in the heap: infimum and supremum.
const HEAP_RECORDS: u16 = 2;

/// Makes `page` an empty page of an index. Segment headers, level and index id stay: they have their own records.
pub(super) fn create(page: &mut [u8], format: RowFormat, tree: Tree) -> Applied {
    if page.len() < LOGICAL_MIN {
        return Err(Corruption("too short for an index page"));
    }
    let page_type = match tree {
        Tree::BTree => PageType::INDEX,
        Tree::RTree => PageType::RTREE,
        Tree::Sdi => PageType::SDI,
    };
    put16(page, header::TYPE, page_type.0);
    clear(page, format);
    Ok(())
}

/// Empties a page that keeps its type.
pub(super) fn clear(page: &mut [u8], format: RowFormat) {
    let (records, flag): (&[u8], u16) = match format {
        RowFormat::Compact => (&COMPACT_RECORDS, N_HEAP_COMPACT),
        RowFormat::Redundant => (&REDUNDANT_RECORDS, 0),
    };
    let (infimum, supremum) = super::page_header::ends(format);
    // Up to PAGE_MAX_TRX_ID, which is cleared too.
    page[HEADER..LEVEL].fill(0);
    put16(page, N_SLOTS, 2);
    put16(page, DIRECTION, NO_DIRECTION);
    put16(page, N_HEAP, HEAP_RECORDS | flag);
    let heap_top = PAGE_DATA + records.len();
    put16(page, HEAP_TOP, heap_top as u16);
    page[PAGE_DATA..heap_top].copy_from_slice(records);
    let end = page.len() - DIRECTORY_END;
    page[heap_top..end].fill(0);
    put16(page, end - 2, infimum as u16);
    put16(page, end - 4, supremum as u16);
}
