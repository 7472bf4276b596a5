//! Sorts the records of a batch by page.

use super::merge::Batch;
use super::run::{self, RANGE_PAGES, RecordRun};
use crate::base::{Code, Error, Lsn, Result};

/// The records of some neighbouring pages, by page.
#[derive(Default)]
pub(crate) struct BatchIndex {
    found: Vec<Entry>,
    /// Positions in `found`, by page and in the order of the log.
    order: Vec<u32>,
    /// Where in `order` each page begins; one more for the end.
    begins: Vec<u32>,
}

/// A run in the batch.
#[derive(Clone, Copy)]
struct Entry {
    start: Lsn,
    end: Lsn,
    at: u32,
    len: u32,
    records: u32,
    index: Option<u32>,
    slot: u8,
}

impl BatchIndex {
    /// Looks through the runs of `batch`. Gives how many records its pages are known to have.
    pub(crate) fn build(&mut self, batch: &mut Batch, base: Lsn) -> Result<u64> {
        self.found.clear();
        let (mut counts, mut dropped) = ([0; RANGE_PAGES], 0);
        let mut at = 0;
        for end in &batch.ends {
            let mut last = base;
            let mut rest = batch.bytes.get(at..*end).ok_or_else(broken)?;
            while !rest.is_empty() {
                let (run, slot) = run::take(&mut rest, last).ok_or_else(broken)?;
                last = run.start_lsn;
                if batch.landed.as_mut().is_some_and(|landed| landed.has(slot, last)) {
                    dropped += u64::from(run.records);
                    continue;
                }
                counts[slot] += 1;
                let at = *end - rest.len() - run.bytes.len();
                self.found.push(Entry {
                    start: run.start_lsn,
                    end: run.end_lsn,
                    at: u32::try_from(at).map_err(|_| broken())?,
                    len: run.bytes.len() as u32,
                    records: run.records,
                    index: run.index,
                    slot: slot as u8,
                });
            }
            at = *end;
        }
        self.sort(&counts);
        Ok(dropped)
    }

    /// Gives back what it took for records of more than `len` bytes.
    pub(crate) fn shrink(&mut self, len: usize) {
        if self.found.capacity() * size_of::<Entry>() > 16 * len {
            *self = BatchIndex::default();
        }
    }

    fn sort(&mut self, counts: &[u32; RANGE_PAGES]) {
        let mut next = [0u32; RANGE_PAGES];
        self.begins.clear();
        let mut sum = 0;
        for (slot, count) in counts.iter().enumerate() {
            next[slot] = sum;
            self.begins.push(sum);
            sum += count;
        }
        self.begins.push(sum);
        self.order.clear();
        self.order.resize(self.found.len(), 0);
        for (number, entry) in self.found.iter().enumerate() {
            let place = &mut next[usize::from(entry.slot)];
            self.order[*place as usize] = number as u32;
            *place += 1;
        }
    }

    /// Whether a page has records.
    pub(crate) fn has(&self, slot: usize) -> bool {
        !self.range(slot).is_empty()
    }

    /// Number of records.
    pub(crate) fn records(&self) -> u64 {
        self.found.iter().map(|run| u64::from(run.records)).sum()
    }

    /// The runs of a page, in the order of the log.
    pub(crate) fn runs<'a>(&'a self, bytes: &'a [u8], slot: usize) -> impl Iterator<Item = RecordRun<'a>> {
        self.order[self.range(slot)].iter().map(move |number| {
            let Entry { start, end, at, len, records, index, .. } = self.found[*number as usize];
            let bytes = &bytes[at as usize..][..len as usize];
            RecordRun { start_lsn: start, end_lsn: end, records, index, bytes }
        })
    }

    fn range(&self, slot: usize) -> std::ops::Range<usize> {
        self.begins[slot] as usize..self.begins[slot + 1] as usize
    }
}

fn broken() -> Error {
    Error::new(Code::Internal, "kept redo records are not what they were")
}
