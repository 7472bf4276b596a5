//! Where the records of each page are in a batch.

use super::merge::Batch;
use super::records::{self, Kept, STRETCH_PAGES};
use crate::base::{Code, Error, Lsn, Result};
use crate::innodb::redo::Kind;

/// The records of some neighbouring pages, by page.
#[derive(Default)]
pub(super) struct Index {
    found: Vec<Entry>,
    /// Positions in `found`, by page and in the order of the log.
    order: Vec<u32>,
    /// Where in `order` each page begins; one more for the end.
    begins: Vec<u32>,
}

/// A record in the batch.
#[derive(Clone, Copy)]
struct Entry {
    start: Lsn,
    end: Lsn,
    at: u32,
    len: u32,
    kind: Kind,
    slot: u8,
}

impl Index {
    /// Looks through the records of `batch`. Gives how many its pages are known to have.
    pub(super) fn build(&mut self, batch: &mut Batch, base: Lsn) -> Result<u64> {
        self.found.clear();
        let (mut counts, mut dropped) = ([0u32; STRETCH_PAGES], 0);
        let mut at = 0;
        for end in &batch.ends {
            let mut last = base;
            let mut rest = batch.bytes.get(at..*end).ok_or_else(broken)?;
            while !rest.is_empty() {
                let (record, slot) = records::take(&mut rest, last).ok_or_else(broken)?;
                last = record.start_lsn;
                if batch.landed.as_mut().is_some_and(|landed| landed.has(slot, last)) {
                    dropped += 1;
                    continue;
                }
                counts[slot] += 1;
                let body_at = *end - rest.len() - record.bytes.len();
                self.found.push(Entry {
                    start: record.start_lsn,
                    end: record.end_lsn,
                    at: u32::try_from(body_at).map_err(|_| broken())?,
                    len: record.bytes.len() as u32,
                    kind: record.kind,
                    slot: slot as u8,
                });
            }
            at = *end;
        }
        self.sort(&counts);
        Ok(dropped)
    }

    fn sort(&mut self, counts: &[u32; STRETCH_PAGES]) {
        let mut next = [0u32; STRETCH_PAGES];
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

    /// How many records a page has.
    pub(super) fn count(&self, slot: usize) -> usize {
        self.range(slot).len()
    }

    /// The records of a page, in the order of the log.
    pub(super) fn records<'a>(&'a self, bytes: &'a [u8], slot: usize) -> impl Iterator<Item = Kept<'a>> {
        self.order[self.range(slot)].iter().map(move |number| {
            let Entry { start, end, at, len, kind, .. } = self.found[*number as usize];
            let bytes = &bytes[at as usize..][..len as usize];
            Kept { kind, start_lsn: start, end_lsn: end, bytes }
        })
    }

    /// The LSN of a page's last record that makes what was in it before irrelevant.
    pub(super) fn last_init(&self, slot: usize) -> Option<Lsn> {
        let entries = self.order[self.range(slot)].iter().map(|number| &self.found[*number as usize]);
        let mut inits = entries.filter(|e| matches!(e.kind, Kind::InitFilePage | Kind::InitFilePage2));
        inits.next_back().map(|entry| entry.start)
    }

    fn range(&self, slot: usize) -> std::ops::Range<usize> {
        self.begins[slot] as usize..self.begins[slot + 1] as usize
    }
}

fn broken() -> Error {
    Error::new(Code::Internal, "kept redo records are not what they were")
}
