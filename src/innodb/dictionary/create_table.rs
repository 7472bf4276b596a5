//! Makes the `CREATE TABLE` statement of a table out of its dictionary object, as `SHOW CREATE TABLE` does (sql_show.cc,
//! `store_create_info`): a datafile can only be imported into a table that was defined in the same way.
//!
//! Encryption is always said, since the default of the schema that gets the table may be another one. The row format is not where it
//! is DYNAMIC and the definition does not say so: `CHECKSUM TABLE` would give another number then (HA_OPTION_PACK_RECORD).

use std::fmt::Write;

use super::collations::Collation;
use super::expression::is_confined;
use super::{
    BINARY_COLLATION, Column, ForeignKey, Index, IndexElement, Partition, Table, column_type, decoded,
    index_kind, value,
};

/// Columns and indexes that `SHOW CREATE TABLE` shows (`dd::Column::enum_hidden_type`).
mod hidden {
    pub(super) const VISIBLE: u32 = 1;
    pub(super) const BY_ENGINE: u32 = 2;
    pub(super) const INVISIBLE: u32 = 4;
}

/// How rows are distributed (`dd::Table::enum_partition_type`).
mod partition_type {
    pub(super) const HASH: u32 = 1;
    pub(super) const KEY_51: u32 = 2;
    pub(super) const KEY_55: u32 = 3;
    pub(super) const LINEAR_HASH: u32 = 4;
    pub(super) const LINEAR_KEY_51: u32 = 5;
    pub(super) const LINEAR_KEY_55: u32 = 6;
    pub(super) const RANGE: u32 = 7;
    pub(super) const LIST: u32 = 8;
    pub(super) const RANGE_COLUMNS: u32 = 9;
    pub(super) const LIST_COLUMNS: u32 = 10;
}

/// `dd::Table::DP_NUMBER`: only the number of partitions was given.
const ONLY_NUMBER: u32 = 3;
const WHOLE: u32 = u32::MAX;
const DESCENDING: u32 = 3;
const NOT_ENFORCED: u32 = 1;
const ALGORITHM_HASH: u32 = 4;
/// Name of the index that a table gets for a moment which has a hidden FTS_DOC_ID, but no full-text index any more.
const PASSING_INDEX: &str = "xbrecv_fts";

/// Why a table can't be defined.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreateError {
    /// A collation that is not known.
    #[error("a collation that is not known ({0})")]
    Collation(u64),
    /// The table has a hidden FTS_DOC_ID, and no column that a full-text index can be made of.
    #[error(
        "it has the hidden column FTS_DOC_ID of a full-text index that was dropped, and no text to make one of"
    )]
    DocumentId,
    /// A type or an expression that would change the statement around it.
    #[error("'{0}' is no expression that can be put into a statement")]
    Expression(String),
    /// The dictionary object contradicts itself, or knows what we don't.
    #[error("its dictionary object has {0}")]
    Broken(&'static str),
}

/// The statements for an import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statements {
    /// Statements that make the table.
    pub create: Vec<String>,
    /// Statements that make its full-text indexes again after the import, which brings none.
    pub fulltext: Vec<String>,
    /// Whether its definition has a primary key.
    pub has_primary_key: bool,
}

/// Schema and name of a table, by schema and name on the source.
pub type PlaceOf<'a> = dyn Fn(&str, &str) -> (String, String) + 'a;

/// Where a table will be.
#[derive(Clone, Copy, Default)]
pub struct Placement<'a> {
    /// The folder that its files lie in, if that is not the datadir.
    pub data_directory: Option<&'a str>,
    /// Where the parents of its foreign keys are; `None`: those of its own schema in the one that it is made in, others where they
    /// were.
    pub parents: Option<&'a PlaceOf<'a>>,
}

/// Makes the statements.
///
/// # Errors
/// [`CreateError`].
pub fn statements(table: &Table, place: Placement<'_>) -> Result<Statements, CreateError> {
    let name = quoted(&table.name);
    let mut create = vec![create(table, place)?];
    let mut fulltext = Vec::new();
    for index in table.indexes.iter().filter(|index| index.kind == index_kind::FULLTEXT) {
        fulltext.push(format!("ALTER TABLE {name} DROP INDEX {}", quoted(&index.name)));
    }
    // The server makes one full-text index at a time.
    for index in table.indexes.iter().filter(|index| index.kind == index_kind::FULLTEXT) {
        fulltext.push(format!("ALTER TABLE {name} ADD {}", definition(table, index)?));
    }
    let has_id = table.columns.iter().any(|c| c.hidden == hidden::BY_ENGINE && c.name == "FTS_DOC_ID");
    if has_id && fulltext.is_empty() {
        use column_type::*;
        let is_text = |c: &&Column| {
            let kind = matches!(c.kind, VARCHAR | STRING | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | BLOB);
            let is_shown = matches!(c.hidden, hidden::VISIBLE | hidden::INVISIBLE);
            kind && is_shown
                && !c.is_virtual
                && Collation::of(c.collation_id).is_some_and(|c| c.charset != "binary")
        };
        let column = table.columns.iter().find(is_text).ok_or(CreateError::DocumentId)?;
        let passing = quoted(PASSING_INDEX);
        let add = format!("ALTER TABLE {name} ADD FULLTEXT KEY {passing} ({})", quoted(&column.name));
        let drop = format!("ALTER TABLE {name} DROP INDEX {passing}");
        create.extend([add.clone(), drop.clone()]);
        // Discarding drops the tables behind full-text indexes, which a table with the hidden column has though it has no such index,
        // and without which it can't be renamed.
        fulltext.extend([add, drop]);
    }
    let has_primary_key =
        table.indexes.iter().any(|index| index.kind == index_kind::PRIMARY && !index.hidden);
    Ok(Statements { create, fulltext, has_primary_key })
}

fn create(table: &Table, place: Placement<'_>) -> Result<String, CreateError> {
    let mut items = Vec::new();
    for column in &table.columns {
        if matches!(column.hidden, hidden::VISIBLE | hidden::INVISIBLE) {
            items.push(column_definition(table, column)?);
        }
    }
    for index in table.indexes.iter().filter(|index| !index.hidden) {
        items.push(definition(table, index)?);
    }
    for key in &table.foreign_keys {
        items.push(foreign_key(table, key, place.parents)?);
    }
    for check in &table.check_constraints {
        let clause = decoded(&check.check_clause).and_then(|text| String::from_utf8(text).ok());
        let clause = clause.ok_or(CreateError::Broken("a CHECK clause that is no text"))?;
        let unless = if check.state == NOT_ENFORCED { " NOT ENFORCED" } else { "" };
        items.push(format!("CONSTRAINT {} CHECK ({}){unless}", quoted(&check.name), expression(&clause)?));
    }
    let mut out =
        format!("CREATE TABLE {} (\n  {}\n) ENGINE=InnoDB", quoted(&table.name), items.join(",\n  "));
    options(table, place.data_directory, &mut out)?;
    partitions(table, &mut out)?;
    Ok(out)
}

fn column_definition(table: &Table, column: &Column) -> Result<String, CreateError> {
    use column_type::*;
    let mut out = format!("{} {}", quoted(&column.name), expression(&column.column_type_utf8)?);
    let has_charset =
        matches!(column.kind, ENUM | SET | VARCHAR | STRING | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | BLOB);
    let differs = column.is_explicit_collation || column.collation_id != table.collation_id;
    if has_charset && differs {
        let collation =
            Collation::of(column.collation_id).ok_or(CreateError::Collation(column.collation_id))?;
        if collation.charset != "binary" || matches!(column.kind, ENUM | SET) {
            let _ = write!(out, " CHARACTER SET {} COLLATE {}", collation.charset, collation.name);
        }
    }
    let is_generated = !column.generation_expression.is_empty();
    if is_generated {
        let how = if column.is_virtual { "VIRTUAL" } else { "STORED" };
        let _ = write!(out, " GENERATED ALWAYS AS ({}) {how}", expression(&column.generation_expression)?);
    }
    if !column.is_nullable {
        out.push_str(" NOT NULL");
    } else if column.kind == TIMESTAMP2 {
        out.push_str(" NULL");
    }
    if !column.srs_id_null {
        let _ = write!(out, " SRID {}", column.srs_id);
    }
    if !is_generated {
        default_value(column, &mut out)?;
    }
    if column.is_auto_increment {
        out.push_str(" AUTO_INCREMENT");
    }
    if column.hidden == hidden::INVISIBLE {
        out.push_str(" INVISIBLE");
    }
    comment(&column.comment, &mut out);
    Ok(out)
}

fn default_value(column: &Column, out: &mut String) -> Result<(), CreateError> {
    use column_type::*;
    let option = expression(&column.default_option)?;
    let is_binary = matches!(column.kind, VARCHAR | STRING) && column.collation_id == BINARY_COLLATION;
    if option.starts_with("CURRENT_TIMESTAMP") {
        let _ = write!(out, " DEFAULT {option}");
    } else if !option.is_empty() {
        let _ = write!(out, " DEFAULT ({option})");
    } else if !column.default_value_utf8_null && !column.has_no_default {
        let literal = &column.default_value_utf8;
        match bytes_of_default(column).filter(|_| is_binary) {
            // As text it ends with the first zero.
            Some(bytes) if !bytes.is_empty() => {
                out.push_str(" DEFAULT 0x");
                bytes.iter().for_each(|byte| {
                    let _ = write!(out, "{byte:02x}");
                });
            }
            _ if column.kind == BIT => {
                let _ = write!(out, " DEFAULT {}", expression(literal)?);
            }
            _ => {
                let _ = write!(out, " DEFAULT {}", text(literal));
            }
        }
    } else if column.is_nullable && !column.has_no_default && !column.is_auto_increment {
        out.push_str(" DEFAULT NULL");
    }
    if !column.update_option.is_empty() {
        let _ = write!(out, " ON UPDATE {}", expression(&column.update_option)?);
    }
    Ok(())
}

/// The bytes of a BINARY or VARBINARY column's default value, without the length that stands before those that vary.
fn bytes_of_default(column: &Column) -> Option<Vec<u8>> {
    const LONG: u64 = 255;
    let bytes = decoded(&column.default_value)?;
    if column.kind != column_type::VARCHAR {
        return Some(bytes);
    }
    let (len, rest) = match column.char_length > LONG {
        true => bytes.split_first_chunk().map(|(len, rest)| (u16::from_le_bytes(*len), rest))?,
        false => bytes.split_first().map(|(len, rest)| (u16::from(*len), rest))?,
    };
    rest.get(..usize::from(len)).map(<[u8]>::to_vec)
}

fn definition(table: &Table, index: &Index) -> Result<String, CreateError> {
    let mut out = match index.kind {
        index_kind::PRIMARY => "PRIMARY KEY".to_owned(),
        kind => {
            let kind = match kind {
                index_kind::UNIQUE => "UNIQUE KEY",
                index_kind::FULLTEXT => "FULLTEXT KEY",
                index_kind::SPATIAL => "SPATIAL KEY",
                _ => "KEY",
            };
            format!("{kind} {}", quoted(&index.name))
        }
    };
    let mut fields = Vec::new();
    for element in index.elements.iter().filter(|element| !element.hidden) {
        fields.push(key_part(table, index, element)?);
    }
    let _ = write!(out, " ({})", fields.join(","));
    if index.is_algorithm_explicit {
        out.push_str(if index.algorithm == ALGORITHM_HASH { " USING HASH" } else { " USING BTREE" });
    }
    if let Some(size) = value(&index.options, "block_size").filter(|size| *size != "0")
        && value(&table.options, "key_block_size") != Some(size)
    {
        let _ = write!(out, " KEY_BLOCK_SIZE={size}");
    }
    if let Some(parser) = value(&index.options, "parser_name") {
        let _ = write!(out, " WITH PARSER {}", quoted(parser));
    }
    comment(&index.comment, &mut out);
    if !index.is_visible {
        out.push_str(" INVISIBLE");
    }
    Ok(out)
}

fn key_part(table: &Table, index: &Index, element: &IndexElement) -> Result<String, CreateError> {
    let column = column_of(table, element.column_opx)?;
    let mut out = match column.hidden {
        hidden::VISIBLE | hidden::INVISIBLE => quoted(&column.name),
        // The hidden column of a functional key part.
        _ => format!("({})", expression(&column.generation_expression)?),
    };
    if let Some(len) = prefix_len(index, element, column) {
        let bytes = Collation::of(column.collation_id).map_or(1, |collation| collation.max_len.max(1));
        let bytes = if matches!(column.kind, column_type::GEOMETRY) { 1 } else { bytes };
        let _ = write!(out, "({})", len / bytes);
    }
    if element.order == DESCENDING {
        out.push_str(" DESC");
    }
    Ok(out)
}

/// Number of bytes of the prefix of its column that an index has; `None`: all of it.
pub(super) fn prefix_len(index: &Index, element: &IndexElement, column: &Column) -> Option<u32> {
    use column_type::*;
    if element.length == WHOLE || matches!(index.kind, index_kind::FULLTEXT | index_kind::SPATIAL) {
        return None;
    }
    match column.kind {
        VARCHAR | STRING => (u64::from(element.length) < column.char_length).then_some(element.length),
        TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | BLOB | GEOMETRY | JSON => Some(element.length),
        _ => None,
    }
}

fn foreign_key(
    table: &Table,
    key: &ForeignKey,
    parents: Option<&PlaceOf<'_>>,
) -> Result<String, CreateError> {
    let mut own = Vec::new();
    for element in &key.elements {
        own.push(quoted(&column_of(table, element.column_opx)?.name));
    }
    let theirs: Vec<_> = key.elements.iter().map(|e| quoted(&e.referenced_column_name)).collect();
    let (schema, parent) = (&key.referenced_table_schema_name, &key.referenced_table_name);
    let is_own = *schema == table.schema_ref;
    let parent = match parents {
        // A table that refers to itself is found by its name.
        _ if is_own && *parent == table.name => quoted(parent),
        Some(place_of) => {
            let (schema, parent) = place_of(schema, parent);
            format!("{}.{}", quoted(&schema), quoted(&parent))
        }
        None if is_own => quoted(parent),
        None => format!("{}.{}", quoted(schema), quoted(parent)),
    };
    let name = quoted(&key.name);
    let (own, theirs) = (own.join(", "), theirs.join(", "));
    let mut out = format!("CONSTRAINT {name} FOREIGN KEY ({own}) REFERENCES {parent} ({theirs})");
    for (when, rule) in [("DELETE", key.delete_rule), ("UPDATE", key.update_rule)] {
        // `dd::Foreign_key::enum_rule`; the first is what is done where nothing is said.
        let action = match rule {
            2 => "RESTRICT",
            3 => "CASCADE",
            4 => "SET NULL",
            5 => "SET DEFAULT",
            _ => continue,
        };
        let _ = write!(out, " ON {when} {action}");
    }
    Ok(out)
}

fn column_of(table: &Table, at: usize) -> Result<&Column, CreateError> {
    table.columns.get(at).ok_or(CreateError::Broken("a key of a column that is not there"))
}

fn options(table: &Table, data_directory: Option<&str>, out: &mut String) -> Result<(), CreateError> {
    let collation = Collation::of(table.collation_id).ok_or(CreateError::Collation(table.collation_id))?;
    let _ = write!(out, " DEFAULT CHARSET={} COLLATE={}", collation.charset, collation.name);
    let option = |key: &str| value(&table.options, key).filter(|value| *value != "0");
    for (key, name) in [
        ("min_rows", "MIN_ROWS"),
        ("max_rows", "MAX_ROWS"),
        ("avg_row_length", "AVG_ROW_LENGTH"),
        ("stats_sample_pages", "STATS_SAMPLE_PAGES"),
        ("key_block_size", "KEY_BLOCK_SIZE"),
    ] {
        if let Some(value) = option(key).and_then(|value| value.parse::<u64>().ok()) {
            let _ = write!(out, " {name}={value}");
        }
    }
    // Bits and codes of handler.h (HA_OPTION_PACK_KEYS and so on).
    for (is_set, name) in [
        (option("checksum").is_some(), "CHECKSUM=1"),
        (option("delay_key_write").is_some(), "DELAY_KEY_WRITE=1"),
        (option("pack_keys") == Some("2"), "PACK_KEYS=1"),
        (option("no_pack_keys").is_some(), "PACK_KEYS=0"),
        (value(&table.options, "stats_persistent") == Some("1"), "STATS_PERSISTENT=1"),
        (value(&table.options, "stats_persistent") == Some("0"), "STATS_PERSISTENT=0"),
        (option("stats_auto_recalc") == Some("1"), "STATS_AUTO_RECALC=1"),
        (option("stats_auto_recalc") == Some("2"), "STATS_AUTO_RECALC=0"),
    ] {
        if is_set {
            let _ = write!(out, " {name}");
        }
    }
    // `dd::Table::enum_row_format`.
    let row_format = match table.row_format {
        2 => "DYNAMIC",
        3 => "COMPRESSED",
        4 => "REDUNDANT",
        5 => "COMPACT",
        _ => return Err(CreateError::Broken("a row format that is not known")),
    };
    if option("row_type").is_some() || row_format != "DYNAMIC" {
        let _ = write!(out, " ROW_FORMAT={row_format}");
    }
    if let Some(compression) = value(&table.options, "compress").filter(|text| !text.is_empty()) {
        let _ = write!(out, " COMPRESSION={}", text(compression));
    }
    if value(&table.options, "encrypt_type").is_some_and(|text| text.eq_ignore_ascii_case("y")) {
        out.push_str(" ENCRYPTION='Y'");
    } else {
        // The default of the schema that gets the table may be another one.
        out.push_str(" ENCRYPTION='N'");
    }
    if let Some(folder) = data_directory {
        let _ = write!(out, " DATA DIRECTORY={}", text(folder));
    }
    comment_as("COMMENT=", &table.comment, out);
    Ok(())
}

fn partitions(table: &Table, out: &mut String) -> Result<(), CreateError> {
    use partition_type as by;
    if table.partition_type == 0 {
        return Ok(());
    }
    let (how, is_list) = match table.partition_type {
        by::RANGE => ("RANGE ", false),
        by::LIST => ("LIST ", true),
        by::RANGE_COLUMNS => ("RANGE COLUMNS", false),
        by::LIST_COLUMNS => ("LIST COLUMNS", true),
        kind => (hash_name(kind)?, false),
    };
    let _ = write!(out, "\nPARTITION BY {how}({})", expression(&table.partition_expression_utf8)?);
    if table.subpartition_type != 0 {
        let how = hash_name(table.subpartition_type)?;
        let _ = write!(out, "\nSUBPARTITION BY {how}({})", expression(&table.subpartition_expression_utf8)?);
        if table.default_subpartitioning == ONLY_NUMBER {
            let count = table.partitions.first().map_or(0, |partition| partition.subpartitions.len());
            let _ = write!(out, "\nSUBPARTITIONS {count}");
        }
    }
    if table.default_partitioning == ONLY_NUMBER {
        let _ = write!(out, "\nPARTITIONS {}", table.partitions.len());
        return Ok(());
    }
    let is_range = matches!(table.partition_type, by::RANGE | by::RANGE_COLUMNS);
    let mut all = Vec::new();
    for partition in &table.partitions {
        let mut one = format!("PARTITION {}", quoted(&partition.name));
        let values = expression(&partition.description_utf8)?;
        if is_range {
            match values == "MAXVALUE" && table.partition_type == by::RANGE {
                true => one.push_str(" VALUES LESS THAN MAXVALUE"),
                false => {
                    let _ = write!(one, " VALUES LESS THAN ({values})");
                }
            }
        } else if is_list {
            let _ = write!(one, " VALUES IN ({values})");
        }
        partition_options(partition, &mut one);
        if table.subpartition_type != 0 && table.default_subpartitioning != ONLY_NUMBER {
            let subpartitions: Vec<_> = partition
                .subpartitions
                .iter()
                .map(|sub| {
                    let mut one = format!("SUBPARTITION {}", quoted(&sub.name));
                    partition_options(sub, &mut one);
                    one
                })
                .collect();
            let _ = write!(one, "\n (\n  {}\n )", subpartitions.join(",\n  "));
        }
        all.push(one);
    }
    let _ = write!(out, "\n({})", all.join(",\n "));
    Ok(())
}

fn hash_name(kind: u32) -> Result<&'static str, CreateError> {
    use partition_type as by;
    Ok(match kind {
        by::HASH => "HASH ",
        by::LINEAR_HASH => "LINEAR HASH ",
        by::KEY_51 => "KEY ALGORITHM=1 ",
        by::KEY_55 => "KEY ",
        by::LINEAR_KEY_51 => "LINEAR KEY ALGORITHM=1 ",
        by::LINEAR_KEY_55 => "LINEAR KEY ",
        _ => return Err(CreateError::Broken("partitions of a kind that is not known")),
    })
}

fn partition_options(partition: &Partition, out: &mut String) {
    comment_as("COMMENT = ", &partition.comment, out);
    for (key, name) in [("max_rows", "MAX_ROWS"), ("min_rows", "MIN_ROWS")] {
        if let Some(value) = value(&partition.options, key).and_then(|value| value.parse::<u64>().ok()) {
            let _ = write!(out, " {name} = {value}");
        }
    }
    out.push_str(" ENGINE = InnoDB");
}

fn comment(comment: &str, out: &mut String) {
    comment_as("COMMENT ", comment, out);
}

fn comment_as(word: &str, comment: &str, out: &mut String) {
    if !comment.is_empty() {
        let _ = write!(out, " {word}{}", text(comment));
    }
}

/// A type or an expression, if it stays what it is wherever it is put.
fn expression(text: &str) -> Result<&str, CreateError> {
    match is_confined(text) {
        true => Ok(text),
        false => Err(CreateError::Expression(text.escape_debug().to_string())),
    }
}

/// Quotes a name.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quotes a text, for every SQL mode but NO_BACKSLASH_ESCAPES.
pub fn text(content: &str) -> String {
    let mut out = String::with_capacity(content.len() + 2);
    out.push('\'');
    for c in content.chars() {
        match c {
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("''"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}
