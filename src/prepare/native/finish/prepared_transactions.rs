//! Finds transactions that are prepared in InnoDB and wait for the binary log (internal two-phase commit). Whether they commit is
//! decided by the last binary log of the backup, so the first server that starts on the copy must read it.
//!
//! The first page of an undo log segment (type 2) has the segment's state at 56 (5 to 7: prepared) and at 58 the offset of
//! its newest log header. There: transaction id (8), at 20 flags (1: a XID follows), at 46 the XID: format, lengths of its
//! two parts (4 bytes each), and its text, which for the server's own begins with `MySQLXid` (`trx_undo_read_xid`,
//! `xid_t::get_my_xid`).

use std::collections::BTreeSet;

use crate::base::{PageNo, Result};
use crate::innodb::page::{FIL_HEADER, FilHeader, PageType};
use crate::prepare::native::tablespaces::TablespaceFiles;

const STATE: usize = 56;
const LAST_LOG: usize = 58;
const PREPARED: std::ops::RangeInclusive<u16> = 5..=7;
const FLAGS: usize = 20;
const HAS_XID: u8 = 1;
const XID_TEXT: usize = 46 + 12;
const INTERNAL: &[u8] = b"MySQLXid";

/// The number of them.
pub(crate) fn count(spaces: &TablespaceFiles) -> Result<usize> {
    let mut found = BTreeSet::new();
    for (id, space) in spaces.undo() {
        let open = space.open(id)?;
        let mut page = vec![0; open.layout.physical()];
        let mut number = 0;
        while number < open.pages() {
            if open.read(PageNo(number), &mut page)? == page.len() {
                found.extend(prepared(&page));
            }
            number = match page.iter().all(|byte| *byte == 0) {
                false => number + 1,
                // A hole may be longer than anything that is worth reading.
                true => open.next_data(PageNo(number + 1))?.0,
            };
        }
    }
    Ok(found.len())
}

/// The transaction of the undo log segment that begins on this page, if it is one to be decided.
fn prepared(page: &[u8]) -> Option<[u8; 8]> {
    let is_undo = FilHeader::of(page)?.page_type() == PageType::UNDO_LOG;
    let u16_at = |at: usize| Some(u16::from_be_bytes(*page.get(at..)?.first_chunk()?));
    let last = usize::from(u16_at(LAST_LOG)?);
    if !is_undo || !PREPARED.contains(&u16_at(STATE)?) || last < FIL_HEADER {
        return None;
    }
    let header = page.get(last..)?;
    let internal = header.get(FLAGS)? & HAS_XID != 0 && header.get(XID_TEXT..)?.starts_with(INTERNAL);
    internal.then(|| header.first_chunk().copied()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_count() {
        let mut page = vec![0; 4096];
        page[25] = 2;
        page[STATE + 1] = 6;
        page[LAST_LOG..LAST_LOG + 2].copy_from_slice(&100u16.to_be_bytes());
        page[100..108].copy_from_slice(&[7; 8]);
        page[100 + FLAGS] = HAS_XID;
        page[100 + XID_TEXT..][..INTERNAL.len()].copy_from_slice(INTERNAL);
        assert_eq!(prepared(&page), Some([7; 8]));
        let with = |at: usize, byte: u8| {
            let mut page = page.clone();
            page[at] = byte;
            prepared(&page)
        };
        // Another type of page, active, an XA transaction of a user, no XID, an offset beyond the page.
        assert_eq!(with(25, 6), None);
        assert_eq!(with(STATE + 1, 1), None);
        assert_eq!(with(100 + XID_TEXT, b'x'), None);
        assert_eq!(with(100 + FLAGS, 0), None);
        assert_eq!(with(LAST_LOG, 0xFF), None);
    }
}
