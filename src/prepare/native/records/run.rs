//! Records kept between the scan of the log and their page's turn: the pages of a tablespace are cut into page ranges of
//! [`RANGE_PAGES`], and what the log has for one page range is a row of bytes. Records of one group for one page that follow
//! each other in the log (a run) are kept together ([`crate::innodb::redo::compact_record`]), behind:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the page, from the start of the page range |
//! | 1–9 | LSN of the first byte, from that of the run before it in the row; from the start of the log for the first |
//! | 1–5 | from there to the end of the group |
//! | 1–5 | how many records |
//! | 1–5 | number of the index description that they are kept without, plus 1; 0: none |
//! | 1–5 | length of them all |
//!
//! Numbers have seven bits a byte, low ones first; bit 7 says that more follow. It never leaves the process, but goes
//! through a file.

use crate::base::{Lsn, PageNo, SpaceId};

/// Pages of a page range: a block of a stream with pages of 16 KiB.
pub(crate) const RANGE_PAGES: usize = 1 << RANGE_SHIFT;
const RANGE_SHIFT: u32 = 6;

/// Some neighbouring pages of a tablespace. Their order is that of the files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(crate) struct PageRange(u64);

impl PageRange {
    /// The one that a page is in, and which of its pages that is.
    pub(crate) fn of(space: SpaceId, page: PageNo) -> (PageRange, usize) {
        let key = u64::from(space.0) << 32 | u64::from(page.0 >> RANGE_SHIFT);
        (PageRange(key), page.0 as usize % RANGE_PAGES)
    }

    pub(crate) fn from_key(key: u64) -> PageRange {
        PageRange(key)
    }

    pub(crate) fn key(self) -> u64 {
        self.0
    }

    pub(crate) fn space(self) -> SpaceId {
        SpaceId((self.0 >> 32) as u32)
    }

    /// Returns the number of the page in slot `slot` of the range.
    pub(crate) fn page(self, slot: usize) -> PageNo {
        PageNo((self.0 as u32) << RANGE_SHIFT | slot as u32)
    }
}

/// A run of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordRun<'a> {
    /// LSN of its first byte.
    pub(crate) start_lsn: Lsn,
    /// LSN of the end of its group.
    pub(crate) end_lsn: Lsn,
    /// Number of records.
    pub(crate) records: u32,
    /// Number of the index description that was left out of the records.
    pub(crate) index: Option<u32>,
    /// The records.
    pub(crate) bytes: &'a [u8],
}

/// The header of a run.
pub(crate) struct RunHeader {
    bytes: [u8; RunHeader::LEN_MAX],
    len: usize,
}

impl RunHeader {
    const LEN_MAX: usize = 1 + 10 * 5;

    /// Of a run for the page `slot` of a page range; `last` is the first LSN of the run before it in the row, or that of the
    /// start of the log.
    pub(crate) fn of(run: &RecordRun<'_>, slot: usize, last: Lsn) -> RunHeader {
        let mut head = RunHeader { bytes: [0; RunHeader::LEN_MAX], len: 1 };
        head.bytes[0] = slot as u8;
        head.number(run.start_lsn.since(last));
        head.number(run.end_lsn.since(run.start_lsn));
        head.number(u64::from(run.records));
        head.number(run.index.map_or(0, |number| u64::from(number) + 1));
        head.number(run.bytes.len() as u64);
        head
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}

/// Takes the first run off `rest`, and which page it is for; `last` as for [`RunHeader::of`]. `None` where the bytes are not what
/// was put there, or end.
pub(crate) fn take<'a>(rest: &mut &'a [u8], last: Lsn) -> Option<(RecordRun<'a>, usize)> {
    let (slot, left) = rest.split_first()?;
    *rest = left;
    let slot = usize::from(*slot);
    let start_lsn = last.plus(number(rest)?);
    let end_lsn = start_lsn.plus(number(rest)?);
    let records = u32::try_from(number(rest)?).ok()?;
    let index = number(rest)?.checked_sub(1).map(u32::try_from).transpose().ok()?;
    let len = usize::try_from(number(rest)?).ok()?;
    let (bytes, left) = rest.split_at_checked(len)?;
    *rest = left;
    (slot < RANGE_PAGES).then_some((RecordRun { start_lsn, end_lsn, records, index, bytes }, slot))
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stretches_are_in_the_order_of_pages() {
        let (a, slot) = PageRange::of(SpaceId(7), PageNo(130));
        assert_eq!((a.space(), a.page(0), slot), (SpaceId(7), PageNo(128), 2));
        let (last, slot) = PageRange::of(SpaceId(7), PageNo(u32::MAX));
        assert_eq!((last.page(slot), slot), (PageNo(u32::MAX), RANGE_PAGES - 1));
        assert!(a < last && last < PageRange::of(SpaceId(8), PageNo(0)).0);
        assert_eq!(PageRange::from_key(last.key()), last);
    }

    proptest! {
        #[test]
        fn runs_are_given_back(
            base in 0u64..1 << 40,
            runs in prop::collection::vec(
                (
                    any::<(u32, Option<u32>)>(),
                    0u64..1 << 47,
                    0u64..1 << 29,
                    0..RANGE_PAGES,
                    prop::collection::vec(any::<u8>(), 0..300),
                ),
                1..40,
            ),
        ) {
            let (mut row, mut lsn, mut wanted) = (Vec::new(), Lsn(base), Vec::new());
            for ((records, index), from, len, slot, bytes) in &runs {
                let start_lsn = lsn.plus(*from);
                let run = RecordRun { start_lsn, end_lsn: start_lsn.plus(*len), records: *records, index: *index, bytes };
                row.extend_from_slice(RunHeader::of(&run, *slot, lsn).bytes());
                row.extend_from_slice(bytes);
                lsn = start_lsn;
                wanted.push((run, *slot));
            }
            let (mut rest, mut lsn, mut found) = (&row[..], Lsn(base), Vec::new());
            while let Some((run, slot)) = take(&mut rest, lsn) {
                lsn = run.start_lsn;
                found.push((run, slot));
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn no_bytes_make_it_panic(row in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut rest = &row[..];
            while take(&mut rest, Lsn(u64::MAX - 5)).is_some() {}
        }
    }
}
