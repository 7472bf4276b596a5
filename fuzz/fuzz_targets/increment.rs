//! Clusters of changed pages, whole or in pieces, and blocks of page tracking: what is taken can be written and is read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::innodb::page_tracking::TrackingBlock;
use xbpipe::stream::delta::{ClusterHeader, DeltaCursor};

fuzz_target!(|input: &[u8]| {
    match ClusterHeader::parse(input) {
        Ok(header) => assert_eq!(ClusterHeader::parse(&header.encode(input.len())), Ok(header)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // Whatever the pieces, the runs stay inside the datafile and inside what has passed.
    const PAGES: u64 = 500;
    let mut cursor = DeltaCursor::new(1024, Some(PAGES));
    let (mut at, step) = (0, usize::from(input.first().copied().unwrap_or(0)) * 16 + 1);
    for piece in input.chunks(step) {
        let end = at + piece.len() as u64;
        let copy = |from: u64, into: &mut [u8]| into.copy_from_slice(&input[from as usize..][..into.len()]);
        let Ok(runs) = cursor.pass(at, end, copy) else { break };
        assert!(runs.iter().all(|run| run.from >= at && run.from + run.len <= end));
        assert!(runs.iter().all(|run| run.to + run.len <= PAGES * 1024));
        at = end;
    }
    if let Ok(Some(TrackingBlock::Pages { pages, .. })) = TrackingBlock::parse(input) {
        assert!(pages.len() * 8 <= input.len());
    }
});
