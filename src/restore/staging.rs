//! The datadir while it grows: in a hidden folder beside the target, or, where the target can't be replaced by a
//! rename, inside it. Nothing that is not complete ever carries the target's name.
//!
//! * Beside: `<parent>/.<name>.xbrecv-<random>/data`, renamed over the absent or empty target: one atomic step.
//! * Inside: `<target>/.xbrecv-<random>/data`, for a target that is a mount point, whose parent can't be written, or
//!   that is the working directory. At the end its entries are renamed one by one, those without which no server
//!   starts last. A journal beside `data` lets a later run undo this when it was cut short by a kill.
//!
//! The datadir is never the hidden folder itself: InnoDB does not scan a directory whose name begins with a dot
//! (`Fil_path::is_hidden` in fil0fil.cc), so a server that prepares it would find no tablespaces.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::owner::{DIR_MODE, Owner};
use super::staging_lock::{self, LockedFolder};
use super::{external_journal, publish_in_place};
use crate::base::nofollow;
use crate::base::{Code, Error, Result};

/// The datadir inside the hidden folder.
const DATA: &str = "data";
/// What an empty file system has at its root on some systems.
const LOST_AND_FOUND: &str = "lost+found";

/// A target folder that can be used: absent or empty.
#[derive(Clone, Debug)]
pub struct Target {
    dir: PathBuf,
    exists: bool,
    inside: bool,
}

impl Target {
    /// Looks at `dir` and decides how it can be filled. Changes nothing.
    pub fn check(dir: &Path) -> Result<Target> {
        let failed =
            |e: io::Error| Error::io(Code::Target, format!("can't use the target {}", dir.display()), e);
        match std::fs::metadata(dir) {
            Ok(meta) if !meta.is_dir() => {
                Err(Error::new(Code::Target, format!("the target {} is not a folder", dir.display())))
            }
            Ok(_) => {
                let dir = dir.canonicalize().map_err(failed)?;
                let mount = is_mount_point(&dir).map_err(failed)?;
                refuse_entries(&dir, mount)?;
                let inside = mount || std::env::current_dir().is_ok_and(|cwd| cwd == dir) || is_sticky(&dir);
                Ok(Target { dir, exists: true, inside })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::absent(dir),
            Err(e) => Err(failed(e)),
        }
    }

    fn absent(dir: &Path) -> Result<Target> {
        let unusable = |why: &str| {
            Error::new(Code::Target, format!("can't use the target {}: {why}", dir.display()))
                .hint("give an absent or empty folder in a folder that exists")
        };
        let name = dir.file_name().ok_or_else(|| unusable("it has no name"))?;
        if std::fs::symlink_metadata(dir).is_ok() {
            return Err(unusable("it is a symbolic link that leads nowhere"));
        }
        let parent = match dir.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let parent = parent.canonicalize().map_err(|e| unusable(&format!("{}: {e}", parent.display())))?;
        if !parent.is_dir() {
            return Err(unusable("what should hold it is not a folder"));
        }
        Ok(Target { dir: parent.join(name), exists: false, inside: false })
    }

    /// Makes the staging folder, and removes what killed runs left of theirs.
    pub fn stage(&self) -> Result<Staging> {
        let owner = self.exists.then(|| Owner::of_target(&self.dir)).flatten();
        if self.exists {
            publish_in_place::sweep(&self.dir)?;
        }
        if !self.inside {
            let (parent, prefix) = self.beside()?;
            staging_lock::leftovers(parent, &prefix).iter().for_each(external_journal::undo);
            match LockedFolder::create(parent, &prefix) {
                Ok(hidden) => return Staging::new(self.clone(), hidden, owner),
                Err(e) if !(self.exists && is_forbidden(&e)) => return Err(e),
                Err(_) => {}
            }
        }
        let hidden = LockedFolder::create(&self.dir, publish_in_place::PREFIX)?;
        Staging::new(Target { inside: true, ..self.clone() }, hidden, owner)
    }

    fn beside(&self) -> Result<(&Path, String)> {
        match (self.dir.parent(), self.dir.file_name()) {
            (Some(parent), Some(name)) => Ok((parent, format!(".{}.xbrecv-", name.to_string_lossy()))),
            _ => Err(Error::new(
                Code::Target,
                format!("the target {} has no parent folder", self.dir.display()),
            )),
        }
    }
}

/// The datadir in its hidden place. Dropping it removes it.
#[derive(Debug)]
pub struct Staging {
    target: Target,
    hidden: LockedFolder,
    data: PathBuf,
    owner: Option<Owner>,
}

impl Staging {
    fn new(target: Target, hidden: LockedFolder, owner: Option<Owner>) -> Result<Staging> {
        let data = hidden.path().join(DATA);
        let mode = match target.exists && !target.inside {
            true => {
                std::fs::metadata(&target.dir).map(|m| m.permissions().mode() & 0o7777).unwrap_or(DIR_MODE)
            }
            false => DIR_MODE,
        };
        let made = (|| {
            nofollow::create_dir(&data, DIR_MODE)?;
            // Apart from the creation, so that the umask has no say.
            let made = nofollow::open_dir_in(hidden.dir(), DATA)?;
            io::Result::Ok(rustix::fs::fchmod(made, Mode::from_raw_mode(mode | 0o700))?)
        })();
        made.map_err(|e| Error::io(Code::Target, format!("can't make {}", data.display()), e))?;
        Ok(Staging { target, hidden, data, owner })
    }

    /// The datadir to fill.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Path that it will have.
    pub fn target(&self) -> &Path {
        &self.target.dir
    }

    /// The user and group that files are given to.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// A descriptor on the file system of the staging folder, open since before the first write.
    pub fn fs(&self) -> &File {
        self.hidden.dir()
    }

    /// The hidden folder, which the datadir leaves last.
    pub fn hidden(&self) -> &LockedFolder {
        &self.hidden
    }

    /// Gives all that was written to whom the target belongs.
    pub fn give(&self) -> Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        let given = nofollow::open_dir_in(self.hidden.dir(), DATA).and_then(|data| owner.give_tree(data));
        given.map_err(|e| Error::io(Code::TargetIo, format!("the owner of {}", self.data.display()), e))
    }

    /// Whether a server of the owner's may get to the files, which were given to him.
    pub fn let_owner_in(&self, enters: bool) -> Result<()> {
        if self.owner.is_none() {
            return Ok(());
        }
        let set = self.hidden.let_through(enters);
        set.map_err(|e| Error::io(Code::TargetIo, self.hidden.path().display(), e))
    }

    /// Puts the datadir in its place. All in it must be synced before. Gives what should be known of it: once it is in place,
    /// nothing is an error any more.
    pub fn publish(self) -> Result<Option<String>> {
        self.publish_with(nofollow::sync_dir)
    }

    fn publish_with(self, sync_dir: impl FnOnce(&Path) -> io::Result<()>) -> Result<Option<String>> {
        let dir = self.target.dir.clone();
        let failed = |e: io::Error| {
            let occupied =
                matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists);
            let error =
                Error::io(Code::Target, format!("can't put the datadir in its place {}", dir.display()), e);
            if occupied { error.hint("something else was put there meanwhile") } else { error }
        };
        if self.target.inside {
            refuse_entries(&dir, true)?;
            let durable = publish_in_place::publish(&dir, &self.hidden, &self.data).map_err(failed)?;
            return Ok(durable.err().map(|e| not_durable(&dir, &e)));
        }
        nofollow::rename_from(self.hidden.dir(), DATA, &dir).map_err(failed)?;
        // The entry must survive a power cut before success is announced without a word.
        let durable = dir.parent().map_or(Ok(()), sync_dir);
        Ok(durable.err().map(|e| not_durable(&dir, &e)))
    }
}

/// The words for a copy that is whole and in its place, but that a power cut may take away again.
fn not_durable(dir: &Path, e: &io::Error) -> String {
    format!(
        "{} is in its place, but its folder could not be synced ({e}): run sync before relying on it",
        dir.display()
    )
}

/// Refuses a target that holds anything: a backup never mixes with other files.
fn refuse_entries(dir: &Path, mount: bool) -> Result<()> {
    let failed = |e| Error::io(Code::Target, format!("can't read the target {}", dir.display()), e);
    for (name, _) in nofollow::entries(dir).map_err(failed)? {
        let name = name.to_string_lossy();
        if (mount && name == LOST_AND_FOUND) || staging_lock::is_hidden_name(&name, publish_in_place::PREFIX)
        {
            continue;
        }
        if publish_in_place::belongs_to_leftover(dir, &name) {
            continue;
        }
        return Err(Error::new(
            Code::Target,
            format!("the target {} is not empty (it holds '{}')", dir.display(), name.escape_debug()),
        )
        .hint("give an absent or empty folder; a server that runs there must be stopped first"));
    }
    Ok(())
}

/// A mount point can't be replaced by a rename.
fn is_mount_point(dir: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    // The root of a bind mount has its parent's device; only statx tells (Linux 5.8).
    if let Ok(found) = statx(CWD, dir, AtFlags::empty(), StatxFlags::BASIC_STATS)
        && found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let Some(parent) = dir.parent() else { return Ok(true) };
    Ok(std::fs::metadata(dir)?.dev() != std::fs::metadata(parent)?.dev())
}

/// In a folder with the sticky bit (`/tmp`), only its owner and that of the entry may rename over the entry.
fn is_sticky(dir: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let owned = |path: &Path| std::fs::metadata(path).is_ok_and(|m| m.uid() == me);
    let sticky = |path: &Path| std::fs::metadata(path).is_ok_and(|m| m.mode() & 0o1000 != 0);
    me != 0 && dir.parent().is_some_and(|p| sticky(p) && !owned(p) && !owned(dir))
}

/// Whether creating failed for want of permission.
fn is_forbidden(e: &Error) -> bool {
    let cause = e.cause.as_ref().and_then(|c| c.downcast_ref::<io::Error>());
    cause.is_some_and(|c| {
        matches!(c.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that is killed after each step of putting files in place, and the one after it.
    #[test]
    fn a_killed_run_is_taken_back_by_the_next_one() {
        use crate::restore::ExternalFiles;
        const FILES: usize = 4;
        for steps in 0..=FILES + 1 {
            let parent = tempfile::tempdir().unwrap();
            let (dir, new) = (parent.path().join("t"), parent.path().join("new"));
            let target = Target::check(&dir).unwrap();
            let staging = target.stage().unwrap();
            std::fs::write(staging.data().join("ibdata1"), b"x").unwrap();
            let mut outside = ExternalFiles::new(None);
            let mut moves = Vec::new();
            for n in 0..FILES {
                let rest = crate::base::Confined::parse(format!("d{n}/t.ibd")).unwrap();
                let staged = outside.stage(&new, &rest).unwrap();
                std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
                std::fs::write(&staged, b"ours").unwrap();
                moves.push((staged, new.join(&rest)));
            }
            outside.announce(staging.hidden()).unwrap();
            for (from, to) in moves.iter().take(steps) {
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::rename(from, to).unwrap();
            }
            if steps > FILES {
                std::fs::rename(staging.data(), &dir).unwrap();
            }
            // Another file in the place of ours is not ours.
            let others = new.join("d0/t.ibd");
            if steps == 2 {
                std::fs::write(new.join("d0/u.ibd"), b"another's").unwrap();
                std::fs::rename(new.join("d0/u.ibd"), &others).unwrap();
            }
            outside.killed();
            staging.hidden.keep();

            let committed = dir.exists();
            if committed {
                std::fs::remove_dir_all(&dir).unwrap();
            }
            drop(Target::check(&dir).unwrap().stage().unwrap());
            let left = moves.iter().filter(|(_, to)| to.exists()).count();
            let expected = match steps {
                2 => 1,
                _ if committed => FILES,
                _ => 0,
            };
            assert_eq!(left, expected, "killed after {steps} steps");
            assert_eq!(new.exists(), expected > 0, "killed after {steps} steps");
        }
    }

    #[test]
    fn what_is_in_place_stays_there_when_its_folder_can_not_be_synced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("t");
        let staging = Target::check(&dir).unwrap().stage().unwrap();
        std::fs::write(staging.data().join("f"), b"x").unwrap();
        let words = staging.publish_with(|_| Err(io::Error::from_raw_os_error(5))).unwrap();
        assert!(words.is_some_and(|w| w.contains("could not be synced")) && dir.join("f").is_file());
    }

    #[test]
    fn absent_and_empty_targets_are_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("t");
        for exists in [false, true] {
            if exists {
                std::fs::create_dir(&dir).unwrap();
            }
            let target = Target::check(&dir).unwrap();
            assert_eq!(target.dir, parent.path().canonicalize().unwrap().join("t"));
            let staging = target.stage().unwrap();
            std::fs::write(staging.data().join("f"), b"x").unwrap();
            assert_eq!(dir.exists(), exists);
            staging.publish().unwrap();
            assert!(dir.join("f").is_file());
            assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }

    #[test]
    fn the_datadir_is_not_hidden_itself() {
        let parent = tempfile::tempdir().unwrap();
        let staging = Target::check(&parent.path().join("t")).unwrap().stage().unwrap();
        let name = staging.data().file_name().unwrap().to_str().unwrap().to_owned();
        assert!(!name.starts_with('.'));
        let hidden = staging.data().parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        assert!(hidden.starts_with(".t.xbrecv-"));
    }

    #[test]
    fn a_target_that_fills_meanwhile_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("t");
        let staging = Target::check(&dir).unwrap().stage().unwrap();
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("other"), b"x").unwrap();
        let e = staging.publish().unwrap_err();
        assert_eq!(e.code, Code::Target);
        assert!(e.hint.is_some());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_can_not_be_a_target_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("file"), b"x").unwrap();
        for bad in ["file", "file/t", "no/such", "../..", "/"] {
            let e = Target::check(&parent.path().join(bad)).unwrap_err();
            assert_eq!(e.code, Code::Target, "{bad}");
        }
    }
}
