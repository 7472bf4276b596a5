use std::io::Write;

use super::*;
use crate::innodb::bytes::{put16, put32};
use crate::innodb::page::compressed::{Inflater, stored_len};

const HERE: Expected = Expected { space: SpaceId(9), page: PageNo(4) };

fn sound_page(len: usize, zip: bool) -> Vec<u8> {
    let mut page: Vec<u8> = (0..len).map(|i| (i / 100 % 250) as u8).collect();
    put32(&mut page, 4, HERE.page.0);
    put16(&mut page, 24, PageType::INDEX.0);
    put32(&mut page, 34, HERE.space.0);
    checksum::stamp(&mut page, zip);
    page
}

fn check(page: &[u8], layout: PageLayout) -> Result<Verdict, PageDefect> {
    verify(page, &layout, HERE, &mut Scratch::new())
}

fn plain(bytes: usize) -> PageLayout {
    PageLayout::plain(bytes).unwrap()
}

/// `page` as transparent page compression stores it, up to the page's full length.
fn compress(page: &[u8], algorithm: u8) -> Vec<u8> {
    let payload = match algorithm {
        1 => {
            let mut z = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
            z.write_all(&page[38..]).unwrap();
            z.finish().unwrap()
        }
        _ => lz4_flex::block::compress(&page[38..]),
    };
    let mut out = page[..38].to_vec();
    out[26] = 2;
    out[27] = algorithm;
    out.copy_within(24..26, 28);
    put16(&mut out, 24, PageType::COMPRESSED.0);
    put16(&mut out, 30, (page.len() - 38) as u16);
    put16(&mut out, 32, payload.len() as u16);
    out.extend_from_slice(&payload);
    assert!(out.len() < page.len());
    out.resize(page.len(), 0);
    out
}

#[test]
fn sound_pages_of_every_size() {
    for size in [4096, 8192, 16384, 32768, 65536] {
        assert_eq!(check(&sound_page(size, false), plain(size)), Ok(Verdict::Ok));
        assert_eq!(check(&vec![0; size], plain(size)), Ok(Verdict::AllZero));
    }
    for size in [1024, 2048, 4096, 8192, 16384] {
        let layout = PageLayout::zip(16384, size).unwrap();
        assert_eq!(check(&sound_page(size, true), layout), Ok(Verdict::Ok));
        assert_eq!(check(&vec![0; size], layout), Ok(Verdict::AllZero));
    }
}

#[test]
fn empty_page_with_the_flush_lsn_set() {
    let mut page = vec![0; 16384];
    page[27] = 1;
    assert_eq!(check(&page, plain(16384)), Ok(Verdict::Ok));
    page[40] = 1;
    assert!(matches!(check(&page, plain(16384)), Err(PageDefect::Checksum { .. })));
}

#[test]
fn a_flipped_bit_is_found_wherever_it_lies() {
    for (page, layout, uncovered) in [
        (sound_page(4096, false), plain(4096), 26..34),
        (sound_page(2048, true), PageLayout::zip(16384, 2048).unwrap(), 26..34),
    ] {
        for at in 0..page.len() {
            // A compressed page's LSN is not covered by its checksum: nothing can be said about it.
            if uncovered.contains(&at) || (layout.is_zip() && (16..24).contains(&at)) {
                continue;
            }
            let mut bad = page.clone();
            bad[at] ^= 0x10;
            assert!(check(&bad, layout).is_err(), "byte {at}");
        }
    }
}

#[test]
fn torn_pages_name_both_ends() {
    let mut page = sound_page(16384, false);
    page[16383] ^= 1;
    let e = check(&page, plain(16384)).unwrap_err();
    assert!(matches!(e, PageDefect::Torn { .. }));
    assert!(e.to_string().starts_with("torn: LSN ends in 0x"), "{e}");
}

#[test]
fn sound_pages_of_another_place() {
    let page = sound_page(16384, false);
    let at = |space, page_no| {
        let expected = Expected { space: SpaceId(space), page: PageNo(page_no) };
        verify(&page, &plain(16384), expected, &mut Scratch::new())
    };
    assert_eq!(at(9, 5), Err(PageDefect::PageNo { found: PageNo(4), expected: PageNo(5) }));
    assert_eq!(at(8, 4), Err(PageDefect::SpaceId { found: SpaceId(9), expected: SpaceId(8) }));
    assert_eq!(at(0, 4), Ok(Verdict::Ok));
}

#[test]
fn compressed_pages_verify_and_tell_their_length() {
    for algorithm in [1, 2] {
        for size in [4096, 16384, 65536] {
            let page = compress(&sound_page(size, false), algorithm);
            assert_eq!(check(&page, plain(size)), Ok(Verdict::Ok), "algorithm {algorithm}, {size}");
            let stored = stored_len(&page).unwrap();
            assert!(is_all_zero(&page[stored..]) && stored < size);
        }
    }
    assert_eq!(stored_len(&sound_page(4096, false)), None);
    assert_eq!(stored_len(&[0; 10]), None);
}

/// Not every bit of a payload matters (padding, lengths that could be longer): what is accepted all the same
/// must restore to the very same page.
#[test]
fn a_flipped_bit_in_a_compressed_page_is_found_or_harmless() {
    let original = sound_page(16384, false);
    for algorithm in [1, 2] {
        let page = compress(&original, algorithm);
        let stored = stored_len(&page).unwrap();
        let mut found = 0;
        for at in (38..stored).chain([16, 20, 26, 27, 31, 32, 33]) {
            let mut bad = page.clone();
            bad[at] ^= 0x04;
            if check(&bad, plain(16384)).is_ok() {
                let mut restored = vec![0; 16384];
                super::restore(&bad, &mut restored, &mut Inflater::default()).unwrap();
                assert_eq!(restored[38..], original[38..], "byte {at}");
            } else {
                found += 1;
            }
        }
        assert!(found > stored * 9 / 10 - 38, "{found} of {stored}");
    }
}

#[test]
fn compressed_pages_of_another_size_are_refused() {
    let page = compress(&sound_page(8192, false), 1);
    let mut longer = page.clone();
    longer.resize(16384, 0);
    assert!(matches!(
        check(&longer, plain(16384)),
        Err(PageDefect::Compressed(PayloadError::Lengths { original: 8154, .. }))
    ));
}

#[test]
fn encrypted_pages_show_only_where_they_belong() {
    for t in [15, 16, 17] {
        let mut page = sound_page(16384, false);
        put16(&mut page, 24, t);
        assert_eq!(check(&page, plain(16384)), Ok(Verdict::Encrypted));
        put32(&mut page, 4, 5);
        assert!(matches!(check(&page, plain(16384)), Err(PageDefect::PageNo { .. })));
        let first = Expected { page: PageNo(0), ..HERE };
        assert_eq!(
            verify(&page, &plain(16384), first, &mut Scratch::new()),
            Err(PageDefect::HeaderType(PageType(t)))
        );
    }
}

/// `ALTER TABLE … IMPORT TABLESPACE` of a page-compressed or an encrypted table writes such pages.
#[test]
fn pages_that_were_never_written_may_be_encoded() {
    for algorithm in [1, 2] {
        let empty = compress(&[0; 16384], algorithm);
        assert_eq!(check(&empty, plain(16384)), Ok(Verdict::Ok));
        // Content without a header is none.
        let mut content = vec![0; 16384];
        content[9000] = 1;
        assert!(matches!(
            check(&compress(&content, algorithm), plain(16384)),
            Err(PageDefect::Checksum { .. })
        ));
        for at in [0, 4, 16, 34] {
            let mut bad = empty.clone();
            bad[at] = 1;
            assert!(check(&bad, plain(16384)).is_err(), "byte {at}");
        }
        let first = Expected { page: PageNo(0), ..HERE };
        assert!(verify(&empty, &plain(16384), first, &mut Scratch::new()).is_err());
    }
    let mut encrypted = vec![7; 16384];
    encrypted[..38].fill(0);
    put16(&mut encrypted, 24, 15);
    assert_eq!(check(&encrypted, plain(16384)), Ok(Verdict::Encrypted));
}

#[test]
fn wrong_lengths_are_refused() {
    assert_eq!(check(&[0; 100], plain(4096)), Err(PageDefect::Length { found: 100, expected: 4096 }));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        mut page in proptest::collection::vec(proptest::num::u8::ANY, 4096),
        page_type in 0u16..30,
        algorithm in 0u8..4,
        payload in 0u16..5000,
    ) {
        put16(&mut page, 24, page_type);
        (page[26], page[27]) = (2, algorithm);
        put16(&mut page, 30, 4096 - 38);
        put16(&mut page, 32, payload);
        let _ = stored_len(&page);
        let verdict = check(&page, plain(4096));
        let encrypted = PageType(page_type).is_encrypted();
        proptest::prop_assert!(verdict.is_err() || encrypted, "{:?}", verdict);
        let _ = super::super::Page0::read(&page);
    }
}
