//! Records kept between the scan of the log and their page's turn: nearly as compact as the log has them.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | type of the record; bit 7: for the same page as the record before it |
//! | 6 | LSN of its first byte, from the start of the log (little-endian) |
//! | 1–5 | from there to the end of its group (7 bits a byte, low ones first) |
//! | 1–5 | length of the body (the same) |
//! | 0 or 8 | space id and page number (little-endian) |
//! | … | body, as in the log |
//!
//! A run of records begins with one that names its page. It never leaves the process, but goes through a file.

use crate::base::{Lsn, PageNo, SpaceId};
use crate::innodb::redo::Kind;

const SAME_PAGE: u8 = 0x80;
const LSN_LEN: usize = 6;

/// A page of some tablespace. Its order is that of the files.
pub(super) type PageId = (SpaceId, PageNo);

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

/// Appends a record; `last` is the page of the record before it in the same run.
pub(super) fn put(into: &mut Vec<u8>, base: Lsn, last: Option<PageId>, page: PageId, record: &Kept<'_>) {
    let same = last == Some(page);
    into.push(record.kind as u8 | if same { SAME_PAGE } else { 0 });
    into.extend_from_slice(&record.start_lsn.since(base).to_le_bytes()[..LSN_LEN]);
    put_number(into, record.end_lsn.since(record.start_lsn));
    put_number(into, record.bytes.len() as u64);
    if !same {
        into.extend_from_slice(&page.0.0.to_le_bytes());
        into.extend_from_slice(&page.1.0.to_le_bytes());
    }
    into.extend_from_slice(record.bytes);
}

/// The record at `at` of a run, its page unless it is that of the one before, and where the next one begins.
/// `None` at the end, or where the bytes are not what [`put`] made.
pub(super) fn get(run: &[u8], base: Lsn, at: usize) -> Option<(Kept<'_>, Option<PageId>, usize)> {
    let mut rest = run.get(at..)?;
    let [first] = *take::<1>(&mut rest)?;
    let kind = Kind::from_number(first & !SAME_PAGE)?;
    let mut lsn = [0; 8];
    lsn[..LSN_LEN].copy_from_slice(take::<LSN_LEN>(&mut rest)?);
    let start_lsn = base.plus(u64::from_le_bytes(lsn));
    let end_lsn = start_lsn.plus(number(&mut rest)?);
    let len = usize::try_from(number(&mut rest)?).ok()?;
    let page = match first & SAME_PAGE {
        0 => {
            let space = SpaceId(u32::from_le_bytes(*take(&mut rest)?));
            Some((space, PageNo(u32::from_le_bytes(*take(&mut rest)?))))
        }
        _ => None,
    };
    let bytes = rest.get(..len)?;
    Some((Kept { kind, start_lsn, end_lsn, bytes }, page, run.len() - rest.len() + len))
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
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
        let [byte] = *take::<1>(rest)?;
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

    fn kind() -> impl Strategy<Value = Kind> {
        prop::sample::select(Kind::ALL)
    }

    proptest! {
        #[test]
        fn records_are_given_back(
            base in 0u64..1 << 40,
            records in prop::collection::vec(
                (kind(), 0u64..1 << 47, 0u64..1 << 29, 0u32..3, 0u32..3, prop::collection::vec(any::<u8>(), 0..300)),
                1..40,
            ),
        ) {
            let base = Lsn(base);
            let mut run = Vec::new();
            let mut last = None;
            for (kind, start, len, space, page, bytes) in &records {
                let start_lsn = base.plus(*start);
                let page = (SpaceId(*space), PageNo(u32::MAX - page));
                put(&mut run, base, last, page, &Kept { kind: *kind, start_lsn, end_lsn: start_lsn.plus(*len), bytes });
                last = Some(page);
            }
            let (mut at, mut page) = (0, None);
            for (kind, start, len, space, number, bytes) in &records {
                let (record, named, next) = get(&run, base, at).unwrap();
                page = named.or(page);
                prop_assert_eq!(page, Some((SpaceId(*space), PageNo(u32::MAX - number))));
                let start_lsn = base.plus(*start);
                prop_assert_eq!(record, Kept { kind: *kind, start_lsn, end_lsn: start_lsn.plus(*len), bytes });
                at = next;
            }
            prop_assert_eq!(at, run.len());
            prop_assert_eq!(get(&run, base, at), None);
        }

        #[test]
        fn no_bytes_make_it_panic(run in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = get(&run, Lsn(u64::MAX - 5), 0);
        }
    }
}
