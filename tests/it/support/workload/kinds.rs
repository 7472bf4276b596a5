//! The kinds of work: what InnoDB does, in tables small enough for seconds.

use super::ddl;
use super::table::{Column, Table, Value};
use super::work::{Manner, Work};

/// Gives a work its tables.
pub type Make = fn(&mut Work);

/// All kinds by name.
pub const KINDS: &[(&str, Make)] = &[
    ("plain_rows", rows),
    ("redundant_rows", redundant),
    ("keyless", keyless),
    ("large", large),
    ("json", json),
    ("generated", generated),
    ("index_ddl", index_ddl),
    ("alter_copy", alter_copy),
    ("alter_inplace", alter_inplace),
    ("instant", instant),
    ("tables_ddl", tables_ddl),
    ("partitions", partitions),
    ("words", words),
    ("places", places),
    ("zip", zip),
    ("zip_large", zip_large),
    ("page_compression", page_compression),
    ("general", general),
    ("undo_ddl", undo_ddl),
    ("savepoints", savepoints),
    ("rolled_back", rolled_back),
    ("xa", xa),
    ("change_buffer", change_buffer),
    ("deep", deep),
    ("auto_increment", auto_increment),
    ("foreign_keys", foreign_keys),
];

/// Row formats for which there are no conditions.
const FORMATS: [&str; 3] = ["ROW_FORMAT = DYNAMIC", "ROW_FORMAT = COMPACT", "ROW_FORMAT = REDUNDANT"];

fn text(name: &str, max: u64) -> Column {
    Column::new(name, &format!("VARCHAR({max})"), Value::Text(max))
}

fn int(name: &str) -> Column {
    Column::new(name, "INT", Value::Int)
}

/// A few columns of the usual types.
fn columns(work: &mut Work) -> Vec<Column> {
    let max = work.one_of(&[100, 130, 250, 400]);
    let mut columns = vec![int("k"), text("v", max)];
    let others = [
        int("i"),
        Column::new("d", "DECIMAL(12, 3)", Value::Int),
        Column::new("c", "CHAR(30)", Value::Text(30)),
        Column::new("a", "CHAR(20) CHARACTER SET ascii", Value::Text(20)),
        Column::new("b", "VARBINARY(200)", Value::Noise(200)),
        Column::new("t", "TEXT", Value::Text(2500)),
        Column::new("z", "TIMESTAMP(3) NULL DEFAULT CURRENT_TIMESTAMP(3)", Value::Generated),
    ];
    for other in others {
        if work.random.one_in(2) {
            columns.push(other);
        }
    }
    columns
}

fn keys(work: &mut Work) -> Vec<&'static str> {
    let mut keys = vec![work.one_of(&["PRIMARY KEY (id)", "PRIMARY KEY (id)", "PRIMARY KEY (id DESC)"])];
    for key in ["KEY (k)", "KEY (v(20), k)", "UNIQUE KEY (k, id)", "KEY (k DESC, v(5))", "KEY (v(100))"] {
        if work.random.one_in(2) {
            keys.push(key);
        }
    }
    keys
}

fn add_table(work: &mut Work, name: &str, options: &str) {
    let (columns, keys) = (columns(work), keys(work));
    work.tables.push(Table::new(work.name(name), columns, &keys, options));
}

fn rows(work: &mut Work) {
    for name in ["t1", "t2"] {
        let format = work.one_of(&FORMATS[..2]);
        add_table(work, name, format);
    }
}

fn redundant(work: &mut Work) {
    add_table(work, "t1", FORMATS[2]);
    add_table(work, "t2", FORMATS[2]);
}

fn keyless(work: &mut Work) {
    let space = if work.random.one_in(2) { "TABLESPACE = innodb_system" } else { "" };
    let columns = columns(work);
    work.tables.push(Table::new(work.name("t"), columns, &["KEY (k)"], space));
}

fn large(work: &mut Work) {
    let format = work.one_of(&FORMATS);
    let columns = vec![
        int("k"),
        Column::new("b", "LONGBLOB", Value::Noise(150_000)),
        Column::new("t", "LONGTEXT", Value::Text(60_000)),
    ];
    work.tables.push(few(Table::new(
        work.name("t"),
        columns,
        &["PRIMARY KEY (id)", "KEY (k)", "KEY (b(40))"],
        format,
    )));
}

/// A table whose rows are so large that few are enough.
fn few(mut table: Table) -> Table {
    table.rows_max = 25;
    table
}

fn json(work: &mut Work) {
    let columns = vec![
        Column::new("doc", "JSON", Value::Json(30_000)),
        Column::new("name", "VARCHAR(64) AS (doc ->> '$.name') VIRTUAL", Value::Generated),
        int("k"),
    ];
    let keys = [
        "PRIMARY KEY (id)",
        "KEY (name)",
        "KEY many ((CAST(doc -> '$.tags' AS UNSIGNED ARRAY)))",
        "KEY functional ((UPPER(name)))",
    ];
    work.tables.push(few(Table::new(work.name("t"), columns, &keys, "")));
    let small = vec![Column::new("doc", "JSON", Value::Json(300)), int("k")];
    work.tables.push(Table::new(work.name("small"), small, &["PRIMARY KEY (id)", keys[2]], ""));
}

fn generated(work: &mut Work) {
    let columns = vec![
        int("a"),
        int("b"),
        Column::new("total", "BIGINT AS (a + b) VIRTUAL", Value::Generated),
        Column::new("product", "BIGINT AS (a * b) STORED", Value::Generated),
        Column::new("txt", "VARCHAR(80) AS (CONCAT(a, '-', v)) VIRTUAL", Value::Generated),
        text("v", 60),
    ];
    let keys =
        ["PRIMARY KEY (id)", "KEY (total)", "KEY (product)", "UNIQUE KEY (txt, id)", "KEY ((a * 2), total)"];
    let format = work.one_of(&FORMATS);
    work.tables.push(Table::new(work.name("t"), columns, &keys, format));
    work.ddl = Some(ddl::generated);
}

fn index_ddl(work: &mut Work) {
    for name in ["t1", "t2"] {
        let format = work.one_of(&FORMATS);
        add_table(work, name, format);
    }
    work.ddl = Some(ddl::index);
}

fn alter_copy(work: &mut Work) {
    add_table(work, "t1", "");
    add_table(work, "t2", FORMATS[2]);
    work.ddl = Some(ddl::copy);
}

fn alter_inplace(work: &mut Work) {
    add_table(work, "t1", "");
    add_table(work, "t2", FORMATS[2]);
    work.ddl = Some(ddl::inplace);
}

fn instant(work: &mut Work) {
    for (name, format) in ["t1", "t2", "t3"].iter().zip(FORMATS) {
        add_table(work, name, format);
    }
    let columns = vec![int("k"), text("v", 40)];
    let parted = "PARTITION BY HASH (id) PARTITIONS 3";
    work.tables.push(Table::new(work.name("parted"), columns, &["PRIMARY KEY (id)", "KEY (k)"], parted));
    work.ddl = Some(ddl::instant);
}

fn tables_ddl(work: &mut Work) {
    work.before_tables.push("CREATE DATABASE w_tables_ddl2".to_owned());
    for name in ["t1", "t2", "t3"] {
        let format = work.one_of(&FORMATS);
        add_table(work, name, format);
    }
    work.ddl = Some(ddl::tables);
}

fn partitions(work: &mut Work) {
    let columns = vec![int("k"), text("v", 100)];
    let keys = ["PRIMARY KEY (id)", "KEY (k, v(10))"];
    let parts = "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN (300), \
                 PARTITION pmax VALUES LESS THAN MAXVALUE)";
    work.tables.push(Table::new(work.name("t"), columns.clone(), &keys, parts));
    work.tables.push(Table::new(work.name("h"), columns, &keys, "PARTITION BY HASH (id) PARTITIONS 3"));
    work.after_rows.push("CREATE TABLE w_partitions.side LIKE w_partitions.t".to_owned());
    work.after_rows.push("ALTER TABLE w_partitions.side REMOVE PARTITIONING".to_owned());
    work.names = vec!["p0".to_owned(), "p1".to_owned()];
    work.serial = 300;
    work.ddl = Some(ddl::partitions);
}

fn words(work: &mut Work) {
    let format = work.one_of(&FORMATS);
    let columns = vec![
        Column::new("title", "VARCHAR(200)", Value::Words),
        Column::new("body", "TEXT", Value::Words),
        int("k"),
    ];
    let keys =
        ["PRIMARY KEY (id)", "FULLTEXT KEY f1 (title, body)", "FULLTEXT KEY grams (body) WITH PARSER ngram"];
    work.tables.push(Table::new(work.name("t"), columns, &keys, format));
    work.ddl = Some(ddl::words);
}

fn places(work: &mut Work) {
    for (name, format) in ["t1", "t2"].iter().zip(["", FORMATS[2]]) {
        let columns = vec![
            Column::new("at", "POINT NOT NULL SRID 0", Value::Point),
            Column::new("area", "GEOMETRY NOT NULL SRID 0", Value::Area),
            int("k"),
        ];
        let keys = ["PRIMARY KEY (id)", "SPATIAL KEY (at)", "SPATIAL KEY s2 (area)"];
        work.tables.push(Table::new(work.name(name), columns, &keys, format));
    }
    work.ddl = Some(ddl::places);
}

/// Sizes in KiB that a compressed page may have; none where there are no compressed tables.
fn block_sizes(work: &Work) -> &'static [u32] {
    match work.page_size {
        4096 => &[1, 2, 4],
        8192 => &[1, 2, 4, 8],
        16384 => &[1, 2, 4, 8, 16],
        _ => &[],
    }
}

fn compressed(work: &mut Work) -> String {
    match block_sizes(work) {
        [] => "ROW_FORMAT = COMPACT".to_owned(),
        sizes => format!("ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = {}", work.one_of(sizes)),
    }
}

fn zip(work: &mut Work) {
    for name in ["t1", "t2", "t3"] {
        let options = compressed(work);
        let columns = vec![
            int("k"),
            text("v", 100),
            Column::new("b", "VARBINARY(150)", Value::Noise(150)),
            text("w", 80),
        ];
        let keys = keys(work);
        work.tables.push(Table::new(work.name(name), columns, &keys, &options));
    }
    work.ddl = Some(ddl::index);
}

fn zip_large(work: &mut Work) {
    let options = compressed(work);
    let columns = vec![
        int("k"),
        Column::new("b", "LONGBLOB", Value::Noise(60_000)),
        Column::new("t", "LONGTEXT", Value::Text(90_000)),
    ];
    work.tables.push(few(Table::new(
        work.name("t"),
        columns,
        &["PRIMARY KEY (id)", "KEY (k)", "KEY (t(30))"],
        &options,
    )));
    let options = compressed(work);
    let columns = vec![Column::new("doc", "JSON", Value::Json(40_000)), int("k")];
    work.tables.push(few(Table::new(work.name("j"), columns, &["PRIMARY KEY (id)"], &options)));
}

fn page_compression(work: &mut Work) {
    for (name, algorithm) in [("t1", "zlib"), ("t2", "lz4")] {
        // A page must shrink by at least one block of the filesystem, which has 4 KiB.
        let options =
            if work.page_size > 4096 { format!("COMPRESSION = '{algorithm}'") } else { String::new() };
        let columns = vec![int("k"), text("v", 300), Column::new("t", "TEXT", Value::Text(4000))];
        let keys = ["PRIMARY KEY (id)", "KEY (k)", "KEY (v(50))"];
        work.tables.push(Table::new(work.name(name), columns, &keys, &options));
    }
    work.ddl = Some(ddl::index);
}

fn general(work: &mut Work) {
    work.before_tables.push("CREATE TABLESPACE g1 ADD DATAFILE 'g1.ibd'".to_owned());
    for (name, format) in ["t1", "t2"].iter().zip(["", FORMATS[2]]) {
        add_table(work, name, &format!("TABLESPACE = g1 {format}"));
    }
    if let [size, ..] = block_sizes(work) {
        let size = *size;
        work.before_tables
            .push(format!("CREATE TABLESPACE gz ADD DATAFILE 'gz.ibd' FILE_BLOCK_SIZE = {}", size * 1024));
        let columns = vec![int("k"), text("v", 100)];
        let options = format!("TABLESPACE = gz ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = {size}");
        work.tables.push(Table::new(work.name("tz"), columns, &["PRIMARY KEY (id)", "KEY (k)"], &options));
    }
    work.names = vec!["g1".to_owned()];
    work.ddl = Some(ddl::general);
}

fn undo_ddl(work: &mut Work) {
    add_table(work, "t1", "");
    work.before_tables.push("CREATE UNDO TABLESPACE more_undo ADD DATAFILE 'more_undo.ibu'".to_owned());
    work.names = vec!["innodb_undo_001".to_owned(), "innodb_undo_002".to_owned(), "more_undo".to_owned()];
    work.ddl = Some(ddl::undo);
}

fn savepoints(work: &mut Work) {
    add_table(work, "t1", "");
    add_table(work, "t2", FORMATS[2]);
    work.manner = Manner::Savepoints;
}

fn rolled_back(work: &mut Work) {
    add_table(work, "t1", "");
    add_table(work, "t2", FORMATS[2]);
    let options = compressed(work);
    let columns = vec![int("k"), text("v", 100)];
    work.tables.push(Table::new(work.name("t3"), columns, &["PRIMARY KEY (id)", "KEY (v(9))"], &options));
    work.manner = Manner::RolledBack;
}

fn xa(work: &mut Work) {
    add_table(work, "t1", "");
    add_table(work, "t2", FORMATS[2]);
    work.manner = Manner::Xa;
}

fn change_buffer(work: &mut Work) {
    for name in ["t1", "t2"] {
        let format = work.one_of(&FORMATS);
        let columns = vec![int("k"), text("v", 120), text("w", 60), int("i")];
        let keys = [
            "PRIMARY KEY (id)",
            "KEY (k)",
            "KEY (v(40))",
            "KEY (w, k)",
            "KEY (i, v(60))",
            "UNIQUE KEY (k, id)",
        ];
        work.tables.push(Table::new(work.name(name), columns, &keys, format));
    }
}

/// Wide keys make a tree of many levels.
fn deep(work: &mut Work) {
    for (name, format) in ["t1", "t2"].iter().zip([FORMATS[0], FORMATS[2]]) {
        let columns = vec![int("k"), Column::new("w", "VARCHAR(170)", Value::Text(170))];
        let keys = ["PRIMARY KEY (id)", "KEY (w, k)", "KEY (k, w(150) DESC)"];
        work.tables.push(Table::new(work.name(name), columns, &keys, format));
    }
    let (columns, options) =
        (vec![int("k"), Column::new("w", "VARCHAR(100)", Value::Text(100))], compressed(work));
    work.tables.push(Table::new(work.name("t3"), columns, &["PRIMARY KEY (id)", "KEY (w, k)"], &options));
}

fn auto_increment(work: &mut Work) {
    for name in ["t1", "t2"] {
        let columns = vec![
            Column::new("n", "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT UNIQUE", Value::Generated),
            int("k"),
            text("v", 50),
        ];
        work.tables.push(Table::new(work.name(name), columns, &["PRIMARY KEY (id)"], ""));
    }
    work.ddl = Some(ddl::auto_increment);
}

fn foreign_keys(work: &mut Work) {
    let columns = vec![int("k"), text("v", 50)];
    work.tables.push(Table::new(work.name("parent"), columns, &["PRIMARY KEY (id)"], ""));
    let columns = vec![Column::new("mother", "BIGINT", Value::Parent), int("k")];
    let keys = [
        "PRIMARY KEY (id)",
        "FOREIGN KEY (mother) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE",
    ];
    work.tables.push(Table::new(work.name("child"), columns, &keys, ""));
}
