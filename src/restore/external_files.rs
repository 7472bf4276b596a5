//! Places files that lay outside the source's datadir: stages them beside their places, and puts them in place with the rest.
//!
//! `--map OLD=NEW` says it. A relative NEW lies inside the target. Files for an absolute NEW are staged in a hidden
//! folder in it (or beside it, where it does not exist yet), and renamed when the datadir is put in its place.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::durability::sync_tree;
use super::owner::{DIR_MODE, Owner};
use super::staging_lock::{self, LockedFolder};
use super::{external_journal, publish_in_place};
use crate::base::nofollow;
use crate::base::{Code, Confined, Error, Result};
use crate::stream::MemberName;

/// The files inside the hidden folder; InnoDB does not scan a directory whose name begins with a dot.
const DATA: &str = "data";

/// `--map OLD=NEW`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    old: PathBuf,
    new: PathBuf,
}

impl Mapping {
    /// Reads `OLD=NEW`: OLD is absolute, and neither has `..`.
    pub fn parse(text: &str) -> Result<Mapping, String> {
        let (old, new) = text.split_once('=').ok_or("expected OLD=NEW")?;
        let (old, new) = (normal(old)?, normal(new)?);
        match old.is_absolute() {
            true => Ok(Mapping { old, new }),
            false => Err("OLD is the absolute path of a folder or file on the source".to_owned()),
        }
    }
}

/// A path without `.` and doubled separators.
fn normal(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if text.is_empty() {
        return Err("a path is empty; the target itself is '.'".to_owned());
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(format!("'{text}' leads upwards"));
    }
    Ok(path.components().filter(|c| *c != Component::CurDir).collect())
}

/// The place of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileLocation {
    /// Relative to the datadir.
    Inside(MemberName),
    /// Below a folder elsewhere: that folder, and the rest of the path.
    ExternalFiles(PathBuf, Confined),
}

/// Applies the mapping with the longest OLD that holds `path`, the file of `member`. Servers open a `general` tablespace
/// in the datadir itself or outside, but not in a folder below it (`Datafile::validate_to_dd`, error MY-012213).
///
/// # Errors
/// [`Code::Unmapped`] where there is none, [`Code::Usage`] for a place that can't be, [`Code::StreamRefused`] for a path that
/// leads upwards.
pub fn destination(
    path: &Path,
    member: &MemberName,
    general: bool,
    mappings: &[Mapping],
    target: &Path,
) -> Result<FileLocation> {
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        let shown = path.to_string_lossy();
        let message = format!("the stream names a file '{}', which is not let in", shown.escape_debug());
        return Err(Error::new(Code::StreamRefused, message));
    }
    let fitting = mappings.iter().filter(|m| path.starts_with(&m.old));
    let Some(mapping) = fitting.max_by_key(|m| m.old.components().count()) else {
        let dir = folder_of(path, member).display();
        return Err(Error::new(
            Code::Unmapped,
            format!("{} lay outside the source's datadir, and nothing says where it goes", path.display()),
        )
        .hint(format!(
            "say where with --map {dir}=NEW; a relative NEW lies inside the target ('.' is the target itself)"
        )));
    };
    let rest = path.strip_prefix(&mapping.old).unwrap_or(Path::new(""));
    let new = match mapping.new.strip_prefix(target) {
        Ok(relative) => relative,
        Err(_) => &mapping.new,
    };
    let unusable = |why: &str| {
        Error::new(
            Code::Usage,
            format!("--map puts {} at {}: {why}", path.display(), new.join(rest).display()),
        )
    };
    if !new.is_absolute() {
        // Joining nothing would leave a separator at the end.
        let relative: PathBuf = new.components().chain(rest.components()).collect();
        let name = relative.to_str().and_then(|r| MemberName::parse(r).ok());
        let name = name.ok_or_else(|| unusable("that is no place for a file"))?;
        if general && name.parent().is_some() {
            return Err(unusable(
                "a general tablespace may lie in the datadir, but not in a folder below it",
            )
            .hint(format!("add --map {}={}", path.display(), name.file_name())));
        }
        return Ok(FileLocation::Inside(name));
    }
    match (rest.as_os_str().is_empty(), new.parent(), new.file_name()) {
        (false, ..) => Confined::parse(rest).map(|rest| FileLocation::ExternalFiles(new.to_owned(), rest)),
        (true, Some(parent), Some(name)) => {
            Confined::parse(name).map(|name| FileLocation::ExternalFiles(parent.to_owned(), name))
        }
        _ => return Err(unusable("that is no place for a file")),
    }
    .map_err(|e| unusable("that is no place for a file").cause(e))
}

/// A folder that the user named, without the links that lead to it: files below it are reached without any.
pub fn real(dir: &Path) -> PathBuf {
    match (dir.canonicalize(), dir.parent(), dir.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => dir.to_owned(),
    }
}

/// Two files that one mapping, or two, would make one.
pub fn same_place(one: &Path, other: &Path) -> Error {
    let message = format!("{} and {} would be one file on the target", one.display(), other.display());
    Error::new(Code::Usage, message)
        .hint(format!("give one of them another place with --map {}=NEW", other.display()))
}

/// The folder on the source whose files have the names of their members: `/ext` for `/ext/db/t.ibd`, member `db/t.ibd`.
fn folder_of<'p>(path: &'p Path, member: &MemberName) -> &'p Path {
    let above = member.as_str().split('/').count();
    let base = path.ancestors().nth(above).filter(|base| base.join(member.as_str()) == path);
    base.or(path.parent()).unwrap_or(path)
}

/// Staged files outside the target.
#[derive(Debug, Default)]
pub struct ExternalFiles {
    folders: Vec<Folder>,
    owner: Option<Owner>,
}

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    hidden: LockedFolder,
    /// Relative to `dir`.
    files: Vec<Confined>,
}

impl ExternalFiles {
    /// Creates the list of files outside the target, empty.
    pub fn new(owner: Option<Owner>) -> ExternalFiles {
        ExternalFiles { folders: Vec::new(), owner }
    }

    /// Where the file that is to be at `rest` below `dir` is staged.
    pub fn stage(&mut self, dir: &Path, rest: &Confined) -> Result<PathBuf> {
        let dir = &real(dir);
        let place = dir.join(rest);
        if place.symlink_metadata().is_ok() {
            return Err(Error::new(Code::Target, format!("{} exists already", place.display()))
                .hint("remove what is there, or give another place with --map"));
        }
        let known = self.folders.iter().position(|f| f.dir == *dir);
        let folder = match known {
            Some(n) => &mut self.folders[n],
            None => {
                let hidden = hidden_folder(dir)?;
                self.folders.push(Folder { dir: dir.to_owned(), hidden, files: Vec::new() });
                let last = self.folders.len() - 1;
                &mut self.folders[last]
            }
        };
        folder.files.push(rest.clone());
        Ok(folder.hidden.path().join(DATA).join(rest))
    }

    /// Paths that the files will have.
    pub fn places(&self) -> Vec<PathBuf> {
        self.folders.iter().flat_map(|f| f.files.iter().map(|file| f.dir.join(file))).collect()
    }

    /// Makes all of it durable.
    pub fn sync(&self) -> Result<()> {
        self.folders.iter().try_for_each(|f| sync_tree(f.hidden.dir(), f.hidden.path()))
    }

    /// As a kill leaves it.
    #[cfg(test)]
    pub(super) fn killed(self) {
        self.folders.into_iter().for_each(|folder| folder.hidden.keep());
    }

    /// Gives all that was written to whom the target belongs.
    pub fn give(&self) -> Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        self.folders.iter().try_for_each(|folder| {
            let given =
                nofollow::open_dir_in(folder.hidden.dir(), DATA).and_then(|data| owner.give_tree(data));
            given.map_err(|e| Error::io(Code::TargetIo, folder.hidden.path().display(), e))
        })
    }

    /// Whether a server of the owner's may get to the files, which were given to him.
    pub fn let_owner_in(&self, enters: bool) -> Result<()> {
        let folders = self.folders.iter().filter(|_| self.owner.is_some());
        folders.map(|folder| (folder, folder.hidden.let_through(enters))).try_for_each(|(folder, set)| {
            set.map_err(|e| Error::io(Code::TargetIo, folder.hidden.path().display(), e))
        })
    }

    /// Writes down in the target's hidden folder what [`publish_before`](Self::publish_before) is going to do, for the run after
    /// one that is killed there.
    pub fn announce(&self, hidden: &LockedFolder) -> Result<()> {
        let (dirs, files) = (self.missing_dirs(), self.moves());
        if files.is_empty() {
            return Ok(());
        }
        external_journal::write(hidden, &dirs, &files)
            .map_err(|e| Error::io(Code::TargetIo, hidden.path().display(), e))
    }

    /// Puts the files in their places, then does `last`; if anything fails they are taken back.
    pub fn publish_before<T>(self, last: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut done = Moves::default();
        let (dirs, files) = (self.missing_dirs(), self.moves());
        let failed = |place: &Path, e| {
            Error::io(Code::Target, format!("can't put {} in its place", place.display()), e)
        };
        for dir in dirs {
            self.make_dir(&dir).map_err(|e| failed(&dir, e))?;
            done.dirs.push(dir);
        }
        for (from, to) in files {
            nofollow::rename_new(&from, &to).map_err(|e| failed(&to, e))?;
            done.files.push((from, to));
        }
        for (_, place) in &done.files {
            let synced = place.parent().map_or(Ok(()), nofollow::sync_dir);
            synced.map_err(|e| Error::io(Code::TargetIo, place.display(), e))?;
        }
        let done_too = last()?;
        done.keep();
        Ok(done_too)
    }

    /// Where each file is staged, and its place.
    fn moves(&self) -> Vec<(PathBuf, PathBuf)> {
        let of = |f: &Folder| {
            let (data, dir) = (f.hidden.path().join(DATA), f.dir.clone());
            f.files.iter().map(|file| (data.join(file), dir.join(file))).collect::<Vec<_>>()
        };
        self.folders.iter().flat_map(of).collect()
    }

    /// Folders that are not there yet, outermost first.
    fn missing_dirs(&self) -> Vec<PathBuf> {
        let mut missing = Vec::new();
        for (_, place) in self.moves() {
            let above = place.ancestors().skip(1).take_while(|dir| nofollow::kind(dir).is_none());
            let mut above: Vec<_> = above.map(Path::to_owned).collect();
            above.reverse();
            above.retain(|dir| !missing.contains(dir));
            missing.extend(above);
        }
        missing
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        nofollow::create_dir(dir, DIR_MODE)?;
        self.owner.map_or(Ok(()), |owner| owner.give(nofollow::open_dir(dir)?))
    }
}

/// Moves that are undone when this is dropped, unless they are kept.
#[derive(Default)]
struct Moves {
    files: Vec<(PathBuf, PathBuf)>,
    dirs: Vec<PathBuf>,
}

impl Moves {
    fn keep(&mut self) {
        self.files.clear();
        self.dirs.clear();
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        for (from, to) in self.files.drain(..).rev() {
            let _ = nofollow::rename_new(&to, &from);
        }
        for dir in self.dirs.drain(..).rev() {
            let _ = nofollow::remove_dir(&dir);
        }
    }
}

/// A hidden folder on the file system of `dir`: in it, or in what will hold it.
fn hidden_folder(dir: &Path) -> Result<LockedFolder> {
    let (parent, prefix) = match (nofollow::is_dir(dir), dir.parent(), dir.file_name()) {
        (true, ..) => (dir, publish_in_place::PREFIX.to_owned()),
        (false, Some(parent), Some(name)) if nofollow::is_dir(parent) => {
            (parent, format!(".{}{}", name.to_string_lossy(), publish_in_place::PREFIX))
        }
        _ => {
            let message = format!("--map leads to {}, whose parent folder does not exist", dir.display());
            return Err(Error::new(Code::Usage, message));
        }
    };
    drop(staging_lock::leftovers(parent, &prefix));
    let hidden = LockedFolder::create(parent, &prefix)?;
    let data = hidden.path().join(DATA);
    nofollow::create_dir(&data, DIR_MODE).map_err(|e| Error::io(Code::Target, data.display(), e))?;
    Ok(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(texts: &[&str]) -> Vec<Mapping> {
        texts.iter().map(|t| Mapping::parse(t).unwrap()).collect()
    }

    fn go(path: &str, texts: &[&str]) -> Result<FileLocation> {
        let member = MemberName::parse("db/t.ibd").unwrap();
        destination(Path::new(path), &member, false, &maps(texts), Path::new("/var/lib/mysql"))
    }

    #[test]
    fn the_longest_mapping_wins_and_paths_keep_their_rest() {
        let both = ["/ext=/new", "/ext/a=moved"];
        let outside =
            |dir: &str, rest: &str| FileLocation::ExternalFiles(dir.into(), Confined::parse(rest).unwrap());
        let inside = |name: &str| FileLocation::Inside(MemberName::parse(name).unwrap());
        assert_eq!(go("/ext/db/t.ibd", &both).unwrap(), outside("/new", "db/t.ibd"));
        assert_eq!(go("/ext/a/db/t.ibd", &both).unwrap(), inside("moved/db/t.ibd"));
        assert_eq!(go("/ext/db/t.ibd", &["/ext/=."]).unwrap(), inside("db/t.ibd"));
        assert_eq!(go("/ext/t.ibd", &["/ext/t.ibd=/new/u.ibd"]).unwrap(), outside("/new", "u.ibd"));
        assert_eq!(go("/ext/db/t.ibd", &["/ext/db/t.ibd=u.ibd"]).unwrap(), inside("u.ibd"));
        assert_eq!(go("/ext/db/t.ibd", &["/ext=/var/lib/mysql/x"]).unwrap(), inside("x/db/t.ibd"));
    }

    #[test]
    fn what_is_not_mapped_is_refused_with_the_option() {
        let e = go("/extra/db/t.ibd", &["/ext=."]).unwrap_err();
        assert_eq!(e.code, Code::Unmapped);
        assert!(e.message.contains("/extra/db/t.ibd") && e.hint.unwrap().contains("--map /extra=NEW"));
        assert!(go("/other/u.ibd", &[]).unwrap_err().hint.unwrap().contains("--map /other=NEW"));
        assert_eq!(go("/ext/t.ibd", &["/ext/t.ibd=."]).unwrap_err().code, Code::Usage);
        for bad in ["/ext", "ext=new", "/ext=", "/ext=../x", "/a/../b=x"] {
            assert!(Mapping::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_folder_that_it_is_mapped_to() {
        for up in
            ["/ext/../etc/x", "/ext/a/../../../etc/cron.d/x", "/ext/..", "/ext/db/../t.ibd", "ext/t.ibd"]
        {
            for map in ["/ext=/new", "/ext=.", "/ext=/var/lib/mysql/x", "/ext/a=/new"] {
                let e = go(up, &[map]).unwrap_err();
                assert_eq!(e.code, Code::StreamRefused, "{up} with {map}: {e}");
            }
        }
    }

    #[test]
    fn general_tablespaces_lie_in_the_datadir_itself_or_outside() {
        let member = MemberName::parse("g.ibd").unwrap();
        let go = |map: &str| {
            destination(Path::new("/ext/g.ibd"), &member, true, &maps(&[map]), Path::new("/var/lib/mysql"))
        };
        assert_eq!(go("/ext=.").unwrap(), FileLocation::Inside(member.clone()));
        assert!(matches!(go("/ext=/new").unwrap(), FileLocation::ExternalFiles(..)));
        for below in ["/ext=x", "/ext=/var/lib/mysql/x"] {
            let e = go(below).unwrap_err();
            assert_eq!(e.code, Code::Usage);
            assert!(e.hint.unwrap().contains("--map /ext/g.ibd=g.ibd"));
        }
    }

    #[test]
    fn files_get_to_their_places_or_all_stay_away() {
        let root = tempfile::tempdir().unwrap();
        let (there, absent) = (root.path().join("there"), root.path().join("absent"));
        std::fs::create_dir(&there).unwrap();
        for fails in [true, false] {
            let own = tempfile::tempdir().unwrap();
            let hidden = LockedFolder::create(own.path(), ".t.xbrecv-").unwrap();
            let mut outside = ExternalFiles::new(None);
            for dir in [&there, &absent] {
                let staged = outside.stage(dir, &Confined::parse("db/t.ibd").unwrap()).unwrap();
                std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
                std::fs::write(staged, b"x").unwrap();
            }
            outside.sync().unwrap();
            outside.announce(&hidden).unwrap();
            let last = || match fails {
                true => Err(Error::new(Code::Target, "no")),
                false => Ok(()),
            };
            assert_eq!(outside.publish_before(last).is_err(), fails);
            assert_eq!(there.join("db/t.ibd").exists(), !fails);
            assert_eq!(absent.join("db/t.ibd").exists(), !fails);
            let names = |d: &Path| std::fs::read_dir(d).unwrap().count();
            assert_eq!((names(root.path()), names(&there)), if fails { (1, 0) } else { (2, 1) });
        }
        assert_eq!(
            ExternalFiles::new(None).stage(&there, &Confined::parse("db/t.ibd").unwrap()).unwrap_err().code,
            Code::Target
        );
    }
}
