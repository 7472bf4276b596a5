//! Making the one record that a native prepare must leave to the server: auto-increment counters
//! (`AutoIncPersister::write`, `PersistentTableMetadata`).
//!
//! Counters live in redo alone until a checkpoint writes them to a table of the dictionary. A datadir whose redo was
//! applied and thrown away would use ids twice, so the counters go into a log of their own for the server to read.

use super::cursor::put_u64_much_compressed;
use super::record::Kind;

const SINGLE: u8 = 0x80;
const AUTO_INCREMENT: u8 = 2;

/// A group of one record: at `version`, the last value used by `table` was `counter`.
pub fn auto_increment_group(table: u64, version: u64, counter: u64) -> Vec<u8> {
    let mut group = vec![Kind::TableDynamicMeta as u8 | SINGLE];
    put_u64_much_compressed(&mut group, table);
    put_u64_much_compressed(&mut group, version);
    group.push(AUTO_INCREMENT);
    put_u64_much_compressed(&mut group, counter);
    group
}
