//! The dictionary of index descriptions in the log, which are kept once and left out of the records.

use std::sync::{Arc, Mutex};

use crate::base::sync::lock;
use crate::innodb::redo::IndexList;

/// Grows while the log is read by several threads; those who apply records take it as it is by then.
#[derive(Default)]
pub struct IndexDictionary(Mutex<Arc<IndexList>>);

impl IndexDictionary {
    /// The number of a description; `None`: it has to stay with its record.
    pub(crate) fn number(&self, description: &[u8]) -> Option<u32> {
        let mut list = lock(&self.0);
        list.find(description).or_else(|| Arc::make_mut(&mut list).add(description))
    }

    /// Returns all descriptions kept so far.
    pub(crate) fn list(&self) -> Arc<IndexList> {
        lock(&self.0).clone()
    }
}
