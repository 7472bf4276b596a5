//! The first thing that went wrong, whichever thread met it; everybody else is told to give up.

use std::sync::{Mutex, PoisonError};

use crate::base::{Code, Error, Result};
use crate::source::spool::Spool;
use crate::transport::Outlet;

/// The first failure of a run.
pub(super) struct Failure<'a> {
    first: Mutex<Option<Error>>,
    outlet: &'a Outlet,
    spool: &'a Spool,
}

impl<'a> Failure<'a> {
    pub(super) fn new(outlet: &'a Outlet, spool: &'a Spool) -> Self {
        Failure { first: Mutex::new(None), outlet, spool }
    }

    /// Notes `error` if it is the first, and frees everybody who waits for a turn or for redo.
    pub(super) fn set(&self, error: Error) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.outlet.close();
        self.spool.close();
    }

    /// Notes `error` as [`Failure::set`] does; what it returns stands for the first failure.
    pub(super) fn keep(&self, error: Error) -> Error {
        let stand_in = Error::new(error.code, "the backup failed");
        self.set(error);
        stand_in
    }

    /// Runs a thread's part, and notes how it failed.
    pub(super) fn watch(&self, part: impl FnOnce() -> Result<()>) {
        if let Err(e) = part() {
            self.set(e);
        }
    }

    /// Fails if anything has failed; the reason stays here for [`Failure::first`].
    pub(super) fn check(&self) -> Result<()> {
        match &*self.first.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(e) => Err(Error::new(e.code, "the backup failed")),
        }
    }

    /// The first failure.
    pub(super) fn first(&self) -> Option<Error> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        // What a closed outlet says is never the reason.
        first.take().filter(|e| e.code != Code::Interrupted || e.message.starts_with("stopped"))
    }
}
