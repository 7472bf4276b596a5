//! Maps members to the files that they become.
//!
//! A member's name was checked when it was parsed: joined to a folder it stays below it. The folders here are fresh and only
//! ours until all is written; no symbolic link is followed on the way either. What would configure the server that starts on
//! the target, or be one of its keys, is set aside under another name.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::owner::{DIR_MODE, FILE_MODE};
use crate::base::nofollow;
use crate::base::{Code, Error, Result};
use crate::stream::MemberName;
use crate::stream::delta::{DELTA, META};
use crate::stream::metadata::BACKUP_CNF;

/// The staged datadir, and the members that are to lie elsewhere.
#[derive(Debug)]
pub struct PathMap {
    root: PathBuf,
    elsewhere: HashMap<MemberName, PathBuf>,
    set_aside: Vec<MemberName>,
    made: HashSet<PathBuf>,
}

impl PathMap {
    /// Every member below `root`, which exists.
    pub fn new(root: &Path) -> PathMap {
        let (elsewhere, made) = (HashMap::new(), HashSet::new());
        PathMap { root: root.to_owned(), elsewhere, set_aside: Vec::new(), made }
    }

    /// One member at a path of its own, outside `root` or inside.
    pub fn place(&mut self, member: MemberName, path: PathBuf) {
        self.elsewhere.insert(member, path);
    }

    /// Path of a member's file.
    pub fn path(&self, member: &MemberName) -> PathBuf {
        match self.elsewhere.get(member) {
            Some(path) => path.clone(),
            None if configures(member) => {
                self.root.join(member.parent().unwrap_or_default()).join(aside_name(member))
            }
            None => self.root.join(member.as_str()),
        }
    }

    /// Members that lie under another name, since a server would take them for its own settings or keys, and that name.
    pub fn set_aside(&self) -> impl Iterator<Item = (&MemberName, String)> {
        self.set_aside.iter().map(|member| (member, aside_name(member)))
    }

    /// Makes a member's file, and the folders on the way. A file that is already there is refused.
    pub fn create(&mut self, member: &MemberName) -> Result<(PathBuf, File)> {
        let path = self.path(member);
        match self.create_at(&path) {
            Ok(file) => {
                if configures(member) && !self.elsewhere.contains_key(member) {
                    self.set_aside.push(member.clone());
                }
                Ok((path, file))
            }
            Err(e) => {
                let mapped = self.elsewhere.values().any(|place| *place == path);
                let error = taken(member, &path, e);
                Err(match mapped && error.code == Code::StreamRefused {
                    true => error.hint("give the file that lay outside the datadir another place with --map"),
                    false => error,
                })
            }
        }
    }

    /// Makes the file `from` that of a member, or makes one if there is none, and opens it for reading and writing.
    ///
    /// # Errors
    /// [`Code::StreamRefused`] if another member has its place, [`Code::TargetIo`].
    pub fn adopt(&mut self, member: &MemberName, from: Option<&Path>) -> Result<(PathBuf, File)> {
        let Some(from) = from else { return self.create(member) };
        let path = self.path(member);
        let moved = path.parent().map_or(Ok(()), |parent| self.make_dirs(parent));
        match moved.and_then(|()| nofollow::rename_new(from, &path)).and_then(|()| nofollow::open_rw(&path)) {
            Ok(file) => Ok((path, file)),
            Err(e) => Err(taken(member, &path, e)),
        }
    }

    fn create_at(&mut self, path: &Path) -> io::Result<File> {
        if let Some(parent) = path.parent() {
            self.make_dirs(parent)?;
        }
        nofollow::create_new(path, FILE_MODE)
    }

    fn make_dirs(&mut self, dir: &Path) -> io::Result<()> {
        if dir == self.root || self.made.contains(dir) {
            return Ok(());
        }
        match nofollow::create_dir(dir, DIR_MODE) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = dir.parent() else { return Err(e) };
                self.make_dirs(parent)?;
                nofollow::create_dir(dir, DIR_MODE)?;
            }
            // Not made by us in this run: a staging folder outside the target.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && nofollow::is_dir(dir) => {
                self.made.insert(dir.to_owned());
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        self.made.insert(dir.to_owned());
        Ok(())
    }
}

/// Returns the error for a member that can't be made at `path`.
fn taken(member: &MemberName, path: &Path, e: io::Error) -> Error {
    // Two members can't be one file, and none can be a folder of another.
    if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) {
        let message = format!("member '{member}' would take the place of another ({})", path.display());
        return Error::new(Code::StreamRefused, message);
    }
    if e.raw_os_error() == Some(NAME_TOO_LONG) {
        let message = format!("member '{member}' has a name too long for this file system");
        return Error::new(Code::StreamRefused, message).cause(e);
    }
    Error::io(Code::TargetIo, path.display(), e)
}

/// Refuses a datafile of an increment that a server would take for its own settings or keys. It is made of pages of a stream, and
/// no server has one of such a name.
///
/// # Errors
/// [`Code::StreamRefused`].
pub fn refuse_settings(datafile: &MemberName) -> Result<()> {
    match configures(datafile) {
        true => Err(Error::new(Code::StreamRefused, format!("'{datafile}' can't be the name of a datafile"))),
        false => Ok(()),
    }
}

/// What is before the name of a member that is set aside.
const ASIDE: &str = "backup-";

/// The file name under which a member is set aside; never the one of [`BACKUP_CNF`], which every backup holds.
fn aside_name(member: &MemberName) -> String {
    let name = member.file_name();
    let aside = format!("{ASIDE}{name}");
    if aside.eq_ignore_ascii_case(BACKUP_CNF) { format!("{ASIDE}of-{name}") } else { aside }
}

/// Whether a server that starts on the target would take it for its own settings or keys: persisted variables, option files,
/// its uuid, lists of components, keyrings, certificates.
fn configures(member: &MemberName) -> bool {
    const NAMES: &[&str] = &["mysqld-auto.cnf", "mysqld.my", "my.cnf", ".my.cnf", ".mylogin.cnf", "auto.cnf"];
    let name = member.file_name().to_ascii_lowercase();
    let name = name.strip_suffix(DELTA).or(name.strip_suffix(META)).unwrap_or(&name);
    let is_tablespace = name.ends_with(".ibd") || name.ends_with(".ibu");
    let in_datadir =
        NAMES.contains(&name) || name.starts_with("keyring") || name.starts_with("component_keyring");
    name.ends_with(".pem") || (member.parent().is_none() && in_datadir && !is_tablespace)
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
        let mut places = PathMap::new(root.path());
        let (path, _) = places.create(&name("a/b/c.ibd")).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(path, root.path().join("a/b/c.ibd"));
        assert_eq!(mode(&path) & !FILE_MODE, 0);
        assert_eq!(mode(&root.path().join("a")) & !DIR_MODE, 0);
        places.create(&name("a/b/d.ibd")).unwrap();
    }

    #[test]
    fn settings_and_keys_are_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let mut places = PathMap::new(root.path());
        for (member, lies) in [
            ("mysqld-auto.cnf", "backup-mysqld-auto.cnf"),
            ("MYSQLD.MY", "backup-MYSQLD.MY"),
            ("auto.cnf", "backup-auto.cnf"),
            ("my.cnf", "backup-of-my.cnf"),
            ("backup-my.cnf", "backup-my.cnf"),
            ("keyring", "backup-keyring"),
            ("component_keyring_file.cnf", "backup-component_keyring_file.cnf"),
            ("server-key.pem", "backup-server-key.pem"),
            ("keys/ca.pem", "keys/backup-ca.pem"),
            ("keyring.ibd", "keyring.ibd"),
            ("keyring.ibd.delta", "keyring.ibd.delta"),
            ("keyring.ibd.meta", "keyring.ibd.meta"),
            ("db/keyring.CSV", "db/keyring.CSV"),
            ("db/auto.cnf", "db/auto.cnf"),
            ("xtrabackup_info", "xtrabackup_info"),
        ] {
            assert_eq!(places.create(&name(member)).unwrap().0, root.path().join(lies));
        }
        assert_eq!(places.set_aside().count(), 8);
    }

    #[test]
    fn no_member_takes_the_place_of_another() {
        let root = tempfile::tempdir().unwrap();
        let mut places = PathMap::new(root.path());
        places.create(&name("a/b")).unwrap();
        for clash in ["a/b", "a", "a/b/c"] {
            let e = places.create(&name(clash)).unwrap_err();
            assert_eq!(e.code, Code::StreamRefused, "{clash}: {e}");
        }
        places.place(name("x"), root.path().join("a/b"));
        assert_eq!(places.create(&name("x")).unwrap_err().code, Code::StreamRefused);
    }
}
