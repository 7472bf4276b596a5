//! Makes the metadata file `.cfg` that `ALTER TABLE … IMPORT TABLESPACE` reads beside a datafile (row0quiesce.cc,
//! `row_quiesce_write_cfg`), out of the dictionary object in the datafile itself.
//!
//! Numbers are big-endian; a text is its length with the closing zero (4 bytes), the text, the zero.
//!
//! ```text
//! version 4 · host · `schema/table` · AUTO_INCREMENT 8 · page size 4 · table flags 4 · number of columns 4 · nullable fields 4
//! columns at first, now, in all, dropped 4 each · row version 4 · tablespace flags 4 · compression 1
//! column   type bits 4 · main type 4 · length 4 · bytes of a character 4 · number 4 · is in a key 4 · longest prefix 4 · name
//!          added by version 2 · dropped by version 2 · place in the record 4
//!          dropped: nullable 1 · unsigned 1 · length 4 · type 4 · scale 4 · collation 8 · members of an ENUM or SET
//!          default of an instant column: 0, or 1 · is NULL 1 · length 4 · bytes
//! number of indexes 4
//! index    id 8 · space 4 · root 4 · type 4 · offset of DB_TRX_ID 4 · fields given 4 · unique 4 · nullable 4 · all 4 · name
//! field    prefix 4 · fixed length 4 · ascending 4 · name
//! ```
//!
//! The order of columns: stored ones by position, the hidden FTS_DOC_ID, the three system columns, dropped ones. Of indexes: that
//! of the dictionary information itself, then as the dictionary has them.

use super::collations::Collation;
use super::create_table::prefix_len;
use super::{
    BINARY_COLLATION, Column, Index, IndexElement, Partition, Table, column_type, index_kind as kind, value,
};
use crate::innodb::page::{PageLayout, SpaceFlags};

/// Version of the format that servers before 9.1 read.
const VERSION_64: u32 = 7;
/// Version since 9.1, when rows may have 255 versions instead of 64.
const VERSION_255: u32 = 8;
const SERVER_255: u64 = 90_100;

/// Type bits (data0type.h).
mod bits {
    pub(super) const NOT_NULL: u32 = 256;
    pub(super) const UNSIGNED: u32 = 512;
    pub(super) const BINARY: u32 = 1024;
    pub(super) const LONG_TRUE_VARCHAR: u32 = 4096;
}

/// Main types (`DATA_VARCHAR` and so on, data0type.h).
mod main_type {
    pub(super) const VARCHAR: u32 = 1;
    pub(super) const CHAR: u32 = 2;
    pub(super) const FIXBINARY: u32 = 3;
    pub(super) const BINARY: u32 = 4;
    pub(super) const BLOB: u32 = 5;
    pub(super) const INT: u32 = 6;
    pub(super) const SYS: u32 = 8;
    pub(super) const FLOAT: u32 = 9;
    pub(super) const DOUBLE: u32 = 10;
    pub(super) const VARMYSQL: u32 = 12;
    pub(super) const MYSQL: u32 = 13;
    pub(super) const GEOMETRY: u32 = 14;
}

/// Types of indexes (`DICT_CLUSTERED` and so on, dict0mem.h).
mod index_type {
    pub(super) const CLUSTERED: u32 = 1;
    pub(super) const UNIQUE: u32 = 2;
    pub(super) const FULLTEXT: u32 = 32;
    pub(super) const SPATIAL: u32 = 64;
    pub(super) const VIRTUAL: u32 = 128;
    pub(super) const SDI: u32 = 256;
    pub(super) const MULTI_VALUE: u32 = 512;
}

const LATIN1_SWEDISH: u64 = 8;
/// Collation of JSON values (utf8mb4_bin).
const JSON_COLLATION: u64 = 46;
/// Longest field that has a fixed place (`DICT_MAX_FIXED_COL_LEN`).
const FIXED_MAX: u32 = 768;
const HIDDEN_BY_ENGINE: u32 = 2;
const ROW_REDUNDANT: u32 = 4;
const DESCENDING: u32 = 3;
const NO_VERSION: u16 = u16::MAX;
const NO_PLACE: u32 = u32::MAX;
const FTS_DOC_ID: &str = "FTS_DOC_ID";
const FTS_DOC_ID_INDEX: &str = "FTS_DOC_ID_INDEX";
/// Type bits of the hidden FTS_DOC_ID: BIGINT UNSIGNED NOT NULL, made by InnoDB.
const FTS_DOC_ID_BITS: u32 = 1795;
/// The system columns, and their lengths.
const SYSTEM: [(&str, u32); 3] = [("DB_ROW_ID", 6), ("DB_TRX_ID", 6), ("DB_ROLL_PTR", 7)];

/// Why a table can't be described.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CfgError {
    /// A column of a type that is not known.
    #[error("column {0} has a type that is not known ({1})")]
    Type(String, u32),
    /// A column with a collation that is not known.
    #[error("column {0} has a collation that is not known ({1})")]
    Collation(String, u64),
    /// The dictionary object contradicts itself.
    #[error("the dictionary object of the table is broken: {0}")]
    Broken(&'static str),
}

/// The datafile that is described.
#[derive(Clone, Copy, Debug)]
pub struct Datafile<'a> {
    /// Id of its tablespace.
    pub space: u32,
    /// Flags of its tablespace.
    pub flags: SpaceFlags,
    /// Its pages.
    pub layout: PageLayout,
    /// Root page of its dictionary information.
    pub sdi_root: u32,
    /// The partition that it holds.
    pub partition: Option<&'a Partition>,
    /// Schema and table as the server names them inside: `schema/table`, `schema/table#p#part`.
    pub name: &'a str,
}

/// A column's type, as InnoDB has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Type {
    main: u32,
    bits: u32,
    len: u32,
    char_bytes: u32,
}

struct Field<'a> {
    column: usize,
    name: &'a str,
    prefix: u32,
    fixed: u32,
    is_ascending: bool,
    is_nullable: bool,
}

struct Described<'a> {
    index: &'a Index,
    private: &'a str,
    kind: u32,
    fields: Vec<Field<'a>>,
    given: u32,
    unique: usize,
}

/// Makes the file. `host` is the name of the machine, which no server looks at.
///
/// # Errors
/// [`CfgError`].
pub fn write(table: &Table, datafile: &Datafile<'_>, host: &str) -> Result<Vec<u8>, CfgError> {
    Writer::new(table, datafile)?.write(host)
}

struct Writer<'a> {
    table: &'a Table,
    datafile: &'a Datafile<'a>,
    /// Stored columns, and dropped ones.
    live: Vec<usize>,
    dropped: Vec<usize>,
    indexes: Vec<Described<'a>>,
}

impl<'a> Writer<'a> {
    fn new(table: &'a Table, datafile: &'a Datafile<'a>) -> Result<Writer<'a>, CfgError> {
        let mut writer =
            Writer { table, datafile, live: Vec::new(), dropped: Vec::new(), indexes: Vec::new() };
        let is_fts = |c: &Column| c.name == FTS_DOC_ID && c.hidden == HIDDEN_BY_ENGINE;
        for (at, column) in table.columns.iter().enumerate() {
            if column.private("version_dropped").is_some() {
                writer.dropped.push(at);
            } else if !column.is_virtual && !is_system(column) {
                writer.live.push(at);
            }
        }
        // The hidden document id comes after the others (a stable sort keeps their order).
        writer.live.sort_by_key(|at| is_fts(&table.columns[*at]));
        for at in 0..table.indexes.len() {
            let described = writer.describe(at)?;
            writer.indexes.push(described);
        }
        match writer.indexes.is_empty() {
            true => Err(CfgError::Broken("it has no index")),
            false => Ok(writer),
        }
    }

    fn column(&self, at: usize) -> Result<&'a Column, CfgError> {
        self.table.columns.get(at).ok_or(CfgError::Broken("an index has a column that is not there"))
    }

    /// Number of bytes that a field of an index has of its column; 0: all.
    fn prefix(&self, index: &Index, element: &IndexElement) -> Result<u32, CfgError> {
        Ok(prefix_len(index, element, self.column(element.column_opx)?).unwrap_or(0))
    }

    /// The fields of an index as InnoDB has them (`dict_index_build_internal_clust`, `dict_index_build_internal_non_clust`).
    fn describe(&self, at: usize) -> Result<Described<'a>, CfgError> {
        let index = &self.table.indexes[at];
        let (is_clustered, is_fulltext) = (at == 0, index.kind == kind::FULLTEXT);
        let mut fields = Vec::new();
        let mut given = 0;
        for (n, element) in index.elements.iter().enumerate() {
            let column = self.column(element.column_opx)?;
            let is_given = if index.name == FTS_DOC_ID_INDEX { n == 0 } else { !element.hidden };
            if self.dropped.contains(&element.column_opx) || !is_clustered && !is_given {
                continue;
            }
            given += u32::from(is_given);
            let prefix = if is_given { self.prefix(index, element)? } else { 0 };
            fields.push(self.field(element.column_opx, column, prefix, element.order)?);
        }
        let row_id = is_clustered && given == 0;
        if is_clustered {
            for &at in &self.live {
                let column = &self.table.columns[at];
                if column.hidden == HIDDEN_BY_ENGINE && fields.iter().all(|field| field.column != at) {
                    fields.push(self.field(at, column, 0, 0)?);
                }
            }
        } else if !is_fulltext {
            let clustered = &self.indexes[0];
            for field in &clustered.fields[..clustered.unique] {
                if !fields.iter().any(|own| own.column == field.column && own.prefix == 0) {
                    let order = if field.is_ascending { 0 } else { DESCENDING };
                    fields.push(self.field(field.column, self.column(field.column)?, field.prefix, order)?);
                }
            }
        }
        let unique = match index.kind {
            _ if is_clustered && row_id => 1,
            _ if is_clustered => given as usize,
            kind::FULLTEXT => 0,
            kind::UNIQUE => given as usize,
            _ => fields.len(),
        };
        if unique > fields.len() {
            return Err(CfgError::Broken("its clustered index has no columns"));
        }
        let columns = || fields.iter().map(|field| &self.table.columns[field.column]);
        let mut bits = match index.kind {
            _ if is_clustered && row_id => index_type::CLUSTERED,
            _ if is_clustered => index_type::CLUSTERED | index_type::UNIQUE,
            kind::PRIMARY | kind::UNIQUE => index_type::UNIQUE,
            kind::FULLTEXT => index_type::FULLTEXT,
            kind::SPATIAL => index_type::SPATIAL,
            _ => 0,
        };
        if columns().any(|column| column.is_virtual) {
            bits |= index_type::VIRTUAL;
        }
        if columns().any(|column| value(&column.options, "is_array").is_some_and(|v| v != "0")) {
            bits |= index_type::MULTI_VALUE;
        }
        let private = match self.datafile.partition {
            None => &index.se_private_data,
            Some(partition) => {
                let own = partition.indexes.get(at);
                &own.ok_or(CfgError::Broken("a partition lacks an index"))?.se_private_data
            }
        };
        Ok(Described { index, private, kind: bits, fields, given, unique })
    }

    fn field(&self, at: usize, column: &'a Column, prefix: u32, order: u32) -> Result<Field<'a>, CfgError> {
        let fixed = match system_len(column) {
            Some(len) => len,
            None => self.fixed(column, prefix)?,
        };
        let is_ascending = order != DESCENDING;
        Ok(Field {
            column: at,
            name: &column.name,
            prefix,
            fixed,
            is_ascending,
            is_nullable: column.is_nullable,
        })
    }

    /// Number of bytes that every value has in a record; 0 if they differ (`dict_col_get_fixed_size`).
    fn fixed(&self, column: &Column, prefix: u32) -> Result<u32, CfgError> {
        use main_type::*;
        let own = column_type_of(column, false)?;
        let (least, most) = (own.char_bytes % 5, own.char_bytes / 5);
        let len = match own.main {
            VARCHAR | VARMYSQL | BINARY | BLOB | GEOMETRY => 0,
            CHAR | MYSQL if self.table.row_format != ROW_REDUNDANT && least != most => 0,
            CHAR | MYSQL | FIXBINARY if prefix > 0 => own.len.min(prefix),
            _ => own.len,
        };
        Ok(if len > FIXED_MAX { 0 } else { len })
    }

    fn write(&self, host: &str) -> Result<Vec<u8>, CfgError> {
        let mut out = Output(Vec::new());
        let version = if self.table.mysql_version_id >= SERVER_255 { VERSION_255 } else { VERSION_64 };
        let all = || self.live.iter().chain(&self.dropped).map(|at| &self.table.columns[*at]);
        let number = |text: Option<&str>| text.map_or(0, |text| text.parse().unwrap_or(0u32));
        let row_version = all()
            .flat_map(|c| [number(c.private("version_added")), number(c.private("version_dropped"))])
            .max()
            .unwrap_or(0);
        let nullable = |index: &Described<'_>| index.fields.iter().filter(|f| f.is_nullable).count();
        let original = all().filter(|c| c.private("version_added").is_none()).count();
        out.u32(version);
        out.text(host.as_bytes());
        out.text(self.datafile.name.as_bytes());
        // An import counts anew where it is 0: the dictionary object has the number of the last change of the definition only.
        out.u64(0);
        out.u32(self.datafile.layout.logical() as u32);
        out.u32(self.table_flags());
        out.len(self.live.len() + SYSTEM.len() + self.dropped.len());
        out.len(nullable(&self.indexes[0]));
        out.len(original);
        out.len(self.live.len());
        out.len(self.live.len() + self.dropped.len());
        out.len(self.dropped.len());
        out.u32(row_version);
        out.u32(self.datafile.flags.0);
        out.0.push(match value(&self.table.options, "compress").map(str::to_ascii_lowercase).as_deref() {
            Some("zlib") => 1,
            Some("lz4") => 2,
            _ => 0,
        });
        self.columns(&mut out)?;
        out.len(self.indexes.len() + 1);
        self.sdi_index(&mut out);
        for index in &self.indexes {
            let private = |key| value(index.private, key).and_then(|text| text.parse::<u64>().ok());
            let broken = CfgError::Broken("an index has no id or root");
            let (id, root) = private("id").zip(private("root")).ok_or(broken)?;
            let name = if index.kind & index_type::UNIQUE == 0 && index.kind & index_type::CLUSTERED != 0 {
                "GEN_CLUST_INDEX"
            } else {
                &index.index.name
            };
            out.u64(id);
            out.u32(self.datafile.space);
            out.u32(root as u32);
            out.u32(index.kind);
            out.u32(trx_id_offset(index));
            out.u32(index.given);
            out.len(index.unique);
            out.len(nullable(index));
            out.len(index.fields.len());
            out.text(name.as_bytes());
            for field in &index.fields {
                out.field(field.prefix, field.fixed, field.is_ascending, field.name);
            }
        }
        Ok(out.0)
    }

    /// Flags of the table (`dict_tf_t`), which follow from those of the tablespace.
    fn table_flags(&self) -> u32 {
        const COMPACT: u32 = 1;
        const ZIP_AND_BLOBS: u32 = 0b11_1110;
        const DATA_DIR: u32 = 64;
        const SHARED: u32 = 128;
        let flags = self.datafile.flags.0;
        let compact = if self.table.row_format == ROW_REDUNDANT { 0 } else { COMPACT };
        let outside = [&self.table.options, &self.table.se_private_data]
            .iter()
            .any(|text| value(text, "data_directory").is_some());
        compact
            | flags & ZIP_AND_BLOBS
            | if outside || flags >> 10 & 1 != 0 { DATA_DIR } else { 0 }
            | if flags >> 11 & 1 != 0 { SHARED } else { 0 }
    }

    fn columns(&self, out: &mut Output) -> Result<(), CfgError> {
        let mut number = 0;
        for &at in &self.live {
            let column = &self.table.columns[at];
            self.column_head(out, Some(at), column_type_of(column, false)?, &mut number, &column.name);
            out.u16(version(column, "version_added"));
            out.u16(NO_VERSION);
            out.u32(self.place(at));
            default(out, column)?;
        }
        for (n, (name, len)) in SYSTEM.into_iter().enumerate() {
            let at = self.table.columns.iter().position(|c| c.name == name && is_system(c));
            let own = Type { main: main_type::SYS, bits: bits::NOT_NULL + n as u32, len, char_bytes: 0 };
            self.column_head(out, at, own, &mut number, name);
            out.u16(NO_VERSION);
            out.u16(NO_VERSION);
            out.u32(at.map_or(NO_PLACE, |at| self.place(at)));
            out.0.push(0);
        }
        for &at in &self.dropped {
            let column = &self.table.columns[at];
            self.column_head(out, Some(at), column_type_of(column, true)?, &mut number, &column.name);
            out.u16(version(column, "version_added"));
            out.u16(version(column, "version_dropped"));
            out.u32(self.place(at));
            out.0.push(u8::from(column.is_nullable));
            out.0.push(u8::from(column.is_unsigned));
            out.u32(column.char_length as u32);
            out.u32(column.kind);
            out.u32(column.numeric_scale);
            out.u64(column.collation_id);
            if matches!(column.kind, column_type::ENUM | column_type::SET) {
                let members = column.members().ok_or(CfgError::Broken("a member of an ENUM or SET"))?;
                out.len(members.len());
                members.iter().for_each(|member| out.text(member));
            }
            default(out, column)?;
        }
        Ok(())
    }

    fn column_head(&self, out: &mut Output, at: Option<usize>, own: Type, number: &mut u32, name: &str) {
        let in_keys = self.indexes.iter().flat_map(|index| &index.fields[..index.unique]);
        let prefixes: Vec<u32> =
            in_keys.filter(|field| Some(field.column) == at).map(|field| field.prefix).collect();
        let longest = if prefixes.contains(&0) { 0 } else { prefixes.iter().copied().max().unwrap_or(0) };
        for value in [own.bits, own.main, own.len, own.char_bytes, *number] {
            out.u32(value);
        }
        out.u32(u32::from(!prefixes.is_empty()));
        out.u32(longest);
        out.text(name.as_bytes());
        *number += 1;
    }

    /// Place of a column in the records of the clustered index (`dict_col_t::get_phy_pos`).
    fn place(&self, at: usize) -> u32 {
        const HAS_PREFIX: u32 = 0x8000;
        if let Some(place) = self.table.columns[at].private("physical_pos").and_then(|p| p.parse().ok()) {
            return place;
        }
        let fields = &self.indexes[0].fields;
        let find = |is_prefix: bool| {
            let place = fields.iter().position(|f| f.column == at && (f.prefix > 0) == is_prefix);
            place.map(|place| place as u32)
        };
        match (find(true), find(false)) {
            (Some(prefix), Some(whole)) => prefix << 16 | HAS_PREFIX | whole,
            (one, other) => one.or(other).unwrap_or(NO_PLACE),
        }
    }

    /// The index of the dictionary information (`dict_sdi_create_idx_in_mem`).
    fn sdi_index(&self, out: &mut Output) {
        const FIELDS: [(&str, u32); 7] = [
            ("type", 4),
            ("id", 8),
            ("DB_TRX_ID", 6),
            ("DB_ROLL_PTR", 7),
            ("uncompressed_len", 4),
            ("compressed_len", 4),
            ("data", 0),
        ];
        out.u64(u64::MAX);
        out.u32(self.datafile.space);
        out.u32(self.datafile.sdi_root);
        out.u32(index_type::SDI | index_type::UNIQUE | index_type::CLUSTERED);
        for value in [12, 2, 2, 0] {
            out.u32(value);
        }
        out.len(FIELDS.len());
        out.text(b"CLUST_IND_SDI");
        for (name, fixed) in FIELDS {
            out.field(0, fixed, true, name);
        }
    }
}

fn is_system(column: &Column) -> bool {
    column.hidden == HIDDEN_BY_ENGINE && SYSTEM.iter().any(|(name, _)| *name == column.name)
}

fn system_len(column: &Column) -> Option<u32> {
    let system = SYSTEM.iter().find(|(name, _)| *name == column.name && is_system(column));
    system.map(|(_, len)| *len)
}

fn version(column: &Column, key: &str) -> u16 {
    column.private(key).and_then(|text| text.parse().ok()).unwrap_or(NO_VERSION)
}

/// Writes the default of a column that was added at once.
fn default(out: &mut Output, column: &Column) -> Result<(), CfgError> {
    if column.private("default_null").is_some() {
        out.0.extend([1, 1]);
    } else if let Some(hex) = column.private("default") {
        let bytes = from_hex(hex).ok_or(CfgError::Broken("a default value is no hexadecimal number"))?;
        out.0.extend([1, 0]);
        out.len(bytes.len());
        out.0.extend(bytes);
    } else {
        out.0.push(0);
    }
    Ok(())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Offset of DB_TRX_ID in a record, if all before it have fixed places; 0 otherwise.
fn trx_id_offset(index: &Described<'_>) -> u32 {
    let mut offset = 0;
    for field in &index.fields {
        if field.name == SYSTEM[1].0 {
            return offset;
        }
        if field.fixed == 0 || field.prefix > 0 || field.is_nullable {
            return 0;
        }
        offset += field.fixed;
    }
    0
}

/// A column's type as InnoDB has it (`get_innobase_type_from_mysql_type`, `dtype_form_prtype`). Dropped columns keep less.
fn column_type_of(column: &Column, is_dropped: bool) -> Result<Type, CfgError> {
    use column_type::*;
    use main_type as main;
    if column.name == FTS_DOC_ID && column.hidden == HIDDEN_BY_ENGINE {
        return Ok(Type { main: main::INT, bits: FTS_DOC_ID_BITS, len: 8, char_bytes: 0 });
    }
    let len = u32::try_from(column.char_length).unwrap_or(u32::MAX);
    let members = column.elements.len();
    let is_binary = column.collation_id == BINARY_COLLATION;
    let text = |latin1, other| if column.collation_id == LATIN1_SWEDISH { latin1 } else { other };
    let temporal = |shown: u32| (len.saturating_sub(shown + 1)).div_ceil(2);
    // The type that fields of a table in use have, the one that dropped ones have, the main type, the length, the collation.
    let (live, real, main, len, collation) = match column.kind {
        TINY => (1, 1, main::INT, 1, 0),
        SHORT => (2, 2, main::INT, 2, 0),
        INT24 => (9, 9, main::INT, 3, 0),
        LONG => (3, 3, main::INT, 4, 0),
        LONGLONG => (8, 8, main::INT, 8, 0),
        YEAR => (13, 13, main::INT, 1, 0),
        FLOAT => (4, 4, main::FLOAT, 4, 0),
        DOUBLE => (5, 5, main::DOUBLE, 8, 0),
        NEWDECIMAL => (246, 246, main::FIXBINARY, decimal_len(column), LATIN1_SWEDISH),
        DATE => (10, 10, main::INT, 3, 0),
        NEWDATE => (10, 14, main::INT, 3, 0),
        TIME2 => (11, 19, main::FIXBINARY, 3 + temporal(10), LATIN1_SWEDISH),
        DATETIME2 => (12, 18, main::FIXBINARY, 5 + temporal(19), LATIN1_SWEDISH),
        TIMESTAMP2 => (7, 17, main::FIXBINARY, 4 + temporal(19), LATIN1_SWEDISH),
        BIT => (16, 16, main::FIXBINARY, len.div_ceil(8), BINARY_COLLATION),
        ENUM => (254, 247, main::INT, if members < 256 { 1 } else { 2 }, 0),
        SET => (254, 248, main::INT, if members > 32 { 8 } else { members.div_ceil(8) as u32 }, 0),
        VARCHAR if is_binary => (15, 15, main::BINARY, len, BINARY_COLLATION),
        VARCHAR => (15, 15, text(main::VARCHAR, main::VARMYSQL), len, column.collation_id),
        STRING if is_binary => (254, 254, main::FIXBINARY, len, BINARY_COLLATION),
        STRING => (254, 254, text(main::CHAR, main::MYSQL), len, column.collation_id),
        TINY_BLOB => (252, 249, main::BLOB, 9, column.collation_id),
        BLOB => (252, 252, main::BLOB, 10, column.collation_id),
        MEDIUM_BLOB => (252, 250, main::BLOB, 11, column.collation_id),
        LONG_BLOB => (252, 251, main::BLOB, 12, column.collation_id),
        JSON => (245, 245, main::BLOB, 12, JSON_COLLATION),
        VECTOR => (242, 242, main::BLOB, 12, BINARY_COLLATION),
        GEOMETRY => (255, 255, main::GEOMETRY, 12, 0),
        other => return Err(CfgError::Type(column.name.clone(), other)),
    };
    let is_numeric_text = matches!(column.kind, NEWDECIMAL | TIME2 | DATETIME2 | TIMESTAMP2);
    let collation = if is_dropped && is_numeric_text { BINARY_COLLATION } else { collation };
    let mut bits = if is_dropped { real } else { live } | (collation as u32) << 16;
    if !column.is_nullable {
        bits |= bits::NOT_NULL;
    }
    if column.is_unsigned || matches!(column.kind, YEAR | BIT | ENUM | SET) {
        bits |= bits::UNSIGNED;
    }
    let has_charset = matches!(column.kind, VARCHAR | STRING | TINY_BLOB..=BLOB | ENUM | SET);
    if !has_charset || is_binary {
        bits |= bits::BINARY;
    }
    if column.kind == VARCHAR && len > 255 {
        bits |= bits::LONG_TRUE_VARCHAR;
    }
    let char_bytes = match collation {
        0 => 0,
        id => {
            let collation = Collation::of(id).ok_or_else(|| CfgError::Collation(column.name.clone(), id))?;
            collation.min_len + 5 * collation.max_len
        }
    };
    Ok(Type { main, bits, len, char_bytes })
}

/// Number of bytes of a DECIMAL (`my_decimal_get_binary_size`). A dropped column has no precision, but the number of characters.
fn decimal_len(column: &Column) -> u32 {
    const DIGITS: u32 = 9;
    const BYTES: [u32; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let scale = column.numeric_scale;
    let precision = match column.numeric_precision {
        0 => {
            let point_and_sign = u32::from(scale > 0) + u32::from(!column.is_unsigned);
            (column.char_length as u32).saturating_sub(point_and_sign)
        }
        precision => precision,
    };
    let part = |digits: u32| digits / DIGITS * 4 + BYTES[(digits % DIGITS) as usize];
    part(precision.saturating_sub(scale)) + part(scale)
}

/// The file being made.
struct Output(Vec<u8>);

impl Output {
    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_be_bytes());
    }

    fn len(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    fn text(&mut self, text: &[u8]) {
        self.len(text.len() + 1);
        self.0.extend(text);
        self.0.push(0);
    }

    fn field(&mut self, prefix: u32, fixed: u32, is_ascending: bool, name: &str) {
        self.u32(prefix);
        self.u32(fixed);
        self.u32(u32::from(is_ascending));
        self.text(name.as_bytes());
    }
}
