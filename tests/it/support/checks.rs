//! What a server holds, in forms that two servers can be compared by.

use std::collections::{BTreeMap, BTreeSet};

use super::server::Server;

/// Schemas that every server has.
const SYSTEM_SCHEMAS: &str = "('mysql', 'sys', 'information_schema', 'performance_schema')";

/// Tables in one CHECK or CHECKSUM statement.
const TABLES_PER_STATEMENT: usize = 50;

/// What tells the contents of every base table in the users' schemas, by quoted name: `CHECKSUM TABLE`, or a digest made by
/// a query for the tables on which that statement lies: with JSON it takes in memory addresses, on ARCHIVE it gives 0 for
/// rows not yet flushed.
pub fn checksums(server: &Server) -> BTreeMap<String, String> {
    let lies =
        "(engine = 'ARCHIVE' OR EXISTS (SELECT * FROM information_schema.columns c WHERE data_type = 'json'
                 AND c.table_schema = t.table_schema AND c.table_name = t.table_name))";
    let users = format!("table_schema NOT IN {SYSTEM_SCHEMAS}");
    let mut found = BTreeMap::new();
    for some in base_tables(server, &format!("{users} AND NOT {lies}")).chunks(TABLES_PER_STATEMENT) {
        let rows = server.query(&format!("CHECKSUM TABLE {} EXTENDED", some.join(", ")));
        assert_eq!(rows.len(), some.len());
        for (table, row) in some.iter().zip(rows) {
            assert_ne!(row[1], "NULL", "{table} cannot be read");
            found.insert(table.clone(), row[1].clone());
        }
    }
    for table in base_tables(server, &format!("{users} AND {lies}")) {
        let digest = digest(server, &table);
        found.insert(table, digest);
    }
    found
}

/// Number of rows, and an exclusive or over 64 bits of a hash of each. Of no use with VECTOR columns.
fn digest(server: &Server, table: &str) -> String {
    let columns: Vec<_> = server
        .query(&format!("SHOW COLUMNS FROM {table}"))
        .into_iter()
        .map(|row| format!("`{0}` IS NULL, `{0}`", row[0].replace('`', "``")))
        .collect();
    let row = format!("SHA2(CONCAT_WS('|', {}), 256)", columns.join(", "));
    server
        .query(&format!(
            "SELECT COUNT(*), BIT_XOR(CAST(CONV(LEFT({row}, 16), 16, 10) AS UNSIGNED)) FROM {table}"
        ))
        .remove(0)
        .join(":")
}

/// `CHECK TABLE` on every base table, the system's too: each must be OK, but for engines that keep nothing to check.
pub fn check_tables(server: &Server) {
    let tables = base_tables(server, "table_schema NOT IN ('information_schema', 'performance_schema')");
    for some in tables.chunks(TABLES_PER_STATEMENT) {
        for row in server.query(&format!("CHECK TABLE {} EXTENDED", some.join(", "))) {
            let sound = match row[2].as_str() {
                "status" => row[3] == "OK",
                "note" => row[3] == "The storage engine for the table doesn't support check",
                _ => false,
            };
            assert!(sound, "CHECK TABLE: {}", row.join(" | "));
        }
    }
}

/// The SHOW CREATE text of every table, view, trigger, routine and event in the users' schemas. The next value of
/// AUTO_INCREMENT is left out, since a restart rounds it, and so are DATA DIRECTORY paths, which a copy may map.
pub fn definitions(server: &Server) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (what, catalogue, name, column) in [
        ("TABLE", "tables WHERE table_type = 'BASE TABLE' AND table", "table_schema, table_name", 1),
        ("VIEW", "tables WHERE table_type = 'VIEW' AND table", "table_schema, table_name", 1),
        ("TRIGGER", "triggers WHERE trigger", "trigger_schema, trigger_name", 2),
        (
            "PROCEDURE",
            "routines WHERE routine_type = 'PROCEDURE' AND routine",
            "routine_schema, routine_name",
            2,
        ),
        (
            "FUNCTION",
            "routines WHERE routine_type = 'FUNCTION' AND routine",
            "routine_schema, routine_name",
            2,
        ),
        ("EVENT", "events WHERE event", "event_schema, event_name", 3),
    ] {
        let sql = format!("SELECT {name} FROM information_schema.{catalogue}_schema NOT IN {SYSTEM_SCHEMAS}");
        for row in server.query(&sql) {
            let name = quoted(&row[0], &row[1]);
            let text = server.query(&format!("SHOW CREATE {what} {name}")).remove(0).remove(column);
            let text = without(&text, " AUTO_INCREMENT=", |c| c.is_ascii_digit());
            let text = without(&text, " DATA DIRECTORY='", |c| c != '\'');
            let text = without(&text, " DATA DIRECTORY = '", |c| c != '\'');
            found.insert(format!("{what} {name}"), text);
        }
    }
    found
}

/// Drops each `key` with the value that follows it, and the quote that closes it.
fn without(definition: &str, key: &str, is_value: fn(char) -> bool) -> String {
    let mut parts = definition.split(key);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| {
        let rest = part.trim_start_matches(is_value);
        kept + if key.ends_with('\'') { rest.strip_prefix('\'').unwrap_or(rest) } else { rest }
    })
}

/// Both maps hold the same; else a panic that names what differs.
pub fn assert_same(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) {
    let names: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differing: Vec<_> = names
        .into_iter()
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| format!("{name}\n  left:  {:?}\n  right: {:?}", left.get(name), right.get(name)))
        .collect();
    assert!(differing.is_empty(), "{} of {} differ:\n{}", differing.len(), left.len(), differing.join("\n"));
}

/// On one line, as `xtrabackup_binlog_info` has it.
pub fn gtid_executed(server: &Server) -> String {
    server.value("SELECT @@GLOBAL.gtid_executed").replace('\n', "")
}

fn base_tables(server: &Server, which: &str) -> Vec<String> {
    server
        .query(&format!(
            "SELECT table_schema, table_name FROM information_schema.tables t
             WHERE table_type = 'BASE TABLE' AND {which} ORDER BY 1, 2"
        ))
        .into_iter()
        .map(|row| quoted(&row[0], &row[1]))
        .collect()
}

fn quoted(schema: &str, name: &str) -> String {
    format!("`{}`.`{}`", schema.replace('`', "``"), name.replace('`', "``"))
}
