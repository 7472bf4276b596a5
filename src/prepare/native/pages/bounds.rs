//! Finds out where tablespaces end when all redo is applied, for pages that lie behind the end of their file.
//!
//! A record has a few bytes, and a page that it makes 16 KiB. A server makes no page behind the end of its tablespace, which
//! stands in page 0 and is logged when it grows; so such pages are refused. Page 0 comes before them in the order of the
//! files, but may be in another thread's hands just then: whoever needs to know waits for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::base::sync::lock;
use crate::base::{PageNo, Result, SpaceId};
use crate::prepare::native::tablespaces::OpenTablespace;

/// Lengths that tablespaces will have, by their headers and by extensions in redo.
pub(crate) struct TablespaceBounds {
    /// Lengths in bytes that redo says files were extended to.
    extended: BTreeMap<SpaceId, u64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose page 0 is being brought up to date.
    under_way: HashSet<SpaceId>,
    /// In pages.
    sizes: HashMap<SpaceId, u32>,
}

/// The first pages of a tablespace are in hand until this is dropped.
pub(crate) struct Begun<'a>(&'a TablespaceBounds, SpaceId);

impl TablespaceBounds {
    pub(crate) fn new(extended: BTreeMap<SpaceId, u64>) -> TablespaceBounds {
        TablespaceBounds { extended, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Returns the lengths in bytes that redo extends tablespaces to.
    pub(crate) fn extended(&self) -> &BTreeMap<SpaceId, u64> {
        &self.extended
    }

    /// The first pages of this tablespace are given out, before any others of it.
    pub(crate) fn begin(&self, space: SpaceId) -> Begun<'_> {
        lock(&self.state).under_way.insert(space);
        Begun(self, space)
    }

    /// Notes the length in page 0 of a tablespace, after its records were applied.
    pub(crate) fn note(&self, space: &OpenTablespace, page0: &[u8]) {
        if let Ok(page0) = space.format.page0(page0) {
            lock(&self.state).sizes.insert(space.id, page0.size);
        }
    }

    /// How many pages `space` has at most in the end.
    pub(crate) fn pages(&self, space: &OpenTablespace) -> Result<u64> {
        let waits = |state: &mut State| state.under_way.contains(&space.id);
        let state = self.changed.wait_while(lock(&self.state), waits);
        let known = state.unwrap_or_else(PoisonError::into_inner).sizes.get(&space.id).copied();
        let size = match known {
            Some(size) => size,
            None => {
                // Nothing in redo is for it, so it is as it was.
                let mut page0 = vec![0; space.layout.physical()];
                space.read(PageNo(0), &mut page0)?;
                self.note(space, &page0);
                space.format.page0(&page0).map_or(0, |page0| page0.size)
            }
        };
        let extended = match space.id {
            // These count from the start of its last file; page 0 knows all.
            SpaceId::SYSTEM => 0,
            id => self.extended.get(&id).copied().unwrap_or_default() / space.layout.physical() as u64,
        };
        Ok(u64::from(space.pages()).max(size.into()).max(extended))
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).under_way.remove(&self.1);
        self.0.changed.notify_all();
    }
}
