//! Extent descriptors: which pages of a tablespace are in use (fsp0fsp.h, `xdes_get_bit`).
//!
//! Page 0 and every page whose number is a multiple of a page's size in bytes describe the extents from there on. From
//! 150 stands an array of descriptors: segment id (8 bytes), list node (12), state (4), and two bits a page, of which
//! the lower one says that the page is free.

use super::PageLayout;
use crate::innodb::bytes::be32;

const ARRAY: usize = 150;
const STATE: usize = 20;
const BITMAP: usize = 24;
/// States of extents that have pages in use, some or all: in the tablespace's fragment lists, or in a segment.
const IN_USE: std::ops::RangeInclusive<u32> = 2..=5;

/// Number of the page that describes page `number`.
pub fn descriptor_page(layout: &PageLayout, number: u64) -> u64 {
    number - number % layout.physical() as u64
}

/// Whether `descriptors`, the page that [`descriptor_page`] names, says that page `number` is in use. Extents that it says
/// nothing sensible of are not.
pub fn is_used(descriptors: &[u8], layout: &PageLayout, number: u64) -> bool {
    let in_group = (number % layout.physical() as u64) as usize;
    let (extent, in_extent) = (in_group / layout.extent_pages(), in_group % layout.extent_pages());
    let start = ARRAY + extent * layout.xdes_size();
    let Some(descriptor) = descriptors.get(start..start + layout.xdes_size()) else { return false };
    if !IN_USE.contains(&be32(descriptor, STATE)) {
        return false;
    }
    let bit = 2 * in_extent;
    descriptor[BITMAP + bit / 8] >> (bit % 8) & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::bytes::put32;

    #[test]
    fn bits_of_used_extents_count() {
        let layout = PageLayout::plain(16384).unwrap();
        let mut page = vec![0; 16384];
        assert!(!is_used(&page, &layout, 3), "an extent without a state");
        // The second extent belongs to a segment; all its pages but the first and the sixth are free.
        let at = ARRAY + 40;
        put32(&mut page, at + STATE, 4);
        page[at + BITMAP..at + 40].fill(0xff);
        page[at + BITMAP] &= !1;
        page[at + BITMAP + 1] &= !4;
        let used: Vec<u64> = (0..16384).filter(|n| is_used(&page, &layout, *n)).collect();
        assert_eq!(used, [64, 69]);
        assert_eq!(descriptor_page(&layout, 16384 + 64), 16384);
        assert!(is_used(&page, &layout, 16384 + 64));
        assert!(!is_used(&page[..at], &layout, 64), "a page that is cut");
        let zip = PageLayout::zip(16384, 8192).unwrap();
        assert_eq!(descriptor_page(&zip, 8193), 8192);
    }
}
