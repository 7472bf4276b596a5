//! Creates, renames and deletes files as redo says, so that they are what they were at its end.
//!
//! A server that recovers expects that to be so already: it does these operations before or while it logs them. A copy
//! is put together from files of different moments, so it may lack a file, or have one under an old name, or have the
//! undo tablespace from before a truncation. What happened is folded into one fate for every space id, since files are
//! known by the id in their page 0 and names are swapped by DDL: a deleted one goes, one with another last name is
//! renamed (all at once, so that swaps work), and one that was created and is missing is made as small as the server
//! makes it, with a page 0 whose LSN lets redo fill it (`fil_tablespace_redo_create`, `Fil_system::prepare_open_for_dd`
//! and the checks of `Fil_system::check_missing_tablespaces`).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Datadir;
use super::datafiles::{ASIDE, io_error, space_of, tablespaces};
use crate::base::confined::lexical;
use crate::base::nofollow;
use crate::base::{Code, Error, Result, SpaceId};
use crate::innodb::page::{MIN_UNDO_BYTES, MIN_USER_PAGES, SpaceFlags, build_page0};
use crate::innodb::redo::{FileChange, FileEvent};
use crate::stream::MemberName;

/// Most files that redo may create, rename and delete. A sender's lock keeps DDL out but for the moments before it.
const FILES_MAX: usize = 100_000;
/// Temporary tablespaces of sessions: made anew at every start.
const TEMPORARY_DIR: &str = "#innodb_temp";

/// The fate of a tablespace by the file events in redo.
#[derive(Clone, PartialEq, Eq, Debug)]
enum FileOutcome {
    Gone,
    /// It is there, under the last name that redo gives it; its flags if it was created meanwhile.
    There {
        path: Vec<u8>,
        created: Option<u32>,
    },
}

fn fold(events: &[FileEvent]) -> BTreeMap<SpaceId, FileOutcome> {
    let mut fates = BTreeMap::new();
    for event in events {
        match &event.what {
            FileChange::Create { flags, path } => {
                fates.insert(event.space, FileOutcome::There { path: path.clone(), created: Some(*flags) });
            }
            FileChange::Rename { to, .. } => {
                let created = match fates.get(&event.space) {
                    Some(FileOutcome::There { created, .. }) => *created,
                    _ => None,
                };
                fates.insert(event.space, FileOutcome::There { path: to.clone(), created });
            }
            FileChange::Delete { .. } => {
                fates.insert(event.space, FileOutcome::Gone);
            }
            FileChange::Extend { .. } | FileChange::IndexLoad { .. } => {}
        }
    }
    fates.retain(|space, fate| !is_temporary(*space, fate));
    fates
}

fn is_temporary(space: SpaceId, fate: &FileOutcome) -> bool {
    let in_temporary_dir = |path: &[u8]| {
        let path = path.strip_prefix(b"./").unwrap_or(path);
        path.strip_prefix(TEMPORARY_DIR.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
    };
    space == SpaceId::TEMPORARY || matches!(fate, FileOutcome::There { path, .. } if in_temporary_dir(path))
}

/// Brings the files of `datadir` to what `events` say. Gives a line for every file that it touched.
pub fn apply(datadir: &Datadir<'_>, events: &[FileEvent]) -> Result<Vec<String>> {
    super::checks::check_events(events)?;
    let fates = fold(events);
    if fates.is_empty() {
        return Ok(Vec::new());
    }
    if fates.len() > FILES_MAX {
        let message =
            format!("redo creates, renames or deletes {} files, more than {FILES_MAX}", fates.len());
        return Err(Error::new(Code::TooLarge, message)
            .hint("take the backup again, without very much DDL just before"));
    }
    let files = tablespaces(datadir)?;
    let mut done = Vec::new();
    for (space, _) in fates.iter().filter(|(_, fate)| **fate == FileOutcome::Gone) {
        for path in files.get(space).into_iter().flatten() {
            nofollow::remove_file(path).map_err(|e| io_error(path, e))?;
            done.push(format!("{} was removed: redo deletes tablespace {space}", shown(datadir, path)));
        }
    }
    let mut renames = Vec::new();
    let mut creations = Vec::new();
    for (space, fate) in &fates {
        let FileOutcome::There { path, created } = fate else { continue };
        let place = place(datadir, path)?;
        match (files.get(space).map(Vec::as_slice), created) {
            (Some([now]), _) if *now != place => renames.push((*space, now.clone(), place)),
            (Some([_]), _) => {}
            (Some([first, second, ..]), _) => return Err(twice(datadir, *space, first, second)),
            (Some([]) | None, Some(flags)) => creations.push((*space, *flags, place)),
            // Renamed and not in the copy: deleted before the copy began, or the server will say what is missing.
            (Some([]) | None, None) => {}
        }
    }
    rename_all(datadir, renames, &mut done)?;
    for (space, flags, place) in creations {
        create(datadir, space, SpaceFlags(flags), &place)?;
        done.push(format!("{} was made anew: redo creates tablespace {space}", shown(datadir, &place)));
    }
    Ok(done)
}

/// Tablespaces that are gone at the end of the log.
pub(super) fn removed(events: &[FileEvent]) -> BTreeSet<SpaceId> {
    fold(events).into_iter().filter(|(_, fate)| *fate == FileOutcome::Gone).map(|(space, _)| space).collect()
}

/// Where a path of the source's redo is in the copy.
fn place(datadir: &Datadir<'_>, path: &[u8]) -> Result<PathBuf> {
    let text = std::str::from_utf8(path).map_err(|_| strange(path))?;
    if !text.starts_with('/') {
        let name = MemberName::parse(text.strip_prefix("./").unwrap_or(text)).map_err(|_| strange(path))?;
        return Ok(datadir.root.join(name.as_str()));
    }
    let there = &lexical(Path::new(text));
    // A file that is known, or one in a folder of which a file is known.
    let same = datadir.external.iter().find(|(from, _)| from == there).map(|(_, now)| now.clone());
    let beside = || {
        let (_, now) = datadir.external.iter().find(|(from, _)| from.parent() == there.parent())?;
        Some(now.parent()?.join(there.file_name()?))
    };
    same.or_else(beside).ok_or_else(|| {
        Error::new(
            Code::Prepare,
            format!("{text} was created or renamed outside the source's datadir while the backup ran"),
        )
        .hint("take the backup again, without DDL meanwhile")
    })
}

/// Renames files, in two steps, since one's new name may be another's old one.
fn rename_all(
    datadir: &Datadir<'_>,
    renames: Vec<(SpaceId, PathBuf, PathBuf)>,
    done: &mut Vec<String>,
) -> Result<()> {
    let mut waiting = Vec::new();
    for (space, from, to) in renames {
        let aside = from.with_file_name(format!("{ASIDE}{space}"));
        nofollow::rename(&from, &aside).map_err(|e| io_error(&from, e))?;
        waiting.push((space, from, aside, to));
    }
    for (space, from, aside, to) in waiting {
        if nofollow::kind(&to).is_some() {
            return Err(twice(datadir, space, &from, &to));
        }
        make_parent(datadir, &to)?;
        nofollow::rename_new(&aside, &to).map_err(|e| io_error(&to, e))?;
        done.push(format!("{} was renamed to {}, as redo says", shown(datadir, &from), shown(datadir, &to)));
    }
    Ok(())
}

/// A file of the size that a server gives a new tablespace, whose content all comes from redo.
fn create(datadir: &Datadir<'_>, space: SpaceId, flags: SpaceFlags, place: &Path) -> Result<()> {
    const FILE_MODE: u32 = 0o640;
    let layout = flags.layout().map_err(|e| {
        Error::new(Code::CorruptRedo, format!("redo creates tablespace {space} with flags that can't be"))
            .cause(e)
    })?;
    let page_len = layout.physical() as u64;
    let pages = match space.is_undo() {
        true => (MIN_UNDO_BYTES / page_len) as u32,
        false => MIN_USER_PAGES,
    };
    let page0 = build_page0(space, flags, pages)
        .map_err(|e| Error::new(Code::Internal, format!("page 0 of tablespace {space}")).cause(e))?;
    make_parent(datadir, place)?;
    if nofollow::is_file(place) && space_of(place, datadir.redo.pages()).is_ok_and(|space| space.is_none()) {
        // Made by an earlier run, and without its content since a power cut.
        nofollow::remove_file(place).map_err(|e| io_error(place, e))?;
    }
    let written = (|| {
        let file = nofollow::create_new(place, FILE_MODE)?;
        file.set_len(u64::from(pages) * page_len)?;
        file.write_all_at(&page0, 0)?;
        datadir.own(&file)
    })();
    written.map_err(|e| io_error(place, e))
}

fn make_parent(datadir: &Datadir<'_>, place: &Path) -> Result<()> {
    const DIR_MODE: u32 = 0o750;
    let Some(parent) = place.parent() else { return Ok(()) };
    if nofollow::kind(parent).is_some() || parent.parent().is_none() {
        return Ok(());
    }
    make_parent(datadir, parent)?;
    let made = nofollow::create_dir(parent, DIR_MODE)
        .and_then(|()| nofollow::open_dir(parent))
        .and_then(|dir| datadir.own(dir));
    made.map_err(|e| io_error(parent, e))
}

fn shown(datadir: &Datadir<'_>, path: &Path) -> String {
    path.strip_prefix(datadir.root).unwrap_or(path).display().to_string()
}

fn twice(datadir: &Datadir<'_>, space: SpaceId, first: &Path, second: &Path) -> Error {
    let message =
        format!("{} and {} both stand for tablespace {space}", shown(datadir, first), shown(datadir, second));
    Error::new(Code::Prepare, message).hint("take the backup again, without DDL meanwhile")
}

fn strange(path: &[u8]) -> Error {
    Error::new(Code::CorruptRedo, format!("redo names a file '{}', which is not let in", shown_path(path)))
}

/// The start of a path of redo: it may have 64 KiB.
fn shown_path(path: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    path[..path.len().min(SHOWN_MAX)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::Lsn;
    use crate::stream::metadata::BackupCnf;

    /// Flags of a new undo tablespace, and of a new table's.
    const UNDO: u32 = 0;
    const TABLE: u32 = 0x21;

    struct Copy {
        root: tempfile::TempDir,
        cnf: BackupCnf,
        external: Vec<(PathBuf, PathBuf)>,
    }

    impl Copy {
        fn with(files: &[(&str, u32)]) -> Copy {
            let copy =
                Copy { root: tempfile::tempdir().unwrap(), cnf: BackupCnf::new(), external: Vec::new() };
            for (name, space) in files {
                let page = build_page0(SpaceId(*space), SpaceFlags(TABLE), 7).unwrap();
                let path = copy.root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, page).unwrap();
            }
            copy
        }

        fn apply(&self, events: &[(u32, FileChange)]) -> Result<Vec<String>> {
            let events: Vec<_> = events
                .iter()
                .map(|(space, what)| FileEvent { lsn: Lsn(0), space: SpaceId(*space), what: what.clone() })
                .collect();
            let run = self.root.path().join("run");
            let datadir = Datadir {
                keyring: std::sync::Arc::new(crate::innodb::encryption::NoKeyring),
                redo: crate::family::redo_of_copies(),
                left_out: &[],
                root: self.root.path(),
                run: &run,
                external: &self.external,
                owner: None,
                cnf: &self.cnf,
                gtid_executed: None,
                end_lsn: None,
                server_version: None,
            };
            apply(&datadir, &events)
        }

        fn space(&self, name: &str) -> Option<u32> {
            space_of(&self.root.path().join(name), crate::family::redo_of_copies().pages())
                .ok()
                .flatten()
                .map(|s| s.0)
        }
    }

    fn create(path: &str, flags: u32) -> FileChange {
        FileChange::Create { flags, path: path.into() }
    }

    fn rename(from: &str, to: &str) -> FileChange {
        FileChange::Rename { from: from.into(), to: to.into() }
    }

    fn delete(path: &str) -> FileChange {
        FileChange::Delete { path: path.into() }
    }

    #[test]
    fn a_truncated_undo_tablespace_is_the_new_one() {
        let copy = Copy::with(&[("undo_001", 0xFFFF_FFEF), ("d/t.ibd", 5)]);
        let events = [(0xFFFF_FFEF, delete("./undo_001")), (0xFFFF_FF70, create("./undo_001", UNDO))];
        let done = copy.apply(&events).unwrap();
        assert_eq!(copy.space("undo_001"), Some(0xFFFF_FF70));
        assert_eq!(fs::metadata(copy.root.path().join("undo_001")).unwrap().len(), MIN_UNDO_BYTES);
        assert_eq!(done.len(), 2);
        // Copied after the truncation: as it should be.
        let copy = Copy::with(&[("undo_001", 0xFFFF_FF70)]);
        assert!(copy.apply(&events).unwrap().is_empty());
    }

    #[test]
    fn names_may_be_swapped() {
        // What ALTER TABLE … ALGORITHM=COPY does; the copy has the files from before, or from after.
        let events = [
            (8, create("./d/#sql-1.ibd", TABLE)),
            (7, rename("./d/t.ibd", "./d/#sql2-1.ibd")),
            (8, rename("./d/#sql-1.ibd", "./d/t.ibd")),
            (7, rename("./d/#sql2-1.ibd", "./d/u.ibd")),
        ];
        for files in [
            [("d/t.ibd", 7), ("d/#sql-1.ibd", 8)],
            [("d/t.ibd", 8), ("d/u.ibd", 7)],
            [("d/u.ibd", 8), ("d/t.ibd", 7)],
        ] {
            let copy = Copy::with(&files);
            copy.apply(&events).unwrap();
            assert_eq!((copy.space("d/t.ibd"), copy.space("d/u.ibd")), (Some(8), Some(7)), "{files:?}");
            assert_eq!(fs::read_dir(copy.root.path().join("d")).unwrap().count(), 2);
        }
        // Not copied at all: made anew under its last name.
        let copy = Copy::with(&[("d/t.ibd", 7)]);
        copy.apply(&events).unwrap();
        assert_eq!((copy.space("d/t.ibd"), copy.space("d/u.ibd")), (Some(8), Some(7)));
    }

    #[test]
    fn deleted_and_temporary_ones_are_not_made() {
        let copy = Copy::with(&[("d/t.ibd", 7)]);
        let events = [
            (8, create("./d/x.ibd", TABLE)),
            (8, delete("./d/x.ibd")),
            (0xFFFF_FFFD, create("./ibtmp1", TABLE)),
            (0xFCFD_0001, create("./#innodb_temp/temp_1.ibt", TABLE)),
            (7, delete("./d/t.ibd")),
        ];
        copy.apply(&events).unwrap();
        assert_eq!(fs::read_dir(copy.root.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(copy.root.path().join("d")).unwrap().count(), 0);
    }

    #[test]
    fn paths_never_lead_out() {
        let copy = Copy::with(&[("d/t.ibd", 7)]);
        for path in ["../x.ibd", "./d/../../x.ibd", "d\\x.ibd"] {
            let e = copy.apply(&[(7, rename("./d/t.ibd", path))]).unwrap_err();
            assert_eq!(e.code, Code::CorruptRedo, "{path}");
        }
        assert_eq!(copy.apply(&[(9, create("/etc/x.ibd", TABLE))]).unwrap_err().code, Code::Prepare);
        assert_eq!(copy.space("d/t.ibd"), Some(7));
    }

    #[test]
    fn files_outside_follow_their_folder() {
        let mut copy = Copy::with(&[("moved/d/t.ibd", 7)]);
        copy.external.push(("/ext/d/t.ibd".into(), copy.root.path().join("moved/d/t.ibd")));
        copy.apply(&[(7, rename("/ext/d/t.ibd", "/ext/d/u.ibd")), (9, create("/ext/d/v.ibd", TABLE))])
            .unwrap();
        assert_eq!((copy.space("moved/d/u.ibd"), copy.space("moved/d/v.ibd")), (Some(7), Some(9)));
    }

    #[test]
    fn two_files_for_one_space_are_refused() {
        let copy = Copy::with(&[("d/t.ibd", 7), ("d/u.ibd", 7), ("d/v.ibd", 8)]);
        assert_eq!(copy.apply(&[(7, rename("./d/t.ibd", "./d/u.ibd"))]).unwrap_err().code, Code::Prepare);
        let e = copy.apply(&[(8, rename("./d/v.ibd", "./d/t.ibd"))]).unwrap_err();
        assert_eq!(e.code, Code::Prepare);
    }
}
