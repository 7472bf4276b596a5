//! Records of one page, one after the other.

use std::sync::Arc;

use crate::base::{Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::apply::{Applier, Page};
use crate::innodb::page::Scratch;
use crate::innodb::redo::index_info::KnownIndexes;
use crate::innodb::redo::{Body, CompactRun, IndexList};
use crate::prepare::native::error::corrupt;
use crate::prepare::native::records::run::RecordRun;

/// What a thread that applies records has: what it knows of indexes, and room.
#[derive(Default)]
pub(crate) struct PageApplier {
    applier: Applier,
    known: KnownIndexes,
    /// What records are kept without.
    pub(crate) indexes: Arc<IndexList>,
    pub(crate) scratch: Scratch,
}

/// What became of a page.
pub(crate) struct PageUpdate {
    /// The end of the last group with a record that was applied; `None`: the page had all.
    pub(crate) to: Option<Lsn>,
    /// How many records were applied.
    pub(crate) records: u64,
}

impl PageApplier {
    /// Applies those records of `runs` that start at `from` or later. `shown` names the page.
    pub(crate) fn bring_up<'a>(
        &mut self,
        page: &mut Page<'_>,
        from: Lsn,
        runs: impl Iterator<Item = RecordRun<'a>>,
        shown: impl Fn() -> String,
    ) -> Result<PageUpdate> {
        let mut brought = PageUpdate { to: None, records: 0 };
        let PageApplier { applier, known, indexes, .. } = self;
        for run in runs {
            if run.end_lsn <= from {
                continue;
            }
            let mut records = lean((page.space(), page.number()), &run, indexes)?;
            while let Some(record) = records.next(known) {
                let record = record.map_err(corrupt)?;
                if record.start_lsn < from {
                    continue;
                }
                applier.apply(page, &record).map_err(|e| {
                    Error::new(Code::CorruptRedo, format!("{} can't be brought up to date", shown()))
                        .cause(e)
                        .hint("take the backup again; if it happens again, report it, and use --prepare=server meanwhile")
                })?;
                brought.to = Some(run.end_lsn);
                brought.records += 1;
            }
        }
        Ok(brought)
    }

    /// The LSN of the last record that makes what was in its page before irrelevant.
    pub(crate) fn last_init<'a>(
        &mut self,
        page: (SpaceId, PageNo),
        runs: impl Iterator<Item = RecordRun<'a>>,
    ) -> Option<Lsn> {
        let mut last = None;
        for run in runs {
            let mut records = lean(page, &run, &self.indexes).ok()?;
            while let Some(record) = records.next(&mut self.known) {
                let record = record.ok()?;
                if matches!(record.body, Body::InitFilePage { .. }) {
                    last = Some(record.start_lsn);
                }
            }
        }
        last
    }
}

/// The records of a run.
fn lean<'a>(page: (SpaceId, PageNo), run: &RecordRun<'a>, indexes: &'a IndexList) -> Result<CompactRun<'a>> {
    let unknown = || Error::new(Code::Internal, "a kept redo record is of an index that is not known");
    let index = run.index.map(|number| indexes.get(number).ok_or_else(unknown)).transpose()?;
    Ok(CompactRun::new(page, run.start_lsn, run.end_lsn, index, run.bytes))
}
