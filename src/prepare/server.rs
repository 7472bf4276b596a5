//! Has a private mysqld recover the copy: the server's own crash recovery, before anybody sees it.
//!
//! It listens on a socket in a private folder only, reads no option file, runs no events and no replication, and is
//! killed with us ([`launch`]). The binary log's last part, if it came with the backup, is given to it: its two-phase
//! recovery commits the transactions that are in the log but only prepared in InnoDB, and rolls back the others; and the
//! GTIDs of statements that InnoDB does not know of (DDL of other engines) are only there. A clean shutdown leaves all of
//! them in `mysql.gtid_executed`, so that the copy keeps them with or without the binary log.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::options::{self, RunFiles};
use super::{Datadir, Mysqld, launch};
use crate::base::gtid::GtidSet;
use crate::base::nofollow;
use crate::base::{Code, Error, Result, Stop};

/// Permissions of the private folder.
const RUN_MODE: u32 = 0o700;
/// Permissions of files in it.
const FILE_MODE: u32 = 0o600;
/// How often the server is looked at.
const LOOK_NANOSECONDS: i64 = 20_000_000;
/// The message that a server logs when it is up (`ER_SERVER_STARTUP_MSG`).
const READY: &str = "[MY-010931]";
/// Messages about a datafile that is not there: of a table that a partial backup lacks, when it is dropped.
const MISSING_FILE: [&str; 3] = ["[MY-012592]", "[MY-012593]", "[MY-012216]"];
/// How many error lines of its log a message holds.
const ERRORS_SHOWN: usize = 5;
/// Never read more than this of what the server writes.
const LOG_MAX: u64 = 64 << 20;

/// Lets `mysqld` recover `datadir`, and shuts it down; gives what the user should know.
///
/// # Errors
/// [`Code::Prepare`] with what its error log says; [`Code::Interrupted`].
pub fn prepare(mysqld: &Mysqld, datadir: &Datadir<'_>, use_memory: u64, stop: &Stop) -> Result<Vec<String>> {
    let run = RunFiles(datadir.run);
    make_run_folder(datadir, &run)?;
    let before = entries(datadir.root)?;
    let arguments = options::arguments(datadir, use_memory)?;
    let mut server = PrivateServer::start(mysqld, datadir, &arguments, &run)?;
    server.wait_until_ready(stop)?;
    let status = server.shut_down(stop)?;
    drop(server);
    let log = read_log(&run.log());
    if !status.success() {
        return Err(failed(&run, &format!("it ended with {status}")));
    }
    let partial = !datadir.left_out.is_empty();
    let expected = |line: &&str| partial && MISSING_FILE.iter().any(|code| line.contains(code));
    let mut errors = errors_of(&log).filter(|line| !expected(line));
    if errors.any(|line| line.contains("[InnoDB]")) {
        return Err(failed(&run, "InnoDB reported errors"));
    }
    let errors = errors_of(&log).filter(|line| !expected(line));
    let mut notes: Vec<_> = errors.map(|line| format!("the private mysqld said: {}", words(line))).collect();
    notes.extend(check_gtids(datadir, &run)?);
    remove_leftovers(datadir, &before)?;
    Ok(notes)
}

fn make_run_folder(datadir: &Datadir<'_>, run: &RunFiles<'_>) -> Result<()> {
    let made = (|| -> io::Result<()> {
        nofollow::create_dir(datadir.run, RUN_MODE)?;
        // Asked for in the server itself: no client, and no account, is needed.
        let mut sql = format!("SELECT @@GLOBAL.gtid_executed INTO DUMPFILE {};\n", quoted(&run.gtid())?);
        if !datadir.left_out.is_empty() {
            // The dictionary still has the tables that a partial backup lacks.
            sql += "SET SESSION sql_log_bin = 0;\nSET SESSION foreign_key_checks = 0;\n";
        }
        // Those behind a full-text index go with its table; to drop them by themselves is an error.
        let tables = datadir.left_out.iter().filter(|one| !is_behind_fulltext_index(&one.table));
        let tables: BTreeSet<_> = tables.map(|one| (&one.schema, &one.table)).collect();
        for (schema, table) in tables {
            sql += &format!("DROP TABLE IF EXISTS {}.{};\n", identifier(schema), identifier(table));
        }
        let mut init = nofollow::create_new(&run.init(), FILE_MODE)?;
        init.write_all(sql.as_bytes())?;
        datadir.own(init)?;
        datadir.own(nofollow::create_new(&run.output(), FILE_MODE)?)?;
        datadir.own(nofollow::open_dir(datadir.run)?)
    })();
    made.map_err(|e| Error::io(Code::TargetIo, datadir.run.display(), e))
}

/// Whether a table is one that InnoDB makes for a full-text index: `fts_`, the id of the index' table in 16 hexadecimal digits, `_`
/// (`fts_get_table_name`).
fn is_behind_fulltext_index(table: &str) -> bool {
    let rest = table.strip_prefix("fts_").and_then(|rest| rest.split_at_checked(16));
    rest.is_some_and(|(id, rest)| id.bytes().all(|b| b.is_ascii_hexdigit()) && rest.starts_with('_'))
}

/// A name for SQL.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn quoted(path: &Path) -> io::Result<String> {
    let text = path.to_str().ok_or_else(|| io::Error::other("the path of the target is not UTF-8"))?;
    Ok(format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''")))
}

/// A file to add to.
fn append_to(path: &Path) -> io::Result<File> {
    let file = nofollow::open_rw(path)?;
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// The running server. Dropping it kills it.
struct PrivateServer<'a> {
    child: Child,
    run: &'a RunFiles<'a>,
}

impl<'a> PrivateServer<'a> {
    fn start(
        mysqld: &Mysqld,
        datadir: &Datadir<'_>,
        arguments: &[OsString],
        run: &'a RunFiles<'a>,
    ) -> Result<PrivateServer<'a>> {
        let started = (|| {
            let output = append_to(&run.output())?;
            let mut command = launch::command(mysqld.path.as_os_str());
            command.args(arguments).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
            // A terminal's interrupt is for us; we end the server.
            command.process_group(0);
            if let Some((uid, gid)) = datadir.owner {
                command.uid(uid).gid(gid);
            }
            command.spawn()
        })();
        let child = started.map_err(|e| {
            Error::new(Code::Prepare, format!("can't start {}", mysqld.path.display())).cause(e)
        })?;
        tracing::debug!("private mysqld {} started: {arguments:?}", child.id());
        Ok(PrivateServer { child, run })
    }

    fn wait_until_ready(&mut self, stop: &Stop) -> Result<()> {
        let mut log = LogTail::new(self.run.log());
        loop {
            if log.has_new_line_with(READY) {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                return Err(failed(self.run, &format!("it ended with {status} before it was up")));
            }
            pause(stop)?;
        }
    }

    fn shut_down(&mut self, stop: &Stop) -> Result<ExitStatus> {
        let asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        asked.map_err(|e| Error::new(Code::Prepare, "can't shut the private mysqld down").cause(e))?;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            pause(stop)?;
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait();
        status.map_err(|e| Error::new(Code::Prepare, "lost sight of the private mysqld").cause(e))
    }
}

impl Drop for PrivateServer<'_> {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // What it leaves is thrown away.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits a moment, or until a stop is requested.
fn pause(stop: &Stop) -> Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(stop.wake_fd(), PollFlags::IN)];
    let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: LOOK_NANOSECONDS }));
    stop.check()
}

/// Follows a log as it grows.
struct LogTail {
    path: PathBuf,
    read: u64,
    partial: String,
}

impl LogTail {
    fn new(path: PathBuf) -> LogTail {
        LogTail { path, read: 0, partial: String::new() }
    }

    fn has_new_line_with(&mut self, text: &str) -> bool {
        let mut bytes = Vec::new();
        let Ok(mut file) = nofollow::open(&self.path) else { return false };
        if file.seek(SeekFrom::Start(self.read)).is_err()
            || file.take(LOG_MAX).read_to_end(&mut bytes).is_err()
        {
            return false;
        }
        self.read += bytes.len() as u64;
        self.partial.push_str(&String::from_utf8_lossy(&bytes));
        let whole = self.partial.rfind('\n').map_or(0, |at| at + 1);
        let lines: String = self.partial.drain(..whole).collect();
        lines.lines().inspect(|line| tracing::debug!("mysqld: {line}")).any(|line| line.contains(text))
    }
}

/// The transactions that the copy has are those that the backup recorded.
fn check_gtids(datadir: &Datadir<'_>, run: &RunFiles<'_>) -> Result<Option<String>> {
    let Some(recorded) = datadir.gtid_executed else { return Ok(None) };
    let internal = |e: String| Error::new(Code::Prepare, format!("can't compare GTID sets: {e}"));
    let found = nofollow::read(&run.gtid(), LOG_MAX).map_err(|e| internal(e.to_string()))?;
    let found = String::from_utf8_lossy(&found);
    let found = GtidSet::parse(&found).map_err(|e| internal(e.to_string()))?;
    let recorded = GtidSet::parse(recorded).map_err(|e| internal(e.to_string()))?;
    let (missing, extra) = (recorded.minus(&found), found.minus(&recorded));
    if missing.is_empty() && extra.is_empty() {
        return Ok(None);
    }
    let mut differences = Vec::new();
    if !missing.is_empty() {
        differences.push(format!("it lacks {missing}"));
    }
    if !extra.is_empty() {
        differences.push(format!("it has {extra} beyond them"));
    }
    let said = format!(
        "the copy's GTIDs are not those recorded at the end of the backup: {}",
        differences.join(", ")
    );
    if options::binlog(datadir)?.is_some() || !extra.is_empty() {
        return Err(
            Error::new(Code::Prepare, said).hint("take the backup again; if it happens again, report it")
        );
    }
    // Without the binary log nobody can know what became of transactions that were only prepared.
    Ok(Some(format!("{said}; the stream has no binary log to recover them from")))
}

/// Removes what the server made for itself: its own uuid, history, temporary files. Redo belongs to the copy, and so do
/// files of the binary log that its index names.
fn remove_leftovers(datadir: &Datadir<'_>, before: &BTreeSet<OsString>) -> Result<()> {
    let binlog = options::binlog(datadir)?.map(|base| format!("{base}."));
    for name in entries(datadir.root)?.difference(before) {
        let text = name.to_string_lossy();
        if binlog.as_ref().is_some_and(|b| text.starts_with(b.as_str())) {
            continue;
        }
        let path = datadir.root.join(name);
        nofollow::remove_all(&path).map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
    }
    nofollow::remove_all(datadir.run).map_err(|e| Error::io(Code::TargetIo, datadir.run.display(), e))
}

fn entries(dir: &Path) -> Result<BTreeSet<OsString>> {
    let read = nofollow::entries(dir).map(|entries| entries.into_iter().map(|(name, _)| name).collect());
    read.map_err(|e| Error::io(Code::TargetIo, dir.display(), e))
}

fn read_log(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = nofollow::open(path) {
        let _ = file.take(LOG_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn errors_of(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains("[ERROR]"))
}

/// A line of the log without its time and thread.
fn words(line: &str) -> &str {
    line.find("[MY-").map_or(line, |at| &line[at..])
}

/// The error with what the server's log says; the log itself is kept where the user can read it.
fn failed(run: &RunFiles<'_>, how: &str) -> Error {
    let log = read_log(&run.log());
    let mut said: Vec<_> = errors_of(&log).take(ERRORS_SHOWN).map(words).collect();
    let output = read_log(&run.output());
    if said.is_empty() {
        said.extend(output.lines().rev().take(ERRORS_SHOWN));
        said.reverse();
    }
    let said = if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) };
    let mut error =
        Error::new(Code::Prepare, format!("the private mysqld could not recover the copy: {how}{said}"));
    let mut hints = Vec::new();
    if let Some(kept) = keep_log(&log) {
        hints.push(format!("its whole log is in {}", kept.display()));
    }
    if log.contains("errno: 13") || log.contains("Permission denied") {
        hints.push("a security profile (AppArmor, SELinux) may keep mysqld out of the staging folder beside the target".into());
    }
    hints.push("with --prepare=none the copy is left for your own server to recover".into());
    error.hint = Some(hints.join("; "));
    error
}

fn keep_log(log: &str) -> Option<PathBuf> {
    if log.is_empty() {
        return None;
    }
    let name = format!("xbrecv-mysqld-{}.log", uuid::Uuid::new_v4().simple());
    let path = std::env::temp_dir().join(name);
    let mut file = File::create_new(&path).ok()?;
    io::Write::write_all(&mut file, log.as_bytes()).ok()?;
    Some(path)
}

/// The name of a folder beside the datadir.
pub fn run_folder(datadir: &Path) -> PathBuf {
    datadir.parent().unwrap_or(datadir).join(OsStr::new("run"))
}
