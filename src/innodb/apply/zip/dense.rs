//! The dense directory (`page_zip_dir_*`).
//!
//! Entry `n` lies `2 * (n + 1)` bytes before the end of the page.

use super::super::page_header::{N_RECS, PAGE_DATA};
use super::super::{Applied, Corruption};
use super::{BLOB_REF, SLOT, SYSTEM_FIELDS, Zip, dense_len, is_leaf};
use crate::innodb::apply::offsets::NODE_POINTER;
use crate::innodb::bytes::{be16, put16};

/// The record owns a slot of the frame's directory.
pub(super) const OWNED: u16 = 0x4000;
/// The record is marked as deleted.
pub(super) const DELETED: u16 = 0x8000;
/// Offset of the record in the frame.
pub(super) const OFFSET: u16 = 0x3FFF;

const NO_ENTRY: Corruption = Corruption("a record that the dense directory lacks");

/// The entry `n` of a compressed page's dense directory, which is long enough.
pub(super) fn entry(z: &[u8], n: usize) -> u16 {
    be16(z, z.len() - SLOT * (n + 1))
}

impl Zip<'_> {
    fn entry(&self, n: usize) -> u16 {
        entry(self.z, n)
    }

    fn set_entry(&mut self, n: usize, value: u16) {
        let at = self.z.len() - SLOT * (n + 1);
        put16(self.z, at, value);
    }

    fn recs(&self) -> usize {
        usize::from(be16(self.z, N_RECS))
    }

    /// All directories fit the page: the counts in the header can't lead outside.
    pub(in super::super) fn check(&self, clustered: bool) -> Applied {
        let (dense, len) = (dense_len(self.z), self.trailer_len(clustered));
        if self.recs() > dense || PAGE_DATA + len >= self.z.len() || self.meta.log_end + len >= self.z.len() {
            return Err(Corruption("the directories of a compressed page do not fit it"));
        }
        Ok(())
    }

    /// The entry of the record at `rec`, among those in `range`.
    fn find(&self, rec: usize, mut range: std::ops::Range<usize>) -> Applied<usize> {
        range.find(|n| usize::from(self.entry(*n) & OFFSET) == rec).ok_or(NO_ENTRY)
    }

    fn find_existing(&self, rec: usize) -> Applied<usize> {
        self.find(rec, 0..self.recs().min(dense_len(self.z)))
    }

    pub(in super::super) fn set_owned(&mut self, rec: usize, owned: bool) -> Applied {
        let n = self.find_existing(rec)?;
        let entry = self.entry(n);
        self.set_entry(n, if owned { entry | OWNED } else { entry & !OWNED });
        Ok(())
    }

    pub(in super::super) fn set_deleted(&mut self, rec: usize, deleted: bool) -> Applied {
        let n = self.find_existing(rec)?;
        let entry = self.entry(n);
        self.set_entry(n, if deleted { entry | DELETED } else { entry & !DELETED });
        Ok(())
    }

    /// Enters a new record after the one at `after` (`None`: it is the first). `free`: its place came from that
    /// record of the free list. N_RECS, and N_HEAP if the place came from the heap, were raised already, and so was
    /// the room for the entry made.
    pub(in super::super) fn insert(
        &mut self,
        after: Option<usize>,
        free: Option<usize>,
        rec: usize,
    ) -> Applied {
        let (dense, recs) = (dense_len(self.z), self.recs().checked_sub(1).ok_or(NO_ENTRY)?);
        let at = match after {
            None => 0,
            Some(after) => 1 + self.find(after, 0..recs.min(dense))?,
        };
        // Entries from there move down by one: up to that of the free record, or all.
        let last = match free {
            Some(free) => self.find(free, recs..dense)?,
            None => dense.checked_sub(1).ok_or(NO_ENTRY)?,
        };
        for n in (at..last).rev() {
            let entry = self.entry(n);
            self.set_entry(n + 1, entry);
        }
        self.set_entry(at, rec as u16);
        Ok(())
    }

    /// Moves the record at `rec` to the head of the free list, which began with `free`. N_RECS is still the old one.
    pub(in super::super) fn delete(&mut self, rec: usize, free: Option<usize>) -> Applied {
        let (dense, recs) = (dense_len(self.z), self.recs());
        let at = self.find_existing(rec)?;
        let head = match free {
            Some(free) => self.find(free, recs..dense)?.checked_sub(1).ok_or(NO_ENTRY)?,
            None => dense.checked_sub(1).ok_or(NO_ENTRY)?,
        };
        for n in at..head {
            let entry = self.entry(n + 1);
            self.set_entry(n, entry);
        }
        self.set_entry(head, rec as u16);
        Ok(())
    }

    /// Makes room for another record of the heap, whose number was raised already: the uncompressed fields move
    /// down by an entry, LOB references also by the room for system fields (`page_zip_dir_add_slot`).
    pub(in super::super) fn add_entry(&mut self, clustered: bool) -> Applied {
        let dense = dense_len(self.z).checked_sub(1).ok_or(NO_ENTRY)?;
        let directory = self.z.len() - SLOT * dense;
        let (stored, blobs, gap) = if !is_leaf(self.z) {
            (directory - dense * NODE_POINTER, 0, SLOT)
        } else if clustered {
            (directory - dense * SYSTEM_FIELDS, self.meta.blobs * BLOB_REF, SLOT + SYSTEM_FIELDS)
        } else {
            (directory, 0, SLOT)
        };
        let blobs_at = stored - blobs;
        if blobs_at < self.meta.log_end + gap {
            return Err(Corruption("no room on a compressed page for another entry"));
        }
        self.z.copy_within(blobs_at..stored, blobs_at - gap);
        self.z.copy_within(stored..directory, stored - SLOT);
        Ok(())
    }
}
