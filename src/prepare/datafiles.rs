//! The tablespace files of a copy: found by their names, known by the space id in their page 0.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::Datadir;
use crate::base::nofollow;
use crate::base::{Code, Error, Lsn, Result, SpaceId};
use crate::innodb::page::{FilHeader, Page0, PageFormat};

/// Enough of a file to have page 0 whatever the page size.
const PAGE0_MAX: u64 = 64 << 10;
/// Names of files on their way from one name to another begin so; a killed run may leave some.
pub(super) const ASIDE: &str = "#xbrecv-aside-";

/// Size of a tablespace as recorded in its header (`FSP_SIZE` in page 0), with the LSN of that page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderSize {
    /// Id of the tablespace.
    pub space: SpaceId,
    /// Length of all its files together, in bytes.
    pub bytes: u64,
    /// LSN of page 0.
    pub lsn: Lsn,
}

impl HeaderSize {
    /// Reads it from this page 0.
    pub fn of(bytes: &[u8], page0: &Page0) -> HeaderSize {
        HeaderSize {
            space: page0.space,
            bytes: u64::from(page0.size) * page0.layout.physical() as u64,
            lsn: FilHeader::of(bytes).map(FilHeader::lsn).unwrap_or_default(),
        }
    }

    /// The file `shown`, the last one of the tablespace, has been cut.
    pub fn broken(&self, shown: impl std::fmt::Display, length: u64) -> Error {
        Error::new(
            Code::CorruptPage,
            format!(
                "{shown} is cut: its tablespace has {length} bytes, by its own header {}, and no redo makes up for it",
                self.bytes
            ),
        )
        .hint("look at the file on the source, and take the backup again")
    }
}

/// Files of tablespaces by the id in their page 0.
pub(super) fn tablespaces(datadir: &Datadir<'_>) -> Result<BTreeMap<SpaceId, Vec<PathBuf>>> {
    find(datadir.root, datadir.external, datadir.redo.pages())
}

/// Finds the files of tablespaces in the folder `root`, and among `external` (their paths on the source, and where they are now),
/// by the id in their page 0. Files of the system tablespace have names of their own and are not among them.
///
/// # Errors
/// [`Code::TargetIo`].
pub fn find(
    root: &Path,
    external: &[(PathBuf, PathBuf)],
    format: &dyn PageFormat,
) -> Result<BTreeMap<SpaceId, Vec<PathBuf>>> {
    let mut found: BTreeMap<SpaceId, Vec<PathBuf>> = BTreeMap::new();
    let mut paths = Vec::new();
    walk(root, &mut paths).map_err(|e| io_error(root, e))?;
    let outside = external.iter().map(|(_, now)| now).filter(|now| !now.starts_with(root));
    paths.extend(outside.cloned());
    for path in paths {
        if let Some(space) = space_of(&path, format).map_err(|e| io_error(&path, e))? {
            found.entry(space).or_default().push(path);
        }
    }
    Ok(found)
}

/// Files that a server takes for tablespaces by their names (`Tablespace_dirs::scan`).
fn walk(dir: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for (entry, kind) in nofollow::entries(dir)? {
        let name = entry.to_string_lossy();
        if kind == FileType::Directory && name.starts_with('.') {
            // Servers don't look into hidden folders.
        } else if kind == FileType::Directory {
            walk(&dir.join(&entry), into)?;
        } else if name.ends_with(".ibd")
            || name.ends_with(".ibu")
            || name.starts_with("undo_")
            || name.starts_with(ASIDE)
        {
            if kind != FileType::RegularFile {
                return Err(io::Error::other(format!("{} is no regular file", dir.join(&entry).display())));
            }
            into.push(dir.join(&entry));
        }
    }
    Ok(())
}

/// The space id in page 0; `None` for a file without one.
pub(super) fn space_of(path: &Path, format: &dyn PageFormat) -> io::Result<Option<SpaceId>> {
    let mut bytes = Vec::new();
    nofollow::open(path)?.take(PAGE0_MAX).read_to_end(&mut bytes)?;
    Ok(format.page0(&bytes).ok().map(|page| page.space))
}

/// Page 0 of the tablespace that `path` is the first file of.
pub(super) fn page0(path: &Path, format: &dyn PageFormat) -> Result<(HeaderSize, Page0)> {
    let mut bytes = Vec::new();
    nofollow::open(path)
        .and_then(|file| file.take(PAGE0_MAX).read_to_end(&mut bytes))
        .map_err(|e| io_error(path, e))?;
    let page0 = format
        .page0(&bytes)
        .map_err(|e| Error::new(Code::CorruptPage, format!("{} page 0", path.display())).cause(e))?;
    Ok((HeaderSize::of(&bytes, &page0), page0))
}

/// The bytes of a file.
pub(super) fn length(path: &Path) -> Result<u64> {
    let stat = nofollow::stat(path).map_err(|e| io_error(path, e))?;
    Ok(u64::try_from(stat.st_size).unwrap_or_default())
}

pub(super) fn io_error(path: &Path, e: io::Error) -> Error {
    Error::io(Code::TargetIo, path.display(), e)
}
