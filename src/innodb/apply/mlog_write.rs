//! Plain writes, page initialisation, and the change buffer bitmap (`mlog_parse_nbytes`, `mlog_parse_string`,
//! `fsp_init_file_page_low`, `ibuf_bitmap_page_init`).
//!
//! Tablespace headers, extent descriptors, segment inodes, rollback segments, LOB pages and the transaction system
//! page have no records of their own: these are all they are changed by.

use super::page::Page;
use super::{Applied, Corruption};
use crate::innodb::bytes::put16;
use crate::innodb::page::{FIL_TRAILER, PageType, header};

/// The bitmap starts here, as the data of an index page would (`IBUF_BITMAP`).
const BITMAP: usize = 94;

fn place<'p>(page: &'p mut Page<'_>, offset: u16, len: usize) -> Applied<&'p mut [u8]> {
    let at = usize::from(offset);
    if page.is_zip_index() {
        return Err(Corruption("a plain write to a compressed index page"));
    }
    page.raw_mut().get_mut(at..at + len).ok_or(Corruption("a write beyond the end of the page"))
}

pub(super) fn write(page: &mut Page<'_>, offset: u16, width: u8, value: u64) -> Applied {
    let width = usize::from(width);
    let value = value.to_be_bytes();
    let bytes = value.get(value.len() - width..).ok_or(Corruption("a write of more than eight bytes"))?;
    place(page, offset, width)?.copy_from_slice(bytes);
    Ok(())
}

pub(super) fn write_string(page: &mut Page<'_>, offset: u16, bytes: &[u8]) -> Applied {
    place(page, offset, bytes.len())?.copy_from_slice(bytes);
    Ok(())
}

pub(super) fn init_file_page(page: &mut Page<'_>) {
    page.clear();
}

/// Four bits for each page that the bitmap serves: as many as a page on disk has bytes.
pub(super) fn ibuf_bitmap_init(page: &mut Page<'_>) -> Applied {
    let len = page.layout().physical() / 2;
    let bytes = page.raw_mut();
    debug_assert!(BITMAP + len + FIL_TRAILER <= bytes.len());
    put16(bytes, header::TYPE, PageType::IBUF_BITMAP.0);
    bytes[BITMAP..BITMAP + len].fill(0);
    Ok(())
}
