//! Headers of clusters of changed pages, and blocks of page tracking: what is taken can be written and is read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::innodb::page_tracking::TrackingBlock;
use xbpipe::stream::delta::ClusterHeader;

fuzz_target!(|input: &[u8]| {
    match ClusterHeader::parse(input) {
        Ok(header) => assert_eq!(ClusterHeader::parse(&header.encode(input.len())), Ok(header)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(Some(TrackingBlock::Pages { pages, .. })) = TrackingBlock::parse(input) {
        assert!(pages.len() * 8 <= input.len());
    }
});
