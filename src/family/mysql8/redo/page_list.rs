//! Lists the pages that the server's redo would change if the server died now.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::base::{Lsn, Result};
use crate::innodb::redo::{BLOCK_LEN, Fed, Scanner, newest_checkpoint};

use super::files::{Log, Reader};
use crate::source::server_facts::ServerFacts;
use crate::source::zero_pages::PageKey;

/// Bytes of redo read at once.
const READ_BYTES: usize = 1 << 20;
/// How often the log is read from its start, since the server may fill the files with other redo meanwhile.
const READS_MAX: usize = 5;

/// Those of the `wanted` pages that the redo from the newest checkpoint to `end` changes. `None` where it can't be read: it is
/// encrypted, or was overwritten each time.
///
/// # Errors
/// [`crate::base::Code::SourceIo`].
pub(in crate::family::mysql8) fn of_pages(
    facts: &ServerFacts,
    end: Lsn,
    wanted: &BTreeSet<PageKey>,
) -> Result<Option<BTreeSet<PageKey>>> {
    let log = Log::of(facts);
    for _ in 0..READS_MAX {
        let files = log.files()?;
        let Some(checkpoint) = newest_checkpoint(files.iter().map(|f| &f.info)) else { continue };
        if checkpoint >= end {
            return Ok(Some(BTreeSet::new()));
        }
        if let Some(found) = read(&files, checkpoint, end, wanted) {
            return Ok(Some(found));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(None)
}

fn read(
    files: &[Reader],
    checkpoint: Lsn,
    end: Lsn,
    wanted: &BTreeSet<PageKey>,
) -> Option<BTreeSet<PageKey>> {
    let mut scanner = Scanner::new(checkpoint);
    let mut found = BTreeSet::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let next = scanner.next_block();
        let (reader, at) = files.iter().find_map(|f| Some((f, f.info.offset_of(next)?)))?;
        let len = (reader.info.len - at).min(READ_BYTES as u64) as usize;
        reader.file.read_exact_at(&mut buffer[..len], at).ok()?;
        for block in buffer[..len].chunks_exact(BLOCK_LEN) {
            let fed = scanner.feed(block.first_chunk()?).ok()?;
            while let Some(group) = scanner.poll().ok()? {
                found.extend(
                    group
                        .outline()
                        .map(|(_, space, number)| PageKey::of(space, number))
                        .filter(|p| wanted.contains(p)),
                );
            }
            if scanner.recovered_lsn().is_some_and(|lsn| lsn >= end) {
                return Some(found);
            }
            if fed != Fed::Full {
                return None;
            }
        }
    }
}
