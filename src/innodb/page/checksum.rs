//! Page checksums (buf/checksum.cc in the server).
//!
//! What `innodb_checksum_algorithm` may have written, in the field at offset 0 and the one at the start of the
//! trailer (pages of ROW_FORMAT=COMPRESSED spaces have only the first):
//!
//! * `crc32`: CRC-32C of bytes 4..26 xor CRC-32C of bytes 38..size−8, in both fields. Bytes 26..38 are left
//!   out because some of them were once written outside the buffer pool. A server built for a big-endian machine
//!   took the bytes in groups of eight, each reversed (`ut_crc32_legacy_big_endian`).
//! * `innodb`: a fold (`hash_binary_ib`) of the same two ranges, summed; the trailer holds the fold of bytes
//!   0..26 (or, from ancient servers, the low half of the LSN).
//! * `none`: `0xDEADBEEF` in both.
//! * compressed pages: ranges 4..16, 24..26 and 34..size; the three CRCs xor-ed, or one running Adler-32 that
//!   starts at 0 (not at 1).

use super::header::{FLUSH_LSN, LSN, PAGE_NO, SPACE_ID, TYPE};
use super::{FIL_HEADER, FIL_TRAILER};
use crate::base::crc32c::crc32c;
use crate::innodb::bytes::{be32, put32};

/// What `innodb_checksum_algorithm=none` stores (`BUF_NO_CHECKSUM_MAGIC`).
pub const NO_CHECKSUM: u32 = 0xDEAD_BEEF;

/// CRC-32C over what a plain page's checksum covers. `page` has at least 1024 bytes.
pub fn crc32(page: &[u8]) -> u32 {
    crc32c(&page[PAGE_NO..FLUSH_LSN]) ^ crc32c(body(page))
}

/// The CRC-32C of a plain page as servers on big-endian machines computed it.
pub fn crc32_big_endian(page: &[u8]) -> u32 {
    crc32c_swapped(page, PAGE_NO, FLUSH_LSN) ^ crc32c_swapped(page, FIL_HEADER, page.len() - FIL_TRAILER)
}

/// The `innodb` checksum of the first field.
pub fn innodb_new(page: &[u8]) -> u32 {
    fold(&page[PAGE_NO..FLUSH_LSN]).wrapping_add(fold(body(page)))
}

/// The `innodb` checksum of the trailer; covers the first field too.
pub fn innodb_old(page: &[u8]) -> u32 {
    fold(&page[..FLUSH_LSN])
}

/// CRC-32C over what the checksum of a ROW_FORMAT=COMPRESSED page covers.
pub fn zip_crc32(page: &[u8]) -> u32 {
    zip_ranges(page).into_iter().fold(0, |crc, range| crc ^ crc32c(range))
}

/// The `innodb` checksum of a ROW_FORMAT=COMPRESSED page.
pub fn zip_adler32(page: &[u8]) -> u32 {
    zip_ranges(page).into_iter().fold(0, adler32)
}

/// Whether the checksum fields of a plain page match under any algorithm.
pub fn matches(page: &[u8]) -> bool {
    let (first, last) = (be32(page, 0), be32(page, page.len() - FIL_TRAILER));
    if first == last && (first == crc32(page) || first == NO_CHECKSUM) {
        return true;
    }
    // Servers before 4.0.14 stored a space id of 0 in the first field.
    let innodb =
        (last == innodb_old(page) || last == be32(page, LSN)) && (first == 0 || first == innodb_new(page));
    innodb || (first == last && first == crc32_big_endian(page))
}

/// Whether the checksum field of a ROW_FORMAT=COMPRESSED page matches under any algorithm.
pub fn zip_matches(page: &[u8]) -> bool {
    let stored = be32(page, 0);
    stored == zip_crc32(page) || stored == NO_CHECKSUM || stored == zip_adler32(page)
}

/// Stores the crc32 checksum (and, on a plain page, the trailer's copy of the LSN).
pub fn stamp(page: &mut [u8], zip: bool) {
    if zip {
        let crc = zip_crc32(page);
        return put32(page, 0, crc);
    }
    let trailer = page.len() - FIL_TRAILER;
    page.copy_within(LSN + 4..LSN + 8, trailer + 4);
    let crc = crc32(page);
    put32(page, 0, crc);
    put32(page, trailer, crc);
}

fn body(page: &[u8]) -> &[u8] {
    &page[FIL_HEADER..page.len() - FIL_TRAILER]
}

fn zip_ranges(page: &[u8]) -> [&[u8]; 3] {
    [&page[PAGE_NO..LSN], &page[TYPE..FLUSH_LSN], &page[SPACE_ID..]]
}

/// `ut::hash_binary_ib`.
fn fold(bytes: &[u8]) -> u32 {
    const MASK: u32 = 1_463_735_687;
    const MASK2: u32 = 1_653_893_711;
    bytes
        .iter()
        .map(|b| u32::from(*b))
        .fold(0, |h: u32, b| (((h ^ b ^ MASK2) << 8).wrapping_add(h) ^ MASK).wrapping_add(b))
}

/// Adler-32 taken on from `state`. The server starts at 0, which no common crate offers.
pub(crate) fn adler32(state: u32, bytes: &[u8]) -> u32 {
    const BASE: u32 = 65521;
    /// As many bytes as can be summed before 32 bits overflow (zlib's NMAX).
    const BATCH: usize = 5552;
    let (mut a, mut b) = (state & 0xFFFF, state >> 16);
    for batch in bytes.chunks(BATCH) {
        for byte in batch {
            a += u32::from(*byte);
            b += a;
        }
        a %= BASE;
        b %= BASE;
    }
    b << 16 | a
}

/// CRC-32C of `page[from..to]` with every aligned group of eight bytes reversed; the unaligned bytes before and
/// after go in one by one, since pages are aligned in the server's memory.
fn crc32c_swapped(page: &[u8], from: usize, to: usize) -> u32 {
    let aligned = from.next_multiple_of(8).min(to);
    let mut swapped = page[from..to].to_vec();
    swapped[aligned - from..].chunks_exact_mut(8).for_each(<[u8]>::reverse);
    crc32c(&swapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 7 % 251) as u8).collect()
    }

    #[test]
    fn every_algorithm_is_accepted_and_one_bit_breaks_each() {
        type Stamp = fn(&[u8]) -> (u32, u32);
        let stamps: [Stamp; 4] = [
            |p| (crc32(p), crc32(p)),
            |p| (crc32_big_endian(p), crc32_big_endian(p)),
            |p| (innodb_new(p), 0),
            |p| (innodb_new(p), be32(p, LSN)),
        ];
        for (i, stamp) in stamps.iter().enumerate() {
            let mut p = page(16384);
            let (first, mut last) = stamp(&p);
            put32(&mut p, 0, first);
            if last == 0 {
                last = innodb_old(&p);
            }
            put32(&mut p, 16376, last);
            assert!(matches(&p), "algorithm {i}");
            for at in [5, 25, 38, 9000, 16375] {
                p[at] ^= 1;
                assert!(!matches(&p), "algorithm {i}, byte {at}");
                p[at] ^= 1;
            }
            // Not covered.
            p[30] ^= 1;
            assert!(matches(&p));
        }
    }

    #[test]
    fn zip_algorithms() {
        for checksum in [zip_crc32, zip_adler32] {
            let mut p = page(4096);
            let sum = checksum(&p);
            put32(&mut p, 0, sum);
            assert!(zip_matches(&p));
            for (at, covered) in [(4, true), (16, false), (24, true), (26, false), (34, true), (4095, true)] {
                p[at] ^= 1;
                assert_eq!(zip_matches(&p), !covered, "byte {at}");
                p[at] ^= 1;
            }
        }
    }

    #[test]
    fn none_is_accepted() {
        let mut p = page(8192);
        put32(&mut p, 0, NO_CHECKSUM);
        assert!(!matches(&p));
        put32(&mut p, 8184, NO_CHECKSUM);
        assert!(matches(&p) && zip_matches(&p));
    }

    #[test]
    fn adler_from_one_is_the_standard_one() {
        // RFC 1950: "Wikipedia" gives 0x11E60398.
        assert_eq!(adler32(1, b"Wikipedia"), 0x11E6_0398);
        assert_eq!(adler32(adler32(1, b"Wiki"), b"pedia"), 0x11E6_0398);
    }

    #[test]
    fn swapped_crc_of_palindromic_groups_is_the_plain_one() {
        let p: Vec<u8> = b"01233210".repeat(200);
        assert_eq!(crc32_big_endian(&p), crc32(&p));
    }

    #[test]
    fn stamped_pages_match() {
        let mut p = page(16384);
        stamp(&mut p, false);
        assert!(matches(&p));
        assert_eq!(p[20..24], p[16380..]);
        stamp(&mut p, true);
        assert!(zip_matches(&p));
    }
}
