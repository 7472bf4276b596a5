use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::parser::BlockParser;
use super::*;
use crate::innodb::redo::index_info::KnownIndexes;
use crate::innodb::redo::{Body, CompactRun, Record, Scanner, lsn};
use crate::prepare::native::records::store::Store;
use crate::prepare::native::testing::{START, write_log};
use crate::prepare::native::{IndexDictionary, ParsedSegment, RedoLocation, SegmentParser};
use crate::stream::metadata::LOGFILE;

const END: u8 = 31;
const DUMMY: u8 = 32;

fn budget() -> Budget {
    Budget::new(64 << 20)
}

/// Descriptions of indexes: of two, and of any in REDUNDANT format.
const INDEXES: [&[u8]; 3] = [&[1, 1, 0, 2, 0, 2, 0x80, 4, 0, 0], &[1, 1, 0, 1, 0, 1, 0x80, 4], &[1, 0]];

/// A record for a page of space 5: 1BYTE at offset 60, or REC_DELETE of the record at 120.
fn record(page: u8) -> Vec<u8> {
    let page = page & 0x7F;
    match INDEXES.get(usize::from(page % 4)) {
        Some(index) => [&[69, 5, page], *index, &[0, 120]].concat(),
        None => vec![1, 5, page, 0, 60, 7],
    }
}

/// A group of so many records, three for each page from the first one on; of one record without an end of its own.
fn group(first: u8, records: u16) -> Vec<u8> {
    if records == 0 {
        return vec![DUMMY];
    }
    let mut group: Vec<u8> = (0..records).flat_map(|n| record(first.wrapping_add((n / 3) as u8))).collect();
    if records == 1 {
        group[0] |= 0x80;
    } else {
        group.push(END);
    }
    group
}

/// As a server logs them whose redo capacity is made smaller: one mini-transaction, of which each is read as a group, and
/// its end as one more.
fn dummies(n: usize) -> Vec<u8> {
    [vec![DUMMY; n], vec![END]].concat()
}

/// A record in words, with the index that it is of.
fn in_words(record: &Record<'_>) -> String {
    match &record.body {
        Body::RecDelete { index, .. } => format!("{record} of {:?}", index.raw()),
        _ => record.to_string(),
    }
}

/// Every record in words, with the end of its group; and the end.
type Said = (Vec<(String, Lsn)>, Lsn);

fn at_once(blocks: &[[u8; BLOCK_LEN]], checkpoint: Lsn) -> Said {
    let mut scanner = Scanner::new(checkpoint);
    let mut records = Vec::new();
    for block in &blocks[(checkpoint.block_start().since(START) / 512) as usize..] {
        scanner.feed(block).unwrap();
        while let Some(group) = scanner.poll().unwrap() {
            let end = group.end_lsn;
            let changes = group.records().filter(|record| record.kind.is_page_change());
            records.extend(changes.map(|record| (in_words(&record), end)));
        }
    }
    (records, scanner.recovered_lsn().map_or(checkpoint, |lsn| lsn.max(checkpoint)))
}

/// What the log says when it is parsed in segments; of those that take more than `free` bytes nothing is kept for the next one.
fn in_segments(root: &Path, segment_len: usize, checkpoint: Lsn, free: usize) -> (Said, u64) {
    let log =
        Log::open(&RedoLocation::Logfile(root.join(LOGFILE)), &crate::innodb::encryption::NoKeyring).unwrap();
    let mut segments = Segments { segment_len, ..Segments::of(&log, &budget()) };
    let dictionary = Arc::new(IndexDictionary::default());
    let (mut segment, mut parsed) = (Segment::default(), ParsedSegment::new(checkpoint, &budget()));
    parsed.free = free;
    let mut parser = BlockParser::new(checkpoint, None, dictionary.clone());
    let (mut records, mut reached, mut number) = (Vec::new(), checkpoint, 0);
    while segments.next(&mut segment).unwrap() {
        assert_eq!(segment.number, number);
        number += 1;
        parser.parse(&segment, &mut parsed).unwrap();
        let (indexes, mut known) = (dictionary.list(), KnownIndexes::default());
        for (space, page, run) in parsed.runs() {
            let index = run.index.map(|number| indexes.get(number).unwrap());
            let mut lean = CompactRun::new((space, page), run.start_lsn, run.end_lsn, index, run.bytes);
            let before = records.len();
            while let Some(record) = lean.next(&mut known) {
                records.push((in_words(&record.unwrap()), run.end_lsn));
            }
            assert_eq!(records.len() - before, run.records as usize);
        }
        reached = parsed.reached;
        if parsed.over {
            break;
        }
    }
    ((records, reached), number)
}

proptest! {
    #[test]
    fn pieces_say_what_the_whole_says(
        groups in prop::collection::vec(
            prop_oneof![
                8 => (0..4u8, 0..40u16).prop_map(|(first, records)| group(first, records)),
                1 => (0..4u8, 0..900u16).prop_map(|(first, records)| group(first, records)),
                1 => (1..4000usize).prop_map(dummies),
            ],
            0..60,
        ),
        piece_blocks in 1..12usize,
        checkpoint_group in any::<prop::sample::Index>(),
        free in prop::sample::select(vec![0, 4096, 6 << 20]),
    ) {
        let before: usize = groups.iter().take(checkpoint_group.index(groups.len() + 1)).map(Vec::len).sum();
        let checkpoint = lsn::advance(START, before as u64);
        let dir = tempfile::tempdir().unwrap();
        let blocks = write_log(dir.path(), &groups, checkpoint);
        let (said, _) = in_segments(dir.path(), piece_blocks * BLOCK_LEN, checkpoint, free);
        prop_assert_eq!(said, at_once(&blocks, checkpoint));
    }
}

#[test]
fn a_log_has_many_pieces_and_its_runs_reach_the_store() {
    let groups: Vec<_> = (0..3000).map(|n| group(0, n % 7)).collect();
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = lsn::first_payload(START);
    write_log(dir.path(), &groups, checkpoint);
    let ((records, _), segments) = in_segments(dir.path(), 4096, checkpoint, 6 << 20);
    assert!(segments > 10, "{segments}");
    let mut store = Store::new(START, 1 << 20, dir.path());
    let log =
        Log::open(&RedoLocation::Logfile(dir.path().join(LOGFILE)), &crate::innodb::encryption::NoKeyring)
            .unwrap();
    let (mut all, mut segment, mut parsed) =
        (Segments::of(&log, &budget()), Segment::default(), ParsedSegment::new(checkpoint, &budget()));
    let mut parser = BlockParser::new(checkpoint, None, store.dictionary().clone());
    assert!(all.next(&mut segment).unwrap());
    parser.parse(&segment, &mut parsed).unwrap();
    assert_eq!((parsed.put(&mut store).unwrap(), parsed.records), (0, (0..3000u64).map(|n| n % 7).sum()));
    assert_eq!(parsed.records, records.len() as u64);
    assert!(store.dictionary().list().get(1).is_some());
}
