//! Reads and combines sets of global transaction identifiers (GTIDs), to compare the transactions of a copy
//! with those that its backup recorded.
//!
//! Text form: `uuid:1-5:8,uuid:tag:1-3`. Intervals are inclusive, and white space may stand between any
//! parts. A tag (8.3 and later) applies to the intervals that follow it (`Gtid_set::add_gtid_text` in
//! rpl_gtid_set.cc).

use std::collections::BTreeMap;

/// A GTID set: intervals of transaction numbers by source UUID and tag, merged and in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GtidSet(BTreeMap<(String, String), Vec<(u64, u64)>>);

/// Error: the text is not a GTID set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{0}' is not part of a GTID set")]
pub struct NotAGtidSet(String);

impl GtidSet {
    /// Reads a set; the empty text is the empty set.
    pub fn parse(text: &str) -> Result<GtidSet, NotAGtidSet> {
        let mut set = GtidSet::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let mut pieces = part.split(':').map(str::trim);
            let uuid = pieces.next().filter(|u| is_uuid(u)).ok_or_else(|| not_part(part))?;
            let mut tag = String::new();
            for piece in pieces {
                match interval(piece) {
                    Some(i) => set.0.entry((uuid.to_ascii_lowercase(), tag.clone())).or_default().push(i),
                    None if is_tag(piece) => tag = piece.to_ascii_lowercase(),
                    None => return Err(not_part(piece)),
                }
            }
        }
        set.0.values_mut().for_each(merge);
        Ok(set)
    }

    /// Returns the transactions that are in this set and not in `other`.
    pub fn minus(&self, other: &GtidSet) -> GtidSet {
        let mut left = GtidSet::default();
        for (source, mine) in &self.0 {
            let theirs = other.0.get(source).map_or(&[][..], Vec::as_slice);
            let rest = subtract(mine, theirs);
            if !rest.is_empty() {
                left.0.insert(source.clone(), rest);
            }
        }
        left
    }

    /// Returns the transactions that are in this set or in `other`.
    pub fn union(mut self, other: GtidSet) -> GtidSet {
        for (source, theirs) in other.0 {
            let mine = self.0.entry(source).or_default();
            mine.extend(theirs);
            merge(mine);
        }
        self
    }

    /// Returns whether the set holds no transaction.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for GtidSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut last = None;
        for ((uuid, tag), intervals) in &self.0 {
            match last == Some(uuid) {
                true => write!(f, ":")?,
                false => write!(f, "{}{uuid}:", if last.is_some() { "," } else { "" })?,
            }
            last = Some(uuid);
            if !tag.is_empty() {
                write!(f, "{tag}:")?;
            }
            for (n, (from, to)) in intervals.iter().enumerate() {
                let colon = if n > 0 { ":" } else { "" };
                match from == to {
                    true => write!(f, "{colon}{from}")?,
                    false => write!(f, "{colon}{from}-{to}")?,
                }
            }
        }
        Ok(())
    }
}

fn not_part(text: &str) -> NotAGtidSet {
    const SHOWN: usize = 60;
    NotAGtidSet(text.chars().take(SHOWN).collect())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn is_tag(text: &str) -> bool {
    const TAG_MAX: usize = 32;
    (1..=TAG_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.as_bytes()[0].is_ascii_digit()
}

fn interval(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |t: &str| t.trim().parse::<u64>().ok().filter(|n| *n > 0);
    Some((number(from)?, number(to)?)).filter(|(from, to)| from <= to)
}

fn merge(intervals: &mut Vec<(u64, u64)>) {
    intervals.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for &(from, to) in intervals.iter() {
        match merged.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    *intervals = merged;
}

/// Returns the intervals of `mine` without those of `theirs`. Both must be merged and in order.
fn subtract(mine: &[(u64, u64)], theirs: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    let mut theirs = theirs.iter().peekable();
    for &(mut from, to) in mine {
        while theirs.peek().is_some_and(|t| t.1 < from) {
            theirs.next();
        }
        let mut covering = theirs.clone();
        while let Some(&&(their_from, their_to)) = covering.peek() {
            if their_from > to || from > to {
                break;
            }
            if their_from > from {
                left.push((from, their_from - 1));
            }
            from = their_to.saturating_add(1);
            covering.next();
        }
        if from <= to {
            left.push((from, to));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "df47af89-e65f-11f1-978b-02fc00000001";
    const B: &str = "0a14a6b2-e660-11f1-a95e-02fc00000001";

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(&text.replace('A', A).replace('B', B)).unwrap()
    }

    #[test]
    fn order_case_and_space_do_not_matter() {
        assert_eq!(set("A:1-5:6-8,\nB:1"), set("B:1 , A:7-8:1-6"));
        assert_eq!(set(""), GtidSet::default());
        assert_eq!(GtidSet::parse(&format!("{}:1", A.to_uppercase())).unwrap(), set("A:1"));
        assert_eq!(set("A:tag:1-3:9").minus(&set("A:1-9")), set("A:tag:1-3:9"));
    }

    #[test]
    fn differences_are_named() {
        assert_eq!(set("A:1-10").minus(&set("A:1-5:8-10")).to_string(), format!("{A}:6-7"));
        assert_eq!(set("A:1-10,B:1").minus(&set("A:1-10")).to_string(), format!("{B}:1"));
        assert!(set("A:1-5:8-10").minus(&set("A:1-10")).is_empty());
        assert_eq!(set("A:1:x:2-3,B:4").to_string(), format!("{B}:4,{A}:1:x:2-3"));
    }

    #[test]
    fn unions_are_in_the_servers_form() {
        let both = set("A:1-5:8,B:1").union(set("A:6-7:tag_one:1"));
        assert_eq!(both.to_string(), format!("{B}:1,{A}:1-8:tag_one:1"));
        assert_eq!(both.clone().union(both.clone()), both);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["x", "A", ":1", "A:0", "A:5-1", "A:1-", "A:1;DROP", "A:1-2-3", "A:99999999999999999999"] {
            let text = bad.replace('A', &A[..35]);
            assert!(GtidSet::parse(&text).is_err(), "{bad}");
            if bad != "A" {
                assert!(GtidSet::parse(&bad.replace('A', A)).is_err(), "{bad}");
            }
        }
    }

    proptest! {
        #[test]
        fn minus_is_that_of_sets(mine in intervals(), theirs in intervals()) {
            let text = |i: &Vec<(u64, u64)>| i.iter().map(|(f, t)| format!(":{f}-{t}")).collect::<String>();
            let members = |i: &Vec<(u64, u64)>| i.iter().flat_map(|&(f, t)| f..=t).collect::<std::collections::BTreeSet<_>>();
            let parse = |i: &Vec<(u64, u64)>| match i.is_empty() { true => set(""), false => set(&format!("A{}", text(i))) };
            let left = parse(&mine).minus(&parse(&theirs));
            let expected: std::collections::BTreeSet<_> = members(&mine).difference(&members(&theirs)).copied().collect();
            let found: Vec<_> = left.0.values().flatten().copied().collect();
            prop_assert_eq!(members(&found), expected);
            prop_assert_eq!(GtidSet::parse(&left.to_string()).unwrap(), left);
        }
    }

    fn intervals() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((1u64..60, 0u64..9).prop_map(|(f, n)| (f, f + n)), 0..8)
    }
}
