//! The collations of MySQL 8 and 9: name, character set, and the fewest and most bytes of a character.
//!
//! A column's type in the dictionary has the collation's number only. The table is what a server shows in
//! `information_schema.collations`; numbers are never given twice.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("collations.tsv");

/// A collation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collation {
    /// Its name.
    pub name: &'static str,
    /// Name of its character set.
    pub charset: &'static str,
    /// Fewest bytes of a character.
    pub min_len: u32,
    /// Most bytes of a character.
    pub max_len: u32,
}

impl Collation {
    /// Returns the collation with this number.
    pub fn of(id: u64) -> Option<Collation> {
        static ALL: OnceLock<BTreeMap<u64, Collation>> = OnceLock::new();
        let all = ALL.get_or_init(|| TABLE.lines().filter_map(line).collect());
        all.get(&id).copied()
    }
}

fn line(line: &'static str) -> Option<(u64, Collation)> {
    let mut fields = line.split('\t');
    let id = fields.next()?.parse().ok()?;
    let (name, charset) = (fields.next()?, fields.next()?);
    let (min_len, max_len) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((id, Collation { name, charset, min_len, max_len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        assert_eq!(TABLE.lines().filter_map(line).count(), TABLE.lines().count());
        let utf8 = Collation { name: "utf8mb4_0900_ai_ci", charset: "utf8mb4", min_len: 1, max_len: 4 };
        assert_eq!(Collation::of(255), Some(utf8));
        assert_eq!(Collation::of(8).map(|c| c.name), Some("latin1_swedish_ci"));
        assert_eq!(Collation::of(54).map(|c| (c.min_len, c.max_len)), Some((2, 4)));
        assert_eq!(Collation::of(4096), None);
    }
}
