//! Redo as a stream may bring it: records in sound blocks, and the bytes as blocks and as a file's head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::base::Lsn;
use xbpipe::innodb::redo::{Block, BlockWriter, Fed, HEAD_LEN, RedoHead, Scanner, file_events, parse_body};

const START: Lsn = Lsn(1 << 20);

fuzz_target!(|data: &[u8]| {
    let mut writer = BlockWriter::new(START);
    writer.push_group(data);
    let (blocks, end) = writer.finish();
    let mut scanner = Scanner::new(START.plus(12));
    'log: for block in &blocks {
        assert!(matches!(scanner.feed(block), Ok(Fed::Full | Fed::Partial)));
        loop {
            match scanner.poll() {
                Err(_) => break 'log,
                Ok(None) => break,
                Ok(Some(group)) => {
                    assert!(group.start_lsn < group.end_lsn && group.end_lsn <= end);
                    let _ = file_events(&group).count();
                    for record in group.all_records() {
                        let _ = record.to_string();
                        assert_eq!(parse_body(record.kind, record.space, record.bytes), Ok(record.body));
                    }
                }
            }
        }
    }
    if let Some(block) = data.first_chunk() {
        let _ = Block::of(block).check(START);
        let _ = Scanner::new(START).feed(block);
    }
    if data.len() >= HEAD_LEN {
        let _ = RedoHead::read(data);
    }
});
