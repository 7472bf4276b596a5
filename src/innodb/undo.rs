//! Undo logs: which tables have changes of transactions that are not committed.
//!
//! The way leads from the rollback segments (`trx0rseg.h`) over the first pages of their undo segments to the records of the one
//! log in each that may belong to an open transaction, the last (`trx0undo.h`):
//!
//! | page | at | bytes | field |
//! |---|---|---|---|
//! | page 3 of an undo tablespace | 56 | 128 × 4 | header pages of its rollback segments |
//! | page 5 of the system tablespace | 56 | 128 × (4 + 4) | space and page of rollback segments of earlier servers |
//! | header of a rollback segment | 72 | page size / 16 × 4 | first pages of undo segments |
//! | first page of an undo segment | 56 | 2 | its state: 1 active, 5 to 7 prepared |
//! | | 58 | 2 | offset of its last log's header, in which the first record's offset is at 18 |
//! | every undo page | 42 | 2 | end of its records, which begin at 56 where there is no header of a log |
//! | | 50 | 4 | page that follows |
//!
//! A record is the offset of the next one (2 bytes), its type (1), for changes of parts of a long value one byte more, its number
//! and the id of its table (both much compressed), and what only a rollback needs (`trx_undo_rec_get_pars`).

use std::collections::BTreeSet;

use super::bytes::{be16, be32};
use super::page::{FilHeader, PageType};
use super::redo::cursor::Cursor;
use crate::base::{PageNo, SpaceId};

/// Page of an undo tablespace that lists its rollback segments (`FSP_RSEG_ARRAY_PAGE_NO`).
pub const RSEG_ARRAY: PageNo = PageNo(3);
/// Page of the system tablespace that lists rollback segments (`FSP_TRX_SYS_PAGE_NO`).
pub const TRX_SYS: PageNo = PageNo(5);

const SEGMENTS: usize = 56;
const SEGMENTS_MAX: usize = 128;
const SLOTS: usize = 72;
const BYTES_OF_A_SLOT: usize = 16;
const STATE: usize = 56;
const ACTIVE: u16 = 1;
const PREPARED: std::ops::RangeInclusive<u16> = 5..=7;
const LAST_LOG: usize = 58;
const LOG_START: usize = 18;
const FREE: usize = 42;
const NEXT_PAGE: usize = 50;
const RECORDS: usize = 56;
/// Bit of a record's type: a byte of flags follows (`TRX_UNDO_MODIFY_BLOB`).
const HAS_FLAGS: u8 = 64;

/// What transactions that are not committed have changed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Unfinished {
    /// Number of undo logs of such transactions; a transaction has up to two.
    pub logs: usize,
    /// Ids of the tables (`se_private_id` of the dictionary) of which they have records.
    pub tables: BTreeSet<u64>,
}

/// Error: undo logs can't be read.
#[derive(Debug, thiserror::Error)]
pub enum UndoError<E> {
    /// A page could not be read.
    #[error(transparent)]
    Page(E),
    /// A page contradicts others or itself.
    #[error("tablespace {0} page {1}: {2}")]
    Broken(SpaceId, PageNo, &'static str),
}

/// Reads all undo logs of transactions that are not committed. `page` gives a page, decrypted; `undo` are the undo tablespaces.
///
/// # Errors
/// [`UndoError`].
pub fn unfinished<E>(
    undo: impl IntoIterator<Item = SpaceId>,
    page: &mut dyn FnMut(SpaceId, PageNo) -> Result<Vec<u8>, E>,
) -> Result<Unfinished, UndoError<E>> {
    let mut reader = Reader { page, seen: BTreeSet::new(), found: Unfinished::default() };
    let trx_sys =
        reader.of_type(SpaceId::SYSTEM, TRX_SYS, PageType::TRX_SYS, "is no transaction system page")?;
    let entry = |n: usize| trx_sys.get(SEGMENTS + 8 * n..SEGMENTS + 8 * (n + 1));
    for entry in (0..SEGMENTS_MAX).filter_map(entry) {
        reader.rollback_segment(SpaceId(be32(entry, 0)), PageNo(be32(entry, 4)))?;
    }
    for space in undo {
        let array =
            reader.of_type(space, RSEG_ARRAY, PageType::RSEG_ARRAY, "is no list of rollback segments")?;
        let entry = |n: usize| array.get(SEGMENTS + 4 * n..SEGMENTS + 4 * (n + 1));
        for entry in (0..SEGMENTS_MAX).filter_map(entry) {
            reader.rollback_segment(space, PageNo(be32(entry, 0)))?;
        }
    }
    Ok(reader.found)
}

struct Reader<'a, E> {
    page: &'a mut dyn FnMut(SpaceId, PageNo) -> Result<Vec<u8>, E>,
    /// Pages that were read: none is read twice, so hostile chains end.
    seen: BTreeSet<(SpaceId, PageNo)>,
    found: Unfinished,
}

impl<E> Reader<'_, E> {
    fn of_type(
        &mut self,
        space: SpaceId,
        number: PageNo,
        page_type: PageType,
        otherwise: &'static str,
    ) -> Result<Vec<u8>, UndoError<E>> {
        if !self.seen.insert((space, number)) {
            return Err(UndoError::Broken(space, number, "is met twice"));
        }
        let page = (self.page)(space, number).map_err(UndoError::Page)?;
        match FilHeader::of(&page).is_some_and(|header| header.page_type() == page_type) && page.len() > SLOTS
        {
            true => Ok(page),
            false => Err(UndoError::Broken(space, number, otherwise)),
        }
    }

    fn rollback_segment(&mut self, space: SpaceId, number: PageNo) -> Result<(), UndoError<E>> {
        if number.0 == u32::MAX || space.0 == u32::MAX {
            return Ok(());
        }
        let header = self.of_type(space, number, PageType::SYS, "is no header of a rollback segment")?;
        let slots = header.len() / BYTES_OF_A_SLOT;
        let slots = header.get(SLOTS..SLOTS + 4 * slots);
        let slots = slots.ok_or(UndoError::Broken(space, number, "is too short"))?;
        for slot in slots.chunks_exact(4).map(|slot| be32(slot, 0)).filter(|slot| *slot != u32::MAX) {
            self.undo_segment(space, PageNo(slot))?;
        }
        Ok(())
    }

    fn undo_segment(&mut self, space: SpaceId, first: PageNo) -> Result<(), UndoError<E>> {
        const NO_UNDO: &str = "is no undo page";
        let mut page = self.of_type(space, first, PageType::UNDO_LOG, NO_UNDO)?;
        let (state, log) = (be16(&page, STATE), usize::from(be16(&page, LAST_LOG)));
        if state != ACTIVE && !PREPARED.contains(&state) || log == 0 {
            return Ok(());
        }
        self.found.logs += 1;
        let start = page.get(log + LOG_START..log + LOG_START + 2).map(|bytes| usize::from(be16(bytes, 0)));
        let mut start = start.ok_or(UndoError::Broken(space, first, "has a log that lies outside of it"))?;
        let mut number = first;
        loop {
            self.records(&page, start).map_err(|what| UndoError::Broken(space, number, what))?;
            number = PageNo(be32(&page, NEXT_PAGE));
            if number.0 == u32::MAX {
                return Ok(());
            }
            page = self.of_type(space, number, PageType::UNDO_LOG, NO_UNDO)?;
            start = RECORDS;
        }
    }

    fn records(&mut self, page: &[u8], start: usize) -> Result<(), &'static str> {
        let end = usize::from(be16(page, FREE));
        if end > page.len() {
            return Err("has records that end behind it");
        }
        let mut at = start;
        while at < end {
            let next = page.get(at..at + 2).map_or(0, |bytes| usize::from(be16(bytes, 0)));
            if next <= at + 2 || next > end {
                return Err("has records that lead nowhere");
            }
            self.found.tables.insert(table_of(&page[at + 2..next]).ok_or("has a cut record")?);
            at = next;
        }
        match at == end {
            true => Ok(()),
            false => Err("has records that begin behind their end"),
        }
    }
}

/// Id of the table of a record, without the offset of the next one.
fn table_of(record: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(record);
    let record_type = cursor.u8().ok()?;
    if record_type & HAS_FLAGS != 0 {
        cursor.u8().ok()?;
    }
    cursor.u64_much_compressed().ok()?;
    cursor.u64_much_compressed().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEN: usize = 4096;
    const UNDO: SpaceId = SpaceId(0xFFFF_FFEF);

    fn page(page_type: PageType) -> Vec<u8> {
        let mut page = vec![0; LEN];
        page[24..26].copy_from_slice(&page_type.0.to_be_bytes());
        page
    }

    fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
        page[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// One rollback segment with one undo segment of two pages, which has records of the tables 7 and 300.
    fn pages(state: u16) -> Vec<((SpaceId, u32), Vec<u8>)> {
        let mut trx_sys = page(PageType::TRX_SYS);
        put(&mut trx_sys, SEGMENTS, &[0xFF; 8 * SEGMENTS_MAX]);
        let mut array = page(PageType::RSEG_ARRAY);
        put(&mut array, SEGMENTS, &[0xFF; 4 * SEGMENTS_MAX]);
        put(&mut array, SEGMENTS, &[0, 0, 0, 4]);
        let mut header = page(PageType::SYS);
        put(&mut header, SLOTS, &[0xFF; LEN / 4]);
        put(&mut header, SLOTS + 8, &[0, 0, 0, 10]);
        let mut first = page(PageType::UNDO_LOG);
        put(&mut first, STATE, &state.to_be_bytes());
        put(&mut first, LAST_LOG, &[0, 90]);
        put(&mut first, 90 + LOG_START, &[1, 0]);
        // Of table 5, in a log that is committed; of table 7.
        put(&mut first, 200, &[0, 210, 11, 1, 5]);
        put(&mut first, 256, &[1, 10, 11, 1, 7]);
        put(&mut first, FREE, &[1, 10]);
        put(&mut first, NEXT_PAGE, &[0, 0, 0, 11]);
        let mut second = page(PageType::UNDO_LOG);
        put(&mut second, RECORDS, &[0, 70, 12 | HAS_FLAGS, 0, 2, 0x81, 0x2C]);
        put(&mut second, FREE, &[0, 70]);
        put(&mut second, NEXT_PAGE, &[0xFF; 4]);
        vec![
            ((SpaceId::SYSTEM, 5), trx_sys),
            ((UNDO, 3), array),
            ((UNDO, 4), header),
            ((UNDO, 10), first),
            ((UNDO, 11), second),
        ]
    }

    fn read(pages: &[((SpaceId, u32), Vec<u8>)]) -> Result<Unfinished, UndoError<String>> {
        unfinished([UNDO], &mut |space, number| {
            let found = pages.iter().find(|(place, _)| *place == (space, number.0));
            found.map(|(_, page)| page.clone()).ok_or_else(|| format!("no page {number}"))
        })
    }

    #[test]
    fn tables_of_open_and_prepared_transactions_are_found() {
        for state in [ACTIVE, 5, 6, 7] {
            let found = read(&pages(state)).unwrap();
            assert_eq!(found, Unfinished { logs: 1, tables: [7, 300].into() });
        }
        for state in [0, 2, 3, 4, 8] {
            assert_eq!(read(&pages(state)).unwrap(), Unfinished::default());
        }
    }

    #[test]
    fn a_ring_of_pages_ends() {
        let mut pages = pages(ACTIVE);
        put(&mut pages[4].1, NEXT_PAGE, &[0, 0, 0, 10]);
        assert!(matches!(read(&pages), Err(UndoError::Broken(UNDO, PageNo(10), "is met twice"))));
    }

    proptest! {
        #[test]
        fn hostile_pages_are_refused_or_read(
            which in 0..5usize,
            changes in proptest::collection::vec((24..400usize, any::<u8>()), 1..8),
        ) {
            let mut pages = pages(ACTIVE);
            for (at, byte) in changes {
                pages[which].1[at] = byte;
            }
            let _ = read(&pages);
        }
    }
}
