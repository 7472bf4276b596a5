//! Compressed pages under random records: after each, what the compressed half unzips to is the frame; and damaged
//! compressed pages.

use proptest::prelude::*;

use super::super::index_page::IndexPage;
use super::super::page::Page;
use super::super::page_header::N_RECS;
use super::super::record_layout::RecordLayout;
use super::super::{Applier, ApplyError};
use super::{Inflaters, Meta, Zip, compress, unzip};
use crate::base::{Lsn, PageNo, SpaceId};
use crate::innodb::page::{PageLayout, Scratch};
use crate::innodb::redo::parse_body;
use crate::innodb::redo::record::{Body, Kind, Record, RowFormat, Tree};

const SPACE: SpaceId = SpaceId(9);
const PAGE: PageNo = PageNo(4);
const LOGICAL: usize = 4096;

/// CHAR(4) NOT NULL, VARCHAR(100) NULL.
const SECONDARY: [u8; 10] = [1, 1, 0, 2, 0, 2, 0x80, 4, 0, 0];
/// CHAR(4) NOT NULL, DB_TRX_ID, DB_ROLL_PTR, LONGBLOB NULL.
const CLUSTERED: [u8; 14] = [1, 1, 0, 4, 0, 1, 0x80, 4, 0x80, 6, 0x80, 7, 0x7F, 0xFF];
/// Length of a value whose last 20 bytes refer to a LOB.
const EXTERNAL: usize = 40;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Index {
    Secondary,
    Clustered,
}

impl Index {
    fn info(self) -> &'static [u8] {
        match self {
            Index::Secondary => &SECONDARY,
            Index::Clustered => &CLUSTERED,
        }
    }

    /// A record with this key; `text` of 40 bytes goes on elsewhere, if the index is clustered.
    fn record(self, key: u32, text: &[u8]) -> (Vec<u8>, usize) {
        let external = self == Index::Clustered && text.len() == EXTERNAL;
        let mut record = if external { vec![EXTERNAL as u8, 0xC0] } else { vec![text.len() as u8] };
        record.extend([0, 0, 0, 0, 0, 0]);
        let origin = record.len();
        record.extend(key.to_be_bytes());
        if self == Index::Clustered {
            record.extend([7; 13]);
        }
        record.extend(text);
        (record, origin)
    }
}

fn layout() -> PageLayout {
    PageLayout::zip(LOGICAL, 2048).unwrap()
}

fn shape(index: Index) -> RecordLayout {
    let body = [index.info(), &[0, 120]].concat();
    let Ok(Body::RecDelete { index, .. }) = parse_body(Kind::RecDelete, SPACE, &body) else { panic!() };
    RecordLayout::compile(&index).unwrap()
}

/// An empty compressed page.
fn empty(index: Index) -> Page<'static> {
    let mut frame = vec![0; LOGICAL];
    super::super::create::create(&mut frame, RowFormat::Compact, Tree::BTree).unwrap();
    let (mut z, mut meta) = (vec![0; 2048], Meta::default());
    let zip = Zip { z: &mut z, meta: &mut meta };
    let mut page = IndexPage { zip: Some(zip), ..IndexPage::any(&mut frame).unwrap() };
    compress(&mut page, &shape(index), 6).unwrap();
    Page::load(SPACE, PAGE, layout(), z, &mut Scratch::new()).unwrap()
}

fn apply(applier: &mut Applier, page: &mut Page<'_>, kind: Kind, bytes: &[u8]) -> Result<(), ApplyError> {
    let body = parse_body(kind, SPACE, bytes).unwrap();
    let (start_lsn, end_lsn) = (Lsn(1000), Lsn(1100));
    applier.apply(page, &Record { start_lsn, end_lsn, space: SPACE, page: PAGE, kind, bytes, body })
}

/// The places of the records in order, infimum first.
fn places(page: &mut Page<'_>) -> Vec<usize> {
    let page = page.any_index_page(&mut Inflaters::default()).unwrap();
    let mut places = vec![page.infimum()];
    while places.len() <= page.get(N_RECS) {
        places.push(page.next(places[places.len() - 1]).unwrap());
    }
    places
}

fn insert(
    applier: &mut Applier,
    page: &mut Page<'_>,
    index: Index,
    after: usize,
    key: u32,
    text: &[u8],
) -> Result<(), ApplyError> {
    let (record, origin) = index.record(key, text);
    let mut body = index.info().to_vec();
    body.extend((after as u16).to_be_bytes());
    let len = record.len() as u32 * 2 + 1;
    body.extend([0x80 | (len >> 8) as u8, len as u8, 0, origin as u8, 0]);
    body.extend(record);
    apply(applier, page, Kind::RecInsert, &body)?;
    if page.is_ahead() {
        let mut body = index.info().to_vec();
        body.push(6);
        apply(applier, page, Kind::ZipPageCompressNoData, &body)?;
    }
    Ok(())
}

fn with_place(index: Index, place: usize) -> Vec<u8> {
    let mut body = index.info().to_vec();
    body.extend((place as u16).to_be_bytes());
    body
}

/// Delete mark with system fields, as the server writes it.
fn mark_body(index: Index, place: usize, trx: u8) -> Vec<u8> {
    match index {
        Index::Secondary => [&[1][..], &(place as u16).to_be_bytes()].concat(),
        Index::Clustered => {
            let mut body = index.info().to_vec();
            body.extend([0, 1, 1, trx, trx, trx, trx, trx, trx, trx, 0, 0, 0, 0, trx]);
            body.extend((place as u16).to_be_bytes());
            body
        }
    }
}

/// What the compressed half unzips to is the frame, but for what lies between the heap and the directory.
fn check(page: &mut Page<'_>) {
    let bytes = page.bytes().to_vec();
    let unzipped = unzip(&bytes, LOGICAL, &mut Inflaters::default()).unwrap();
    let Some(kept) = page.unzipped_mut() else { return };
    assert_eq!(unzipped.meta, kept.meta);
    let differing: Vec<_> =
        (24..LOGICAL - 8).filter(|at| unzipped.frame[*at] != kept.frame[*at]).take(10).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

type Step = (usize, u8, Vec<u8>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(0u8..3, EXTERNAL..=EXTERNAL),
    ];
    prop::collection::vec((0usize..1000, 0u8..10, text), 1..120)
}

fn run(
    page: &mut Page<'_>,
    index: Index,
    steps: Vec<Step>,
    mut after_each: impl FnMut(&mut Page<'_>),
) -> Result<(), ApplyError> {
    let mut applier = Applier::new();
    for (i, (at, what, text)) in steps.into_iter().enumerate() {
        let places = places(page);
        let recs = places.len() - 1;
        let rec = if recs > 0 { places[1 + at % recs] } else { places[0] };
        match what {
            0..6 if recs < 25 => {
                insert(&mut applier, page, index, places[at % places.len()], i as u32, &text)?
            }
            6..8 if recs > 1 => apply(&mut applier, page, Kind::RecDelete, &with_place(index, rec))?,
            8 if recs > 0 => {
                let kind = match index {
                    Index::Secondary => Kind::RecSecDeleteMark,
                    Index::Clustered => Kind::RecClustDeleteMark,
                };
                apply(&mut applier, page, kind, &mark_body(index, rec, i as u8 & 0x7F))?;
            }
            9 if recs > 2 => {
                let place = places[1 + recs / 2];
                let kind = if at % 2 == 0 { Kind::ListEndDelete } else { Kind::ListStartDelete };
                apply(&mut applier, page, kind, &with_place(index, place))?;
            }
            _ => {}
        }
        after_each(page);
    }
    Ok(())
}

#[test]
fn a_heap_without_even_an_infimum_is_damage() {
    let (mut applier, mut page) = (Applier::default(), empty(Index::Secondary));
    let after = places(&mut page)[0];
    // PAGE_N_HEAP: the flag of the COMPACT format, and none.
    apply(&mut applier, &mut page, Kind::ZipWriteHeader, &[42, 2, 0x80, 0]).unwrap();
    let e = insert(&mut applier, &mut page, Index::Secondary, after, 1, b"x").unwrap_err();
    assert!(e.to_string().contains("infimum"), "{e}");
}

proptest! {
    #[test]
    fn both_halves_say_the_same(steps in steps(), clustered in any::<bool>()) {
        let index = if clustered { Index::Clustered } else { Index::Secondary };
        let mut page = empty(index);
        // A page that gets too full for the compressor is not what this is about.
        match run(&mut page, index, steps, check) {
            Err(e) if e.what == "the page does not get as small as the server made it" => {}
            done => done.unwrap(),
        }
    }

    #[test]
    fn damage_is_an_error(
        steps in steps(),
        clustered in any::<bool>(),
        damage in prop::collection::vec((24usize..2048, any::<u8>()), 1..20),
        rec in 94u16..4096,
    ) {
        let index = if clustered { Index::Clustered } else { Index::Secondary };
        let mut page = empty(index);
        let _ = run(&mut page, index, steps, |_| {});
        let mut bytes = page.bytes().to_vec();
        // The header and the trailer, where damage is not found by the stream's checksum.
        for (at, byte) in damage {
            let at = if at < 1000 { 24 + at % 70 } else { at };
            bytes[at] = byte;
        }
        let mut applier = Applier::new();
        for kind in [Kind::RecDelete, Kind::ListEndDelete, Kind::ListStartDelete] {
            let mut page = Page::load(SPACE, PAGE, layout(), bytes.clone(), &mut Scratch::new()).unwrap();
            let _ = apply(&mut applier, &mut page, kind, &with_place(index, usize::from(rec)));
            let _ = insert(&mut applier, &mut page, index, usize::from(rec), 5, b"text");
            let _ = apply(&mut applier, &mut page, Kind::RecClustDeleteMark, &mark_body(Index::Clustered, usize::from(rec), 3));
            let _ = page.finish(Lsn(1100));
        }
    }
}

#[test]
fn an_insert_into_the_frame_alone_must_be_followed_by_compression() {
    let mut page = empty(Index::Secondary);
    let mut applier = Applier::new();
    let text: Vec<u8> = (0..90u32).map(|i| (i * i * 31 / 7) as u8).collect();
    let mut body = Vec::new();
    for key in 0..40 {
        let (record, origin) = Index::Secondary.record(key, &text);
        body = SECONDARY.to_vec();
        body.extend([0, 99]);
        let len = record.len() as u32 * 2 + 1;
        body.extend([0x80 | (len >> 8) as u8, len as u8, 0, origin as u8, 0]);
        body.extend(record);
        if page.is_ahead() {
            break;
        }
        apply(&mut applier, &mut page, Kind::RecInsert, &body).unwrap();
    }
    assert!(page.finish(Lsn(5)).is_err());
    let e = apply(&mut applier, &mut page, Kind::RecInsert, &body).unwrap_err();
    assert_eq!(e.what, "a compressed page was not compressed after the insert before");
    let compress = [&SECONDARY[..], &[9]].concat();
    apply(&mut applier, &mut page, Kind::ZipPageReorganize, &compress).unwrap();
    assert!(page.finish(Lsn(5)).is_ok());
    check(&mut page);
}
