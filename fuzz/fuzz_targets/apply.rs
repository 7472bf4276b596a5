//! Records for pages, both damaged: the bytes are a log, whose records are applied to one page that starts as the
//! end of the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::base::{Lsn, PageNo, SpaceId};
use xbpipe::innodb::apply::{Applier, Page};
use xbpipe::innodb::page::{PageLayout, Scratch};
use xbpipe::innodb::redo::{BlockWriter, Scanner};

const START: Lsn = Lsn(1 << 20);
const SPACE: SpaceId = SpaceId(5);
const PAGE: PageNo = PageNo(3);

fuzz_target!(|data: &[u8]| {
    let [choice, len, data @ ..] = data else { return };
    // tests/innodb_apply.rs, which makes seeds of real pages, has the same numbers.
    let layout = match choice % 6 {
        0 => PageLayout::plain(4096),
        1 => PageLayout::plain(65536),
        2 => PageLayout::zip(16384, 1024),
        3 => PageLayout::zip(4096, 4096),
        4 => PageLayout::plain(16384),
        _ => PageLayout::zip(16384, 8192),
    };
    let layout = layout.unwrap();
    let (log, page) = data.split_at(data.len().min(8 * usize::from(*len)));
    let mut bytes = page.to_vec();
    bytes.resize(layout.physical(), 0);
    let Ok(mut page) = Page::load(SPACE, PAGE, layout, bytes, &mut Scratch::new()) else { return };
    let mut writer = BlockWriter::new(START);
    writer.push_group(log);
    let mut scanner = Scanner::new(START.plus(12));
    let mut applier = Applier::new();
    for block in writer.finish().0 {
        if scanner.feed(&block).is_err() {
            return;
        }
        while let Ok(Some(group)) = scanner.poll() {
            for record in group.all_records() {
                let _ = applier.apply(&mut page, &record);
            }
        }
    }
    if let Ok(bytes) = page.finish(Lsn(2 << 20)) {
        assert_eq!(bytes.len(), layout.physical());
    }
});
