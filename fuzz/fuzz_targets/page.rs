//! A page as it may lie on a broken disk: verified, read as a tablespace header, and asked for its stored length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::base::{PageNo, SpaceId};
use xbpipe::innodb::page::{Expected, Page0, PageLayout, PageType, Scratch, Verdict, compressed, verify};

fuzz_target!(|data: &[u8]| {
    let [choice, rest @ ..] = data else { return };
    let layout = match choice % 5 {
        0 => PageLayout::plain(4096),
        1 => PageLayout::plain(16384),
        2 => PageLayout::zip(16384, 1024),
        3 => PageLayout::zip(16384, 8192),
        _ => PageLayout::plain(65536),
    };
    let layout = layout.unwrap();
    let mut page = rest.to_vec();
    page.resize(layout.physical(), 0);
    let expected = Expected { space: SpaceId(5), page: PageNo(3) };
    let verdict = verify(&page, &layout, expected, &mut Scratch::new());
    if verdict == Ok(Verdict::AllZero) {
        assert!(page.iter().all(|b| *b == 0));
    }
    if let Some(stored) = compressed::stored_len(&page) {
        assert!(stored <= page.len());
        assert_eq!(u16::from_be_bytes([page[24], page[25]]), PageType::COMPRESSED.0);
    }
    let _ = Page0::read(&page);
});
