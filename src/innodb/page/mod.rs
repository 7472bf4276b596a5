//! Pages: header, checksum, verification, transparent compression, and page 0 of a tablespace.
//!
//! Every page starts with the FIL header (38 bytes, [`header`]) and, unless it belongs to a
//! ROW_FORMAT=COMPRESSED tablespace, ends with the FIL trailer (8 bytes): the old-style checksum and the low
//! half of the page LSN, which tells a torn page.

pub mod checksum;
pub mod compressed;
pub mod doublewrite;
mod flags;
mod format;
pub mod header;
mod page0;
mod unused;
mod verify;
mod xdes;

pub use compressed::Scratch;
pub(crate) use compressed::restore_compressed;
pub use flags::{FlagsError, PageLayout, SpaceFlags};
pub use format::PageFormat;
pub use header::{FilHeader, PageType};
pub use page0::{FSP_SIZE, MIN_UNDO_BYTES, MIN_USER_PAGES, Page0, Page0Error, build_page0};
pub use unused::{UNUSED_MIN, unused};
pub use verify::{Expected, PageDefect, Verdict, verify};
pub use xdes::{descriptor_page, is_used};

/// Smallest page on disk: KEY_BLOCK_SIZE=1 (`UNIV_ZIP_SIZE_MIN`).
pub const PHYSICAL_MIN: usize = 1024;
/// Smallest `innodb_page_size` (`UNIV_PAGE_SIZE_MIN`).
pub const LOGICAL_MIN: usize = 4096;
/// Largest `innodb_page_size` (`UNIV_PAGE_SIZE_MAX`).
pub const LOGICAL_MAX: usize = 65536;
/// Largest logical page that can be ROW_FORMAT=COMPRESSED (`UNIV_ZIP_SIZE_MAX`).
pub const ZIP_MAX: usize = 16384;
/// Bytes of the FIL header (`FIL_PAGE_DATA`).
pub const FIL_HEADER: usize = 38;
/// Bytes of the FIL trailer (`FIL_PAGE_DATA_END`).
pub const FIL_TRAILER: usize = 8;

/// Whether every byte is zero.
pub fn is_all_zero(bytes: &[u8]) -> bool {
    const STRIDE: usize = 64;
    let mut strides = bytes.chunks_exact(STRIDE);
    // A page with data fails in its first stride; a stride without early exit becomes vector code.
    strides.by_ref().all(|s| s.iter().fold(0, |or, b| or | b) == 0)
        && strides.remainder().iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests {
    use super::is_all_zero;

    #[test]
    fn one_set_bit_anywhere_is_seen() {
        for len in [0, 1, 63, 64, 65, 1024, 1031] {
            let mut page = vec![0u8; len];
            assert!(is_all_zero(&page));
            for at in 0..len {
                page[at] = 0x80;
                assert!(!is_all_zero(&page), "{at} of {len}");
                page[at] = 0;
            }
        }
    }
}
