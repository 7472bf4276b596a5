//! Rebuilds a page without its garbage (`btr_page_reorganize_low`).

use super::index_page::IndexPage;
use super::page_header::MAX_TRX_ID;
use super::record_layout::RecordLayout;
use super::{Applied, ApplyScratch, Corruption, create, insert, offsets};
use crate::innodb::bytes::{be64, put64};

/// Empties the page and inserts its records again, in their order.
pub(super) fn reorganize(page: &mut IndexPage<'_>, shape: &RecordLayout, room: &mut ApplyScratch) -> Applied {
    room.page.clear();
    room.page.extend_from_slice(page.b);
    let format = page.format;
    create::clear(page.b, format);
    let old = IndexPage { b: &mut room.page, format, zip: None };
    let (mut from, mut last) = (old.next(old.infimum())?, page.infimum());
    for _ in 0..old.steps_max() {
        if from == old.supremum() {
            keep_max_trx_id(page, shape, old.b);
            return Ok(());
        }
        from = old.user_record(from)?;
        let extent = offsets::extent(old.b, from, shape)?;
        let start = from - extent.extra;
        let record = &old.b[start..start + extent.size()];
        last = insert::insert(page, shape, last, record, extent.extra)?;
        from = old.next(from)?;
    }
    Err(Corruption("a list of records without end"))
}

/// Leaf pages of secondary indexes say which transaction changed them last.
fn keep_max_trx_id(page: &mut IndexPage<'_>, shape: &RecordLayout, old: &[u8]) {
    if page.is_leaf() && !shape.clustered {
        put64(page.b, MAX_TRX_ID, be64(old, MAX_TRX_ID));
    }
}
