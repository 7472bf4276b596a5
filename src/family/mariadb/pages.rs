//! Pages of MariaDB: `full_crc32`, and the older format, which ROW_FORMAT=COMPRESSED still has.
//!
//! Flags of a tablespace (offset 54 of page 0, fsp0types.h): bit 4 says `full_crc32`; then bits 0 to 3 are the page size (512 << v)
//! and bits 5 to 7 the algorithm of page compression. Without bit 4 they are those of MySQL, but that bit 10 is ignored and
//! bit 16 says page compression.
//!
//! A page of `full_crc32` ends with the CRC-32C of all before it, whether it is encrypted or not; a page with page
//! compression ends where its type field says: `0x8000` and the length in units of 256 bytes
//! (`buf_page_is_corrupted`, `buf_page_full_crc32_size`). Bytes 0 to 4 hold the version of the key, 0 for a page in the clear.

use crate::base::crc32c::crc32c;
use crate::base::{PageNo, SpaceId};
use crate::innodb::page::header::{PAGE_NO, SPACE_ID, TYPE};
use crate::innodb::page::{
    Expected, FilHeader, FlagsError, PageDefect, PageFormat, PageLayout, Scratch, SpaceFlags, Verdict,
    is_all_zero, verify,
};

/// Bit 4 of the flags.
const FULL_CRC32: u32 = 1 << 4;
/// Bits of older flags that say nothing of the layout: `DATA DIRECTORY` of 5.6, and page compression.
const IGNORED: u32 = 1 << 10 | 1 << 16;
/// Bits that `full_crc32` knows.
const KNOWN: u32 = (1 << 8) - 1;
/// In the type of a page with page compression; the rest is its length in [`UNIT`]s.
const COMPRESSED: u16 = 0x8000;
const UNIT: usize = 256;
const CHECKSUM: usize = 4;
/// Version of the key at the head of an encrypted page of the older format (`FIL_PAGE_FILE_FLUSH_LSN_OR_KEY_VERSION`).
const OLD_KEY_VERSION: usize = 26;

/// The page format of MariaDB.
#[derive(Debug)]
pub(super) struct MariaDbPages;

impl PageFormat for MariaDbPages {
    fn layout(&self, flags: SpaceFlags) -> Result<PageLayout, FlagsError> {
        if flags.0 & FULL_CRC32 == 0 {
            return SpaceFlags(flags.0 & !IGNORED).layout().map_err(|_| FlagsError(flags.0));
        }
        let layout = PageLayout::full_crc32(512 << (flags.0 & 0xF));
        layout.filter(|_| flags.0 & !KNOWN == 0).ok_or(FlagsError(flags.0))
    }

    fn verify(
        &self,
        page: &[u8],
        layout: &PageLayout,
        expected: Expected,
        scratch: &mut Scratch,
    ) -> Result<Verdict, PageDefect> {
        if page.len() != layout.physical() {
            return Err(PageDefect::Length { found: page.len(), expected: layout.physical() });
        }
        if layout.has_full_crc32() {
            return full_crc32(page, expected);
        }
        let key_version = u32_at(page, OLD_KEY_VERSION);
        if expected.page != PageNo(0) && key_version != 0 && !is_all_zero(page) {
            return number(page, expected).map(|()| Verdict::Encrypted);
        }
        verify(page, layout, expected, scratch)
    }
}

fn full_crc32(page: &[u8], expected: Expected) -> Result<Verdict, PageDefect> {
    if is_all_zero(page) {
        return Ok(Verdict::AllZero);
    }
    let end = stored_len(page).min(page.len()) - CHECKSUM;
    let (stored, computed) = (u32_at(page, end), crc32c(&page[..end]));
    if stored != computed {
        return Err(PageDefect::Checksum { stored, computed });
    }
    number(page, expected)?;
    // From byte 26 on a compressed or encrypted page has its payload; the checksum is of what is stored.
    let is_clear = u32_at(page, 0) == 0 && page_type(page) & COMPRESSED == 0;
    let found = SpaceId(u32_at(page, SPACE_ID));
    if is_clear && found != expected.space {
        return Err(PageDefect::SpaceId { found, expected: expected.space });
    }
    Ok(Verdict::Ok)
}

/// Bytes of the page up to the end of its checksum.
fn stored_len(page: &[u8]) -> usize {
    match page_type(page) {
        t if t & COMPRESSED == 0 => page.len(),
        t => (usize::from(t & !COMPRESSED) * UNIT).max(UNIT),
    }
}

fn page_type(page: &[u8]) -> u16 {
    u16::from_be_bytes([page[TYPE], page[TYPE + 1]])
}

fn number(page: &[u8], expected: Expected) -> Result<(), PageDefect> {
    let found = FilHeader::of(page).map_or(PageNo(u32_at(page, PAGE_NO)), FilHeader::page_no);
    if found == expected.page { Ok(()) } else { Err(PageDefect::PageNo { found, expected: expected.page }) }
}

/// The number at `at`, which lies inside of every page.
fn u32_at(page: &[u8], at: usize) -> u32 {
    page[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected = Expected { space: SpaceId(9), page: PageNo(3) };

    /// A page of `full_crc32` whose stored length is `len`.
    fn page(len: usize, page_type: u16) -> Vec<u8> {
        let mut page = vec![0; 16384];
        page[PAGE_NO..PAGE_NO + 4].copy_from_slice(&3u32.to_be_bytes());
        page[TYPE..TYPE + 2].copy_from_slice(&page_type.to_be_bytes());
        page[SPACE_ID..SPACE_ID + 4].copy_from_slice(&9u32.to_be_bytes());
        page[100..len.min(200)].fill(7);
        seal(&mut page, len);
        page
    }

    fn seal(page: &mut [u8], len: usize) {
        let crc = crc32c(&page[..len - CHECKSUM]);
        page[len - CHECKSUM..len].copy_from_slice(&crc.to_be_bytes());
    }

    fn check(page: &[u8]) -> Result<Verdict, PageDefect> {
        let layout = PageLayout::full_crc32(16384).unwrap();
        MariaDbPages.verify(page, &layout, EXPECTED, &mut Scratch::new())
    }

    #[test]
    fn flags_seen_on_servers() {
        let layout = |flags| MariaDbPages.layout(SpaceFlags(flags));
        assert_eq!(layout(0x15).unwrap(), PageLayout::full_crc32(16384).unwrap());
        assert_eq!(layout(0x35).unwrap(), PageLayout::full_crc32(16384).unwrap());
        assert_eq!(layout(0x29).unwrap(), PageLayout::zip(16384, 8192).unwrap());
        assert_eq!(layout(0x27).unwrap(), PageLayout::zip(16384, 4096).unwrap());
        for flags in [0x10, 0x1F, 0x115, 0x8000_0015, 0x4001] {
            assert_eq!(layout(flags), Err(FlagsError(flags)));
        }
    }

    #[test]
    fn every_changed_bit_of_what_is_stored_is_seen() {
        for (len, page_type) in [(16384, 17855), (512, COMPRESSED | 2)] {
            let good = page(len, page_type);
            assert_eq!(check(&good), Ok(Verdict::Ok));
            for at in 0..len {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert!(check(&bad).is_err(), "{at}");
            }
        }
        assert_eq!(check(&vec![0; 16384]), Ok(Verdict::AllZero));
        assert!(matches!(check(&[0; 100]), Err(PageDefect::Length { .. })));
    }

    #[test]
    fn no_length_in_a_page_is_trusted() {
        for page_type in [COMPRESSED, 0xFFFF, COMPRESSED | 64] {
            let mut bad = page(16384, 17855);
            bad[TYPE..TYPE + 2].copy_from_slice(&page_type.to_be_bytes());
            assert!(check(&bad).is_err());
        }
    }

    #[test]
    fn pages_of_other_places_are_refused() {
        let mut other = page(16384, 17855);
        other[SPACE_ID + 3] = 8;
        seal(&mut other, 16384);
        assert!(matches!(check(&other), Err(PageDefect::SpaceId { .. })));
        // With a key nobody can tell.
        other[3] = 1;
        seal(&mut other, 16384);
        assert_eq!(check(&other), Ok(Verdict::Ok));
        other[PAGE_NO + 3] = 4;
        seal(&mut other, 16384);
        assert!(matches!(check(&other), Err(PageDefect::PageNo { .. })));
    }
}
