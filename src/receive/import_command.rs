//! Implements `xbrecv import DIR`: brings single tables of a prepared backup into a running server.
//!
//! A table is made and imported in a schema of our own first, checked there, and then renamed to its place, all tables in one statement:
//! either all of them come, or the server is as before. What an import that was killed has left is cleared away by the next one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::base_folder::{Access, member};
use super::export_command::{ChosenTables, count, with_tables};
use crate::base::nofollow;
use crate::base::progress::{Phase, Progress};
use crate::base::{Code, Error, Result, Stop};
use crate::innodb::dictionary::create_table::{quoted, text};
use crate::prepare::export::{ExportedTable, Exporter};
use crate::restore::{Owner, clone_file};
use crate::source::session::{ConnectOptions, Session};
use crate::stream::metadata::{BINLOG_INFO, BinlogInfo, METADATA_MAX};

/// Schemas that imports make for themselves begin so. It is the name of a lock too, that only one import has at a time.
const PREFIX: &str = "xbrecv_import_";
/// Schemas that get no tables of users.
const SYSTEM: [&str; 4] = ["mysql", "sys", "performance_schema", "information_schema"];
/// Permissions of files in a datadir.
const FILE_MODE: u32 = 0o640;
/// An import rewrites every page of a table before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Suffixes of what an import puts into the folder of a schema.
const PLACED: [&str; 3] = ["ibd", "cfg", "cfp"];

/// Another name of a schema, or of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rename {
    from: (String, Option<String>),
    to: (String, Option<String>),
}

impl Rename {
    /// Reads `OLD=NEW`: `schema=schema` or `schema.table=schema.table`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Rename, String> {
        let name = |text: &str| match text.split_once('.') {
            Some((schema, table)) if !schema.is_empty() && !table.is_empty() => {
                Some((schema.to_owned(), Some(table.to_owned())))
            }
            None if !text.is_empty() => Some((text.to_owned(), None)),
            _ => None,
        };
        let parsed =
            text.split_once('=').and_then(|(from, to)| Some(Rename { from: name(from)?, to: name(to)? }));
        parsed
            .filter(|rename| rename.from.1.is_some() == rename.to.1.is_some())
            .ok_or_else(|| "expected schema.table=schema.table, or schema=schema".to_owned())
    }
}

impl Rename {
    /// Whether one of `tables` has the name, or is in the schema.
    fn is_of_one(&self, tables: &[ExportedTable]) -> bool {
        let (schema, name) = &self.from;
        tables
            .iter()
            .any(|table| table.schema == *schema && name.as_ref().is_none_or(|name| table.name == *name))
    }
}

/// Options of `xbrecv import`.
#[derive(Debug)]
pub struct ImportOptions {
    /// The tables.
    pub tables: ChosenTables,
    /// The server that gets them. It runs on this machine.
    pub server: ConnectOptions,
    /// Other names for them.
    pub renames: Vec<Rename>,
    /// Whether tables that have rows are replaced.
    pub replace: bool,
}

/// The result of an import.
#[derive(Debug, Default)]
pub struct ImportSummary {
    /// The tables: schema and name on the server, number of rows.
    pub tables: Vec<(String, String, u64)>,
    /// GTID set and binary log position that the backup stands for, as `xtrabackup_binlog_info` has them.
    pub position: Option<BinlogInfo>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Time from start to end.
    pub time: Duration,
}

/// Looks whether the server is there, and can be asked, before anything is received for it.
///
/// # Errors
/// [`Code::Connect`], [`Code::Target`].
pub fn check_server(options: &ImportOptions) -> Result<()> {
    let progress = Progress::new();
    let import = Import::open(&options.server, options, &progress)?;
    match nofollow::is_dir(&import.datadir) {
        true => Ok(()),
        false => Err(elsewhere(&import.datadir)),
    }
}

/// Imports tables.
///
/// # Errors
/// Those of [`super::export_command::run`]; [`Code::Connect`] and [`Code::Sql`] of the server; [`Code::Target`] for a table that has rows,
/// and for what an import would change besides. The server is as before then.
pub fn run(options: &ImportOptions, progress: &Progress, stop: &Stop) -> Result<ImportSummary> {
    let begun = Instant::now();
    progress.enter(Phase::Preparing);
    let mut summary = ImportSummary::default();
    with_tables(&options.tables, Access::Shared, |exporter, tables, root| {
        summary.position =
            member(root, BINLOG_INFO, METADATA_MAX)?.map(|text| BinlogInfo::parse(&text)).transpose()?;
        if let Some(rename) = options.renames.iter().find(|rename| !rename.is_of_one(tables)) {
            let (schema, name) = &rename.from;
            let name = name.as_ref().map_or(schema.clone(), |name| format!("{schema}.{name}"));
            let what = format!("--rename: {} is none of the tables that are imported", name.escape_debug());
            return Err(Error::new(Code::Usage, what));
        }
        let server = ConnectOptions { statement_timeout: Some(ANSWER_WITHIN), ..options.server.clone() };
        let mut import = Import::open(&server, options, progress)?;
        let plan = tables.iter().map(|table| import.plan(table)).collect::<Result<Vec<_>>>()?;
        check_names(&plan)?;
        import.check_constraints(&plan)?;
        if import.not_in_binlog {
            let note = "the import is not in the server's binary log: its replicas do not have the tables";
            summary.notes.push(note.to_owned());
        }
        count(tables, progress);
        let done = import.run(exporter, &plan, stop);
        let cleared = import.clear();
        summary.tables = done?;
        // The tables are there: what is left beside them is no reason to say that they are not.
        if let Err(e) = cleared {
            summary.notes.push(format!("schemas {PREFIX}… are left, which the next import clears away: {e}"));
        }
        Ok(())
    })?;
    summary.time = begun.elapsed();
    progress.enter(Phase::Done);
    Ok(summary)
}

/// Refuses two tables that would get one name, on the server or in the schema of our own.
fn check_names(plan: &[Planned<'_>]) -> Result<()> {
    let (mut here, mut there) = (BTreeSet::new(), BTreeSet::new());
    for planned in plan {
        let name = &planned.table.name;
        if !there.insert((&planned.schema, &planned.name)) {
            let what = format!("two tables would be {}.{}", planned.schema, planned.name);
            return Err(Error::new(Code::Usage, what).hint("give each a name of its own with --rename"));
        }
        if !here.insert(name) {
            return Err(Error::new(Code::Usage, format!("tables of two schemas are called {name}"))
                .hint("import one schema after the other"));
        }
    }
    Ok(())
}

/// A table, and its place.
struct Planned<'a> {
    table: &'a ExportedTable,
    schema: String,
    name: String,
    replaces: bool,
}

struct Import<'a> {
    options: &'a ImportOptions,
    progress: &'a Progress,
    session: Session,
    datadir: PathBuf,
    version: u64,
    not_in_binlog: bool,
    /// The schema that tables are imported in, and the one that those which they replace go to.
    work: String,
    old: String,
}

impl<'a> Import<'a> {
    fn open(
        server: &ConnectOptions,
        options: &'a ImportOptions,
        progress: &'a Progress,
    ) -> Result<Import<'a>> {
        let mut session = Session::connect(server)?;
        let value =
            |session: &mut Session, sql: &str| Ok::<_, Error>(session.scalar(sql)?.unwrap_or_default());
        let locked = value(&mut session, &format!("SELECT GET_LOCK('{PREFIX}', 0)"))?;
        if locked != "1" {
            return Err(Error::new(Code::Target, "another import into this server is running")
                .hint("wait for its end"));
        }
        let datadir = PathBuf::from(value(&mut session, "SELECT @@GLOBAL.datadir")?);
        let version = value(&mut session, "SELECT VERSION()")?;
        let version = version_number(&version).ok_or_else(|| {
            Error::new(
                Code::Unsupported,
                format!("the server's version was not understood: {}", version.escape_debug()),
            )
        })?;
        let not_in_binlog = value(&mut session, "SELECT @@GLOBAL.log_bin")? == "1";
        for statement in [
            "SET SESSION foreign_key_checks = 0",
            "SET SESSION sql_mode = ''",
            // A table that is replaced may be in use.
            "SET SESSION lock_wait_timeout = 60",
        ] {
            session.execute(statement)?;
        }
        if not_in_binlog {
            session.execute("SET SESSION sql_log_bin = 0")?;
        }
        // What has the variable has the privilege for it, too, or tables without a primary key are refused by their number of columns.
        let _ = session.attempt("SET SESSION sql_generate_invisible_primary_key = OFF");
        let names = uuid::Uuid::new_v4().simple().to_string();
        let (work, old) = (format!("{PREFIX}{}", &names[..16]), format!("{PREFIX}{}", &names[16..]));
        let mut import = Import { options, progress, session, datadir, version, not_in_binlog, work, old };
        import.clear()?;
        Ok(import)
    }

    /// Decides where a table goes, and whether it may.
    fn plan<'t>(&mut self, table: &'t ExportedTable) -> Result<Planned<'t>> {
        let (schema, name) = self.place_of(&table.schema, &table.name);
        let shown = format!("{schema}.{name}");
        let refuse = |what: String| Error::new(Code::Target, what);
        if SYSTEM.iter().any(|system| schema.eq_ignore_ascii_case(system)) {
            return Err(refuse(format!("{schema} is a schema of the server's own"))
                .hint("give another one with --rename"));
        }
        // An import takes the definition for that of its own version or an earlier one.
        if self.version / 100 < table.server_version / 100 {
            return Err(refuse(format!(
                "{}.{} is of server {}, and this one is {}: an older server can't import it",
                table.schema, table.name, table.server_version, self.version
            )));
        }
        if table.data_directory.is_some() {
            return Err(refuse(format!("{}.{} lies outside of the datadir", table.schema, table.name))
                .hint("use xbrecv export, and give its DATA DIRECTORY in the statement that makes it"));
        }
        let (of_schema, of_table) = (text(&schema), text(&name));
        let exists = self.session.scalar(&format!(
            "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = {of_schema}"
        ))?;
        if exists.as_deref() != Some("1") {
            return Err(refuse(format!("the server has no schema {schema}"))
                .hint(format!("CREATE DATABASE {}, or give another one with --rename", quoted(&schema))));
        }
        let kind = self.session.scalar(&format!(
            "SELECT table_type FROM information_schema.tables WHERE table_schema = {of_schema} AND table_name = {of_table}"
        ))?;
        let Some(kind) = kind else { return Ok(Planned { table, schema, name, replaces: false }) };
        if kind != "BASE TABLE" {
            return Err(refuse(format!("{shown} is there, and is no table ({})", kind.escape_debug())));
        }
        self.refuse_rows(&schema, &name, &shown)?;
        self.refuse_ties(&schema, &name, &shown)?;
        Ok(Planned { table, schema, name, replaces: true })
    }

    /// Schema and name that a table gets.
    fn place_of(&self, schema: &str, name: &str) -> (String, String) {
        let renames = || self.options.renames.iter();
        let of_table =
            renames().find(|rename| rename.from.0 == schema && rename.from.1.as_deref() == Some(name));
        if let Some((to, Some(new))) = of_table.map(|rename| &rename.to) {
            return (to.clone(), new.clone());
        }
        let of_schema = renames().find(|rename| rename.from.0 == schema && rename.from.1.is_none());
        (of_schema.map_or(schema, |rename| &rename.to.0).to_owned(), name.to_owned())
    }

    /// Refuses names of constraints that a table in its schema has already. One that is to be replaced does not count.
    fn check_constraints(&mut self, plan: &[Planned<'_>]) -> Result<()> {
        let mut all = BTreeSet::new();
        for planned in plan {
            for name in planned.table.constraints(&planned.name) {
                let is_new = all.insert((planned.schema.to_lowercase(), name.to_lowercase()));
                let other = format!(
                    "SELECT table_name FROM information_schema.table_constraints WHERE constraint_schema = {} AND constraint_name = {}
                     AND constraint_type IN ('FOREIGN KEY', 'CHECK') AND NOT (table_name = {} AND {})",
                    text(&planned.schema),
                    text(&name),
                    text(&planned.name),
                    planned.replaces
                );
                let other = if is_new {
                    self.session.scalar(&other)?
                } else {
                    Some("another that is imported".to_owned())
                };
                if let Some(other) = other {
                    let what = format!(
                        "{}.{} has the constraint {name}, and so has in the same schema {other}",
                        planned.schema, planned.name
                    );
                    return Err(Error::new(Code::Target, what).hint("give another schema with --rename"));
                }
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        exporter: &Exporter<'_>,
        plan: &[Planned<'_>],
        stop: &Stop,
    ) -> Result<Vec<(String, String, u64)>> {
        for schema in [self.work.clone(), self.old.clone()] {
            self.session.execute(&format!("CREATE DATABASE {}", quoted(&schema)))?;
        }
        let folder = self.datadir.join(&self.work);
        if !nofollow::is_dir(&folder) {
            return Err(elsewhere(&self.datadir));
        }
        self.session.execute(&format!("USE {}", quoted(&self.work)))?;
        let mut done = Vec::new();
        for planned in plan {
            let rows = self.import(exporter, planned, &folder, stop)?;
            done.push((planned.schema.clone(), planned.name.clone(), rows));
        }
        stop.check()?;
        let (work, old) = (quoted(&self.work), quoted(&self.old));
        let mut moves = Vec::new();
        for (n, planned) in plan.iter().enumerate() {
            let place = format!("{}.{}", quoted(&planned.schema), quoted(&planned.name));
            if planned.replaces {
                moves.push(format!("{place} TO {old}.t{n}"));
            }
            moves.push(format!("{work}.{} TO {place}", quoted(&planned.table.name)));
        }
        self.session.execute(&format!("RENAME TABLE {}", moves.join(", ")))?;
        if let Err(e) = self.check_replaced(plan) {
            let back = plan.iter().enumerate().flat_map(|(n, planned)| {
                let place = format!("{}.{}", quoted(&planned.schema), quoted(&planned.name));
                let away = format!("{place} TO {work}.{}", quoted(&planned.table.name));
                [Some(away), planned.replaces.then(|| format!("{old}.t{n} TO {place}"))].into_iter().flatten()
            });
            let back: Vec<_> = back.collect();
            self.session.execute(&format!("RENAME TABLE {}", back.join(", ")))?;
            return Err(e);
        }
        Ok(done)
    }

    /// Looks at the tables that were replaced once nobody can reach them any more: they were empty when the import began, and have
    /// rows, perhaps, since.
    fn check_replaced(&mut self, plan: &[Planned<'_>]) -> Result<()> {
        for (n, planned) in plan.iter().enumerate().filter(|(_, planned)| planned.replaces) {
            let (old, name) = (self.old.clone(), format!("t{n}"));
            let shown = format!("{}.{}", planned.schema, planned.name);
            self.refuse_rows(&old, &name, &shown)?;
            self.refuse_ties(&old, &name, &shown)?;
        }
        Ok(())
    }

    /// Refuses to replace a table that has rows, unless that was asked for.
    fn refuse_rows(&mut self, schema: &str, name: &str, shown: &str) -> Result<()> {
        let rows = format!("SELECT 1 FROM {}.{} LIMIT 1", quoted(schema), quoted(name));
        match self.options.replace || self.session.scalar(&rows)?.is_none() {
            true => Ok(()),
            false => Err(Error::new(Code::Target, format!("{shown} is there and has rows"))
                .hint("give --replace to have it replaced, or another name with --rename")),
        }
    }

    /// Refuses to replace a table that others need.
    fn refuse_ties(&mut self, schema: &str, name: &str, shown: &str) -> Result<()> {
        let (of_schema, of_table) = (text(schema), text(name));
        for (what, sql) in [
            (
                "triggers, which would be lost",
                format!(
                    "SELECT COUNT(*) FROM information_schema.triggers WHERE event_object_schema = {of_schema} AND event_object_table = {of_table}"
                ),
            ),
            (
                "foreign keys of other tables that refer to it",
                format!(
                    "SELECT COUNT(*) FROM information_schema.referential_constraints WHERE unique_constraint_schema = {of_schema}
                     AND referenced_table_name = {of_table} AND NOT (constraint_schema = {of_schema} AND table_name = {of_table})"
                ),
            ),
        ] {
            if self.session.scalar(&sql)?.as_deref() != Some("0") {
                return Err(Error::new(Code::Target, format!("{shown} is there and has {what}"))
                    .hint("drop them first, or give another name with --rename"));
            }
        }
        Ok(())
    }

    /// Imports a table in the schema of our own; returns its number of rows.
    fn import(
        &mut self,
        exporter: &Exporter<'_>,
        planned: &Planned<'_>,
        folder: &Path,
        stop: &Stop,
    ) -> Result<u64> {
        let table = planned.table;
        let name = quoted(&table.name);
        let place_of = |schema: &str, name: &str| {
            let there = self.place_of(schema, name);
            // A parent that stays in the schema of the table's own goes with it.
            match schema == table.schema && there == (schema.to_owned(), name.to_owned()) {
                true => (planned.schema.clone(), name.to_owned()),
                false => there,
            }
        };
        let statements = table.statements(Some(&place_of))?;
        for statement in &statements.create {
            self.session.execute(statement)?;
        }
        self.session.execute(&format!("ALTER TABLE {name} DISCARD TABLESPACE"))?;
        let owner = Owner::of_target(folder);
        for file in &table.files {
            stop.check()?;
            exporter.check_pages(file, self.progress, stop)?;
            let stem = file
                .path
                .file_stem()
                .ok_or_else(|| Error::new(Code::Internal, "a datafile without a name"))?;
            let place = |suffix: &str| folder.join(stem).with_added_extension(suffix);
            let contents = [("cfg", Some(&file.cfg[..])), ("cfp", file.cfp.as_ref().map(|cfp| &cfp[..]))];
            for (suffix, content) in
                contents.into_iter().filter_map(|(suffix, content)| Some((suffix, content?)))
            {
                put(&place(suffix), owner, |path| {
                    use std::io::Write;
                    nofollow::create_new(path, FILE_MODE)?.write_all(content)
                })?;
            }
            put(&place("ibd"), owner, |path| clone_file::copy_to(&file.path, path, stop))?;
        }
        stop.check()?;
        self.session.execute(&format!("ALTER TABLE {name} IMPORT TABLESPACE"))?;
        remove(folder, &PLACED[1..])?;
        for statement in &statements.fulltext {
            self.session.execute(statement)?;
        }
        let checked = self.session.query(&format!("CHECK TABLE {name}"))?;
        let verdict = checked.last().and_then(|row| row.last().cloned().flatten()).unwrap_or_default();
        if verdict != "OK" {
            let what = format!(
                "{}.{} was imported, and CHECK TABLE says: {}",
                table.schema,
                table.name,
                verdict.escape_debug()
            );
            return Err(Error::new(Code::Target, what)
                .hint("the backup's table may be damaged: check it on the source"));
        }
        let rows = self.session.scalar(&format!("SELECT COUNT(*) FROM {name}"))?;
        Ok(rows.and_then(|rows| rows.parse().ok()).unwrap_or_default())
    }

    /// Drops the schemas of this import, and of earlier ones that were killed: nobody else has the lock.
    fn clear(&mut self) -> Result<()> {
        let pattern = PREFIX.replace('_', "\\_");
        let found = self.session.query(&format!("SHOW DATABASES LIKE '{pattern}%'"))?;
        for schema in found.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
            let is_ours = schema
                .strip_prefix(PREFIX)
                .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
            if !is_ours {
                continue;
            }
            let sql =
                format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'");
            for table in
                self.session.query(&sql)?.into_iter().filter_map(|row| row.into_iter().next().flatten())
            {
                self.session.execute(&format!("DROP TABLE {schema}.{}", quoted(&table)))?;
            }
            // What was put there and not imported is known to nobody, and a server drops no schema with such files.
            let folder = self.datadir.join(&schema);
            if nofollow::is_dir(&folder) {
                remove(&folder, &PLACED)?;
            }
            self.session.execute(&format!("DROP DATABASE {}", quoted(&schema)))?;
        }
        Ok(())
    }
}

/// Puts a file in its place in a datadir, as the server's.
fn put(place: &Path, owner: Option<Owner>, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let put = make(place).and_then(|()| {
        let file = nofollow::open(place)?;
        owner.map_or(Ok(()), |owner| owner.give(&file))?;
        file.sync_all()
    });
    put.map_err(|e| failed(place, e))
}

/// Removes the files with these suffixes from a folder.
fn remove(folder: &Path, suffixes: &[&str]) -> Result<()> {
    for (entry, _) in nofollow::entries(folder).map_err(|e| failed(folder, e))? {
        let path = folder.join(entry);
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        if suffix.is_some_and(|suffix| suffixes.contains(&suffix)) {
            nofollow::remove_file(&path).map_err(|e| failed(&path, e))?;
        }
    }
    Ok(())
}

/// A version as the dictionary has it: 9.7.4 is 90704.
fn version_number(text: &str) -> Option<u64> {
    let mut parts =
        text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u64>().ok().filter(|n| *n < 100));
    Some((parts.next()?? * 100 + parts.next()??) * 100 + parts.next()??)
}

fn elsewhere(datadir: &Path) -> Error {
    let what =
        format!("the server's datadir {} is not on this machine, or closed to this user", datadir.display());
    Error::new(Code::Target, what).hint("run it where the server runs, as root or as the server's user")
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    let error = Error::io(Code::TargetIo, path.display(), e);
    match error.hint {
        None => error.hint("run xbrecv import as root or as the server's user"),
        Some(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_names() {
        for (text, number) in
            [("9.7.4-2", Some(90704)), ("8.0.36", Some(80036)), ("8.4", None), ("", None), ("a.b.c", None)]
        {
            assert_eq!(version_number(text), number, "{text}");
        }
        let rename = Rename::parse("shop.orders=archive.orders_2026").unwrap();
        assert_eq!(rename.to, ("archive".to_owned(), Some("orders_2026".to_owned())));
        assert!(Rename::parse("shop=archive").is_ok());
        for bad in ["shop", "shop=", "=a", "shop.t=archive", "shop=archive.t", ".t=a.b", "a.=b.c"] {
            assert!(Rename::parse(bad).is_err(), "{bad}");
        }
    }
}
