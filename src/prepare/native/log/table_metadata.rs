//! What redo alone knows of tables: auto-increment counters and corrupted indexes (`MetadataRecover`,
//! `PersistentTableMetadata` in log0recv.cc and dict0dd.cc).
//!
//! Of two versions of a table's metadata the higher counts and replaces the lower; within a version the counter only
//! grows and corrupted indexes only get more.

use std::collections::{BTreeMap, BTreeSet};

use crate::innodb::redo::record::DynamicMeta;
use crate::innodb::redo::{auto_increment_group, corrupted_indexes_group};

/// Bytes of an index in the record: space id and index id.
const INDEX_LEN: usize = 12;

/// TableMetadata metadata by table id.
#[derive(Default, Debug)]
pub(crate) struct TableMetadata {
    tables: BTreeMap<u64, Table>,
    /// Corrupted indexes that were noted, whichever were forgotten since.
    indexes: usize,
}

#[derive(Default, Debug)]
struct Table {
    version: u64,
    counter: Option<u64>,
    corrupted: BTreeSet<[u8; INDEX_LEN]>,
}

impl TableMetadata {
    /// Takes a record in.
    pub(crate) fn note(&mut self, table: u64, version: u64, meta: &DynamicMeta<'_>) {
        let known = self.tables.entry(table).or_default();
        if version < known.version {
            return;
        }
        if version > known.version {
            *known = Table { version, ..Table::default() };
        }
        match *meta {
            DynamicMeta::AutoIncrement(counter) => known.counter = known.counter.max(Some(counter)),
            DynamicMeta::CorruptedIndexes(bytes) => {
                let before = known.corrupted.len();
                known.corrupted.extend(bytes.as_chunks().0);
                self.indexes += known.corrupted.len() - before;
            }
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        /// What a tree takes for each: some of its places are free.
        const NODE: usize = 2;
        let table = NODE * (size_of::<Table>() + size_of::<u64>());
        self.tables.len() * table + self.indexes * NODE * INDEX_LEN
    }

    /// Takes in what was found in a later part of the log.
    pub(crate) fn merge(&mut self, later: &TableMetadata) {
        for (table, found) in &later.tables {
            if let Some(counter) = found.counter {
                self.note(*table, found.version, &DynamicMeta::AutoIncrement(counter));
            }
            for index in &found.corrupted {
                self.note(*table, found.version, &DynamicMeta::CorruptedIndexes(index));
            }
        }
    }

    /// The groups that say the same in a log of their own.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.tables.iter().flat_map(|(table, known)| {
            let counter = known.counter.map(|c| auto_increment_group(*table, known.version, c));
            let corrupted: Vec<_> = known.corrupted.iter().copied().collect();
            let corrupted = corrupted_indexes_group(*table, known.version, &corrupted);
            counter.into_iter().chain(corrupted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_and_the_highest_counter_count() {
        let mut all = TableMetadata::default();
        for (table, version, counter) in [(5, 0, 10), (5, 0, 12), (5, 0, 11), (6, 3, 7), (6, 4, 2), (6, 3, 9)]
        {
            all.note(table, version, &DynamicMeta::AutoIncrement(counter));
        }
        let groups: Vec<_> = all.groups().collect();
        assert_eq!(groups, [auto_increment_group(5, 0, 12), auto_increment_group(6, 4, 2)]);
    }

    #[test]
    fn corrupted_indexes_are_kept() {
        let mut all = TableMetadata::default();
        let (one, two) = ([1; 12], [2; 12]);
        all.note(5, 0, &DynamicMeta::CorruptedIndexes(&one));
        all.note(5, 0, &DynamicMeta::AutoIncrement(1));
        all.note(5, 0, &DynamicMeta::CorruptedIndexes(&[two, one].concat()));
        let groups: Vec<_> = all.groups().collect();
        let corrupted = corrupted_indexes_group(5, 0, &[one, two]).unwrap();
        assert_eq!(groups, [auto_increment_group(5, 0, 1), corrupted]);
    }
}
