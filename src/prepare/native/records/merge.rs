//! Merges all records by page range, in the order of the files: from runs in the spill file, oldest first, and last from memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::sync::Arc;

use super::buffer::{Arena, RecordBuffer};
use super::run::PageRange;
use super::spill::{RunReader, Spill};
use super::table::LandedLsns;
use crate::base::Lsn;
use crate::innodb::redo::IndexList;

/// Buffers of runs take so much of the memory for records.
const BUFFERS_SHARE: u64 = 4;

/// The remains of a store.
pub(crate) struct Merge {
    pub(crate) base: Lsn,
    /// Index descriptions that were left out of the records.
    pub(crate) indexes: Arc<IndexList>,
    runs: Vec<RunReader>,
    memory: std::vec::IntoIter<(PageRange, RecordBuffer)>,
    arena: Arena,
    landed: HashMap<PageRange, Box<LandedLsns>, foldhash::fast::RandomState>,
    /// The next page range of each source, and the length of its records; the memory is the source behind the runs.
    next: BinaryHeap<Reverse<(PageRange, usize, usize)>>,
}

/// The records of one page range: all of them, or the older ones.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) range: Option<PageRange>,
    pub(crate) bytes: Vec<u8>,
    /// Where the parts of `bytes` end. In each the LSN is counted from the start of the log anew.
    pub(crate) ends: Vec<usize>,
    pub(crate) landed: Option<Box<LandedLsns>>,
    /// The next batch has younger records for the same pages.
    pub(crate) more: bool,
}

impl Batch {
    /// Gives back what it took for records of more than `len` bytes.
    pub(crate) fn shrink(&mut self, len: usize) {
        if self.bytes.capacity() > 2 * len {
            self.bytes = Vec::new();
        }
    }
}

impl Merge {
    pub(crate) fn new(
        base: Lsn,
        indexes: Arc<IndexList>,
        spill: Option<Spill>,
        (memory, arena): (Vec<(PageRange, RecordBuffer)>, Arena),
        landed: HashMap<PageRange, Box<LandedLsns>, foldhash::fast::RandomState>,
        memory_len: u64,
    ) -> Merge {
        let runs = spill.map(|spill| spill.into_runs(memory_len / BUFFERS_SHARE)).unwrap_or_default();
        Merge { base, indexes, runs, memory: memory.into_iter(), arena, landed, next: BinaryHeap::new() }
    }

    /// Looks at the first page range of every source.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        (0..=self.runs.len()).try_for_each(|source| self.advance(source))
    }

    /// The next page range, with not more than `len_max` bytes unless one part alone has; false at the end.
    pub(crate) fn next(&mut self, len_max: usize, into: &mut Batch) -> io::Result<bool> {
        into.bytes.clear();
        into.ends.clear();
        into.more = false;
        into.range = None;
        while let Some(&Reverse((range, source, len))) = self.next.peek() {
            if into.range.is_some_and(|now| now != range) {
                break;
            }
            if !into.bytes.is_empty() && into.bytes.len() + len > len_max {
                into.more = true;
                break;
            }
            self.next.pop();
            into.range = Some(range);
            self.take(source, len, &mut into.bytes)?;
            into.ends.push(into.bytes.len());
            self.advance(source)?;
        }
        let Some(range) = into.range else { return Ok(false) };
        into.landed = if into.more { self.landed.get(&range).cloned() } else { self.landed.remove(&range) };
        Ok(true)
    }

    fn take(&mut self, source: usize, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        match self.runs.get_mut(source) {
            Some(run) => run.take(len, into),
            None => {
                let row = self.memory.next().map(|(_, row)| row).unwrap_or_default();
                row.parts(&self.arena).for_each(|part| into.extend_from_slice(part));
                Ok(())
            }
        }
    }

    fn advance(&mut self, source: usize) -> io::Result<()> {
        let next = match self.runs.get_mut(source) {
            Some(run) => run.next()?,
            None => self.memory.as_slice().first().map(|(range, row)| (*range, row.len())),
        };
        self.next.extend(next.map(|(range, len)| Reverse((range, source, len))));
        Ok(())
    }
}
