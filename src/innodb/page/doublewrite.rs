//! The doublewrite buffer that servers before 8.0.20 kept inside the system tablespace.
//!
//! The transaction system page (page 5 of the system tablespace) names its two extents 200 bytes before its end
//! (trx0types.h, `TRX_SYS_DOUBLEWRITE`): a segment header of 10 bytes, a magic number, and the first page of each
//! extent, 4 bytes each. A server that was upgraded keeps them, with old images of pages of any tablespace.

use std::ops::Range;

use super::PageLayout;
use crate::innodb::bytes::be32;

const FROM_END: usize = 200;
const SEGMENT_HEADER: usize = 10;
const MAGIC: u32 = 536_853_855;

/// The page numbers of both extents; empty where there is no such buffer, as on every server made since 8.0.20.
pub fn legacy_extents(trx_sys_page: &[u8], layout: PageLayout) -> Vec<Range<u64>> {
    let Some(at) =
        layout.physical().checked_sub(FROM_END).filter(|_| trx_sys_page.len() >= layout.physical())
    else {
        return Vec::new();
    };
    let field = |i: usize| be32(trx_sys_page, at + SEGMENT_HEADER + 4 * i);
    if field(0) != MAGIC {
        return Vec::new();
    }
    let pages = layout.extent_pages() as u64;
    [field(1), field(2)].map(|first| u64::from(first)..u64::from(first) + pages).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::bytes::put32;

    #[test]
    fn an_upgraded_server_has_two_extents() {
        let layout = PageLayout::plain(16384).unwrap();
        let mut page = vec![0; 16384];
        assert!(legacy_extents(&page, layout).is_empty());
        for (i, value) in [MAGIC, 64, 128].into_iter().enumerate() {
            put32(&mut page, 16384 - 200 + 10 + 4 * i, value);
        }
        assert_eq!(legacy_extents(&page, layout), [64..128, 128..192]);
        assert!(legacy_extents(&page[..100], layout).is_empty());
    }
}
