//! The form in which redo records are kept in memory and in the spill file until they are applied: type (1 byte) and body.
//!
//! Space id, page number and index description are left out, since the records of a run share them (the description has a number in
//! an [`IndexList`](super::IndexList)). This halves the size of a record.

use super::cursor::{Cursor, Stop, compressed_len};
use super::index_info::{IndexInfo, KnownIndexes};
use super::parse::{Head, body_with};
use super::{RawRecord, Record, lsn, said};
use crate::base::{Lsn, PageNo, SpaceId};

/// Appends a record; `numbered`: without the description of its index.
#[inline]
pub fn put(into: &mut Vec<u8>, record: &RawRecord<'_>, numbered: bool) {
    into.push(record.kind as u8);
    if !numbered {
        into.extend_from_slice(record.index);
    }
    into.extend_from_slice(record.rest);
}

/// Kept records of one group and one page that followed each other in the log.
pub struct CompactRun<'a> {
    space: SpaceId,
    page: PageNo,
    end_lsn: Lsn,
    index: Option<IndexInfo<'a>>,
    rest: &'a [u8],
    /// Payload of the log before the next record.
    position: u64,
    /// What the log has of a record beside its body: type, space id and page number.
    head_len: usize,
}

impl<'a> CompactRun<'a> {
    /// The records in `bytes` for a page, the first of which starts at `start_lsn`; their group ends at `end_lsn`. `index` is
    /// what they were left without.
    pub fn new(
        (space, page): (SpaceId, PageNo),
        start_lsn: Lsn,
        end_lsn: Lsn,
        index: Option<IndexInfo<'a>>,
        bytes: &'a [u8],
    ) -> CompactRun<'a> {
        let head_len = 1 + compressed_len(space.0) + compressed_len(page.0);
        CompactRun {
            space,
            page,
            end_lsn,
            index,
            rest: bytes,
            position: lsn::to_payload(start_lsn),
            head_len,
        }
    }

    /// The next record; an error says what is wrong with it.
    #[inline(always)]
    pub fn next(&mut self, known: &mut KnownIndexes) -> Option<Result<Record<'a>, &'static str>> {
        let (kind, rest) = self.rest.split_first()?;
        Some(self.read(*kind, rest, known).map_err(said))
    }

    #[inline(always)]
    fn read(&mut self, kind: u8, rest: &'a [u8], known: &mut KnownIndexes) -> Result<Record<'a>, Stop> {
        let kind = super::Kind::from_number(kind).ok_or(Stop::Bad("unknown record type"))?;
        let mut cursor = Cursor::new(rest);
        let head = Head { kind, single: false, space: self.space, page: self.page };
        let mut len = self.head_len;
        let body = body_with(&head, &mut cursor, |c| match self.index {
            Some(index) => {
                len += index.raw().len();
                Ok(index)
            }
            None => known.read(c),
        })?;
        let bytes = &rest[..rest.len() - cursor.rest().len()];
        let start_lsn = lsn::from_payload(self.position);
        self.position += (len + bytes.len()) as u64;
        self.rest = cursor.rest();
        Ok(Record { start_lsn, end_lsn: self.end_lsn, space: self.space, page: self.page, kind, bytes, body })
    }
}
