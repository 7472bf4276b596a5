//! The tablespaces of a MariaDB server, found in its folders.
//!
//! `information_schema.INNODB_SYS_TABLESPACES` lists only those that were opened since the server started, so the files themselves are
//! asked: the system tablespace, the undo tablespaces, `<schema>/<table>.ibd`, and where `<schema>/<table>.isl` leads to
//! (`DATA DIRECTORY`).

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::pages::MariaDbPages;
use crate::base::{Code, Error, Result, SpaceId};
use crate::innodb::page::{Page0Error, PageFormat};
use crate::source::corrupt::CORRUPT_HINT;
use crate::source::files;
use crate::source::inventory::{Inventory, PlainFile};
use crate::source::member_names::text;
use crate::source::server_facts::ServerFacts;

/// Bytes of the largest page 0.
const HEAD: u64 = 64 << 10;
/// Longest path in an `.isl` file.
const LINK_MAX: u64 = 4096;

/// Looks for all tablespaces.
///
/// # Errors
/// [`Code::SourceIncomplete`] for a link that leads nowhere, [`Code::CorruptPage`] for a file whose page 0 is none,
/// [`Code::SourceIo`].
pub(super) fn inventory(facts: &ServerFacts) -> Result<Inventory> {
    let mut found = Inventory::default();
    found.add_system_tablespace(facts, &MariaDbPages)?;
    for path in entries(&facts.resolve(facts.variable("innodb_undo_directory")))? {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or("");
        let number = name.strip_prefix("undo").unwrap_or("");
        if number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit()) {
            add(&mut found, facts, &path, "undo")?;
        }
    }
    for folder in entries(&facts.datadir)?.into_iter().filter(|path| path.is_dir()) {
        for path in entries(&folder)? {
            match path.extension().and_then(OsStr::to_str) {
                Some("ibd") => add(&mut found, facts, &path, "single")?,
                Some("isl") => add(&mut found, facts, &linked(facts, &path)?, "single")?,
                _ => {}
            }
        }
    }
    found.name_members(facts)?;
    Ok(found)
}

/// Notes the tablespace in the file at `path`. One that is gone was dropped or renamed meanwhile, which redo tells; one whose page
/// 0 is empty was just made, and redo fills it.
fn add(found: &mut Inventory, facts: &ServerFacts, path: &Path, kind: &'static str) -> Result<()> {
    match space_id(path, facts.owner) {
        Ok(Some(space)) => {
            let name = path.with_extension("");
            found.add(path.to_owned(), space, 0, &name.to_string_lossy(), kind).map(drop)
        }
        Ok(None) => {
            let relative = path.strip_prefix(&facts.datadir).unwrap_or(path);
            found.plain.push(PlainFile { member: text(relative.as_os_str())?, path: path.to_owned() });
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let what = format!("page 0 of {} is corrupt", path.display());
            Err(Error::new(Code::CorruptPage, what).hint(CORRUPT_HINT).cause(e))
        }
        Err(e) => Err(files::failed(path, e)),
    }
}

/// The id in page 0; `None` where that is all zeros.
fn space_id(path: &Path, owner: u32) -> io::Result<Option<SpaceId>> {
    let file = files::open(path, owner)?;
    let mut head = vec![0; file.metadata()?.len().min(HEAD) as usize];
    file.read_exact_at(&mut head, 0)?;
    match MariaDbPages.page0(&head) {
        Ok(page0) => Ok(Some(page0.space)),
        Err(Page0Error::AllZero) => Ok(None),
        Err(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
    }
}

/// The file that an `.isl` names: an absolute path, without a line's end.
fn linked(facts: &ServerFacts, link: &Path) -> Result<PathBuf> {
    let mut path = String::new();
    files::open(link, facts.owner)
        .and_then(|file| file.take(LINK_MAX).read_to_string(&mut path))
        .map_err(|e| files::failed(link, e))?;
    let path = PathBuf::from(path.trim_end());
    if path.is_absolute() && path.exists() {
        return Ok(path);
    }
    let what = format!("{} leads to {}, where no file is", link.display(), path.display());
    Err(Error::new(Code::SourceIncomplete, what).hint(
        "the server needs this file too: look into its error log; a backup without it would not be whole",
    ))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(Code::SourceIo, format!("can't list {}", dir.display()), e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}
