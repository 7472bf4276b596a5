//! Holds the pages that a server says have changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{PageNo, SpaceId};

/// Page numbers by tablespace, in ascending order.
pub type ListedPages = BTreeMap<SpaceId, Arc<[u32]>>;

/// The answer of a server that is asked which pages it has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangedPages {
    /// These; there may be others among them.
    Listed(ListedPages),
    /// It can't be told, for this reason: all pages have to be read.
    Unknown(String),
}

/// Sorts pages, and leaves out repetitions.
pub fn listed(mut pages: Vec<(SpaceId, PageNo)>) -> ListedPages {
    pages.sort_unstable_by_key(|(space, page)| (*space, page.0));
    pages.dedup();
    let runs = pages.chunk_by(|(one, _), (next, _)| one == next);
    runs.map(|run| (run[0].0, run.iter().map(|(_, page)| page.0).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_sorted_by_tablespace() {
        let pages = [(7, 3), (5, 9), (7, 1), (5, 9)].map(|(space, page)| (SpaceId(space), PageNo(page)));
        let all = listed(pages.to_vec());
        assert_eq!(all.keys().collect::<Vec<_>>(), [&SpaceId(5), &SpaceId(7)]);
        assert_eq!((&all[&SpaceId(5)][..], &all[&SpaceId(7)][..]), (&[9][..], &[1, 3][..]));
    }
}
