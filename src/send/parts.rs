//! Shares out the datafiles to the reading threads, part by part, in the order of the stream: the largest table does not set the
//! time.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Result, SpaceId};
use crate::source::inventory::Datafile;
use crate::source::pages::{OpenDatafile, Reading};

/// A datafile that is opened and divided into parts.
pub(super) trait Divided {
    /// Number of parts.
    fn parts(&self) -> u64;
}

/// The datafiles, and how far they are shared out.
pub(super) struct Parts<'a, F> {
    cursor: Mutex<Cursor<'a, F>>,
    reading: Reading<'a>,
}

struct Cursor<'a, F> {
    files: std::slice::Iter<'a, Datafile>,
    current: Option<Arc<F>>,
    next_part: u64,
    next_ticket: u64,
    /// Number of pages of the system tablespace in the files that are shared out.
    system_pages: u64,
}

/// A part of a datafile, and its turn.
pub(super) struct Part<F> {
    pub(super) of: Arc<F>,
    /// Which part of the file it is; 0 also where the file has none.
    pub(super) index: u64,
    /// Its place in the order of all parts.
    pub(super) ticket: u64,
    /// Whether it is the last one of the file.
    pub(super) last: bool,
}

impl<'a, F: Divided> Parts<'a, F> {
    /// Begins at the first file; none is opened yet.
    pub(super) fn new(files: &'a [Datafile], reading: Reading<'a>) -> Parts<'a, F> {
        let cursor =
            Cursor { files: files.iter(), current: None, next_part: 0, next_ticket: 0, system_pages: 0 };
        Parts { cursor: Mutex::new(cursor), reading }
    }

    /// How pages are read and verified.
    pub(super) fn reading(&self) -> &Reading<'a> {
        &self.reading
    }

    /// Returns the next part. Of a file whose first part it is, `divide` makes what the parts are of; it gets the number of the
    /// file's first page in its tablespace.
    ///
    /// # Errors
    /// If the datafile can't be opened.
    pub(super) fn next(
        &self,
        divide: impl FnOnce(&Datafile, OpenDatafile, u64) -> Result<F>,
    ) -> Result<Option<Part<F>>> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let of = match &cursor.current {
            Some(current) => current.clone(),
            None => {
                let Some(datafile) = cursor.files.next() else { return Ok(None) };
                let of = Arc::new(self.open(datafile, &mut cursor, divide)?);
                cursor.current = Some(of.clone());
                cursor.next_part = 0;
                of
            }
        };
        let index = cursor.next_part;
        let last = index + 1 >= of.parts();
        cursor.next_part += 1;
        if last {
            cursor.current = None;
        }
        let ticket = cursor.next_ticket;
        cursor.next_ticket += 1;
        Ok(Some(Part { of, index, ticket, last }))
    }

    fn open(
        &self,
        datafile: &Datafile,
        cursor: &mut Cursor<'_, F>,
        divide: impl FnOnce(&Datafile, OpenDatafile, u64) -> Result<F>,
    ) -> Result<F> {
        let system = datafile.space == SpaceId::SYSTEM;
        let first_page = if system { cursor.system_pages } else { 0 };
        let file = OpenDatafile::open(datafile, first_page, &self.reading)?;
        if system {
            cursor.system_pages += file.pages();
        }
        divide(datafile, file, first_page)
    }
}
