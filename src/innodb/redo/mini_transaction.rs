//! Mini-transactions: groups of records that are applied as a whole or not at all.

use std::ops::Range;

use super::cursor::Cursor;
use super::lsn;
use super::parse::{Head, body};
use super::record::{Kind, Record};
use crate::base::{Lsn, PageNo, SpaceId};
use crate::innodb::encryption::key_info::INFO_LEN;
use crate::innodb::page::FSP_SIZE;

/// A record inside the bytes of a scanner, which are fewer than [`super::MINI_TRANSACTION_MAX`] and some blocks.
#[derive(Clone, Copy)]
pub(super) struct Span {
    at: u32,
    body: u32,
    /// How many bytes of the body describe an index.
    described: u32,
    end: u32,
    pub(super) head: Head,
}

impl Span {
    pub(super) fn new(at: usize, body: usize, described: usize, end: usize, head: Head) -> Span {
        Span { at: at as u32, body: body as u32, described: described as u32, end: end as u32, head }
    }

    pub(super) fn end(&self) -> usize {
        self.end as usize
    }

    /// Adjusts the offsets after so many bytes before the group were removed from the buffer.
    pub(super) fn go_back(&mut self, by: usize) {
        let by = by as u32;
        (self.at, self.body, self.end) = (self.at - by, self.body - by, self.end - by);
    }
}

/// A group of records, all of them there, or those that [`super::Scanner::poll_changes`] left in it.
pub struct MiniTransaction<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
    base: u64,
    checkpoint: Lsn,
    /// LSN of its first byte.
    pub start_lsn: Lsn,
    /// LSN after its last byte.
    pub end_lsn: Lsn,
}

/// A record that changes a page, without the meaning of its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawRecord<'a> {
    /// Its type.
    pub kind: Kind,
    /// Its tablespace.
    pub space: SpaceId,
    /// Its page.
    pub page: PageNo,
    /// The description of the index that it begins with; empty if it has none.
    pub index: &'a [u8],
    /// Its key, for [`super::IndexNumbers`].
    pub index_key: u64,
    /// The rest of the body.
    pub rest: &'a [u8],
    /// Where it is in the payload of all the log.
    pub at: Range<u64>,
}

impl<'a> RawRecord<'a> {
    /// The one at `span` of `bytes`, which stand at `base` in the payload of all the log.
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], base: u64, span: &Span, index_key: u64) -> RawRecord<'a> {
        let (index, rest) = bytes[span.body as usize..span.end as usize].split_at(span.described as usize);
        let Head { kind, space, page, .. } = span.head;
        let at = base + u64::from(span.at)..base + u64::from(span.end);
        RawRecord { kind, space, page, index, index_key, rest, at }
    }

    /// LSN of its first byte.
    pub fn start_lsn(&self) -> Lsn {
        lsn::from_payload(self.at.start)
    }

    /// Whether it sets the number of pages of its tablespace, in page 0.
    #[inline(always)]
    pub fn sets_space_size(&self) -> bool {
        const OFFSET: [u8; 2] = (FSP_SIZE as u16).to_be_bytes();
        self.page == PageNo(0) && self.kind == Kind::Write4 && self.rest.starts_with(&OFFSET)
    }

    /// Returns the encryption information that it writes to its tablespace's page 0 (`fsp_header_write_encryption`): zeros where
    /// there is to be none. Nothing else of this length is written there.
    #[inline(always)]
    pub fn encryption_info(&self) -> Option<&'a [u8; INFO_LEN]> {
        /// Bytes of the offset in the page, and of the length.
        const HEAD: usize = 4;
        if self.page != PageNo(0) || self.kind != Kind::WriteString {
            return None;
        }
        self.rest.get(HEAD..)?.try_into().ok()
    }
}

impl<'a> MiniTransaction<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        spans: &'a [Span],
        base: u64,
        checkpoint: Lsn,
        range: Range<usize>,
    ) -> MiniTransaction<'a> {
        let lsn = |at: usize| lsn::from_payload(base + at as u64);
        MiniTransaction {
            bytes,
            spans,
            base,
            checkpoint,
            start_lsn: lsn(range.start),
            end_lsn: lsn(range.end),
        }
    }

    /// The records that start at the checkpoint or after it; the group end is not one of them.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + '_ {
        self.all_records().filter(|r| r.start_lsn >= self.checkpoint)
    }

    /// The records, those before the checkpoint too, which are not to be applied.
    pub fn all_records(&self) -> impl Iterator<Item = Record<'a>> + '_ {
        self.spans.iter().filter(|s| s.head.kind != Kind::MultiRecEnd).map(|s| self.record(s))
    }

    /// Type, space and page of each record without its body: cheaper than [`MiniTransaction::records`].
    pub fn outline(&self) -> impl Iterator<Item = (Kind, SpaceId, PageNo)> + '_ {
        self.spans.iter().map(|s| (s.head.kind, s.head.space, s.head.page))
    }

    fn record(&self, span: &Span) -> Record<'a> {
        let bytes = &self.bytes[span.body as usize..span.end as usize];
        let body = body(&span.head, &mut Cursor::new(bytes)).expect("it was parsed when it came in");
        let start_lsn = self.lsn(span.at);
        let Head { kind, space, page, .. } = span.head;
        Record { start_lsn, end_lsn: self.end_lsn, space, page, kind, bytes, body }
    }

    fn lsn(&self, at: u32) -> Lsn {
        lsn::from_payload(self.base + u64::from(at))
    }
}
