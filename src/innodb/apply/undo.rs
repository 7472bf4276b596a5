//! Undo pages (trx0undo.cc, trx0rec.cc).
//!
//! Page header at 38: type (2: 1 insert, 2 update), start of the newest log's records (2 at 40), first free byte (2
//! at 42), list node (12 at 44). On the first page of a segment, at 56: state (2), newest log header (2 at 58),
//! segment header (10), page list (16); log headers from 86 on.
//!
//! Log header: transaction id (8), transaction number (8 at 8), delete marks (2 at 16), start of records (2 at 18),
//! flags (1 at 20), dictionary operation (1 at 21), table (8 at 22), next log (2 at 30), previous log (2 at 32),
//! history list node (12 at 34): 46 bytes, which XA and GTID information may follow.
//!
//! Undo record: offset of the next (2), body, offset of this one (2).

use super::{Applied, Corruption};
use crate::innodb::bytes::{be16, put16, put64};
use crate::innodb::page::{FIL_TRAILER, PageType, header};

const PAGE_TYPE: usize = 38;
const PAGE_START: usize = 40;
const PAGE_FREE: usize = 42;
const SEG_STATE: usize = 56;
const SEG_LAST_LOG: usize = 58;
const PAGE_HEADER_END: usize = 56;
const SEG_HEADER_END: usize = 86;

const STATE_ACTIVE: u16 = 1;

const LOG_TRX_ID: usize = 0;
const LOG_DEL_MARKS: usize = 16;
const LOG_START: usize = 18;
const LOG_FLAGS: usize = 20;
const LOG_DICT_TRANS: usize = 21;
const LOG_NEXT: usize = 30;
const LOG_PREV: usize = 32;
const LOG_HEADER: usize = 46;

const NO_ROOM: Corruption = Corruption("no room on the undo page");

/// The first free byte, such that `need` bytes fit after it.
fn free(page: &[u8], need: usize) -> Applied<usize> {
    let free = usize::from(be16(page, PAGE_FREE));
    if free < PAGE_HEADER_END {
        return Err(Corruption("free space of the undo page starts inside its header"));
    }
    if free + need > page.len() - FIL_TRAILER {
        return Err(NO_ROOM);
    }
    Ok(free)
}

/// `trx_undo_parse_add_undo_rec`.
pub(super) fn insert(page: &mut [u8], record: &[u8]) -> Applied {
    let at = free(page, 4 + record.len())?;
    let next = at + 4 + record.len();
    put16(page, at, next as u16);
    page[at + 2..next - 2].copy_from_slice(record);
    put16(page, next - 2, at as u16);
    put16(page, PAGE_FREE, next as u16);
    Ok(())
}

/// `trx_undo_erase_page_end`.
pub(super) fn erase_end(page: &mut [u8]) -> Applied {
    let (from, to) = (free(page, 0)?, page.len() - FIL_TRAILER);
    page[from..to].fill(0xFF);
    Ok(())
}

/// `trx_undo_page_init`.
pub(super) fn init(page: &mut [u8], undo_type: u32) -> Applied {
    put16(page, PAGE_TYPE, undo_type as u16);
    put16(page, PAGE_START, PAGE_HEADER_END as u16);
    put16(page, PAGE_FREE, PAGE_HEADER_END as u16);
    put16(page, header::TYPE, PageType::UNDO_LOG.0);
    Ok(())
}

/// `trx_undo_header_create`.
pub(super) fn header_create(page: &mut [u8], trx_id: u64) -> Applied {
    let log = free(page, LOG_HEADER)?;
    let previous = be16(page, SEG_LAST_LOG);
    if previous != 0 {
        let previous = usize::from(previous);
        if previous < SEG_HEADER_END || previous + LOG_HEADER > page.len() - FIL_TRAILER {
            return Err(Corruption("the previous undo log lies outside of the page"));
        }
        put16(page, previous + LOG_NEXT, log as u16);
    }
    put16(page, SEG_LAST_LOG, log as u16);
    put16(page, log + LOG_DEL_MARKS, 1);
    put16(page, log + LOG_NEXT, 0);
    put16(page, log + LOG_PREV, previous);
    start_log(page, log, trx_id);
    Ok(())
}

/// `trx_undo_insert_header_reuse`.
pub(super) fn header_reuse(page: &mut [u8], trx_id: u64) -> Applied {
    start_log(page, SEG_HEADER_END, trx_id);
    Ok(())
}

/// Writes the part of an undo log header that is the same for a new and a reused one. The header fits.
fn start_log(page: &mut [u8], log: usize, trx_id: u64) {
    let records = (log + LOG_HEADER) as u16;
    put16(page, PAGE_START, records);
    put16(page, PAGE_FREE, records);
    put16(page, SEG_STATE, STATE_ACTIVE);
    put64(page, log + LOG_TRX_ID, trx_id);
    put16(page, log + LOG_START, records);
    page[log + LOG_FLAGS] = 0;
    page[log + LOG_DICT_TRANS] = 0;
}
