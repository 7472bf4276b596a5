//! The dictionary object of a table, as it stands in the tablespace ([`super::sdi`]): columns, indexes, partitions.
//!
//! * [`mod@cfg`]: makes the file that `ALTER TABLE … IMPORT TABLESPACE` reads beside the datafile.
//! * [`create_table`]: makes the statement that defines the table.
//! * [`collations`]: what the numbers of collations mean.
//!
//! Names of fields are those of the server (`dd::Table_impl::serialize` and its like), which writes all of them.

pub mod cfg;
pub mod collations;
pub mod create_table;
mod expression;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// Kinds of indexes in the dictionary (`dd::Index::enum_index_type`).
mod index_kind {
    pub(in crate::innodb::dictionary) const PRIMARY: u32 = 1;
    pub(in crate::innodb::dictionary) const UNIQUE: u32 = 2;
    pub(in crate::innodb::dictionary) const FULLTEXT: u32 = 4;
    pub(in crate::innodb::dictionary) const SPATIAL: u32 = 5;
}

/// Types of columns in the dictionary (`dd::enum_column_types`).
mod column_type {
    pub(in crate::innodb::dictionary) const TINY: u32 = 2;
    pub(in crate::innodb::dictionary) const SHORT: u32 = 3;
    pub(in crate::innodb::dictionary) const LONG: u32 = 4;
    pub(in crate::innodb::dictionary) const FLOAT: u32 = 5;
    pub(in crate::innodb::dictionary) const DOUBLE: u32 = 6;
    pub(in crate::innodb::dictionary) const LONGLONG: u32 = 9;
    pub(in crate::innodb::dictionary) const INT24: u32 = 10;
    pub(in crate::innodb::dictionary) const DATE: u32 = 11;
    pub(in crate::innodb::dictionary) const YEAR: u32 = 14;
    pub(in crate::innodb::dictionary) const NEWDATE: u32 = 15;
    pub(in crate::innodb::dictionary) const VARCHAR: u32 = 16;
    pub(in crate::innodb::dictionary) const BIT: u32 = 17;
    pub(in crate::innodb::dictionary) const TIMESTAMP2: u32 = 18;
    pub(in crate::innodb::dictionary) const DATETIME2: u32 = 19;
    pub(in crate::innodb::dictionary) const TIME2: u32 = 20;
    pub(in crate::innodb::dictionary) const NEWDECIMAL: u32 = 21;
    pub(in crate::innodb::dictionary) const ENUM: u32 = 22;
    pub(in crate::innodb::dictionary) const SET: u32 = 23;
    pub(in crate::innodb::dictionary) const TINY_BLOB: u32 = 24;
    pub(in crate::innodb::dictionary) const MEDIUM_BLOB: u32 = 25;
    pub(in crate::innodb::dictionary) const LONG_BLOB: u32 = 26;
    pub(in crate::innodb::dictionary) const BLOB: u32 = 27;
    pub(in crate::innodb::dictionary) const STRING: u32 = 29;
    pub(in crate::innodb::dictionary) const GEOMETRY: u32 = 30;
    pub(in crate::innodb::dictionary) const JSON: u32 = 31;
    pub(in crate::innodb::dictionary) const VECTOR: u32 = 32;
}

/// Number of the collation of bytes.
const BINARY_COLLATION: u64 = 63;

/// A table.
#[derive(Clone, Debug, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// 1: users see it; other numbers: the server or InnoDB made it for itself, as those behind a full-text index.
    pub hidden: u32,
    /// Its schema.
    pub schema_ref: String,
    /// Version of the server that wrote this, as 90704.
    pub mysql_version_id: u64,
    /// Options, as `key=value;…`.
    pub options: String,
    /// What InnoDB keeps of it, as `key=value;…`.
    pub se_private_data: String,
    /// Number of its row format: 1 FIXED, 2 DYNAMIC, 3 COMPRESSED, 4 REDUNDANT, 5 COMPACT.
    pub row_format: u32,
    /// Columns in the order of their positions, hidden ones too.
    pub columns: Vec<Column>,
    /// Indexes, the clustered one first.
    pub indexes: Vec<Index>,
    /// Partitions.
    pub partitions: Vec<Partition>,
    /// Id that InnoDB has for it; its highest value if it has partitions.
    pub se_private_id: u64,
    /// Number of its collation.
    pub collation_id: u64,
    /// Its comment.
    pub comment: String,
    /// How rows are distributed (`dd::Table::enum_partition_type`); 0: there are no partitions.
    pub partition_type: u32,
    /// What they are distributed by.
    pub partition_expression_utf8: String,
    /// Whether partitions were named, or only counted (`dd::Table::enum_default_partitioning`).
    pub default_partitioning: u32,
    /// How the rows of a partition are distributed.
    pub subpartition_type: u32,
    /// What they are distributed by.
    pub subpartition_expression_utf8: String,
    /// Whether subpartitions were named, or only counted.
    pub default_subpartitioning: u32,
    /// Its foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// Its CHECK constraints; servers before 8.0.16 have none.
    #[serde(default)]
    pub check_constraints: Vec<CheckConstraint>,
}

/// A foreign key.
#[derive(Clone, Debug, Deserialize)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// What is done when the parent's key changes (`dd::Foreign_key::enum_rule`).
    pub update_rule: u32,
    /// What is done when the parent's row is deleted.
    pub delete_rule: u32,
    /// Schema of the parent.
    pub referenced_table_schema_name: String,
    /// Name of the parent.
    pub referenced_table_name: String,
    /// Its columns.
    pub elements: Vec<ForeignKeyElement>,
}

/// A column of a foreign key.
#[derive(Clone, Debug, Deserialize)]
pub struct ForeignKeyElement {
    /// Place of the column in the table's list.
    pub column_opx: usize,
    /// Name of the parent's column.
    pub referenced_column_name: String,
}

/// A CHECK constraint.
#[derive(Clone, Debug, Deserialize)]
pub struct CheckConstraint {
    /// Its name.
    pub name: String,
    /// 1 not enforced, 2 enforced.
    pub state: u32,
    /// Its condition, in Base64.
    pub check_clause: String,
}

/// A column.
#[derive(Clone, Debug, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Number of its type (`dd::enum_column_types`).
    #[serde(rename = "type")]
    pub kind: u32,
    /// Whether it may be NULL.
    pub is_nullable: bool,
    /// Whether it has no sign.
    pub is_unsigned: bool,
    /// Whether it is computed when it is read.
    pub is_virtual: bool,
    /// 1 visible, 2 hidden by the engine, 3 hidden by the server, 4 invisible.
    pub hidden: u32,
    /// Number of bytes of its longest value, or of characters as it is shown.
    pub char_length: u64,
    /// Number of digits of a DECIMAL; 0 for a dropped column.
    pub numeric_precision: u32,
    /// Number of digits behind the point.
    pub numeric_scale: u32,
    /// Options, as `key=value;…`.
    pub options: String,
    /// What InnoDB keeps of it, as `key=value;…`.
    pub se_private_data: String,
    /// The members of an ENUM or SET.
    pub elements: Vec<Element>,
    /// Number of its collation.
    pub collation_id: u64,
    /// Whether the definition says the collation.
    #[serde(default)]
    pub is_explicit_collation: bool,
    /// Its type, as `int unsigned`.
    pub column_type_utf8: String,
    /// What a generated column, or the hidden one of a functional key part, is computed by.
    pub generation_expression: String,
    /// Whether it has no default value.
    pub has_no_default: bool,
    /// Whether there is no literal default value.
    pub default_value_utf8_null: bool,
    /// The literal default value.
    pub default_value_utf8: String,
    /// The default value as it stands in a row of the server, in Base64.
    #[serde(default)]
    pub default_value: String,
    /// The default value that is computed.
    pub default_option: String,
    /// The value that it gets when the row changes.
    pub update_option: String,
    /// Its comment.
    pub comment: String,
    /// Whether it counts.
    pub is_auto_increment: bool,
    /// Whether its values may be of any spatial reference system.
    #[serde(default = "yes")]
    pub srs_id_null: bool,
    /// Its spatial reference system.
    #[serde(default)]
    pub srs_id: u64,
}

fn yes() -> bool {
    true
}

/// A member of an ENUM or SET.
#[derive(Clone, Debug, Deserialize)]
pub struct Element {
    /// Its name, in Base64.
    pub name: String,
}

/// An index.
#[derive(Clone, Debug, Deserialize)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// 1 primary, 2 unique, 3 other, 4 full-text, 5 spatial.
    #[serde(rename = "type")]
    pub kind: u32,
    /// Whether the server made it.
    pub hidden: bool,
    /// What InnoDB keeps of it, as `key=value;…`.
    pub se_private_data: String,
    /// Its fields.
    pub elements: Vec<IndexElement>,
    /// Options, as `key=value;…`.
    pub options: String,
    /// Its comment.
    pub comment: String,
    /// Whether the optimizer uses it.
    pub is_visible: bool,
    /// Number of its algorithm (`dd::Index::enum_index_algorithm`).
    pub algorithm: u32,
    /// Whether the definition says the algorithm.
    pub is_algorithm_explicit: bool,
}

/// A field of an index.
#[derive(Clone, Debug, Deserialize)]
pub struct IndexElement {
    /// Place of its column in the table's list.
    pub column_opx: usize,
    /// Number of bytes that are indexed; the highest number: all.
    pub length: u32,
    /// 2 ascending, 3 descending.
    pub order: u32,
    /// Whether InnoDB added it.
    pub hidden: bool,
}

/// A partition or subpartition.
#[derive(Clone, Debug, Deserialize)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Id that InnoDB has for it; its highest value if it has subpartitions.
    pub se_private_id: u64,
    /// Its values, as `VALUES` has them.
    pub description_utf8: String,
    /// Its comment.
    pub comment: String,
    /// Options, as `key=value;…`.
    pub options: String,
    /// Its indexes, in the order of the table's.
    #[serde(default)]
    pub indexes: Vec<PartitionIndex>,
    /// Its parts.
    #[serde(default)]
    pub subpartitions: Vec<Partition>,
}

/// An index of a partition.
#[derive(Clone, Debug, Deserialize)]
pub struct PartitionIndex {
    /// What InnoDB keeps of it, as `key=value;…`.
    pub se_private_data: String,
}

#[derive(Deserialize)]
struct Object {
    dd_object: Table,
}

impl Table {
    /// Reads the text of an object.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Table, serde_json::Error> {
        serde_json::from_slice(json).map(|object: Object| object.dd_object)
    }

    /// Whether users see it.
    pub fn is_visible(&self) -> bool {
        self.hidden == 1
    }
}

impl Column {
    /// Returns the value of a key of what InnoDB keeps of it.
    pub fn private(&self, key: &str) -> Option<&str> {
        value(&self.se_private_data, key)
    }

    /// Returns the names of the members of an ENUM or SET; `None` if one is no Base64.
    pub fn members(&self) -> Option<Vec<Vec<u8>>> {
        self.elements.iter().map(|element| decoded(&element.name)).collect()
    }
}

/// Decodes Base64 as the server writes it: in lines (`base64_encode`).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let one_line: String = text.chars().filter(|c| *c != '\n').collect();
    BASE64_STANDARD.decode(one_line).ok()
}

/// Returns the value of a key in a text of properties (`dd::Properties_impl`): `key=value;…`, where a backslash stands before a
/// character that would mean something.
pub fn value<'a>(properties: &'a str, key: &str) -> Option<&'a str> {
    properties.split(';').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}
