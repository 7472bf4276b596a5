//! Names members: where a file is in the datadir, or what it is called outside of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::inventory::{Datafile, ExternalFile, Inventory};
use super::server_facts::ServerFacts;
use crate::base::{Code, Error, Result};

impl Inventory {
    /// Names all datafiles: those inside the datadir first, since their names are given.
    ///
    /// # Errors
    /// [`Code::SourceIo`] for a path that is not UTF-8; [`Code::Internal`] where two files would get one name.
    pub fn name_members(&mut self, facts: &ServerFacts) -> Result<()> {
        let mut taken: BTreeSet<String> =
            self.plain.iter().chain(&self.locked).map(|file| file.member.clone()).collect();
        for file in &mut self.datafiles {
            if let Some(relative) = inside(facts, &file.path) {
                file.member = text(relative.as_os_str())?;
                taken.insert(file.member.clone());
            }
        }
        for file in &mut self.datafiles {
            if file.member.is_empty() {
                file.member = external_member(file, &taken)?;
                taken.insert(file.member.clone());
                self.external.push(ExternalFile {
                    member: file.member.clone(),
                    path: file.path.clone(),
                    tablespace: file.tablespace.clone(),
                    kind: file.kind,
                });
            }
        }
        self.check_names()
    }

    fn check_names(&self) -> Result<()> {
        let mut seen = BTreeMap::new();
        let all = self.datafiles.iter().map(|f| (&f.member, &f.path));
        let plain = self.plain.iter().chain(&self.locked).map(|f| (&f.member, &f.path));
        for (member, path) in all.chain(plain) {
            if let Some(other) = seen.insert(member, path) {
                let other: &PathBuf = other;
                return Err(Error::new(
                    Code::Internal,
                    format!("{} and {} would both be named {member}", other.display(), path.display()),
                ));
            }
        }
        Ok(())
    }
}

/// The path relative to the datadir, which the server may spell through a symbolic link.
fn inside(facts: &ServerFacts, path: &Path) -> Option<PathBuf> {
    if let Ok(relative) = path.strip_prefix(&facts.datadir) {
        return Some(relative.to_owned());
    }
    let folder = path.parent()?.canonicalize().ok()?;
    Some(folder.strip_prefix(&facts.datadir).ok()?.join(path.file_name()?))
}

/// `<dir>/<schema>/<table>.ibd` of `DATA DIRECTORY` keeps its last two components, other files their name, unless it is taken.
fn external_member(file: &Datafile, taken: &BTreeSet<String>) -> Result<String> {
    let keep = if file.kind == "single" { 2 } else { 1 };
    let components: Vec<_> = file.path.components().collect();
    let tail: PathBuf = components[components.len().saturating_sub(keep)..].iter().collect();
    let mut member = text(tail.as_os_str())?;
    while taken.contains(&member) {
        let part = if file.part > 0 { format!("_{}", file.part) } else { String::new() };
        member = format!("external_{}{part}_{}", file.space, member.replace('/', "_"));
    }
    Ok(member)
}

/// A file name as text.
///
/// # Errors
/// [`Code::SourceIo`] where it is not UTF-8.
pub fn text(name: &OsStr) -> Result<String> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(Code::SourceIo, format!("the file name {} is not UTF-8", name.to_string_lossy()))
    })
}
