use super::*;
use crate::base::SpaceId;
use crate::innodb::redo::record::{Body, DynamicMeta, NO_SPACE};
use crate::innodb::redo::{BlockWriter, FileChange, auto_increment_group, file_events};

const START: Lsn = Lsn(1 << 20);

/// 4BYTES at offset 46 of page 0 of space 5 = 77.
const WRITE: [u8; 6] = [4, 5, 0, 0, 46, 77];
const END: u8 = 31;

fn single(record: &[u8]) -> Vec<u8> {
    let mut group = record.to_vec();
    group[0] |= 0x80;
    group
}

fn multi(records: &[&[u8]]) -> Vec<u8> {
    let mut group = records.concat();
    group.push(END);
    group
}

fn file_create() -> Vec<u8> {
    let mut record = vec![33, 9, 0, 0, 0, 0x40, 0x21, 0, 10];
    record.extend(b"./a/b.ibd\0");
    record
}

fn blocks(groups: &[Vec<u8>]) -> Vec<[u8; BLOCK_LEN]> {
    let mut writer = BlockWriter::new(START);
    groups.iter().for_each(|g| writer.push_group(g));
    writer.finish().0
}

/// A group as a line: LSNs and records.
fn line(group: &MiniTransaction<'_>) -> String {
    let records: Vec<_> = group.all_records().map(|r| r.to_string()).collect();
    format!("{}..{} {}", group.start_lsn, group.end_lsn, records.join("; "))
}

fn scan(scanner: &mut Scanner, blocks: &[[u8; BLOCK_LEN]]) -> Result<Vec<String>, ScanError> {
    let mut lines = Vec::new();
    for block in blocks {
        scanner.feed(block)?;
        while let Some(group) = scanner.poll()? {
            lines.push(line(&group));
        }
    }
    Ok(lines)
}

fn error(group: Vec<u8>) -> String {
    scan(&mut Scanner::new(START.plus(12)), &blocks(&[group])).unwrap_err().to_string()
}

#[test]
fn groups_come_out_with_their_lsns() {
    let groups =
        [single(&WRITE), multi(&[&WRITE, &file_create()]), vec![32], auto_increment_group(7, 1, 300)];
    let mut scanner = Scanner::new(START.plus(12));
    let lines = scan(&mut scanner, &blocks(&groups)).unwrap();
    assert_eq!(
        lines,
        [
            "1048588..1048594 1048588 4BYTES 5:0 at 46 = 77 (0x4d)",
            "1048594..1048620 1048594 4BYTES 5:0 at 46 = 77 (0x4d); \
             1048600 FILE_CREATE 9:0 flags 0x4021 ./a/b.ibd",
            "1048620..1048621 1048620 DUMMY_RECORD",
            "1048621..1048627 1048621 TABLE_DYNAMIC_META table 7 version 1 auto-increment 300",
        ]
    );
    assert_eq!(scanner.recovered_lsn(), Some(Lsn(1048627)));
}

#[test]
fn a_group_waits_for_its_last_block() {
    let long: Vec<_> = std::iter::repeat_n(&WRITE[..], 300).collect();
    let blocks = blocks(&[single(&WRITE), multi(&long), single(&WRITE)]);
    assert_eq!(blocks.len(), 4);
    let mut scanner = Scanner::new(START.plus(12));
    let counts: Vec<_> =
        blocks.iter().map(|b| scan(&mut scanner, std::slice::from_ref(b)).unwrap().len()).collect();
    assert_eq!(counts, [1, 0, 0, 2]);
    assert_eq!(scanner.next_block(), START.plus(3 * 512));
}

#[test]
fn a_block_is_fed_again_as_it_fills() {
    let groups: Vec<_> =
        (0..200).map(|i| if i % 3 == 0 { single(&WRITE) } else { multi(&[&WRITE]) }).collect();
    let all = scan(&mut Scanner::new(START.plus(12)), &blocks(&groups)).unwrap();
    let mut scanner = Scanner::new(START.plus(12));
    let mut seen = Vec::new();
    for n in 1..=groups.len() {
        let written = blocks(&groups[..n]);
        let from = (scanner.next_block().since(START) / 512) as usize;
        seen.extend(scan(&mut scanner, &written[from..]).unwrap());
        assert_eq!(seen.len(), n);
    }
    assert_eq!(seen, all);
}

#[test]
fn groups_before_the_checkpoint_are_not_applied() {
    let groups =
        [single(&WRITE), multi(&[&file_create()]), multi(&[&WRITE, &WRITE]), multi(&[&file_create()])];
    let blocks = blocks(&groups);
    // In the middle of the third group, after its first record.
    let mut scanner = Scanner::new(START.plus(12 + 6 + 20 + 6));
    scanner.feed(&blocks[0]).unwrap();
    let (mut applied, mut events) = (Vec::new(), Vec::new());
    while let Some(group) = scanner.poll().unwrap() {
        applied.push(group.records().count());
        events.extend(file_events(&group));
    }
    assert_eq!(applied, [0, 0, 1, 1]);
    let path = b"./a/b.ibd".to_vec();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].what, FileChange::Create { flags: 0x4021, path });
    assert_eq!((events[0].lsn, events[0].space), (START.plus(12 + 6 + 20 + 13), SpaceId(9)));
}

#[test]
fn reading_starts_at_the_first_group_that_starts() {
    let long: Vec<_> = std::iter::repeat_n(&WRITE[..], 200).collect();
    let blocks = blocks(&[multi(&long), single(&WRITE)]);
    // The checkpoint lies in the second block, where no group starts.
    let mut scanner = Scanner::new(START.plus(512 + 20));
    assert_eq!(scanner.next_block(), START.plus(512));
    assert_eq!(scanner.recovered_lsn(), None);
    let lines = scan(&mut scanner, &blocks[1..]).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(scanner.recovered_lsn(), Some(Lsn(lines[0][9..16].parse().unwrap())));
}

#[test]
fn the_log_ends_at_what_was_not_written() {
    let mut scanner = Scanner::new(START.plus(12));
    assert_eq!(scanner.feed(&[0; 512]), Ok(Fed::End(BlockState::NotWritten)));
    let mut torn = blocks(&[single(&WRITE)])[0];
    torn[100] = 1;
    assert_eq!(scanner.feed(&torn), Ok(Fed::End(BlockState::BadChecksum)));
    assert_eq!(scanner.feed(&blocks(&[single(&WRITE)])[0]), Ok(Fed::Partial));
    assert_eq!(scanner.feed(&blocks(&[])[0]), Err(ScanError::Shrunk { lsn: START }));
}

/// As `log_files_generate_dummy_records` writes them: thousands, in one mini-transaction with one end.
#[test]
fn dummies_are_groups_and_so_is_their_end() {
    let dummies = multi(&[&[32; 4096]]);
    let groups = [single(&WRITE), dummies, single(&WRITE), multi(&[&WRITE, &WRITE])];
    let lines = scan(&mut Scanner::new(START.plus(12)), &blocks(&groups)).unwrap();
    assert_eq!(lines.len(), 1 + 4096 + 1 + 2);
    assert!(lines[4096].ends_with(" DUMMY_RECORD"), "{}", lines[4096]);
    assert!(lines[4097].ends_with(' '), "{}", lines[4097]);
    assert!(lines[4098].contains("4BYTES"), "{}", lines[4098]);
    let e = error([&[32, END][..], &[END]].concat());
    assert!(e.ends_with("a group end without a group"), "{e}");
}

#[test]
fn impossible_records_are_errors_that_name_the_lsn() {
    for (record, what) in [
        (&[3u8, 5, 0][..], "unknown record type"),
        (&[66, 5, 0], "unknown record type"),
        (&[9, 5, 0], "unknown record type"),
        (&[33, 5, 1], "a file event for a page other than 0"),
        (&[1, 5, 0, 0, 46, 0x81, 0x00], "a value that does not fit the bytes it is for"),
        (&[4, 5, 0, 0xFF, 0xFE, 1], "a write beyond the end of the page"),
        (&[22, 5, 0, 3], "unknown type of undo page"),
        (&[65, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "impossible size of a file extension"),
        (&[35, 5, 0, 0, 5, b'a', b'.', b'i', b'b', b'd'], "a path without end"),
        (&[35, 5, 0, 0, 5, b'a', b'b', b'c', b'd', 0], "a tablespace path that does not end in .ibd"),
        (&[62, 7, 1, 3], "unknown type of dynamic metadata"),
        (&[50, 5, 3, 90, 4, 0, 0, 0, 0], "a write to a page header beyond its end"),
    ] {
        let expected = format!("redo record of type {} at LSN 1048594: {what}", record[0]);
        let e = error([&WRITE, record, &[END]].concat());
        assert_eq!(e, expected);
    }
    assert_eq!(error(vec![END]), "redo record of type 31 at LSN 1048588: a group end without a group");
    let nested = error([&WRITE[..], &single(&WRITE)].concat());
    assert_eq!(nested, "redo record of type 132 at LSN 1048594: a group of its own inside another");
    let marked = error(vec![0x80 | 32]);
    assert!(marked.ends_with("a group end or dummy marked as a group of its own"), "{marked}");
}

#[test]
fn blocks_and_records_must_agree_where_groups_start() {
    let mut writer = BlockWriter::new(START);
    writer.push_group(&WRITE); // no group end: the next "group" is part of this one
    writer.push_group(&[WRITE; 100].concat());
    writer.push_group(&multi(&[&WRITE]));
    let e = scan(&mut Scanner::new(START.plus(12)), &writer.finish().0).unwrap_err();
    assert!(matches!(e, ScanError::Desync { .. }), "{e}");
}

#[test]
fn encrypted_blocks_are_named() {
    let mut block = blocks(&[single(&WRITE)])[0];
    block[4] |= 0x80;
    let e = Scanner::new(START.plus(12)).feed(&block).unwrap_err();
    assert_eq!(e.to_string(), "redo block at LSN 1048576 is encrypted");
}

#[test]
fn dynamic_metadata_round_trips() {
    let group = auto_increment_group(0x1_2345_6789, u64::MAX, 0xFFFF_FFFF);
    let mut scanner = Scanner::new(START.plus(12));
    scanner.feed(&blocks(&[group])[0]).unwrap();
    let group = scanner.poll().unwrap().unwrap();
    let record = group.records().next().unwrap();
    let meta = DynamicMeta::AutoIncrement(0xFFFF_FFFF);
    assert_eq!(record.body, Body::DynamicMeta { table: 0x1_2345_6789, version: u64::MAX, meta });
    assert_eq!(record.space, NO_SPACE);
    assert_eq!(crate::innodb::redo::parse_body(record.kind, record.space, record.bytes), Ok(record.body));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(payload in proptest::collection::vec(0u8..=255, 1..3000), kind in 0u8..80) {
        let mut group = payload;
        group[0] = kind;
        let mut scanner = Scanner::new(START.plus(12));
        let _ = scan(&mut scanner, &blocks(&[group]));
    }

    /// However the log was cut into rewrites of its last block, the same groups come out.
    #[test]
    fn lines_do_not_depend_on_how_blocks_arrive(sizes in proptest::collection::vec(1usize..60, 1..60)) {
        let groups: Vec<_> = sizes.iter().map(|n| multi(&vec![&WRITE[..]; *n])).collect();
        let all = scan(&mut Scanner::new(START.plus(12)), &blocks(&groups)).unwrap();
        let mut scanner = Scanner::new(START.plus(12));
        let mut seen = Vec::new();
        for n in 1..=groups.len() {
            let written = blocks(&groups[..n]);
            let from = (scanner.next_block().since(START) / 512) as usize;
            seen.extend(scan(&mut scanner, &written[from..]).unwrap());
        }
        proptest::prop_assert_eq!(seen, all);
    }
}
