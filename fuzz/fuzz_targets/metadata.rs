//! The metadata members: what is taken can be written and is read back the same; errors can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::stream::metadata::*;

fn check<T: PartialEq + std::fmt::Debug>(
    content: &[u8],
    parse: fn(&[u8]) -> Result<T, MetadataError>,
    render: fn(&T) -> String,
) {
    match parse(content) {
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
        Ok(value) => assert_eq!(parse(render(&value).as_bytes()), Ok(value)),
    }
}

// The first byte chooses the member, the rest is its content.
fuzz_target!(|input: &[u8]| {
    let Some((which, content)) = input.split_first() else { return };
    match which % 7 {
        0 => check(content, Checkpoints::parse, Checkpoints::render),
        1 => check(content, BinlogInfo::parse, BinlogInfo::render),
        2 => check(content, Info::parse, Info::render),
        3 => check(content, BackupCnf::parse, BackupCnf::render),
        4 => check(content, SlaveInfo::parse, SlaveInfo::render),
        5 => check(content, DeltaMeta::parse, DeltaMeta::render),
        _ => check(content, Tablespaces::parse, Tablespaces::render),
    }
});
