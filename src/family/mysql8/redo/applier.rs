//! Applies records of one page, one after the other, with MySQL's record types.

use crate::base::{Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::apply::{Applier, Page};
use crate::innodb::redo::index_info::KnownIndexes;
use crate::innodb::redo::{Body, CompactRun, IndexList};
use crate::prepare::native::error::corrupt;
use crate::prepare::native::{PageUpdate, RecordApplier, RecordRun};

/// Applies records of this format to pages; holds the index descriptions and buffers of one thread.
#[derive(Default)]
pub(super) struct PageApplier {
    applier: Applier,
    known: KnownIndexes,
}

impl RecordApplier for PageApplier {
    fn apply(
        &mut self,
        page: &mut Page<'_>,
        from: Lsn,
        indexes: &IndexList,
        runs: &mut dyn Iterator<Item = RecordRun<'_>>,
        shown: &dyn Fn() -> String,
    ) -> Result<PageUpdate> {
        let mut update = PageUpdate { to: None, records: 0 };
        let PageApplier { applier, known } = self;
        for run in runs {
            if run.end_lsn <= from {
                continue;
            }
            let mut records = compact_run((page.space(), page.number()), &run, indexes)?;
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
                update.to = Some(run.end_lsn);
                update.records += 1;
            }
        }
        Ok(update)
    }

    fn last_init(
        &mut self,
        page: (SpaceId, PageNo),
        indexes: &IndexList,
        runs: &mut dyn Iterator<Item = RecordRun<'_>>,
    ) -> Option<Lsn> {
        let mut last = None;
        for run in runs {
            let mut records = compact_run(page, &run, indexes).ok()?;
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
fn compact_run<'a>(
    page: (SpaceId, PageNo),
    run: &RecordRun<'a>,
    indexes: &'a IndexList,
) -> Result<CompactRun<'a>> {
    let unknown = || Error::new(Code::Internal, "a kept redo record is of an index that is not known");
    let index = run.index.map(|number| indexes.get(number).ok_or_else(unknown)).transpose()?;
    Ok(CompactRun::new(page, run.start_lsn, run.end_lsn, index, run.bytes))
}
