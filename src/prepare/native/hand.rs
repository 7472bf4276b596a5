//! Records of one page, one after the other.

use super::corrupt;
use super::records::Kept;
use crate::base::{Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::apply::{Applier, Page};
use crate::innodb::page::{PageLayout, Scratch};
use crate::innodb::redo::{KnownIndexes, Record, parse_body_knowing};

/// What a thread that applies records has: what it knows of indexes, and room.
#[derive(Default)]
pub(super) struct Hand {
    applier: Applier,
    known: KnownIndexes,
    pub(super) scratch: Scratch,
    /// The bytes of the last page.
    spare: Vec<u8>,
}

/// What became of a page.
pub(super) struct Brought {
    /// The end of the last group with a record that was applied; `None`: the page had all.
    pub(super) to: Option<Lsn>,
    /// How many records were applied.
    pub(super) records: u64,
}

impl Hand {
    /// The page that stands in `bytes`.
    pub(super) fn load(
        &mut self,
        space: SpaceId,
        number: PageNo,
        layout: PageLayout,
        bytes: &[u8],
    ) -> Result<Page, crate::innodb::apply::LoadError> {
        let mut own = std::mem::take(&mut self.spare);
        own.clear();
        own.extend_from_slice(bytes);
        Page::load(space, number, layout, own, &mut self.scratch)
    }

    /// Takes the room of a page that is done.
    pub(super) fn recycle(&mut self, page: Page) {
        self.spare = page.into_bytes();
    }

    /// Applies those of `records` that start at `from` or later. `shown` names the page.
    pub(super) fn bring_up<'a>(
        &mut self,
        page: &mut Page,
        from: Lsn,
        records: impl Iterator<Item = Kept<'a>>,
        shown: impl Fn() -> String,
    ) -> Result<Brought> {
        let (space, number) = (page.space(), page.number());
        let mut brought = Brought { to: None, records: 0 };
        for Kept { kind, start_lsn, end_lsn, bytes } in records {
            if start_lsn < from {
                continue;
            }
            let body = parse_body_knowing(&mut self.known, kind, space, bytes).map_err(corrupt)?;
            let record = Record { start_lsn, end_lsn, space, page: number, kind, bytes, body };
            self.applier.apply(page, &record).map_err(|e| {
                Error::new(Code::CorruptRedo, format!("{} can't be brought up to date", shown()))
                    .cause(e)
                    .hint("take the backup again; if it happens again, report it, and use --prepare=server meanwhile")
            })?;
            brought.to = Some(end_lsn);
            brought.records += 1;
        }
        Ok(brought)
    }
}
