//! Finds pages that are in use and all zeros: they were lost, unless redo is still to fill them.
//!
//! A page of zeros is sound in itself: the server allocates pages first and writes them later, and redo holds how they begin.
//! A page that an extent descriptor says is in use is put aside here if the descriptor's own page is no newer than the checkpoint
//! at which the backup's redo begins: everything that was changed until then had been written before the first page was
//! read. (A descriptor and the page that it is about may change in two mini-transactions, one right after the other, so this
//! alone is no proof.) At the end, each page that was put aside is looked at again: if it is still empty, and the redo of the
//! server from its present checkpoint to the backup's end does not mention it, then no recovery would bring it back
//! either.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::page;

use super::corrupt::CORRUPT_HINT;
use super::files;

/// More are not kept: one is enough to refuse.
const SUSPECTS_MAX: usize = 4096;
/// Far longer than the server takes from allocating a page to the redo of its first content.
const PATIENCE: Duration = Duration::from_secs(2);

/// A page of a tablespace; all incarnations of an undo tablespace are one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PageKey(SpaceId, PageNo);

impl PageKey {
    /// The page, whichever incarnation of an undo tablespace it is in.
    pub fn of(space: SpaceId, page: PageNo) -> PageKey {
        PageKey(space.undo_number().map_or(space, |number| SpaceId(SpaceId::LOG.0 - number)), page)
    }
}

/// An empty page that is in use.
#[derive(Debug)]
pub struct EmptyPage {
    /// The datafile.
    pub path: PathBuf,
    /// Its tablespace.
    pub space: SpaceId,
    /// The page.
    pub page: PageNo,
    /// Offset in the file.
    pub offset: u64,
    /// Its length.
    pub bytes: usize,
}

/// Empty pages that are in use, gathered while datafiles are read.
#[derive(Debug)]
pub struct EmptyPages {
    checkpoint: Lsn,
    found: Mutex<Vec<EmptyPage>>,
}

impl EmptyPages {
    /// None yet; the backup's redo begins at `checkpoint`.
    pub fn new(checkpoint: Lsn) -> EmptyPages {
        EmptyPages { checkpoint, found: Mutex::default() }
    }

    /// Whether a change of this LSN had been written to its file before the first page was read.
    pub fn is_settled(&self, lsn: Lsn) -> bool {
        lsn <= self.checkpoint
    }

    /// Puts a page aside.
    pub fn add(&self, suspect: EmptyPage) {
        let mut found = self.lock();
        if found.len() < SUSPECTS_MAX {
            found.push(suspect);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EmptyPage>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again, once all redo of the backup is on disk. `owner` is the server's user; `in_redo` tells which of these
    /// pages the server's redo would change if it died now, `None` where that can't be told.
    ///
    /// # Errors
    /// [`Code::CorruptPage`] names the first page that is lost; [`Code::SourceIo`].
    pub fn settle(
        &self,
        owner: u32,
        in_redo: impl FnOnce(&BTreeSet<PageKey>) -> Result<Option<BTreeSet<PageKey>>>,
    ) -> Result<()> {
        let begun = Instant::now();
        let mut found = std::mem::take(&mut *self.lock());
        while !found.is_empty() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
            found = still_empty(found, owner)?;
        }
        if found.is_empty() {
            return Ok(());
        }
        let wanted: BTreeSet<_> = found.iter().map(EmptyPage::key).collect();
        let Some(mentioned) = in_redo(&wanted)? else {
            tracing::warn!("{} empty pages are in use, and the redo can't be asked about them", found.len());
            return Ok(());
        };
        // What the redo no longer mentions had been written before the redo was read.
        let found = still_empty(found, owner)?;
        match found.iter().find(|s| !mentioned.contains(&s.key())) {
            Some(lost) => Err(lost.error()),
            None => Ok(()),
        }
    }
}

impl EmptyPage {
    fn key(&self) -> PageKey {
        PageKey::of(self.space, self.page)
    }

    /// Whether the file says by its page 0 that it is the suspect's tablespace.
    fn is_of(&self, file: &File) -> std::io::Result<bool> {
        let mut id = [0; 4];
        file.read_exact_at(&mut id, page::header::SPACE_ID as u64)?;
        Ok(u32::from_be_bytes(id) == self.space.0)
    }

    fn error(&self) -> Error {
        let EmptyPage { path, space, page, offset, .. } = self;
        Error::new(
            Code::CorruptPage,
            format!(
                "page {page} of {} (tablespace {space}, offset {offset}) is in use and all zeros",
                path.display()
            ),
        )
        .hint(CORRUPT_HINT)
        .cause("its extent descriptor says that it is in use, and no redo is left that would fill it")
    }
}

/// Returns the pages that are still there and empty. A file that is gone took its pages along, and so did one that the server
/// made new under the same path (an undo tablespace that it truncated).
fn still_empty(suspects: Vec<EmptyPage>, owner: u32) -> Result<Vec<EmptyPage>> {
    let mut left = Vec::new();
    for suspect in suspects {
        let mut bytes = vec![0; suspect.bytes];
        let read = files::open(&suspect.path, owner).and_then(|file| {
            file.read_exact_at(&mut bytes, suspect.offset)?;
            Ok(page::is_all_zero(&bytes) && (suspect.page.0 == 0 || suspect.is_of(&file)?))
        });
        match read {
            Ok(true) => left.push(suspect),
            Ok(false) => {}
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof) => {}
            Err(e) => return Err(files::failed(&suspect.path, e)),
        }
    }
    Ok(left)
}
