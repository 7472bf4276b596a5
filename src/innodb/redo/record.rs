//! Redo records: a type, the page they change, and a body (`mlog_id_t` in mtr0types.h).

use super::cursor::{Cursor, Read, Stop};
use super::index_info::IndexInfo;
use crate::base::{Lsn, PageNo, SpaceId};
use crate::innodb::page::{FSP_SIZE, LOGICAL_MAX};

/// One redo record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Record<'a> {
    /// LSN of its first byte.
    pub start_lsn: Lsn,
    /// LSN after the group (mini-transaction) that it belongs to: what the page's LSN becomes.
    pub end_lsn: Lsn,
    /// Its tablespace; [`NO_SPACE`] where it has none.
    pub space: SpaceId,
    /// Its page; [`NO_PAGE`] where it has none.
    pub page: PageNo,
    /// Its type.
    pub kind: Kind,
    /// The bytes of its body, for keeping the record: [`super::parse_body`] takes them.
    pub bytes: &'a [u8],
    /// Its content.
    pub body: Body<'a>,
}

impl Record<'_> {
    /// Whether it sets the number of pages of its tablespace, in page 0.
    pub fn sets_space_size(&self) -> bool {
        let is_size = |offset: u16| usize::from(offset) == FSP_SIZE;
        self.page == PageNo(0) && matches!(self.body, Body::Write { offset, width: 4, .. } if is_size(offset))
    }
}

/// The space of a record that names none ([`Kind::TableDynamicMeta`], [`Kind::Dummy`]).
pub const NO_SPACE: SpaceId = SpaceId(u32::MAX);
/// The page of a record that names none.
pub const NO_PAGE: PageNo = PageNo(u32::MAX);

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal;)+) => {
        /// The type of a record: those that format 6 writes.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])+ $name = $value,)+ }

        impl Kind {
            /// All types, by number.
            pub const ALL: &[Kind] = &[$(Kind::$name),+];

            /// The type with this number.
            #[inline]
            pub fn from_number(number: u8) -> Option<Kind> {
                const TYPES: [Option<Kind>; 256] = {
                    let mut types = [None; 256];
                    $(types[$value] = Some(Kind::$name);)+
                    types
                };
                TYPES[usize::from(number)]
            }

            /// The server's name for it, without `MLOG_`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $text,)+ }
            }
        }
    };
}

kinds! {
    /// Store a byte.
    Write1 = 1, "1BYTE";
    /// Store two bytes.
    Write2 = 2, "2BYTES";
    /// Store four bytes.
    Write4 = 4, "4BYTES";
    /// Store eight bytes.
    Write8 = 8, "8BYTES";
    /// Set or clear the delete mark of a record of a secondary index.
    RecSecDeleteMark = 11, "REC_SEC_DELETE_MARK";
    /// Make an empty B-tree page, REDUNDANT.
    PageCreate = 19, "PAGE_CREATE";
    /// Append an undo record.
    UndoInsert = 20, "UNDO_INSERT";
    /// Overwrite the free end of an undo page.
    UndoEraseEnd = 21, "UNDO_ERASE_END";
    /// Initialise an undo page.
    UndoInit = 22, "UNDO_INIT";
    /// Use an undo log segment again.
    UndoHeaderReuse = 24, "UNDO_HDR_REUSE";
    /// Add an undo log header.
    UndoHeaderCreate = 25, "UNDO_HDR_CREATE";
    /// Mark the leftmost record of a level, REDUNDANT.
    RecMinMark = 26, "REC_MIN_MARK";
    /// Initialise a change buffer bitmap.
    IbufBitmapInit = 27, "IBUF_BITMAP_INIT";
    /// Clear a page, page LSN included.
    InitFilePage = 29, "INIT_FILE_PAGE";
    /// Store bytes.
    WriteString = 30, "WRITE_STRING";
    /// Ends a group of several records.
    MultiRecEnd = 31, "MULTI_REC_END";
    /// Fills the log.
    Dummy = 32, "DUMMY_RECORD";
    /// A tablespace file came into being.
    FileCreate = 33, "FILE_CREATE";
    /// A tablespace file got another name.
    FileRename = 34, "FILE_RENAME";
    /// A tablespace file went away.
    FileDelete = 35, "FILE_DELETE";
    /// Mark the leftmost record of a level, COMPACT.
    CompRecMinMark = 36, "COMP_REC_MIN_MARK";
    /// Make an empty B-tree page, COMPACT.
    CompPageCreate = 37, "COMP_PAGE_CREATE";
    /// Write a child page number into a compressed page.
    ZipWriteNodePtr = 48, "ZIP_WRITE_NODE_PTR";
    /// Write a LOB reference into a compressed page.
    ZipWriteBlobPtr = 49, "ZIP_WRITE_BLOB_PTR";
    /// Write to the header of a compressed page.
    ZipWriteHeader = 50, "ZIP_WRITE_HEADER";
    /// The whole image of a compressed page.
    ZipPageCompress = 51, "ZIP_PAGE_COMPRESS";
    /// Make an empty R-tree page, REDUNDANT.
    PageCreateRtree = 57, "PAGE_CREATE_RTREE";
    /// Make an empty R-tree page, COMPACT.
    CompPageCreateRtree = 58, "COMP_PAGE_CREATE_RTREE";
    /// Clear a page, whatever it was before.
    InitFilePage2 = 59, "INIT_FILE_PAGE2";
    /// An index was built without redo.
    IndexLoad = 61, "INDEX_LOAD";
    /// Auto-increment counter or corrupt indexes of a table.
    TableDynamicMeta = 62, "TABLE_DYNAMIC_META";
    /// Make an empty SDI page, REDUNDANT.
    PageCreateSdi = 63, "PAGE_CREATE_SDI";
    /// Make an empty SDI page, COMPACT.
    CompPageCreateSdi = 64, "COMP_PAGE_CREATE_SDI";
    /// A tablespace file grew.
    FileExtend = 65, "FILE_EXTEND";
    /// Insert a record.
    RecInsert = 67, "REC_INSERT";
    /// Set or clear the delete mark of a record of a clustered index.
    RecClustDeleteMark = 68, "REC_CLUST_DELETE_MARK";
    /// Delete a record.
    RecDelete = 69, "REC_DELETE";
    /// Update a record without a change of its size.
    RecUpdateInPlace = 70, "REC_UPDATE_IN_PLACE";
    /// Fill a new page with records.
    ListEndCopyCreated = 71, "LIST_END_COPY_CREATED";
    /// Rebuild a page.
    PageReorganize = 72, "PAGE_REORGANIZE";
    /// Rebuild and compress a page.
    ZipPageReorganize = 73, "ZIP_PAGE_REORGANIZE";
    /// Compress a page.
    ZipPageCompressNoData = 74, "ZIP_PAGE_COMPRESS_NO_DATA";
    /// Delete a record and all after it.
    ListEndDelete = 75, "LIST_END_DELETE";
    /// Delete all records before one.
    ListStartDelete = 76, "LIST_START_DELETE";
}

impl Kind {
    /// Whether the record stands for a whole file, not for a page.
    pub fn is_file_event(self) -> bool {
        matches!(self, Kind::FileCreate | Kind::FileRename | Kind::FileDelete | Kind::FileExtend)
    }

    /// Whether the record begins with the description of an index.
    pub fn has_index(self) -> bool {
        use Kind as K;
        matches!(
            self,
            K::RecInsert
                | K::RecClustDeleteMark
                | K::RecDelete
                | K::RecUpdateInPlace
                | K::ListEndCopyCreated
                | K::PageReorganize
                | K::ZipPageReorganize
                | K::ZipPageCompressNoData
                | K::ListEndDelete
                | K::ListStartDelete
        )
    }

    /// Whether the record changes the page that it names.
    pub fn is_page_change(self) -> bool {
        use Kind::{Dummy, IndexLoad, MultiRecEnd, TableDynamicMeta};
        !self.is_file_event() && !matches!(self, Dummy | IndexLoad | MultiRecEnd | TableDynamicMeta)
    }
}

/// REDUNDANT or one of the newer record formats, which share one page layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowFormat {
    /// REDUNDANT.
    Redundant,
    /// COMPACT, DYNAMIC, COMPRESSED.
    Compact,
}

/// The kinds of index pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tree {
    /// B-tree.
    BTree,
    /// Spatial index.
    RTree,
    /// Serialized dictionary information.
    Sdi,
}

/// DB_TRX_ID and DB_ROLL_PTR of a changed record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemFields<'a> {
    /// Physical position of DB_TRX_ID; DB_ROLL_PTR follows it.
    pub position: u32,
    /// DB_ROLL_PTR.
    pub roll_ptr: &'a [u8; 7],
    /// DB_TRX_ID.
    pub trx_id: u64,
}

/// A record to insert, as the difference from the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insert<'a> {
    /// The header, where it is not that of the record before.
    pub header: Option<InsertHeader>,
    /// The end of the record, where it differs from the one before.
    pub end: &'a [u8],
}

/// The part of an [`Insert`] that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InsertHeader {
    /// Info bits (high half) and status (low half).
    pub info_and_status: u8,
    /// Bytes before the record's origin.
    pub origin: u32,
    /// Bytes that the record shares with the one before it.
    pub shared: u32,
}

/// The changed fields of an update in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpdateFields<'a> {
    pub(super) count: u32,
    pub(super) bytes: &'a [u8],
}

/// One changed field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpdateField<'a> {
    /// Logical position.
    pub number: u32,
    /// The new value; `None` is NULL.
    pub value: Option<&'a [u8]>,
}

impl<'a> UpdateField<'a> {
    #[inline(always)]
    pub(super) fn read(c: &mut Cursor<'a>) -> Read<Self> {
        const SQL_NULL: u32 = u32::MAX;
        let number = c.compressed()?;
        let value = match c.compressed()? {
            SQL_NULL => None,
            // Waiting for so many bytes would be in vain.
            len if len as usize > LOGICAL_MAX => return Err(Stop::Bad("a field longer than a page")),
            len => Some(c.bytes(len as usize)?),
        };
        Ok(UpdateField { number, value })
    }
}

impl<'a> UpdateFields<'a> {
    /// The number of them.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The fields.
    pub fn iter(&self) -> impl Iterator<Item = UpdateField<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.bytes);
        std::iter::from_fn(move || UpdateField::read(&mut cursor).ok()).take(self.len())
    }
}

/// The records of a [`Body::ListEndCopyCreated`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inserts<'a>(pub(super) &'a [u8]);

impl<'a> Inserts<'a> {
    /// The records in order, each as the difference from the one before. The last is an error, which says what is wrong, where
    /// the list can't be.
    pub fn iter(&self) -> impl Iterator<Item = Result<Insert<'a>, &'static str>> + use<'a> {
        let mut cursor = Cursor::new(self.0);
        std::iter::from_fn(move || {
            let insert = (!cursor.is_empty()).then(|| Insert::read(&mut cursor))?;
            Some(insert.map_err(|stop| {
                cursor = Cursor::new(&[]);
                match stop {
                    Stop::More => "a list of records that ends inside a record",
                    Stop::Bad(what) => what,
                }
            }))
        })
    }
}

/// The table metadata in a [`Body::DynamicMeta`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DynamicMeta<'a> {
    /// Its corrupted indexes: space id (4 bytes) and index id (8 bytes) of each.
    CorruptedIndexes(&'a [u8]),
    /// The last auto-increment value used.
    AutoIncrement(u64),
}

/// The body of a record. Offsets are offsets in its page.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs, reason = "fields are described where the variant is")]
pub enum Body<'a> {
    /// Store `value` in `width` (1, 2, 4, 8) bytes.
    Write { offset: u16, width: u8, value: u64 },
    /// Store bytes.
    WriteString { offset: u16, bytes: &'a [u8] },
    /// Clear the page and set its number and space id. `reset_lsn`: the old form, which makes all records
    /// that follow apply.
    InitFilePage { reset_lsn: bool },
    /// Make an empty index page.
    PageCreate { format: RowFormat, tree: Tree },
    /// Insert a record after the one at `after`.
    RecInsert { index: IndexInfo<'a>, after: u16, insert: Insert<'a> },
    /// Set or clear the delete mark of the record at `rec`, with new system fields unless `keep_system`.
    ClustDeleteMark {
        index: IndexInfo<'a>,
        keep_system: bool,
        deleted: bool,
        system: SystemFields<'a>,
        rec: u16,
    },
    /// Set or clear the delete mark of the record at `rec`.
    SecDeleteMark { deleted: bool, rec: u16 },
    /// Mark the record at `rec` as leftmost of its level.
    MinRecMark { format: RowFormat, rec: u16 },
    /// Delete the record at `rec`.
    RecDelete { index: IndexInfo<'a>, rec: u16 },
    /// Update fields of the record at `rec`, with new system fields unless `keep_system`.
    UpdateInPlace {
        index: IndexInfo<'a>,
        keep_system: bool,
        system: SystemFields<'a>,
        rec: u16,
        info_bits: u8,
        fields: UpdateFields<'a>,
    },
    /// Append records to an empty page.
    ListEndCopyCreated { index: IndexInfo<'a>, inserts: Inserts<'a> },
    /// Rebuild the page; `zip_level`: and compress it with this zlib level.
    Reorganize { index: IndexInfo<'a>, zip_level: Option<u8> },
    /// Compress the page as it is with this zlib level.
    ZipCompressNoData { index: IndexInfo<'a>, level: u8 },
    /// Delete the record at `rec` and all after it.
    ListEndDelete { index: IndexInfo<'a>, rec: u16 },
    /// Delete all records before the one at `rec`.
    ListStartDelete { index: IndexInfo<'a>, rec: u16 },
    /// Append an undo record.
    UndoInsert { bytes: &'a [u8] },
    /// Overwrite the free end of an undo page.
    UndoEraseEnd,
    /// Initialise an undo page of this type (1 insert, 2 update).
    UndoInit { undo_type: u32 },
    /// Use the undo log segment again for a transaction.
    UndoHeaderReuse { trx_id: u64 },
    /// Add an undo log header for a transaction.
    UndoHeaderCreate { trx_id: u64 },
    /// Initialise a change buffer bitmap.
    IbufBitmapInit,
    /// The file came into being with these tablespace flags.
    FileCreate { flags: u32, path: &'a [u8] },
    /// The file got another name.
    FileRename { from: &'a [u8], to: &'a [u8] },
    /// The file went away.
    FileDelete { path: &'a [u8] },
    /// The file grew by `size` bytes at `offset`.
    FileExtend { offset: u64, size: u64 },
    /// The index was built without redo; the page is its root.
    IndexLoad { index_id: u64 },
    /// Dynamic metadata of a table; of two versions the higher counts.
    DynamicMeta { table: u64, version: u64, meta: DynamicMeta<'a> },
    /// Store a child page number at `offset` of the page and at `zip_offset` of its compressed image.
    ZipWriteNodePtr { offset: u16, zip_offset: u16, child: &'a [u8; 4] },
    /// Store a LOB reference at `offset` of the page and at `zip_offset` of its compressed image.
    ZipWriteBlobPtr { offset: u16, zip_offset: u16, reference: &'a [u8; 20] },
    /// Store bytes in the header of the page and of its compressed image.
    ZipWriteHeader { offset: u8, bytes: &'a [u8] },
    /// The compressed image of the page: links, what goes to offset 24 on, and what goes to its end.
    ZipPageCompress { prev: u32, next: u32, data: &'a [u8], trailer: &'a [u8] },
    /// Nothing.
    Dummy,
}
