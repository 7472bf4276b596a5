//! Which file a member becomes.
//!
//! A member's name was checked when it was parsed: joined to a folder it stays below it. The folders here are fresh
//! and only ours, so no symbolic link lies on the way either.

use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::owner::{DIR_MODE, FILE_MODE, Owner};
use crate::base::{Code, Error, Result};
use crate::stream::MemberName;

/// The staged datadir, and the members that are to lie elsewhere.
#[derive(Debug)]
pub struct Places {
    root: PathBuf,
    elsewhere: HashMap<MemberName, PathBuf>,
    owner: Option<Owner>,
    made: HashSet<PathBuf>,
}

impl Places {
    /// Every member below `root`, which exists.
    pub fn new(root: &Path, owner: Option<Owner>) -> Places {
        Places { root: root.to_owned(), elsewhere: HashMap::new(), owner, made: HashSet::new() }
    }

    /// Places one member at a path of its own, outside `root` or inside.
    pub fn place(&mut self, member: MemberName, path: PathBuf) {
        self.elsewhere.insert(member, path);
    }

    /// The staged datadir.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a member's file is.
    pub fn path(&self, member: &MemberName) -> PathBuf {
        self.elsewhere.get(member).cloned().unwrap_or_else(|| self.root.join(member.as_str()))
    }

    /// Makes a member's file, and the folders on the way. A file that is already there is refused.
    pub fn create(&mut self, member: &MemberName) -> Result<(PathBuf, File)> {
        let path = self.path(member);
        match self.create_at(&path) {
            Ok(file) => Ok((path, file)),
            // Two members can't be one file, and none can be a folder of another.
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {
                let message =
                    format!("member '{member}' would take the place of another ({})", path.display());
                let error = Error::new(Code::StreamRefused, message);
                Err(match self.elsewhere.values().any(|place| *place == path) {
                    true => error.hint("give the file that lay outside the datadir another place with --map"),
                    false => error,
                })
            }
            Err(e) if e.raw_os_error() == Some(NAME_TOO_LONG) => Err(Error::new(
                Code::StreamRefused,
                format!("member '{member}' has a name too long for this file system"),
            )
            .cause(e)),
            Err(e) => Err(Error::io(Code::TargetIo, path.display(), e)),
        }
    }

    fn create_at(&mut self, path: &Path) -> io::Result<File> {
        if let Some(parent) = path.parent() {
            self.make_dirs(parent)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(path)?;
        if let Some(owner) = self.owner {
            owner.give(&file)?;
        }
        Ok(file)
    }

    fn make_dirs(&mut self, dir: &Path) -> io::Result<()> {
        if dir == self.root || self.made.contains(dir) {
            return Ok(());
        }
        match DirBuilder::new().mode(DIR_MODE).create(dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = dir.parent() else { return Err(e) };
                self.make_dirs(parent)?;
                DirBuilder::new().mode(DIR_MODE).create(dir)?;
            }
            // Not made by us in this run: a staging folder outside the target.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {
                self.made.insert(dir.to_owned());
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        if let Some(owner) = self.owner {
            owner.give(File::open(dir)?)?;
        }
        self.made.insert(dir.to_owned());
        Ok(())
    }
}

/// `ENAMETOOLONG`.
const NAME_TOO_LONG: i32 = rustix::io::Errno::NAMETOOLONG.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MemberName {
        MemberName::parse(text).unwrap()
    }

    #[test]
    fn files_get_folders_and_modes() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let mut places = Places::new(root.path(), None);
        let (path, _) = places.create(&name("a/b/c.ibd")).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(path, root.path().join("a/b/c.ibd"));
        assert_eq!(mode(&path) & !FILE_MODE, 0);
        assert_eq!(mode(&root.path().join("a")) & !DIR_MODE, 0);
        places.create(&name("a/b/d.ibd")).unwrap();
    }

    #[test]
    fn no_member_takes_the_place_of_another() {
        let root = tempfile::tempdir().unwrap();
        let mut places = Places::new(root.path(), None);
        places.create(&name("a/b")).unwrap();
        for clash in ["a/b", "a", "a/b/c"] {
            let e = places.create(&name(clash)).unwrap_err();
            assert_eq!(e.code, Code::StreamRefused, "{clash}: {e}");
        }
        places.place(name("x"), root.path().join("a/b"));
        assert_eq!(places.create(&name("x")).unwrap_err().code, Code::StreamRefused);
    }
}
