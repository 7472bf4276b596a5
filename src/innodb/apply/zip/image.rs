//! Records that carry bytes of the compressed page (`page_zip_parse_compress`, `page_zip_parse_write_header`,
//! `page_zip_parse_write_node_ptr`, `page_zip_parse_write_blob_ptr`).

use super::super::page::Page;
use super::super::{Applied, Corruption};
use crate::innodb::bytes::put32;
use crate::innodb::page::header;

/// The whole page: links, what goes to offset 24 on, what goes to the end, zeros between.
pub(in super::super) fn page_compress(
    page: &mut Page<'_>,
    prev: u32,
    next: u32,
    data: &[u8],
    trailer: &[u8],
) -> Applied {
    let z = page.zip_mut()?;
    let gap = header::TYPE + data.len()..z.len().saturating_sub(trailer.len());
    if gap.start > gap.end {
        return Err(Corruption("a compressed page that is longer than its place"));
    }
    put32(z, header::PREV, prev);
    put32(z, header::NEXT, next);
    z[header::TYPE..gap.start].copy_from_slice(data);
    z[gap.end..].copy_from_slice(trailer);
    z[gap].fill(0);
    page.forget_frame();
    Ok(())
}

/// Bytes of the page header.
pub(in super::super) fn write_header(page: &mut Page<'_>, offset: u8, bytes: &[u8]) -> Applied {
    let at = usize::from(offset);
    write_both(page, at, at, bytes)
}

/// The child page number of a node pointer.
pub(in super::super) fn write_node_ptr(
    page: &mut Page<'_>,
    offset: u16,
    zip_offset: u16,
    child: &[u8; 4],
) -> Applied {
    write_both(page, usize::from(offset), usize::from(zip_offset), child)
}

/// A LOB reference.
pub(in super::super) fn write_blob_ptr(
    page: &mut Page<'_>,
    offset: u16,
    zip_offset: u16,
    reference: &[u8; 20],
) -> Applied {
    write_both(page, usize::from(offset), usize::from(zip_offset), reference)
}

/// Writes to the compressed page, and to its frame if there is one.
fn write_both(page: &mut Page<'_>, at: usize, zip_at: usize, bytes: &[u8]) -> Applied {
    const OUTSIDE: Corruption = Corruption("a write beyond the end of the page");
    if at + bytes.len() > page.layout().logical() {
        return Err(OUTSIDE);
    }
    page.zip_mut()?.get_mut(zip_at..zip_at + bytes.len()).ok_or(OUTSIDE)?.copy_from_slice(bytes);
    if let Some(unzipped) = page.unzipped_mut() {
        unzipped.frame[at..at + bytes.len()].copy_from_slice(bytes);
    }
    Ok(())
}
