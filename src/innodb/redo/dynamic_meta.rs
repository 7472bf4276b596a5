//! Makes the records that a native prepare must leave to the server: auto-increment counters and corrupted indexes
//! (`AutoIncPersister::write`, `CorruptedIndexPersister::write`, `PersistentTableMetadata`).
//!
//! Counters live in redo alone until a checkpoint writes them to a table of the dictionary. A datadir whose redo was
//! applied and thrown away would use ids twice, so the counters go into a log of their own for the server to read.

use super::cursor::put_u64_much_compressed;
use super::record::Kind;

const SINGLE: u8 = 0x80;
const CORRUPTED_INDEXES: u8 = 1;
const AUTO_INCREMENT: u8 = 2;
/// Most indexes in one record: their number is a byte, and a table has 64.
const INDEXES_MAX: usize = 128;
/// Bytes of an index: space id and index id.
const INDEX_LEN: usize = 12;

/// A group of one record: at `version`, the last value used by `table` was `counter`.
pub fn auto_increment_group(table: u64, version: u64, counter: u64) -> Vec<u8> {
    let mut group = vec![Kind::TableDynamicMeta as u8 | SINGLE];
    put_u64_much_compressed(&mut group, table);
    put_u64_much_compressed(&mut group, version);
    group.push(AUTO_INCREMENT);
    put_u64_much_compressed(&mut group, counter);
    group
}

/// Groups of one record: at `version`, these indexes of `table` are corrupted. None if there are none.
pub fn corrupted_indexes_group(table: u64, version: u64, indexes: &[[u8; INDEX_LEN]]) -> Option<Vec<u8>> {
    let indexes = indexes.get(..indexes.len().min(INDEXES_MAX)).filter(|i| !i.is_empty())?;
    let mut group = vec![Kind::TableDynamicMeta as u8 | SINGLE];
    put_u64_much_compressed(&mut group, table);
    put_u64_much_compressed(&mut group, version);
    group.extend([CORRUPTED_INDEXES, indexes.len() as u8]);
    indexes.iter().for_each(|index| group.extend_from_slice(index));
    Some(group)
}
