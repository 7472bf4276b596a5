//! Records kept between the scan of the log and their page's turn: the pages of a tablespace are cut into stretches of
//! [`STRETCH_PAGES`], and the records for one stretch are a run of bytes, more compact than the log has them.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | type of the record |
//! | 1 | its page, from the start of the stretch |
//! | 1–9 | LSN of its first byte, from that of the record before it in the run; from the start of the log for the first |
//! | 1–5 | from there to the end of its group |
//! | 1–5 | length of the body |
//! | … | body, as in the log |
//!
//! Numbers have seven bits a byte, low ones first; bit 7 says that more follow. It never leaves the process, but goes
//! through a file.

use crate::base::{Lsn, PageNo, SpaceId};
use crate::innodb::redo::Kind;

/// Pages of a stretch: a block of a stream with pages of 16 KiB.
pub(super) const STRETCH_PAGES: usize = 1 << STRETCH_SHIFT;
const STRETCH_SHIFT: u32 = 6;

/// Some neighbouring pages of a tablespace. Their order is that of the files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(super) struct Stretch(u64);

impl Stretch {
    /// The one that a page is in, and which of its pages that is.
    pub(super) fn of(space: SpaceId, page: PageNo) -> (Stretch, usize) {
        let key = u64::from(space.0) << 32 | u64::from(page.0 >> STRETCH_SHIFT);
        (Stretch(key), page.0 as usize % STRETCH_PAGES)
    }

    pub(super) fn from_key(key: u64) -> Stretch {
        Stretch(key)
    }

    pub(super) fn key(self) -> u64 {
        self.0
    }

    pub(super) fn space(self) -> SpaceId {
        SpaceId((self.0 >> 32) as u32)
    }

    /// Its page number `slot`.
    pub(super) fn page(self, slot: usize) -> PageNo {
        PageNo((self.0 as u32) << STRETCH_SHIFT | slot as u32)
    }
}

/// A record without its body's meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept<'a> {
    pub(super) kind: Kind,
    /// LSN of its first byte.
    pub(super) start_lsn: Lsn,
    /// LSN of the end of its group.
    pub(super) end_lsn: Lsn,
    /// Body.
    pub(super) bytes: &'a [u8],
}

/// Appends a record for the page `slot` of a stretch; `last` is the LSN of the record before it in the run, or that of the
/// start of the log.
pub(super) fn put(into: &mut Vec<u8>, last: Lsn, slot: usize, record: &Kept<'_>) {
    into.push(record.kind as u8);
    into.push(slot as u8);
    put_number(into, record.start_lsn.since(last));
    put_number(into, record.end_lsn.since(record.start_lsn));
    put_number(into, record.bytes.len() as u64);
    into.extend_from_slice(record.bytes);
}

/// Takes the first record off `rest`, and which page it is for; `last` as for [`put`]. `None` where the bytes are not what
/// [`put`] made, or end.
pub(super) fn take<'a>(rest: &mut &'a [u8], last: Lsn) -> Option<(Kept<'a>, usize)> {
    let [kind, slot] = *take_array::<2>(rest)?;
    let kind = Kind::from_number(kind)?;
    let slot = usize::from(slot);
    let start_lsn = last.plus(number(rest)?);
    let end_lsn = start_lsn.plus(number(rest)?);
    let len = usize::try_from(number(rest)?).ok()?;
    let (bytes, left) = rest.split_at_checked(len)?;
    *rest = left;
    (slot < STRETCH_PAGES).then_some((Kept { kind, start_lsn, end_lsn, bytes }, slot))
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(taken)
}

fn put_number(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let [byte] = *take_array::<1>(rest)?;
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
        let (a, slot) = Stretch::of(SpaceId(7), PageNo(130));
        assert_eq!((a.space(), a.page(0), slot), (SpaceId(7), PageNo(128), 2));
        let (last, slot) = Stretch::of(SpaceId(7), PageNo(u32::MAX));
        assert_eq!((last.page(slot), slot), (PageNo(u32::MAX), STRETCH_PAGES - 1));
        assert!(a < last && last < Stretch::of(SpaceId(8), PageNo(0)).0);
        assert_eq!(Stretch::from_key(last.key()), last);
    }

    proptest! {
        #[test]
        fn records_are_given_back(
            base in 0u64..1 << 40,
            records in prop::collection::vec(
                (
                    prop::sample::select(Kind::ALL),
                    0u64..1 << 47,
                    0u64..1 << 29,
                    0..STRETCH_PAGES,
                    prop::collection::vec(any::<u8>(), 0..300),
                ),
                1..40,
            ),
        ) {
            let (mut run, mut lsn, mut wanted) = (Vec::new(), Lsn(base), Vec::new());
            for (kind, from, len, slot, bytes) in &records {
                let start_lsn = lsn.plus(*from);
                let record = Kept { kind: *kind, start_lsn, end_lsn: start_lsn.plus(*len), bytes };
                put(&mut run, lsn, *slot, &record);
                lsn = start_lsn;
                wanted.push((record, *slot));
            }
            let (mut rest, mut lsn, mut found) = (&run[..], Lsn(base), Vec::new());
            while let Some((record, slot)) = take(&mut rest, lsn) {
                lsn = record.start_lsn;
                found.push((record, slot));
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn no_bytes_make_it_panic(run in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut rest = &run[..];
            while take(&mut rest, Lsn(u64::MAX - 5)).is_some() {}
        }
    }
}
