//! Verifies that a page read from a datafile is whole (`BlockReporter::is_corrupted`).
//!
//! A page is sound if it is all zeros (allocated, never written), or if the low half of its LSN stands in the
//! trailer too and the checksum matches under any algorithm that a server may have used. Then its number and
//! space id must be the ones of its place: a page written to the wrong place has a good checksum.
//!
//! Without the key of its tablespace an encrypted page shows only its header: number and space id are checked;
//! the checksum covers the plaintext and the trailer is encrypted, so a torn read can't be told. The caller
//! reads such a page until two reads agree.

use super::compressed::{PayloadError, Scratch, restore};
use super::header::{FLUSH_LSN, LSN, SPACE_ID, TYPE};
use super::{FIL_TRAILER, FilHeader, PageLayout, PageType, checksum, is_all_zero};
use crate::base::{PageNo, SpaceId};
use crate::innodb::bytes::{be32, be64};

/// The place that a page was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The tablespace.
    pub space: SpaceId,
    /// The page's place in it.
    pub page: PageNo,
}

/// The kinds of sound pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Its checksum, number and space id match; or it was never written, and is not all zeros as it is stored.
    Ok,
    /// Every byte is zero: never written.
    AllZero,
    /// Number and space id match; without the key nothing more can be said.
    Encrypted,
}

/// Defects of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PageDefect {
    /// Not as many bytes as a page of this tablespace has.
    #[error("{found} bytes instead of a page of {expected}")]
    Length {
        /// Bytes at hand.
        found: usize,
        /// Bytes of a page.
        expected: usize,
    },
    /// Written half, or read while it was written.
    #[error("torn: LSN ends in {header:#010x} at its head and in {trailer:#010x} at its end")]
    Torn {
        /// Low half of the LSN in the header.
        header: u32,
        /// The copy of it in the trailer.
        trailer: u32,
    },
    /// No algorithm gives the stored checksum.
    #[error("checksum {stored:#010x} stored, {computed:#010x} computed (crc32)")]
    Checksum {
        /// The field at the head of the page.
        stored: u32,
        /// What crc32 gives.
        computed: u32,
    },
    /// A sound page of another place.
    #[error("it is page {found}, not page {expected}")]
    PageNo {
        /// The number in the header.
        found: PageNo,
        /// The place.
        expected: PageNo,
    },
    /// A sound page of another tablespace.
    #[error("it belongs to tablespace {found}, not {expected}")]
    SpaceId {
        /// The id in the header.
        found: SpaceId,
        /// The tablespace at hand.
        expected: SpaceId,
    },
    /// Transparent page compression: the payload is broken.
    #[error("compressed page: {0}")]
    Compressed(#[from] PayloadError),
    /// Page 0 says of itself that it is encrypted or compressed, which it never is.
    #[error("the tablespace header is of type {0}")]
    HeaderType(PageType),
}

/// Whether `page` is sound and the one `expected`.
pub fn verify(
    page: &[u8],
    layout: &PageLayout,
    expected: Expected,
    scratch: &mut Scratch,
) -> Result<Verdict, PageDefect> {
    if page.len() != layout.physical() {
        return Err(PageDefect::Length { found: page.len(), expected: layout.physical() });
    }
    let header = FilHeader::of(page).expect("no page is shorter than its header");
    // The server encodes pages on their way to the file, those too that were never written, when it imports a tablespace.
    let never_written = is_all_zero(&page[..TYPE]) && header.space_id() == SpaceId::SYSTEM;
    match header.page_type() {
        t if expected.page == PageNo(0) && (t.is_encrypted() || t == PageType::COMPRESSED) => {
            return Err(PageDefect::HeaderType(t));
        }
        t if t.is_encrypted() && never_written => return Ok(Verdict::Encrypted),
        t if t.is_encrypted() => return whose(header, expected).map(|()| Verdict::Encrypted),
        PageType::COMPRESSED if !layout.is_zip() => {
            scratch.page.resize(layout.logical(), 0);
            restore(page, &mut scratch.page, &mut scratch.inflater)?;
            if has_no_header(&scratch.page, layout) {
                return empty(&scratch.page, layout).map(|_| Verdict::Ok);
            }
            sound(&scratch.page)?;
        }
        _ if has_no_header(page, layout) => return empty(page, layout),
        _ if layout.is_zip() => sound_zip(page)?,
        _ => sound(page)?,
    }
    whose(header, expected).map(|()| Verdict::Ok)
}

fn sound(page: &[u8]) -> Result<(), PageDefect> {
    let (header, trailer) = (be64(page, LSN) as u32, be32(page, page.len() - 4));
    if header != trailer {
        return Err(PageDefect::Torn { header, trailer });
    }
    if !checksum::matches(page) {
        return Err(PageDefect::Checksum { stored: be32(page, 0), computed: checksum::crc32(page) });
    }
    Ok(())
}

fn sound_zip(page: &[u8]) -> Result<(), PageDefect> {
    if !checksum::zip_matches(page) {
        return Err(PageDefect::Checksum { stored: be32(page, 0), computed: checksum::zip_crc32(page) });
    }
    Ok(())
}

/// Whether neither LSN nor checksums were ever set. Zeros in all these fields can't come with content, though the `innodb`
/// algorithm would let them pass.
fn has_no_header(page: &[u8], layout: &PageLayout) -> bool {
    be32(page, 0) == 0 && be64(page, LSN) == 0 && trailer_checksum(page, layout) == 0
}

/// The checksum in the trailer; 0 where there is none.
fn trailer_checksum(page: &[u8], layout: &PageLayout) -> u32 {
    if layout.is_zip() { 0 } else { be32(page, page.len() - FIL_TRAILER) }
}

/// A page without LSN and checksum must be empty. The server also takes a plain page for empty whose bytes
/// 26..34 are set, since they were once written outside the buffer pool.
fn empty(page: &[u8], layout: &PageLayout) -> Result<Verdict, PageDefect> {
    if is_all_zero(page) {
        return Ok(Verdict::AllZero);
    }
    if !layout.is_zip() && is_all_zero(&page[..FLUSH_LSN]) && is_all_zero(&page[SPACE_ID..]) {
        return Ok(Verdict::Ok);
    }
    let computed = if layout.is_zip() { checksum::zip_crc32(page) } else { checksum::crc32(page) };
    Err(PageDefect::Checksum { stored: 0, computed })
}

fn whose(header: FilHeader<'_>, expected: Expected) -> Result<(), PageDefect> {
    if header.page_no() != expected.page {
        return Err(PageDefect::PageNo { found: header.page_no(), expected: expected.page });
    }
    // Servers before 4.1.1 left the space id of the system tablespace's pages unset, so no server checks it
    // there (`buf_page_io_complete`).
    if header.space_id() != expected.space && expected.space != SpaceId::SYSTEM {
        return Err(PageDefect::SpaceId { found: header.space_id(), expected: expected.space });
    }
    Ok(())
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
