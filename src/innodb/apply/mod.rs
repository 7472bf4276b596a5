//! Applies redo records of MySQL 8 to pages: what `recv_recover_page` does, without a buffer pool, files or threads.
//!
//! A [`Page`] is loaded from its bytes on disk, an [`Applier`] changes it record by record in the order of the log,
//! and [`Page::finish`] gives it LSN and checksum. Which records a page needs is for the caller: those whose start
//! LSN is not below the page's LSN *as it was on disk*, looked at once and not between records, since two records
//! of one mini-transaction may change one page.
//!
//! Pages come from disk and records from the network. Every offset in either is checked before it is followed, every
//! walk over a list is bounded, and what can't be is an [`ApplyError`] that names page, LSN and record.
//!
//! | module | records |
//! |---|---|
//! | `mlog_write` | plain writes, page initialisation, change buffer bitmap |
//! | `undo` | undo pages |
//! | `zip` | compressed pages: the compressed half, and what has it alone |
//! | `create`, `insert`, `append`, `delete`, `update`, `reorganize` | index pages, on top of `index_page` (layout), `directory` (slots) and `record_layout`, `offsets` (records) |
//! | `page`, `page_header` | the page itself, and the fields of its header |

mod append;
mod create;
mod delete;
mod directory;
mod index_page;
mod insert;
mod mlog_write;
mod offsets;
mod page;
mod page_header;
mod record_layout;
mod reorganize;
mod undo;
mod update;
mod zip;

pub use page::{Bytes, LoadError, Page, Unfinished};

use std::collections::HashMap;

use super::redo::index_info::IndexInfo;
use super::redo::{Body, Kind, Record};
use crate::base::{Lsn, PageNo, SpaceId};
use record_layout::RecordLayout;

/// A page, or a record for it, that breaks the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Corruption(&'static str);

type Applied<T = ()> = Result<T, Corruption>;

/// A record that can't be applied to its page: one of the two is damaged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("redo record {} at LSN {lsn} can't be applied to page {page} of tablespace {space}: {what}", kind.name())]
pub struct ApplyError {
    /// The tablespace.
    pub space: SpaceId,
    /// The page.
    pub page: PageNo,
    /// First byte of the record.
    pub lsn: Lsn,
    /// Its type.
    pub kind: Kind,
    /// The defect.
    pub what: &'static str,
}

/// The index that a record describes.
fn index_of<'b, 'a>(body: &'b Body<'a>) -> Option<&'b IndexInfo<'a>> {
    match body {
        Body::RecInsert { index, .. }
        | Body::ListEndCopyCreated { index, .. }
        | Body::RecDelete { index, .. }
        | Body::ListEndDelete { index, .. }
        | Body::ListStartDelete { index, .. }
        | Body::ClustDeleteMark { index, .. }
        | Body::UpdateInPlace { index, .. }
        | Body::Reorganize { index, .. }
        | Body::ZipCompressNoData { index, .. } => Some(index),
        _ => None,
    }
}

/// Most index descriptions that are kept. A database has few; a hostile log may have one in every record.
const SHAPES_MAX: usize = 4096;
/// Most bytes that all of them take, but for the last one.
const SHAPES_LEN_MAX: usize = 1 << 20;
/// What a shape takes for itself, and for each of its fields.
const SHAPE_LEN: usize = 256;
const FIELD_LEN: usize = 32;

/// Applies records. Keeps the index descriptions it has met, and room for records being built.
#[derive(Default)]
pub struct Applier {
    shapes: RecordLayouts,
    room: ApplyScratch,
    inflaters: zip::Inflaters,
}

/// Caches the record layouts that follow from index descriptions.
#[derive(Default)]
struct RecordLayouts {
    all: Vec<(Box<[u8]>, RecordLayout)>,
    places: HashMap<Box<[u8]>, usize>,
    /// Bytes of all.
    len: usize,
    /// The last one met: records of one page are mostly of one index.
    last: usize,
}

/// Buffers that are used again and again.
#[derive(Default)]
struct ApplyScratch {
    /// A record being put together.
    record: Vec<u8>,
    /// A page's former bytes.
    page: Vec<u8>,
}

impl Applier {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies `record` to `page`, which is the page it names. Records that change no page are ignored.
    pub fn apply(&mut self, page: &mut Page<'_>, record: &Record<'_>) -> Result<(), ApplyError> {
        self.dispatch(page, &record.body).map_err(|Corruption(what)| ApplyError {
            space: record.space,
            page: record.page,
            lsn: record.start_lsn,
            kind: record.kind,
            what,
        })
    }

    fn dispatch(&mut self, page: &mut Page<'_>, body: &Body<'_>) -> Applied {
        match *body {
            Body::Write { offset, width, value } => mlog_write::write(page, offset, width, value),
            Body::WriteString { offset, bytes } => mlog_write::write_string(page, offset, bytes),
            Body::InitFilePage { .. } => {
                mlog_write::init_file_page(page);
                Ok(())
            }
            Body::IbufBitmapInit => mlog_write::ibuf_bitmap_init(page),
            Body::UndoInsert { bytes } => undo::insert(page.frame_mut()?, bytes),
            Body::UndoEraseEnd => undo::erase_end(page.frame_mut()?),
            Body::UndoInit { undo_type } => undo::init(page.frame_mut()?, undo_type),
            Body::UndoHeaderReuse { trx_id } => undo::header_reuse(page.frame_mut()?, trx_id),
            Body::UndoHeaderCreate { trx_id } => undo::header_create(page.frame_mut()?, trx_id),
            Body::PageCreate { format, tree } => create::create(page.frame_mut()?, format, tree),
            Body::SecDeleteMark { deleted, rec } => {
                update::sec_delete_mark(&mut page.any_index_page(&mut self.inflaters)?, rec, deleted)
            }
            Body::MinRecMark { format, rec } => {
                update::min_rec_mark(&mut page.any_index_page(&mut self.inflaters)?, format, rec)
            }
            Body::ZipWriteHeader { offset, bytes } => zip::write_header(page, offset, bytes),
            Body::ZipWriteNodePtr { offset, zip_offset, child } => {
                zip::write_node_ptr(page, offset, zip_offset, child)
            }
            Body::ZipWriteBlobPtr { offset, zip_offset, reference } => {
                zip::write_blob_ptr(page, offset, zip_offset, reference)
            }
            Body::ZipPageCompress { prev, next, data, trailer } => {
                zip::page_compress(page, prev, next, data, trailer)
            }
            Body::FileCreate { .. }
            | Body::FileRename { .. }
            | Body::FileDelete { .. }
            | Body::FileExtend { .. }
            | Body::IndexLoad { .. }
            | Body::DynamicMeta { .. }
            | Body::Dummy => Ok(()),
            _ => self.index_record(page, body),
        }
    }

    /// Records that come with the description of their index.
    fn index_record(&mut self, page: &mut Page<'_>, body: &Body<'_>) -> Applied {
        let Some(index) = index_of(body) else { return Ok(()) };
        let mut ahead = page.is_ahead();
        let done = self.change_index_page(page, index, body, &mut ahead);
        page.set_ahead(ahead);
        done
    }

    fn change_index_page(
        &mut self,
        page: &mut Page<'_>,
        index: &IndexInfo<'_>,
        body: &Body<'_>,
        ahead: &mut bool,
    ) -> Applied {
        let shape = self.shapes.of(index)?;
        let mut page = page.index_page(shape, &mut self.inflaters)?;
        let (page, room) = (&mut page, &mut self.room);
        let compresses =
            matches!(body, Body::ZipCompressNoData { .. } | Body::Reorganize { zip_level: Some(_), .. });
        if *ahead && !compresses {
            return Err(Corruption("a compressed page was not compressed after the insert before"));
        }
        match *body {
            Body::RecInsert { after, ref insert, .. } => {
                insert::apply(page, shape, usize::from(after), insert, room, ahead).map(|_| ())
            }
            Body::ListEndCopyCreated { ref inserts, .. } => {
                append::list_end_copy_created(page, shape, inserts, room, ahead)
            }
            Body::RecDelete { rec, .. } => delete::delete(page, shape, usize::from(rec)),
            Body::ListEndDelete { rec, .. } => delete::list_end(page, shape, usize::from(rec)),
            Body::ListStartDelete { rec, .. } => delete::list_start(page, shape, usize::from(rec)),
            Body::ClustDeleteMark { keep_system, deleted, ref system, rec, .. } => {
                let system = (!keep_system).then_some(system);
                update::clust_delete_mark(page, shape, usize::from(rec), deleted, system)
            }
            Body::UpdateInPlace { keep_system, ref system, rec, info_bits, ref fields, .. } => {
                let system = (!keep_system).then_some(system);
                update::in_place(page, shape, usize::from(rec), system, info_bits, fields)
            }
            Body::Reorganize { zip_level: None, .. } if page.zip.is_none() => {
                reorganize::reorganize(page, shape, room)
            }
            Body::Reorganize { zip_level: Some(level), .. } => {
                *ahead = false;
                zip::compress_and_reorganize(page, shape, level, room)
            }
            Body::ZipCompressNoData { level, .. } => {
                *ahead = false;
                zip::compress(page, shape, level)
            }
            _ => Err(Corruption("a record for a page of the other kind")),
        }
    }
}

impl RecordLayouts {
    fn of(&mut self, info: &IndexInfo<'_>) -> Applied<&RecordLayout> {
        if self.all.get(self.last).is_none_or(|(raw, _)| **raw != *info.raw()) {
            self.last = self.find(info)?;
        }
        Ok(&self.all[self.last].1)
    }

    fn find(&mut self, info: &IndexInfo<'_>) -> Applied<usize> {
        if let Some(place) = self.places.get(info.raw()) {
            return Ok(*place);
        }
        if self.all.len() >= SHAPES_MAX || self.len >= SHAPES_LEN_MAX {
            *self = RecordLayouts::default();
        }
        self.len += SHAPE_LEN + 2 * info.raw().len() + FIELD_LEN * usize::from(info.fields);
        self.all.push((info.raw().into(), RecordLayout::compile(info)?));
        self.places.insert(info.raw().into(), self.all.len() - 1);
        Ok(self.all.len() - 1)
    }
}

#[cfg(test)]
mod tests;

/// Decompresses an index page of a ROW_FORMAT=COMPRESSED tablespace; `None` if it is broken.
pub fn index_frame(page: &[u8], layout: super::page::PageLayout) -> Option<Vec<u8>> {
    zip::unzip(page, layout.logical(), &mut zip::Inflaters::default()).ok().map(|unzipped| unzipped.frame)
}
