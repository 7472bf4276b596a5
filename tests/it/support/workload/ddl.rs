//! Random changes of definitions, each kind its own. All take care that they can't fail.

use super::table::{Column, NUMBERS, Table, Value};
use super::work::Work;

/// Indexes that may be added to tables with the columns `k` and `v`.
const INDEXES: [&str; 6] = ["(k)", "(v(30))", "(k DESC, v(10))", "(v(5), k)", "(id, k)", "(k, id DESC)"];

/// Builds or drops an index.
pub fn index(work: &mut Work) -> Vec<String> {
    let (table, serial) = (work.some_table(), work.next());
    let of_table = format!("{table}:");
    let name = work.tables[table].name.clone();
    let mine = work.names.iter().position(|n| n.starts_with(&of_table));
    match (mine, work.below(4)) {
        (Some(at), 0 | 1) => {
            let index = work.names.remove(at).split_off(of_table.len());
            vec![format!("ALTER TABLE {name} DROP INDEX {index}, ALGORITHM = INPLACE")]
        }
        (Some(at), 2) => {
            let index = std::mem::replace(&mut work.names[at], format!("{of_table}x{serial}"))
                .split_off(of_table.len());
            vec![format!("ALTER TABLE {name} RENAME INDEX {index} TO x{serial}")]
        }
        _ => {
            work.names.push(format!("{of_table}x{serial}"));
            let (index, lock) = (work.one_of(&INDEXES), work.one_of(&["NONE", "SHARED"]));
            vec![format!(
                "ALTER TABLE {name} ADD INDEX x{serial} {index}, ALGORITHM = INPLACE, LOCK = {lock}"
            )]
        }
    }
}

/// Indexes over virtual columns, and stored columns made and dropped.
pub fn generated(work: &mut Work) -> Vec<String> {
    let name = work.tables[0].name.clone();
    let serial = work.next();
    match work.names.pop() {
        Some(column) => vec![format!("ALTER TABLE {name} DROP COLUMN {column}")],
        None => {
            work.names.push(format!("g{serial}"));
            let form = work.one_of(&["VIRTUAL", "STORED"]);
            vec![
                format!(
                    "ALTER TABLE {name} ADD COLUMN g{serial} BIGINT AS (IFNULL(a, 0) - IFNULL(b, 0)) {form}"
                ),
                format!("ALTER TABLE {name} ADD INDEX (g{serial}, v(7))"),
            ]
        }
    }
}

/// The table is copied row by row.
pub fn copy(work: &mut Work) -> Vec<String> {
    let table = work.some_table();
    let name = work.tables[table].name.clone();
    let mut what = vec![
        "FORCE",
        "ROW_FORMAT = REDUNDANT",
        "ROW_FORMAT = COMPACT",
        "ROW_FORMAT = DYNAMIC",
        "MODIFY k BIGINT",
    ];
    if work.page_size <= 16384 {
        what.extend([
            "ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 4",
            "ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 2",
        ]);
    }
    let what = work.one_of(&what);
    // What was said of a former format must not stay.
    let size =
        if what.contains("FORMAT") && !what.contains("COMPRESSED") { " KEY_BLOCK_SIZE = 0" } else { "" };
    vec![format!("ALTER TABLE {name} {what}{size}, ALGORITHM = COPY")]
}

/// The table is built anew beside itself.
pub fn inplace(work: &mut Work) -> Vec<String> {
    let table = work.some_table();
    let name = work.tables[table].name.clone();
    let what = work.one_of(&[
        "FORCE",
        "ROW_FORMAT = REDUNDANT",
        "ROW_FORMAT = COMPACT",
        "ROW_FORMAT = DYNAMIC",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (id)",
        "DROP PRIMARY KEY, ADD PRIMARY KEY (id DESC)",
        "MODIFY k INT FIRST",
        "ENGINE = InnoDB",
    ]);
    match work.below(4) {
        0 => vec![format!("OPTIMIZE TABLE {name}")],
        _ => vec![format!("ALTER TABLE {name} {what}, ALGORITHM = INPLACE")],
    }
}

/// Columns that come, go and move at once.
pub fn instant(work: &mut Work) -> Vec<String> {
    let (table, serial) = (work.some_table(), work.next());
    let at = work.random.below(work.tables[table].columns.len() as u64) as usize;
    let parted = work.tables[table].options.contains("PARTITION");
    let Table { name, columns, .. } = &mut work.tables[table];
    let mine: Vec<_> = (0..columns.len()).filter(|i| columns[*i].name.starts_with("n_")).collect();
    let choice = work.random.below(10);
    if choice < 3 && !mine.is_empty() {
        let column = columns.remove(mine[work.random.below(mine.len() as u64) as usize]);
        return vec![format!("ALTER TABLE {name} DROP COLUMN {}, ALGORITHM = INSTANT", column.name)];
    }
    if choice == 3 && !mine.is_empty() && !parted {
        let column = &mut columns[mine[0]];
        let old = std::mem::replace(&mut column.name, format!("n_{serial}"));
        return vec![format!("ALTER TABLE {name} RENAME COLUMN {old} TO n_{serial}, ALGORITHM = INSTANT")];
    }
    let (definition, value) = [
        ("INT", Value::Int),
        ("INT NOT NULL DEFAULT 42", Value::Generated),
        ("VARCHAR(30) DEFAULT 'thirty'", Value::Text(30)),
        ("CHAR(5) CHARACTER SET ascii NOT NULL DEFAULT 'five'", Value::Generated),
        ("VARBINARY(90)", Value::Noise(90)),
        ("BIGINT", Value::Int),
    ][work.random.below(6) as usize];
    let place = match work.random.below(3) {
        0 => " FIRST".to_owned(),
        1 => format!(" AFTER {}", columns[at].name),
        _ => String::new(),
    };
    columns.push(Column::new(&format!("n_{serial}"), definition, value));
    vec![format!("ALTER TABLE {name} ADD COLUMN n_{serial} {definition}{place}, ALGORITHM = INSTANT")]
}

/// Tables emptied, renamed, swapped, dropped and made again.
pub fn tables(work: &mut Work) -> Vec<String> {
    let (table, serial) = (work.some_table(), work.next());
    let name = work.tables[table].name.clone();
    match work.below(6) {
        0 => {
            work.tables[table].id_max = 0;
            vec![format!("TRUNCATE TABLE {name}")]
        }
        1 => {
            let schema = work.one_of(&["w_tables_ddl", "w_tables_ddl2"]);
            work.tables[table].name = format!("{schema}.r{serial}");
            vec![format!("RENAME TABLE {name} TO {schema}.r{serial}")]
        }
        2 => {
            let other = work.some_table();
            if other == table {
                return tables(work);
            }
            let theirs = work.tables[other].name.clone();
            work.tables[table].name = theirs.clone();
            work.tables[other].name = name.clone();
            vec![format!(
                "RENAME TABLE {name} TO w_tables_ddl.`a b`, {theirs} TO {name}, w_tables_ddl.`a b` TO {theirs}"
            )]
        }
        3 => {
            let new = &mut work.tables[table];
            new.id_max = 0;
            vec![format!("DROP TABLE {name}"), new.create(), new.insert(&mut work.random, 200)]
        }
        4 => {
            let copy = format!("w_tables_ddl2.`copy #{serial}`");
            vec![
                format!("CREATE TABLE {copy} LIKE {name}"),
                format!("INSERT INTO {copy} SELECT * FROM {name}"),
                format!("DROP TABLE {copy}"),
            ]
            .into_iter()
            .take(2 + work.random.below(2) as usize)
            .collect()
        }
        _ => {
            let (old, new) = (format!("w_tables_ddl.old{serial}"), format!("w_tables_ddl.new{serial}"));
            vec![
                format!("CREATE TABLE {new} AS SELECT * FROM {name} WHERE id % 2 = 0"),
                format!("RENAME TABLE {new} TO {old}"),
                format!("TRUNCATE TABLE {old}"),
            ]
        }
    }
}

/// Partitions come, go, are split, emptied and swapped with a table.
pub fn partitions(work: &mut Work) -> Vec<String> {
    let (table, hash) = (work.name("t"), work.name("h"));
    let some = work.below(work.names.len().max(1) as u64) as usize;
    match (work.below(6), work.names.get(some).cloned()) {
        (0, Some(name)) if work.names.len() > 1 => {
            work.names.remove(some);
            vec![format!("ALTER TABLE {table} DROP PARTITION {name}")]
        }
        (1, Some(name)) => vec![format!("ALTER TABLE {table} TRUNCATE PARTITION {name}")],
        (2 | 3, Some(name)) => {
            let side = work.name("side");
            vec![
                format!("TRUNCATE TABLE {side}"),
                format!("INSERT INTO {side} SELECT * FROM {table} PARTITION ({name}) WHERE id % 2 = 0"),
                format!("ALTER TABLE {table} EXCHANGE PARTITION {name} WITH TABLE {side}"),
            ]
        }
        (4, _) => vec![
            format!("ALTER TABLE {hash} ADD PARTITION PARTITIONS 2"),
            format!("ALTER TABLE {hash} COALESCE PARTITION 2"),
            format!("ALTER TABLE {hash} REBUILD PARTITION p0"),
        ],
        _ => {
            work.serial += 1 + work.random.below(200);
            let (limit, name) = (work.serial, format!("`p Ä{}`", work.serial));
            work.names.push(name.clone());
            vec![format!(
                "ALTER TABLE {table} REORGANIZE PARTITION pmax INTO \
                 (PARTITION {name} VALUES LESS THAN ({limit}), PARTITION pmax VALUES LESS THAN MAXVALUE)"
            )]
        }
    }
}

/// Full-text indexes are built and dropped, and their auxiliary tables tidied up.
pub fn words(work: &mut Work) -> Vec<String> {
    let table = work.tables[0].name.clone();
    match work.below(3) {
        0 => vec![
            "SET GLOBAL innodb_optimize_fulltext_only = ON".to_owned(),
            format!("OPTIMIZE TABLE {table}"),
            "SET GLOBAL innodb_optimize_fulltext_only = OFF".to_owned(),
        ],
        1 => vec![
            format!("ALTER TABLE {table} DROP INDEX f1"),
            format!("ALTER TABLE {table} ADD FULLTEXT INDEX f1 (title, body)"),
        ],
        _ => vec![format!("ALTER TABLE {table} FORCE")],
    }
}

/// Spatial indexes are built anew.
pub fn places(work: &mut Work) -> Vec<String> {
    let table = work.some_table();
    let table = &work.tables[table].name;
    vec![
        format!("ALTER TABLE {table} DROP INDEX s2"),
        format!("ALTER TABLE {table} ADD SPATIAL INDEX s2 (area)"),
    ]
}

/// General tablespaces come and go, and tables move in and out.
pub fn general(work: &mut Work) -> Vec<String> {
    let table = work.random.below(2) as usize;
    let (name, serial) = (work.tables[table].name.clone(), work.next());
    match work.below(4) {
        0 => vec![format!("ALTER TABLE {name} TABLESPACE = innodb_file_per_table")],
        1 => {
            let space = &work.names[0];
            vec![format!("ALTER TABLE {name} TABLESPACE = {space}")]
        }
        2 => {
            let old = std::mem::replace(&mut work.names[0], format!("g{serial}x"));
            vec![format!("ALTER TABLESPACE {old} RENAME TO g{serial}x")]
        }
        _ => {
            let (space, table) = (format!("gone{serial}"), work.name(&format!("gone{serial}")));
            vec![
                format!("CREATE TABLESPACE {space} ADD DATAFILE '{space}.ibd'"),
                format!("CREATE TABLE {table} (id INT PRIMARY KEY) TABLESPACE = {space}"),
                format!("INSERT INTO {table} SELECT n FROM base.numbers WHERE n < {}", NUMBERS / 2),
                format!("DROP TABLE {table}"),
                format!("DROP TABLESPACE {space}"),
            ]
        }
    }
}

/// Undo tablespaces are emptied (truncated), dropped and made.
pub fn undo(work: &mut Work) -> Vec<String> {
    let serial = work.next();
    match work.below(3) {
        0 => {
            let name = format!("undo{serial}");
            vec![
                format!("CREATE UNDO TABLESPACE {name} ADD DATAFILE '{name}.ibu'"),
                inactive(&name),
                wait_until_empty(&name),
                format!("DROP UNDO TABLESPACE {name}"),
            ]
        }
        _ => {
            let at = work.below(work.names.len() as u64) as usize;
            let name = work.names[at].clone();
            vec![inactive(&name), wait_until_empty(&name), format!("ALTER UNDO TABLESPACE {name} SET ACTIVE")]
        }
    }
}

fn inactive(name: &str) -> String {
    format!("ALTER UNDO TABLESPACE {name} SET INACTIVE")
}

/// Not SQL: who runs the statements knows it.
pub const WAIT_UNTIL_EMPTY: &str = "wait until empty: ";

fn wait_until_empty(name: &str) -> String {
    format!("{WAIT_UNTIL_EMPTY}{name}")
}

/// Counters that jump.
pub fn auto_increment(work: &mut Work) -> Vec<String> {
    let table = work.some_table();
    let n = 10_000 + work.serial * 5000 + work.below(4000);
    work.serial += 1;
    let table = &mut work.tables[table];
    match work.random.below(2) {
        0 => vec![format!("ALTER TABLE {} AUTO_INCREMENT = {n}", table.name)],
        _ => {
            table.id_max += 1;
            vec![format!("INSERT INTO {} (id, n) VALUES ({}, {n})", table.name, table.id_max)]
        }
    }
}
