//! The part of a page that was never used, and so is all zeros.
//!
//! Records grow from the front of an index page (`PAGE_HEAP_TOP` says how far they came), its directory from the end; most
//! other pages are filled from the front. In between a page keeps the zeros that it was made with, as long as nothing
//! was there. Whatever the page says of itself, only zeros are called unused.

use std::ops::Range;

use super::{FIL_HEADER, FIL_TRAILER, FilHeader, is_all_zero};
use crate::innodb::bytes::be16;

/// Less than this is not worth a hole: it would cost more than it saves.
pub const UNUSED_MIN: usize = 2048;
/// Where the header of an index page has the number of directory slots (`PAGE_N_DIR_SLOTS`), and the end of the records
/// (`PAGE_HEAP_TOP`).
const DIR_SLOTS: usize = FIL_HEADER;
const HEAP_TOP: usize = FIL_HEADER + 2;
/// Bytes of a directory slot (`PAGE_DIR_SLOT_SIZE`).
const DIR_SLOT_LEN: usize = 2;
/// How much of the end is looked at first.
const PROBE: usize = 64;

/// The unused part, if it is worth mentioning.
pub fn unused(page: &[u8]) -> Option<Range<usize>> {
    let header = FilHeader::of(page)?;
    let end = page.len().checked_sub(FIL_TRAILER)?;
    let unused = if header.page_type().is_index() { between(page, end)? } else { tail(page, end)? };
    (unused.len() >= UNUSED_MIN).then_some(unused)
}

/// Between records and directory.
fn between(page: &[u8], end: usize) -> Option<Range<usize>> {
    let slots = usize::from(be16(page, DIR_SLOTS));
    let range = usize::from(be16(page, HEAP_TOP))..end.checked_sub(slots * DIR_SLOT_LEN)?;
    // The length is looked at first: pages that are full are not read once more.
    (range.start > HEAP_TOP && range.end >= range.start + UNUSED_MIN && is_all_zero(&page[range.clone()]))
        .then_some(range)
}

/// Before the trailer.
fn tail(page: &[u8], end: usize) -> Option<Range<usize>> {
    let probe = end.checked_sub(PROBE)?;
    if !is_all_zero(&page[probe..end]) {
        return None;
    }
    let strides = page[FIL_HEADER..end].rchunks(PROBE).take_while(|stride| is_all_zero(stride));
    let len: usize = strides.map(<[u8]>::len).sum();
    Some(end - len..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::page::PageType;
    use crate::innodb::page::header::TYPE;

    fn page(kind: PageType, heap_top: u16, slots: u16) -> Vec<u8> {
        let mut page = vec![0; 16384];
        page[..FIL_HEADER].fill(1);
        page[TYPE..TYPE + 2].copy_from_slice(&kind.0.to_be_bytes());
        page[DIR_SLOTS..DIR_SLOTS + 2].copy_from_slice(&slots.to_be_bytes());
        page[HEAP_TOP..HEAP_TOP + 2].copy_from_slice(&heap_top.to_be_bytes());
        page[16376..].fill(2);
        page
    }

    #[test]
    fn what_lies_between_records_and_directory_is_unused() {
        let mut index = page(PageType::INDEX, 6000, 10);
        index[16376 - 20..16376].fill(3);
        assert_eq!(unused(&index), Some(6000..16356));
        // Something was there once.
        index[9000] = 1;
        assert_eq!(unused(&index), None);
    }

    #[test]
    fn full_pages_and_nonsense_have_none() {
        let mut full = page(PageType::INDEX, 16000, 10);
        full[100..16000].fill(1);
        assert_eq!(unused(&full), None);
        for (heap_top, slots) in [(0, 0), (39, 3), (u16::MAX, 2), (6000, u16::MAX), (16380, 1)] {
            assert_eq!(unused(&page(PageType::INDEX, heap_top, slots)), None, "{heap_top} {slots}");
        }
        for len in [0, 10, 37, 38, 46, 100, 1024] {
            assert_eq!(unused(&vec![0; len]), None);
        }
    }

    #[test]
    fn other_pages_are_filled_from_the_front() {
        let mut blob = page(PageType(10), 0, 0);
        blob[FIL_HEADER..5000].fill(9);
        let found = unused(&blob).unwrap();
        assert_eq!(found.end, 16376);
        assert!((5000..5064).contains(&found.start), "{found:?}");
        blob[16370] = 1;
        assert_eq!(unused(&blob), None);
    }
}
