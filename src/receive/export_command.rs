//! Implements `xbrecv export DIR`: puts the files that `ALTER TABLE … IMPORT TABLESPACE` needs of single tables out of a prepared
//! backup, without a server.
//!
//! For each table: its datafiles, a `.cfg` and for encrypted ones a `.cfp` beside each, and two files of statements, one to be run
//! before the files are put in their places and one after.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::base_folder::{Access, BaseFolder, member};
use crate::base::nofollow;
use crate::base::progress::{Phase, Progress};
use crate::base::{Code, Error, Result, Stop};
use crate::family;
use crate::innodb::dictionary::create_table::quoted;
use crate::innodb::encryption::Keyring;
use crate::prepare::export::{ExportedFile, ExportedTable, Exporter};
use crate::prepare::{self, Datadir};
use crate::restore::{Mapping, clone_file};
use crate::source::selection::Selection;
use crate::stream::metadata::{BACKUP_CNF, BackupCnf, METADATA_MAX};

/// Permissions of folders and files: who may read them can read the tables.
const DIR_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// Permissions of a file that has a key.
const KEY_MODE: u32 = 0o600;
/// Suffix of a file that is being written.
const PARTIAL: &str = "xbrecv-part";

/// Tables of a backup.
#[derive(Debug)]
pub struct ChosenTables {
    /// Path of the folder with the backup.
    pub dir: PathBuf,
    /// The tables.
    pub selection: Selection,
    /// Places of files that lay outside the source's datadir.
    pub mappings: Vec<Mapping>,
    /// Keys of its encrypted tablespaces.
    pub keyring: Arc<dyn Keyring>,
}

/// Options of `xbrecv export`.
#[derive(Debug)]
pub struct ExportOptions {
    /// The tables.
    pub tables: ChosenTables,
    /// Path of the folder that gets the files; `None`: the metadata and statements are put beside the datafiles, in the backup.
    pub to: Option<PathBuf>,
}

/// The result of an export.
#[derive(Debug, Default)]
pub struct ExportSummary {
    /// Path of the folder that has the files.
    pub to: PathBuf,
    /// The tables: schema, name, path of the statements before and after the import without their suffixes, number of files.
    pub tables: Vec<(String, String, PathBuf, usize)>,
    /// Whether files with keys are among them.
    pub has_keys: bool,
    /// Time from start to end.
    pub time: Duration,
}

/// Exports tables.
///
/// # Errors
/// [`Code::WrongBase`] for a folder that is no backup, or one on which a server was started; [`Code::CorruptPage`] for files that are
/// damaged or missing; [`Code::Prepare`] for one that is not
/// prepared, or a table that can't be exported; [`Code::Usage`] for a name that nothing matches; [`Code::Target`] where a file is in
/// the way.
pub fn run(options: &ExportOptions, progress: &Progress, stop: &Stop) -> Result<ExportSummary> {
    let begun = Instant::now();
    progress.enter(Phase::Preparing);
    let access = if options.to.is_some() { Access::Shared } else { Access::Exclusive };
    let mut summary = ExportSummary::default();
    with_tables(&options.tables, access, |exporter, tables, root| {
        options.to.iter().try_for_each(|to| refuse_inside(to, root))?;
        let to = options.to.clone().unwrap_or_else(|| root.to_owned());
        summary.to = to.clone();
        count(tables, progress);
        for table in tables {
            let out = Output { to: &to, copies: options.to.is_some(), stop };
            for file in &table.files {
                exporter.check_pages(file, progress, stop)?;
                out.datafile(file)?;
                summary.has_keys |= file.cfp.is_some();
            }
            let statements = out.statements(table)?;
            let (schema, name) = (table.schema.clone(), table.name.clone());
            summary.tables.push((schema, name, statements, table.files.len()));
        }
        Ok(())
    })?;
    summary.time = begun.elapsed();
    progress.enter(Phase::Done);
    Ok(summary)
}

/// Sets the counters to what is to be read of these tables.
pub(super) fn count(tables: &[ExportedTable], progress: &Progress) {
    let files = || tables.iter().flat_map(|table| &table.files);
    Progress::set(&progress.bytes_done, 0);
    Progress::set(&progress.bytes_total, files().map(|file| file.len).sum());
    Progress::set(&progress.files_done, 0);
    Progress::set(&progress.files_total, files().count() as u64);
    progress.enter(Phase::Copying);
}

/// Schema and table, perhaps with a partition, of the member of a datafile or of its changes.
fn table_of(member: &str) -> Option<(&str, &str)> {
    let path = member.strip_suffix(".delta").unwrap_or(member).strip_suffix(".ibd")?;
    let (folder, table) = path.rsplit_once('/')?;
    Some((folder.rsplit('/').next()?, table))
}

/// Refuses a folder inside of the backup: copies of datafiles there would be taken for datafiles.
fn refuse_inside(to: &Path, root: &Path) -> Result<()> {
    let there = std::path::absolute(to).map_err(|e| failed(to, e))?;
    let is_inside = there
        .ancestors()
        .filter_map(|dir| dir.canonicalize().ok())
        .next()
        .is_some_and(|dir| dir.starts_with(root));
    match is_inside {
        false => Ok(()),
        true => Err(Error::new(Code::Usage, format!("--to {} lies in the backup", to.display()))
            .hint("give a folder outside of it, or leave out --to")),
    }
}

/// Finds tables of a backup, which is locked until `then` is through with them.
///
/// # Errors
/// Those of [`run`], before anything was done, and of `then`.
pub(super) fn with_tables<T>(
    chosen: &ChosenTables,
    access: Access,
    then: impl FnOnce(&Exporter<'_>, &[ExportedTable], &Path) -> Result<T>,
) -> Result<T> {
    let folder = BaseFolder::open_to_export(&chosen.dir, &chosen.mappings, access)?;
    let root = folder.root();
    if !folder.prepared {
        return Err(Error::new(Code::Prepare, format!("the backup in {} is not prepared", root.display()))
            .hint(format!("prepare it first: xbrecv prepare {}", chosen.dir.display())));
    }
    let cnf = member(root, BACKUP_CNF, METADATA_MAX)?.map(|text| BackupCnf::parse(&text)).transpose()?;
    let run = prepare::run_folder(root);
    let left_out = folder.manifest.as_ref().map(|manifest| manifest.left_out.clone()).unwrap_or_default();
    let datadir = Datadir {
        keyring: chosen.keyring.clone(),
        redo: family::redo_of_copies(),
        root,
        left_out: &left_out,
        run: &run,
        external: &folder.external,
        owner: None,
        cnf: &cnf.unwrap_or_default(),
        gtid_executed: None,
        end_lsn: None,
        server_version: None,
    };
    let exporter = Exporter::open(&datadir)?;
    let members = folder.manifest.iter().flat_map(|manifest| &manifest.members);
    for member in members {
        let Some((schema, table)) = table_of(member.name.as_str()) else { continue };
        if chosen.selection.takes_users(schema, table) && !exporter.has_file(schema, table) {
            let what = format!(
                "{schema}/{table}.ibd is in the backup by its manifest, and is missing or no tablespace any more"
            );
            return Err(
                Error::new(Code::CorruptPage, what).hint("restore the backup again, or name other tables")
            );
        }
    }
    let tables = exporter.tables(|schema, table| chosen.selection.takes_users(schema, table))?;
    let unmatched = chosen.selection.unmatched().map(|text| format!(" matches '{}'", text.escape_debug()));
    if let Some(what) = unmatched.or_else(|| tables.is_empty().then(|| " was chosen".to_owned())) {
        return Err(Error::new(
            Code::Usage,
            format!("no table of this backup that has a file of its own{what}"),
        )
        .hint("names are schema or schema.table; a table in a general tablespace can't be imported by any server"));
    }
    then(&exporter, &tables, root)
}

struct Output<'a> {
    to: &'a Path,
    copies: bool,
    stop: &'a Stop,
}

impl Output<'_> {
    /// Path of what belongs beside a datafile; its folder is made.
    fn beside(&self, datafile: &Path, suffix: &str) -> Result<PathBuf> {
        let odd = || Error::new(Code::Internal, format!("{} has no name", datafile.display()));
        if !self.copies {
            return Ok(datafile.with_extension(suffix));
        }
        let schema = datafile.parent().and_then(Path::file_name).ok_or_else(odd)?;
        let folder = self.to.join(schema);
        let missing: Vec<_> = folder.ancestors().take_while(|dir| nofollow::kind(dir).is_none()).collect();
        for dir in missing.into_iter().rev().filter(|dir| !dir.as_os_str().is_empty()) {
            nofollow::create_dir(dir, DIR_MODE).map_err(|e| failed(dir, e))?;
        }
        Ok(folder.join(datafile.file_stem().ok_or_else(odd)?).with_added_extension(suffix))
    }

    fn datafile(&self, file: &ExportedFile) -> Result<()> {
        if self.copies {
            let place = self.beside(&file.path, "ibd")?;
            self.put(&place, |partial| {
                clone_file::copy_to(&file.path, partial, self.stop)?;
                nofollow::open(partial)
            })?;
        }
        self.file(&self.beside(&file.path, "cfg")?, &file.cfg, FILE_MODE)?;
        match &file.cfp {
            Some(cfp) => self.file(&self.beside(&file.path, "cfp")?, cfp, KEY_MODE),
            None => Ok(()),
        }
    }

    /// Writes the statements; returns the path without suffixes.
    fn statements(&self, table: &ExportedTable) -> Result<PathBuf> {
        let first = table.files.first().ok_or_else(|| {
            Error::new(Code::Prepare, format!("{}.{} has no file", table.schema, table.name))
        })?;
        let (name, statements) = (quoted(&table.name), table.statements(None)?);
        let mut before =
            String::from("SET NAMES utf8mb4;\nSET foreign_key_checks = 0;\nSET sql_mode = '';\n");
        if !statements.has_primary_key {
            before.push_str("/*!80030 SET sql_generate_invisible_primary_key = OFF */;\n");
        }
        for statement in &statements.create {
            let _ = writeln!(before, "{statement};");
        }
        let _ = writeln!(before, "ALTER TABLE {name} DISCARD TABLESPACE;");
        let mut after = format!("SET NAMES utf8mb4;\nALTER TABLE {name} IMPORT TABLESPACE;\n");
        for statement in &statements.fulltext {
            let _ = writeln!(after, "{statement};");
        }
        let (create, import) =
            (self.beside(&first.path, "create.sql")?, self.beside(&first.path, "import.sql")?);
        let whole = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (stem, suffix) = name.split_once('.').unwrap_or((name, ""));
            let at = stem.find("#p#").or_else(|| stem.find("#P#")).unwrap_or(stem.len());
            path.with_file_name(format!("{}.{suffix}", &stem[..at]))
        };
        self.file(&whole(&create), before.as_bytes(), FILE_MODE)?;
        self.file(&whole(&import), after.as_bytes(), FILE_MODE)?;
        Ok(whole(&create).with_extension("").with_extension(""))
    }

    fn file(&self, place: &Path, content: &[u8], mode: u32) -> Result<()> {
        self.put(place, |partial| {
            let mut file = nofollow::create_new(partial, mode)?;
            file.write_all(content)?;
            Ok(file)
        })
    }

    /// Puts a file in its place once it is whole and durable. In the backup itself, what an earlier export wrote is replaced.
    fn put(&self, place: &Path, make: impl FnOnce(&Path) -> std::io::Result<File>) -> Result<()> {
        if self.copies && nofollow::kind(place).is_some() {
            return Err(Error::new(Code::Target, format!("{} exists", place.display()))
                .hint("give another folder with --to, or remove the file"));
        }
        let partial = place.with_added_extension(PARTIAL);
        let put = (|| {
            match nofollow::remove_file(&partial) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            make(&partial)?.sync_all()?;
            nofollow::rename(&partial, place)?;
            place.parent().map_or(Ok(()), nofollow::sync_dir)
        })();
        put.map_err(|e| {
            let _ = nofollow::remove_file(&partial);
            match e.kind() {
                std::io::ErrorKind::Interrupted => {
                    self.stop.check().err().unwrap_or_else(|| failed(place, e))
                }
                _ => failed(place, e),
            }
        })
    }
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io(Code::TargetIo, path.display(), e)
}
