//! Index pages under records made by hand, against a model; and damaged pages under damaged records.

use super::index_page::IndexPage;
use super::page_header::{
    DIRECTION, FREE, GARBAGE, HEAP_TOP, LAST_INSERT, N_DIRECTION, N_RECS, N_SLOTS, NO_DIRECTION, PAGE_DATA,
};
use super::*;
use crate::innodb::bytes::be16;
use crate::innodb::page::{PageLayout, Scratch};
use crate::innodb::redo::parse_body;
use crate::innodb::redo::record::RowFormat;
use proptest::prelude::*;

const SPACE: SpaceId = SpaceId(9);
const PAGE: PageNo = PageNo(4);

/// A secondary index of one CHAR(4), and of a VARCHAR(100) that can be NULL.
const INDEX: [u8; 10] = [1, 1, 0, 2, 0, 2, 0x80, 4, 0, 0];

fn layout() -> PageLayout {
    PageLayout::plain(4096).unwrap()
}

fn apply_body(
    applier: &mut Applier,
    page: &mut Page<'_>,
    kind: Kind,
    bytes: &[u8],
) -> Result<(), ApplyError> {
    let body = parse_body(kind, SPACE, bytes).unwrap();
    let (start_lsn, end_lsn) = (Lsn(1000), Lsn(1100));
    applier.apply(page, &Record { start_lsn, end_lsn, space: SPACE, page: PAGE, kind, bytes, body })
}

/// A COMPACT record: header, key, text.
fn compact(key: u32, text: &str) -> Vec<u8> {
    let mut record = vec![text.len() as u8, 0, 0, 0, 0, 0, 0];
    record.extend(key.to_be_bytes());
    record.extend(text.as_bytes());
    record
}

/// An insert after `after`, written in full.
fn insert_body(after: usize, record: &[u8]) -> Vec<u8> {
    let mut body = INDEX.to_vec();
    body.extend((after as u16).to_be_bytes());
    let len = record.len() as u32 * 2 + 1;
    body.extend([0x80 | (len >> 8) as u8, len as u8, 0, 7, 0]);
    body.extend(record);
    body
}

fn delete_body(rec: usize) -> Vec<u8> {
    let mut body = INDEX.to_vec();
    body.extend((rec as u16).to_be_bytes());
    body
}

fn empty() -> Page<'static> {
    let mut page = Page::blank(SPACE, PAGE, layout());
    let mut applier = Applier::new();
    apply_body(&mut applier, &mut page, Kind::InitFilePage2, &[]).unwrap();
    apply_body(&mut applier, &mut page, Kind::CompPageCreate, &[]).unwrap();
    page
}

/// The keys of the records in order; checks links, owners, slots, heap and free list on the way.
fn keys(page: &mut Page<'_>) -> Vec<u32> {
    let page = IndexPage::any(page.raw_mut()).unwrap();
    let (mut at, mut owned, mut slot, mut keys) = (page.infimum(), 0, 0, Vec::new());
    loop {
        owned += 1;
        if page.n_owned(at) != 0 {
            assert_eq!(page.n_owned(at), owned);
            assert_eq!(page.slot(slot).unwrap(), at);
            let inner = slot > 0 && at != page.supremum();
            assert!(!inner || (4..=8).contains(&owned), "slot {slot} owns {owned}");
            (owned, slot) = (0, slot + 1);
        }
        if at == page.supremum() {
            break;
        }
        if at != page.infimum() {
            keys.push(u32::from_be_bytes(page.b[at..at + 4].try_into().unwrap()));
        }
        at = page.next(at).unwrap();
    }
    assert_eq!(slot, page.get(N_SLOTS));
    assert_eq!(keys.len(), page.get(N_RECS));
    assert!(page.get(HEAP_TOP) <= page.directory_start().unwrap());
    let (mut free, mut count) = (page.get(FREE), 0);
    while free != 0 {
        count += 1;
        free = page.next_or_end(free).unwrap().unwrap_or(0);
    }
    assert_eq!(count + keys.len() + 2, page.n_heap());
    assert!(count > 0 || page.get(GARBAGE) < page.b.len());
    keys
}

/// The place of the record number `n` in the list; 0 is infimum.
fn place(page: &mut Page<'_>, n: usize) -> usize {
    let page = IndexPage::any(page.raw_mut()).unwrap();
    (0..n).fold(page.infimum(), |at, _| page.next(at).unwrap())
}

proptest! {
    /// Inserts and deletes at random places leave what the same do to a list, on a page whose structure holds.
    #[test]
    fn records_go_where_they_belong(steps in prop::collection::vec((0usize..1000, any::<bool>(), "[a-z]{0,20}"), 1..300)) {
        let (mut page, mut applier, mut model) = (empty(), Applier::new(), Vec::<u32>::new());
        for (i, (at, delete, text)) in steps.into_iter().enumerate() {
            if delete && model.len() > 1 {
                let n = at % model.len();
                let rec = place(&mut page, n + 1);
                apply_body(&mut applier, &mut page, Kind::RecDelete, &delete_body(rec)).unwrap();
                model.remove(n);
            } else if model.len() < 80 {
                let n = at % (model.len() + 1);
                let after = place(&mut page, n);
                let body = insert_body(after, &compact(i as u32, &text));
                apply_body(&mut applier, &mut page, Kind::RecInsert, &body).unwrap();
                model.insert(n, i as u32);
            }
            prop_assert_eq!(keys(&mut page), model.clone());
        }
        apply_body(&mut applier, &mut page, Kind::PageReorganize, &INDEX).unwrap();
        prop_assert_eq!(keys(&mut page), model.clone());
        prop_assert_eq!(be16(page.bytes(), FREE), 0);
        let half = model.len() / 2;
        let rec = place(&mut page, half + 1);
        apply_body(&mut applier, &mut page, Kind::ListEndDelete, &delete_body(rec)).unwrap();
        model.truncate(half);
        prop_assert_eq!(keys(&mut page), model.clone());
        let rec = place(&mut page, half / 2 + 1);
        apply_body(&mut applier, &mut page, Kind::ListStartDelete, &delete_body(rec)).unwrap();
        if half > 0 {
            prop_assert_eq!(keys(&mut page), model.split_off(half / 2));
        }
    }

    /// A list of records fills a page as the same records do one by one, until it is full or the list is cut.
    #[test]
    fn a_list_is_as_good_as_its_records(
        texts in prop::collection::vec("[a-z]{0,3}|[a-z]{0,60}", 0..300),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut inserts: Vec<Vec<u8>> = Vec::new();
        let mut before = None;
        for (key, text) in texts.iter().enumerate() {
            let record = compact(key as u32, text);
            // As long as the one before: the server then leaves out the header and what both begin with.
            let len = if before == Some(text.len()) { 2 * (record.len() - 7) } else { 2 * record.len() + 1 };
            let mut insert = vec![0x80 | (len >> 8) as u8, len as u8];
            if len % 2 == 1 {
                insert.extend([0, 7, 0]);
            }
            insert.extend(&record[record.len() - len / 2..]);
            inserts.push(insert);
            before = Some(text.len());
        }
        let list = inserts.concat();
        let end = cut.map_or(list.len(), |cut| cut.index(list.len() + 1));
        let list = [&INDEX[..], &(end as u32).to_be_bytes(), &list[..end]].concat();
        let (mut page, mut other, mut applier) = (empty(), empty(), Applier::new());
        let done = apply_body(&mut applier, &mut page, Kind::ListEndCopyCreated, &list);

        let (mut filled, mut given) = (Ok(()), 0);
        for (n, insert) in inserts.iter().enumerate() {
            given += insert.len();
            if filled.is_err() || given > end {
                break;
            }
            let after = place(&mut other, n) as u16;
            let body = [&INDEX[..], &after.to_be_bytes(), insert].concat();
            filled = apply_body(&mut applier, &mut other, Kind::RecInsert, &body);
        }
        let is_cut = (0..=inserts.len()).all(|n| inserts[..n].concat().len() != end);
        prop_assert_eq!(done.is_err(), filled.is_err() || is_cut);
        if done.is_ok() {
            let other = other.raw_mut();
            other[LAST_INSERT..LAST_INSERT + 2].fill(0);
            other[DIRECTION..DIRECTION + 2].copy_from_slice(&NO_DIRECTION.to_be_bytes());
            other[N_DIRECTION..N_DIRECTION + 2].fill(0);
            prop_assert_eq!(page.bytes(), &*other);
        }
    }

    /// Damaged pages and damaged records: errors, but no panic and no endless walk.
    #[test]
    fn damage_is_an_error(
        kind in prop::sample::select(Kind::ALL),
        body in prop::collection::vec(any::<u8>(), 0..200),
        with_index in any::<bool>(),
        records in 0u32..60,
        damage in prop::collection::vec((38usize..4096, any::<u8>()), 0..30),
    ) {
        let (mut page, mut applier) = (empty(), Applier::new());
        for key in 0..records {
            let after = place(&mut page, key as usize);
            apply_body(&mut applier, &mut page, Kind::RecInsert, &insert_body(after, &compact(key, "abc"))).unwrap();
        }
        for (at, byte) in damage {
            page.raw_mut()[at] = byte;
        }
        let mut bytes = if with_index { INDEX.to_vec() } else { Vec::new() };
        bytes.extend(body);
        // Bodies that no parser lets through are the parser's affair.
        for len in 0..=bytes.len() {
            if let Ok(body) = parse_body(kind, SPACE, &bytes[..len]) {
                let (start_lsn, end_lsn) = (Lsn(1000), Lsn(1100));
                let bytes = &bytes[..len];
                let record = Record { start_lsn, end_lsn, space: SPACE, page: PAGE, kind, bytes, body };
                let _ = applier.apply(&mut page, &record);
                prop_assert_eq!(page.finish(end_lsn).unwrap().len(), 4096);
                break;
            }
        }
    }

    /// Records for a damaged page that name places in it.
    #[test]
    fn damaged_lists_end(
        damage in prop::collection::vec((38usize..4096, any::<u8>()), 0..30),
        rec in 90u16..4096,
        kind in prop::sample::select(&[Kind::RecDelete, Kind::ListEndDelete, Kind::ListStartDelete][..]),
    ) {
        let (mut page, mut applier) = (empty(), Applier::new());
        for key in 0..60 {
            let after = place(&mut page, key as usize);
            apply_body(&mut applier, &mut page, Kind::RecInsert, &insert_body(after, &compact(key, "abc"))).unwrap();
        }
        for (at, byte) in damage {
            page.raw_mut()[at] = byte;
        }
        let _ = apply_body(&mut applier, &mut page, kind, &delete_body(usize::from(rec)));
        let _ = apply_body(&mut applier, &mut page, Kind::RecInsert, &insert_body(usize::from(rec), &compact(1, "xy")));
        let _ = apply_body(&mut applier, &mut page, Kind::PageReorganize, &INDEX);
    }
}

#[test]
fn errors_name_page_lsn_and_record() {
    let mut page = empty();
    let e = apply_body(&mut Applier::new(), &mut page, Kind::RecDelete, &delete_body(99)).unwrap_err();
    assert_eq!(
        e.to_string(),
        "redo record REC_DELETE at LSN 1000 can't be applied to page 4 of tablespace 9: \
         infimum or supremum in place of a user record"
    );
}

#[test]
fn a_finished_page_is_sound() {
    use crate::innodb::page::{Expected, Verdict, verify};
    let mut page = empty();
    let bytes = page.finish(Lsn(77)).unwrap().to_vec();
    let expected = Expected { space: SPACE, page: PAGE };
    assert_eq!(verify(&bytes, &layout(), expected, &mut Scratch::new()), Ok(Verdict::Ok));
    assert_eq!(Page::load(SPACE, PAGE, layout(), bytes, &mut Scratch::new()).unwrap().lsn(), Lsn(77));
}

#[test]
fn a_row_format_must_fit_its_page() {
    let mut page = Page::blank(SPACE, PAGE, layout());
    let mut applier = Applier::new();
    let e = apply_body(&mut applier, &mut page, Kind::RecDelete, &delete_body(120)).unwrap_err();
    assert_eq!(e.what, "not an index page");
    apply_body(&mut applier, &mut page, Kind::PageCreate, &[]).unwrap();
    let e = apply_body(&mut applier, &mut page, Kind::RecDelete, &delete_body(120)).unwrap_err();
    assert_eq!(e.what, "the page and the record have different row formats");
    let page = IndexPage::any(page.raw_mut()).unwrap();
    assert_eq!((page.format, page.next(page.infimum())), (RowFormat::Redundant, Ok(page.supremum())));
    assert_eq!(page.b[PAGE_DATA..page.get(HEAP_TOP)].len(), 31);
}

/// Types that no server of today was seen to write. The bytes follow from its source, which still reads them.
mod rarely_seen {
    use super::*;

    /// A page with something everywhere.
    fn used() -> Page<'static> {
        Page::load(
            SPACE,
            PAGE,
            layout(),
            (0..4096).map(|i| i as u8 | 1).collect::<Vec<_>>(),
            &mut Scratch::new(),
        )
        .unwrap()
    }

    /// `fsp_init_file_page_low`: zeros, the page's number at 4, its tablespace at 34. Unlike INIT_FILE_PAGE2 it is for
    /// pages of any LSN, which is the caller's affair.
    #[test]
    fn init_file_page() {
        let mut page = used();
        apply_body(&mut Applier::new(), &mut page, Kind::InitFilePage, &[]).unwrap();
        let mut wanted = vec![0; 4096];
        wanted[4..8].copy_from_slice(&[0, 0, 0, 4]);
        wanted[34..38].copy_from_slice(&[0, 0, 0, 9]);
        assert!(page.bytes() == wanted);
    }

    /// A group of its own that does nothing (`log_files_generate_dummy_records`).
    #[test]
    fn dummy() {
        let mut page = used();
        apply_body(&mut Applier::new(), &mut page, Kind::Dummy, &[]).unwrap();
        assert!(page.bytes() == used().bytes());
    }

    /// `page_create_low` for the page types 17853 and 17854: PAGE_N_DIR_SLOTS 2, PAGE_HEAP_TOP behind supremum, PAGE_N_HEAP
    /// 2 with the flag of COMPACT, PAGE_DIRECTION 5 (none), the other fields up to PAGE_MAX_TRX_ID zero; level, index and
    /// segments as they were; then the two records, zeros, and the slots of both before the trailer.
    #[test]
    fn pages_created_empty() {
        let compact = *b"\x01\x00\x02\x00\x0dinfimum\x00\x01\x00\x0b\x00\x00supremum";
        let redundant = *b"\x08\x01\x00\x00\x03\x00\x74infimum\x00\x09\x01\x00\x08\x03\x00\x00supremum\x00";
        let (of_compact, of_redundant) =
            ((&compact[..], 0x8002u16, [112u16, 99]), (&redundant[..], 2, [116, 101]));
        for (kind, page_type, (records, heap, slots)) in [
            (Kind::PageCreateSdi, 17853u16, of_redundant),
            (Kind::CompPageCreateSdi, 17853, of_compact),
            (Kind::PageCreateRtree, 17854, of_redundant),
            (Kind::CompPageCreateRtree, 17854, of_compact),
        ] {
            let mut page = used();
            apply_body(&mut Applier::new(), &mut page, kind, &[]).unwrap();
            let mut wanted = used().bytes().to_vec();
            wanted[24..26].copy_from_slice(&page_type.to_be_bytes());
            wanted[38..64].fill(0);
            wanted[39] = 2;
            let top = 94 + records.len();
            wanted[40..42].copy_from_slice(&(top as u16).to_be_bytes());
            wanted[42..44].copy_from_slice(&heap.to_be_bytes());
            wanted[51] = 5;
            wanted[94..top].copy_from_slice(records);
            wanted[top..4084].fill(0);
            wanted[4084..4086].copy_from_slice(&slots[0].to_be_bytes());
            wanted[4086..4088].copy_from_slice(&slots[1].to_be_bytes());
            assert!(page.bytes() == wanted, "{}", kind.name());
        }
    }
}
