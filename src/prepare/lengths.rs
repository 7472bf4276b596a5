//! Refuses datafiles that are shorter than their tablespace.
//!
//! A server makes a file longer before the header of its tablespace (page 0, FSP_SIZE) says so, and it logs that change of the
//! header (`fsp_try_extend_data_file`). So a file that was opened after the checkpoint is short of what page 0 says only by
//! extensions that redo has, and that page 0, read later than the length, has as well. Where there are none, the file was cut.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::datafiles::HeaderSize;
use super::{Datadir, datafiles, options};
use crate::base::{Error, Lsn, PageNo, Result, SpaceId};
use crate::innodb::redo::{Kind, MiniTransaction};

/// Where redo first sets the size of each tablespace (FSP_SIZE).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Growth(BTreeMap<SpaceId, Lsn>);

impl Growth {
    /// Redo sets the size of `space` in a record that begins at `at`.
    pub fn note(&mut self, space: SpaceId, at: Lsn) {
        let first = self.0.entry(space).or_insert(at);
        *first = at.min(*first);
    }

    /// Notes which tablespaces a group of records makes longer.
    pub fn note_group(&mut self, group: &MiniTransaction<'_>) {
        if !group.outline().any(|(kind, _, page)| kind == Kind::Write4 && page == PageNo(0)) {
            return;
        }
        group.records().filter(|r| r.sets_space_size()).for_each(|r| self.note(r.space, r.start_lsn));
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        // Nodes of a tree are half full at worst.
        2 * self.0.len() * size_of::<(SpaceId, Lsn)>()
    }

    /// Whether files of `length` bytes in all can have been copied from a sound tablespace whose page 0 says this.
    pub fn allows(&self, header_size: &HeaderSize, length: u64) -> bool {
        length >= header_size.bytes
            || self.0.get(&header_size.space).is_some_and(|first| *first < header_size.lsn)
    }
}

/// Refuses a copy with a datafile that was cut.
///
/// # Errors
/// [`Code::CorruptPage`](crate::base::Code::CorruptPage), which names it.
pub fn check(datadir: &Datadir<'_>, growth: &Growth) -> Result<()> {
    let mut files = datafiles::tablespaces(datadir)?;
    files.insert(SpaceId::SYSTEM, options::system_files(datadir)?);
    for files in files.values() {
        let Some(first) = files.first() else { continue };
        check_one(&datafiles::page0(first, datadir.redo.pages())?.0, files, growth)?;
    }
    Ok(())
}

/// Checks the length of one tablespace against its header and the growth in redo.
pub(super) fn check_one(header_size: &HeaderSize, files: &[PathBuf], growth: &Growth) -> Result<()> {
    let length = files.iter().try_fold(0, |sum, file| Ok::<_, Error>(sum + datafiles::length(file)?))?;
    let shown = files.last().map(|file| file.display().to_string()).unwrap_or_default();
    if growth.allows(header_size, length) { Ok(()) } else { Err(header_size.broken(shown, length)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_needs_redo_that_its_header_has() {
        let mut growth = Growth::default();
        growth.note(SpaceId(5), Lsn(200));
        growth.note(SpaceId(5), Lsn(300));
        growth.note(SpaceId(6), Lsn(100));
        let allows = |space, lsn, length| {
            growth.allows(&HeaderSize { space: SpaceId(space), bytes: 1000, lsn: Lsn(lsn) }, length)
        };
        assert!(allows(5, 100, 1000));
        // Its header is as it was before the extension, and the file is shorter than that.
        assert!(!allows(5, 100, 999) && !allows(5, 200, 999));
        assert!(allows(5, 201, 999) && allows(5, 400, 0));
        // Redo of another tablespace counts for nothing.
        assert!(!allows(7, 400, 999));
    }
}
