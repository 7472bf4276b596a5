//! Parses records (`recv_parse_log_rec` and the functions that `recv_parse_or_apply_log_rec_body` calls).
//!
//! A record starts with its type (low seven bits; bit 7: it is a group of its own) and, but for dummies, group
//! ends and dynamic metadata, space id and page number, both compressed. The body follows.

use super::cursor::{Cursor, Read, Stop};
use super::index_info::{FIELDS_MAX, IndexInfo, KnownIndexes};
use super::record::{
    Body, DynamicMeta, Insert, InsertHeader, Inserts, Kind, NO_PAGE, NO_SPACE, RowFormat, SystemFields, Tree,
    UpdateField, UpdateFields,
};
use crate::base::{PageNo, SpaceId};
use crate::innodb::page::LOGICAL_MAX;

/// Most bytes that a [`Kind::ListEndCopyCreated`] can take: it fills one page, and what it adds to each record
/// is less than the shortest record.
const LIST_MAX: usize = 4 * LOGICAL_MAX;
/// The body of an index page starts here; a compressed page's header ends here (`PAGE_DATA`).
const PAGE_DATA: usize = 94;
/// Most indexes of a table (`MAX_INDEXES`).
const INDEXES_MAX: u8 = 128;
/// `BTR_KEEP_SYS_FLAG`: the record's system fields stay.
const KEEP_SYSTEM: u8 = 4;

/// The first bytes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// The record is a group of its own.
    pub(super) single: bool,
    pub(super) space: SpaceId,
    pub(super) page: PageNo,
}

impl Head {
    const SINGLE: u8 = 0x80;

    #[inline(always)]
    pub(super) fn read(c: &mut Cursor<'_>) -> Read<Self> {
        let first = c.u8()?;
        let single = first & Self::SINGLE != 0;
        let kind = Kind::from_number(first & !Self::SINGLE).ok_or(Stop::Bad("unknown record type"))?;
        let (space, page) = match kind {
            Kind::MultiRecEnd | Kind::Dummy if single => {
                return Err(Stop::Bad("a group end or dummy marked as a group of its own"));
            }
            Kind::MultiRecEnd | Kind::Dummy | Kind::TableDynamicMeta => (NO_SPACE, NO_PAGE),
            _ => (SpaceId(c.compressed()?), PageNo(c.compressed()?)),
        };
        if kind.is_file_event() && page != PageNo(0) {
            return Err(Stop::Bad("a file event for a page other than 0"));
        }
        Ok(Head { kind, single, space, page })
    }
}

/// Reads the body of a record of this kind.
pub(super) fn body<'a>(head: &Head, c: &mut Cursor<'a>) -> Read<Body<'a>> {
    body_with(head, c, IndexInfo::read)
}

/// Goes past the body of a record of this kind, which is checked as [`body`] does. Gives how many of its bytes describe an
/// index, which come first, and the key of that description.
#[inline(always)]
pub(super) fn skip(head: &Head, c: &mut Cursor<'_>, known: &mut KnownIndexes) -> Read<(usize, u64)> {
    let mut described = (0, 0);
    // All of it in one place, where what the body says is not wanted: the compiler then leaves that out. A log is gone
    // through twice as fast as by `body`.
    body_with(head, c, |c| {
        let (info, key) = known.read_keyed(c)?;
        described = (info.raw().len(), key);
        Ok(info)
    })?;
    Ok(described)
}

/// Reads the body of a record as [`body`] does, with index descriptions read by `index`.
#[inline(always)]
pub(super) fn body_with<'a>(
    head: &Head,
    c: &mut Cursor<'a>,
    index: impl FnOnce(&mut Cursor<'a>) -> Read<IndexInfo<'a>>,
) -> Read<Body<'a>> {
    use Kind as K;
    Ok(match head.kind {
        K::Write1 | K::Write2 | K::Write4 | K::Write8 => write(head.kind, c)?,
        K::WriteString => write_string(c)?,
        K::InitFilePage => Body::InitFilePage { reset_lsn: true },
        K::InitFilePage2 => Body::InitFilePage { reset_lsn: false },
        K::PageCreate => create(RowFormat::Redundant, Tree::BTree),
        K::CompPageCreate => create(RowFormat::Compact, Tree::BTree),
        K::PageCreateRtree => create(RowFormat::Redundant, Tree::RTree),
        K::CompPageCreateRtree => create(RowFormat::Compact, Tree::RTree),
        K::PageCreateSdi => create(RowFormat::Redundant, Tree::Sdi),
        K::CompPageCreateSdi => create(RowFormat::Compact, Tree::Sdi),
        K::RecInsert => Body::RecInsert { index: index(c)?, after: c.u16()?, insert: Insert::read(c)? },
        K::RecClustDeleteMark => clust_delete_mark(index(c)?, c)?,
        K::RecSecDeleteMark => Body::SecDeleteMark { deleted: c.u8()? != 0, rec: c.u16()? },
        K::RecMinMark => Body::MinRecMark { format: RowFormat::Redundant, rec: c.u16()? },
        K::CompRecMinMark => Body::MinRecMark { format: RowFormat::Compact, rec: c.u16()? },
        K::RecDelete => Body::RecDelete { index: index(c)?, rec: c.u16()? },
        K::RecUpdateInPlace => update_in_place(index(c)?, c)?,
        K::ListEndCopyCreated => list_end_copy_created(index(c)?, c)?,
        K::PageReorganize => Body::Reorganize { index: index(c)?, zip_level: None },
        K::ZipPageReorganize => Body::Reorganize { index: index(c)?, zip_level: Some(zip_level(c)?) },
        K::ZipPageCompressNoData => Body::ZipCompressNoData { index: index(c)?, level: zip_level(c)? },
        K::ListEndDelete => Body::ListEndDelete { index: index(c)?, rec: c.u16()? },
        K::ListStartDelete => Body::ListStartDelete { index: index(c)?, rec: c.u16()? },
        K::UndoInsert => undo_insert(c)?,
        K::UndoEraseEnd => Body::UndoEraseEnd,
        K::UndoInit => undo_init(c)?,
        K::UndoHeaderReuse => Body::UndoHeaderReuse { trx_id: c.u64_compressed()? },
        K::UndoHeaderCreate => Body::UndoHeaderCreate { trx_id: c.u64_compressed()? },
        K::IbufBitmapInit => Body::IbufBitmapInit,
        K::FileCreate => Body::FileCreate { flags: c.u32()?, path: path(c, head.space)? },
        K::FileRename => file_rename(c, head.space)?,
        K::FileDelete => Body::FileDelete { path: path(c, head.space)? },
        K::FileExtend => file_extend(c)?,
        K::IndexLoad => Body::IndexLoad { index_id: c.u64()? },
        K::TableDynamicMeta => dynamic_meta(c)?,
        K::ZipWriteNodePtr => {
            let (offset, zip_offset) = zip_offsets(c)?;
            Body::ZipWriteNodePtr { offset, zip_offset, child: c.array_ref()? }
        }
        K::ZipWriteBlobPtr => {
            let (offset, zip_offset) = zip_offsets(c)?;
            Body::ZipWriteBlobPtr { offset, zip_offset, reference: c.array_ref()? }
        }
        K::ZipWriteHeader => zip_write_header(c)?,
        K::ZipPageCompress => zip_page_compress(c)?,
        K::Dummy | K::MultiRecEnd => Body::Dummy,
    })
}

#[inline(always)]
fn write<'a>(kind: Kind, c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let offset = c.u16()?;
    let width = kind as u8;
    let value = if kind == Kind::Write8 { c.u64_compressed()? } else { u64::from(c.compressed()?) };
    if kind != Kind::Write8 && value >> (8 * u32::from(width)) != 0 {
        return Err(Stop::Bad("a value that does not fit the bytes it is for"));
    }
    if usize::from(offset) + usize::from(width) > LOGICAL_MAX {
        return Err(Stop::Bad("a write beyond the end of the page"));
    }
    Ok(Body::Write { offset, width, value })
}

#[inline(always)]
fn write_string<'a>(c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let (offset, len) = (c.u16()?, usize::from(c.u16()?));
    if usize::from(offset) + len > LOGICAL_MAX {
        return Err(Stop::Bad("a write beyond the end of the page"));
    }
    Ok(Body::WriteString { offset, bytes: c.bytes(len)? })
}

fn create<'a>(format: RowFormat, tree: Tree) -> Body<'a> {
    Body::PageCreate { format, tree }
}

impl<'a> Insert<'a> {
    /// Length of the end segment times two, plus 1 if the header follows (`page_cur_parse_insert_rec`).
    #[inline(always)]
    pub(super) fn read(c: &mut Cursor<'a>) -> Read<Self> {
        let len = c.compressed()? as usize;
        if len >= 2 * LOGICAL_MAX {
            return Err(Stop::Bad("an inserted record longer than a page"));
        }
        let header = if len & 1 == 0 {
            None
        } else {
            let header =
                InsertHeader { info_and_status: c.u8()?, origin: c.compressed()?, shared: c.compressed()? };
            if header.origin as usize >= LOGICAL_MAX || header.shared as usize >= LOGICAL_MAX {
                return Err(Stop::Bad("an inserted record longer than a page"));
            }
            Some(header)
        };
        Ok(Insert { header, end: c.bytes(len >> 1)? })
    }
}

impl<'a> SystemFields<'a> {
    #[inline(always)]
    fn read(c: &mut Cursor<'a>) -> Read<Self> {
        Ok(SystemFields { position: c.compressed()?, roll_ptr: c.array_ref()?, trx_id: c.u64_compressed()? })
    }
}

#[inline(always)]
fn clust_delete_mark<'a>(index: IndexInfo<'a>, c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let (flags, deleted) = (c.u8()?, c.u8()? != 0);
    let (system, rec) = (SystemFields::read(c)?, c.u16()?);
    Ok(Body::ClustDeleteMark { index, keep_system: flags & KEEP_SYSTEM != 0, deleted, system, rec })
}

#[inline(always)]
fn update_in_place<'a>(index: IndexInfo<'a>, c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let flags = c.u8()?;
    let (system, rec) = (SystemFields::read(c)?, c.u16()?);
    let info_bits = c.u8()?;
    let count = c.compressed()?;
    if count as usize > FIELDS_MAX {
        return Err(Stop::Bad("more updated fields than a record can have"));
    }
    let all = c.rest();
    for _ in 0..count {
        UpdateField::read(c)?;
    }
    let fields = UpdateFields { count, bytes: &all[..all.len() - c.rest().len()] };
    let keep_system = flags & KEEP_SYSTEM != 0;
    Ok(Body::UpdateInPlace { index, keep_system, system, rec, info_bits, fields })
}

/// The records of the list are read when they are wanted ([`Inserts::iter`]).
#[inline(always)]
fn list_end_copy_created<'a>(index: IndexInfo<'a>, c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let len = c.u32()? as usize;
    if len > LIST_MAX {
        return Err(Stop::Bad("a list of records longer than a page"));
    }
    Ok(Body::ListEndCopyCreated { index, inserts: Inserts(c.bytes(len)?) })
}

fn zip_level(c: &mut Cursor<'_>) -> Read<u8> {
    match c.u8()? {
        level @ 0..=9 => Ok(level),
        _ => Err(Stop::Bad("impossible compression level")),
    }
}

#[inline(always)]
fn undo_insert<'a>(c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let len = usize::from(c.u16()?);
    Ok(Body::UndoInsert { bytes: c.bytes(len)? })
}

fn undo_init<'a>(c: &mut Cursor<'a>) -> Read<Body<'a>> {
    match c.compressed()? {
        undo_type @ 1..=2 => Ok(Body::UndoInit { undo_type }),
        _ => Err(Stop::Bad("unknown type of undo page")),
    }
}

/// A path: its length with the closing NUL (2), and the bytes (`parse_path_from_redo`).
fn path<'a>(c: &mut Cursor<'a>, space: SpaceId) -> Read<&'a [u8]> {
    const SHORTEST: usize = 5;
    let len = usize::from(c.u16()?);
    let Some((0, path)) = c.bytes(len)?.split_last() else {
        return Err(Stop::Bad("a path without end"));
    };
    if len < SHORTEST || path.contains(&0) {
        return Err(Stop::Bad("a path that ends too early"));
    }
    if !space.is_undo() && !path.ends_with(b".ibd") {
        return Err(Stop::Bad("a tablespace path that does not end in .ibd"));
    }
    Ok(path)
}

fn file_rename<'a>(c: &mut Cursor<'a>, space: SpaceId) -> Read<Body<'a>> {
    let (from, to) = (path(c, space)?, path(c, space)?);
    if from == to {
        return Err(Stop::Bad("a file renamed to its own name"));
    }
    Ok(Body::FileRename { from, to })
}

fn file_extend<'a>(c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let (offset, size) = (c.u64()?, c.u64()?);
    if size == 0 || offset.checked_add(size).is_none() {
        return Err(Stop::Bad("impossible size of a file extension"));
    }
    Ok(Body::FileExtend { offset, size })
}

fn dynamic_meta<'a>(c: &mut Cursor<'a>) -> Read<Body<'a>> {
    const INDEX_ID_LEN: usize = 12;
    let (table, version) = (c.u64_much_compressed()?, c.u64_much_compressed()?);
    let meta = match c.u8()? {
        1 => match c.u8()? {
            count @ 1..=INDEXES_MAX => {
                DynamicMeta::CorruptedIndexes(c.bytes(usize::from(count) * INDEX_ID_LEN)?)
            }
            _ => return Err(Stop::Bad("impossible number of corrupted indexes")),
        },
        2 => DynamicMeta::AutoIncrement(c.u64_much_compressed()?),
        _ => return Err(Stop::Bad("unknown type of dynamic metadata")),
    };
    Ok(Body::DynamicMeta { table, version, meta })
}

fn zip_offsets(c: &mut Cursor<'_>) -> Read<(u16, u16)> {
    let (offset, zip_offset) = (c.u16()?, c.u16()?);
    if usize::from(offset) < PAGE_DATA {
        return Err(Stop::Bad("a field of a record inside the page header"));
    }
    Ok((offset, zip_offset))
}

fn zip_write_header<'a>(c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let (offset, len) = (c.u8()?, usize::from(c.u8()?));
    if len == 0 || usize::from(offset) + len >= PAGE_DATA {
        return Err(Stop::Bad("a write to a page header beyond its end"));
    }
    Ok(Body::ZipWriteHeader { offset, bytes: c.bytes(len)? })
}

fn zip_page_compress<'a>(c: &mut Cursor<'a>) -> Read<Body<'a>> {
    let (size, trailer) = (usize::from(c.u16()?), usize::from(c.u16()?));
    if size + trailer > LOGICAL_MAX {
        return Err(Stop::Bad("a compressed page longer than a page"));
    }
    Ok(Body::ZipPageCompress {
        prev: c.u32()?,
        next: c.u32()?,
        data: c.bytes(size)?,
        trailer: c.bytes(trailer)?,
    })
}
