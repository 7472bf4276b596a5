//! Lays an increment over the datafiles of the backup before it while it arrives.
//!
//! The chunks of a `.delta` are not written to a file of that name: their pages go to their places in the datafile, which is moved
//! from the folder of the base to where it is by now. So every changed page is written once, and into memory that the kernel
//! holds for that file already. Only for folders that nobody needs if the stream turns out to be bad: what was written can't be
//! taken back. [`super::overlay`] does the same with an increment that stands in a folder.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::overlay::{BaseFiles, clear};
use super::path_map::{PathMap, refuse_settings};
use super::write::write_at;
use crate::base::nofollow;
use crate::base::{Code, Error, Result};
use crate::stream::delta::{DELTA, DeltaCursor, Run};
use crate::stream::metadata::DeltaMeta;
use crate::stream::{Chunk, MemberName, Piece};

/// Maximum number of `.delta` members that are under way at a time. A sender writes one after the other.
const UNDER_WAY_MAX: usize = 64;

/// The datafiles of the base that the increment has not asked for yet.
pub(super) struct ArrivingOverlay {
    base: BaseFiles,
    datafiles: HashSet<PathBuf>,
}

/// Counts of all `.delta` members of a stream.
#[derive(Default)]
pub(super) struct DeltaCounts {
    under_way: AtomicUsize,
    pages: AtomicU64,
}

impl DeltaCounts {
    /// Number of pages in those that have ended.
    pub(super) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Acquire)
    }
}

/// A `.delta` that is arriving.
pub(super) struct ArrivingDelta {
    cursor: Mutex<DeltaCursor>,
    /// Length that the datafile had in the base, or that it has now, if that is less.
    had: u64,
    /// Least length that it needs.
    end: AtomicU64,
    counts: Arc<DeltaCounts>,
}

impl ArrivingOverlay {
    pub(super) fn new(base: BaseFiles) -> ArrivingOverlay {
        let datafiles = base.by_space.values().cloned().collect();
        ArrivingOverlay { base, datafiles }
    }

    /// Makes the file of a member that has no pages. The base's file of the same name is used again: ext4 is slow at making files
    /// soon after as many were removed (`recently_deleted` of its `ialloc.c`), and every increment has all plain files. It keeps
    /// its old bytes until others are written, since a file that was cut to nothing is written out when it is closed
    /// (`auto_da_alloc`).
    ///
    /// # Errors
    /// Those of [`PathMap::create`].
    pub(super) fn create(&self, member: &MemberName, places: &mut PathMap) -> Result<(PathBuf, File)> {
        let old = self.base.root.join(member.as_str());
        let is_plain =
            nofollow::is_file(&old) && !self.datafiles.contains(&old) && refuse_settings(member).is_ok();
        places.adopt(member, Some(&*old).filter(|_| is_plain))
    }

    /// Fetches the datafile that `member` has the pages of, and gives it its length.
    ///
    /// # Errors
    /// [`Code::StreamRefused`], [`Code::TargetIo`].
    pub(super) fn begin(
        &mut self,
        member: &MemberName,
        meta: &DeltaMeta,
        places: &mut PathMap,
        counts: &Arc<DeltaCounts>,
    ) -> Result<(PathBuf, File, ArrivingDelta)> {
        let mut delta = ArrivingDelta::new(member, meta, counts)?;
        let name = member.as_str().strip_suffix(DELTA).and_then(|name| MemberName::parse(name).ok());
        let Some(datafile) = name else {
            return Err(refused(member, "has no pages of a datafile"));
        };
        refuse_settings(&datafile)?;
        let from = self.base.find(Path::new(datafile.as_str()), meta.space);
        self.base.by_space.remove(&meta.space);
        let (path, file) = places.adopt(&datafile, from.as_deref())?;
        let failed = |e| Error::io(Code::TargetIo, path.display(), e);
        let had = file.metadata().map_err(failed)?.len();
        if let Some(size) = meta.file_size.filter(|size| *size != had) {
            file.set_len(size).map_err(failed)?;
        }
        delta.had = had.min(meta.file_size.unwrap_or(had));
        Ok((path, file, delta))
    }
}

impl ArrivingDelta {
    /// Begins a `.delta`; nothing is written yet.
    ///
    /// # Errors
    /// [`Code::StreamRefused`] if too many are under way.
    pub(super) fn new(
        member: &MemberName,
        meta: &DeltaMeta,
        counts: &Arc<DeltaCounts>,
    ) -> Result<ArrivingDelta> {
        if counts.under_way.fetch_add(1, Ordering::AcqRel) >= UNDER_WAY_MAX {
            return Err(refused(member, "begins before others of its kind have ended"));
        }
        let pages = meta.file_size.map(|size| size / u64::from(meta.page_size));
        let cursor = Mutex::new(DeltaCursor::new(meta.page_size, pages));
        Ok(ArrivingDelta { cursor, had: 0, end: AtomicU64::new(0), counts: counts.clone() })
    }

    /// Takes a chunk, in the order of the stream; returns which of its bytes belong where.
    ///
    /// # Errors
    /// [`Code::StreamRefused`].
    pub(super) fn chunk(&self, chunk: &Chunk) -> Result<Vec<Run>> {
        let view = chunk.view();
        let runs = self.cursor().pass(chunk.offset, chunk.end(), |at, into| {
            view.copy(at, into);
        });
        runs.map_err(|e| refused(&chunk.member, &e.to_string()))
    }

    /// Writes a chunk's pages. Returns the number of bytes.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(super) fn write(&self, file: &File, chunk: &Chunk, runs: &[Run]) -> io::Result<u64> {
        let mut written = 0;
        let mut rest = runs;
        for (at, piece) in chunk.pieces() {
            let end = at + piece.logical_len();
            while let Some(run) = rest.first().filter(|run| run.from < end) {
                let (from, until) = (run.from.max(at), (run.from + run.len).min(end));
                let (to, len) = (run.to + (from - run.from), until - from);
                match piece {
                    Piece::Hole(_) => clear(file, to, len, self.had)?,
                    Piece::Data(bytes) => {
                        let bytes = &bytes[(from - at) as usize..][..len as usize];
                        write_at(file, bytes, to)?;
                        written += len;
                    }
                }
                if run.from + run.len > end {
                    break;
                }
                rest = &rest[1..];
            }
        }
        let end = runs.iter().map(|run| run.to + run.len).max().unwrap_or_default();
        self.end.fetch_max(end, Ordering::AcqRel);
        Ok(written)
    }

    /// Ends it, once all chunks were given in.
    ///
    /// # Errors
    /// [`Code::StreamRefused`] if pages are missing.
    pub(super) fn end(&self, member: &MemberName) -> Result<()> {
        let pages = self.cursor().end().map_err(|e| refused(member, &e.to_string()))?;
        self.counts.pages.fetch_add(pages, Ordering::AcqRel);
        self.counts.under_way.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    /// Makes the datafile as long as its pages need, once all are written: zeros at the end count, where nothing else says it.
    ///
    /// # Errors
    /// If the file can't be changed.
    pub(super) fn lengthen(&self, file: &File) -> io::Result<()> {
        let end = self.end.load(Ordering::Acquire);
        if file.metadata()?.len() < end { file.set_len(end) } else { Ok(()) }
    }

    fn cursor(&self) -> std::sync::MutexGuard<'_, DeltaCursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(member: &MemberName, what: &str) -> Error {
    Error::new(Code::StreamRefused, format!("member '{member}' {what}"))
}
