//! Represents the set of bytes of a stream that are present: all up to some offset, and some ranges ahead of
//! it.

use std::collections::BTreeMap;
use std::ops::Range;

/// Maximum number of ranges ahead that are kept: a peer that leaves a gap after each byte would otherwise
/// cause memory to be used for every second one.
pub const RANGES_MAX: usize = 1 << 16;
/// Maximum number of ranges ahead that are told to the other side at once; the others are told later.
pub const TOLD_MAX: usize = 64;

/// A set of bytes, made of ranges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges {
    upto: u64,
    /// Ends of the ranges by their starts. No range touches another, or `upto`.
    ahead: BTreeMap<u64, u64>,
    ahead_bytes: u64,
}

impl Ranges {
    /// Returns the offset below which all bytes are present.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Returns the number of bytes that are present.
    pub fn total(&self) -> u64 {
        self.upto + self.ahead_bytes
    }

    /// Returns the ranges ahead of [`Ranges::upto`], in order.
    pub fn ahead(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ahead.iter().map(|(start, end)| *start..*end)
    }

    /// Returns the number of ranges ahead.
    pub fn count(&self) -> usize {
        self.ahead.len()
    }

    /// Returns the end of the last range.
    pub fn end(&self) -> u64 {
        self.ahead.last_key_value().map_or(self.upto, |(_, end)| *end)
    }

    /// Returns whether any byte of `range` is present.
    pub fn touches(&self, range: &Range<u64>) -> bool {
        range.start < self.upto
            || self.ahead.range(..range.end).next_back().is_some_and(|(_, end)| *end > range.start)
    }

    /// Adds a range, if no byte of it is present yet; returns whether it was added.
    pub fn insert(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() || self.touches(&range) {
            return range.is_empty();
        }
        let Range { mut start, mut end } = range;
        self.ahead_bytes += end - start;
        if let Some(after) = self.ahead.remove(&end) {
            end = after;
        }
        if start == self.upto {
            self.ahead_bytes -= end - start;
            self.upto = end;
            return true;
        }
        if let Some((&before, &meets)) = self.ahead.range(..start).next_back()
            && meets == start
        {
            start = before;
        }
        self.ahead.insert(start, end);
        true
    }

    /// Adds all of `other`, which may overlap.
    pub fn merge(&mut self, other: &Ranges) {
        let all: Vec<_> = std::iter::once(0..other.upto).chain(other.ahead()).collect();
        for range in all {
            let mut at = range.start;
            while let Some(gap) = self.gap(at).filter(|gap| gap.start < range.end) {
                let end = gap.end.min(range.end);
                self.insert(gap.start..end);
                at = end;
            }
        }
    }

    /// Returns the first run of missing bytes from `at` on.
    pub fn gap(&self, at: u64) -> Option<Range<u64>> {
        let mut start = at.max(self.upto);
        if let Some((_, end)) = self.ahead.range(..=start).next_back() {
            start = start.max(*end);
        }
        let end = self.ahead.range(start..).next().map_or(u64::MAX, |(start, _)| *start);
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_meet() {
        let mut r = Ranges::default();
        assert!(r.insert(10..20) && r.insert(30..40) && r.insert(20..30));
        assert!(r.ahead().eq(std::iter::once(10..40)));
        assert_eq!((r.upto(), r.total(), r.end()), (0, 30, 40));
        assert!(!r.insert(39..41) && !r.insert(5..11) && r.insert(0..10));
        assert_eq!((r.upto(), r.total(), r.ahead().count()), (40, 40, 0));
        assert_eq!(r.gap(7), Some(40..u64::MAX));
    }

    proptest! {
        #[test]
        fn as_a_set_of_bytes(pieces in prop::collection::vec((0u64..60, 0u64..12), 0..30), at in 0u64..80) {
            let (mut r, mut all) = (Ranges::default(), std::collections::BTreeSet::new());
            for (start, len) in pieces {
                let range = start..start + len;
                let free = range.clone().all(|b| !all.contains(&b));
                prop_assert_eq!(r.insert(range.clone()), free);
                if free {
                    all.extend(range);
                }
            }
            let first_missing = (0..).find(|b| !all.contains(b)).unwrap();
            prop_assert_eq!(r.upto(), first_missing);
            prop_assert_eq!(r.total(), all.len() as u64);
            let gap = r.gap(at).unwrap();
            prop_assert_eq!(gap.start, (at..).find(|b| !all.contains(b)).unwrap());
            prop_assert!(gap.clone().take(100).all(|b| !all.contains(&b)));
            let mut merged = Ranges::default();
            merged.insert(20..30);
            merged.merge(&r);
            all.extend(20..30);
            prop_assert_eq!(merged.total(), all.len() as u64);
        }
    }
}
