//! The command line of the private server: the source's options that its files depend on, and nothing else of it.
//!
//! What comes from `backup-my.cnf` came over the wire. Only options on the list below are taken, their values must be
//! plain words, and paths never lead out of the staged files.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Datadir;
use crate::base::confined::lexical;
use crate::base::nofollow;
use crate::base::{Code, Error, Result};
use crate::stream::MemberName;
use crate::stream::metadata::BackupCnf;

/// Options of the source without which its files are not understood, or that say what a transaction was.
const TAKEN: &[&str] = &[
    "innodb_page_size",
    "innodb_checksum_algorithm",
    "lower_case_table_names",
    "server_id",
    "gtid_mode",
    "enforce_gtid_consistency",
];

/// What makes it private, quiet and quick. Crash safety is not needed: if it dies, the copy is thrown away, and what it
/// wrote is synced afterwards.
const FIXED: &[&str] = &[
    "--skip-networking",
    "--loose-mysqlx=OFF",
    "--skip-grant-tables",
    "--persisted-globals-load=OFF",
    "--event-scheduler=DISABLED",
    "--skip-replica-start",
    "--performance-schema=OFF",
    "--auto-generate-certs=OFF",
    "--caching-sha2-password-auto-generate-rsa-keys=OFF",
    "--loose-sha256-password-auto-generate-rsa-keys=OFF",
    "--innodb-buffer-pool-load-at-startup=OFF",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--innodb-doublewrite=OFF",
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-undo-log-truncate=OFF",
    "--innodb-redo-log-capacity=8M",
    "--sync-binlog=0",
    "--log-error-verbosity=3",
];

/// The name of the socket and the other files in the private folder.
pub(super) struct RunFiles<'a>(pub(super) &'a Path);

impl RunFiles<'_> {
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("error.log")
    }

    pub(super) fn init(&self) -> PathBuf {
        self.0.join("init.sql")
    }

    pub(super) fn gtid(&self) -> PathBuf {
        self.0.join("gtid_executed")
    }

    pub(super) fn output(&self) -> PathBuf {
        self.0.join("output")
    }
}

/// The arguments of the private server.
pub(super) fn arguments(datadir: &Datadir<'_>, use_memory: u64) -> Result<Vec<OsString>> {
    let mut args = Arguments(vec!["--no-defaults".into()]);
    args.path("datadir", datadir.root);
    if datadir.owner.is_none() && rustix::process::geteuid().is_root() {
        // A server does not run as root unless told to; the target is root's own.
        args.plain("user", "root");
    }
    private_files(&mut args, datadir.run);
    args.0.extend(FIXED.iter().map(Into::into));
    args.plain("innodb-buffer-pool-size", &use_memory.to_string());
    for name in TAKEN {
        if let Some(value) = datadir.cnf.get(name) {
            args.plain(name, plain(name, value)?);
        }
    }
    if datadir.cnf.get("gtid_mode").is_none() && datadir.gtid_executed.is_some_and(|g| !g.is_empty()) {
        args.plain("gtid_mode", "ON");
        args.plain("enforce_gtid_consistency", "ON");
    }
    tablespaces(&mut args, datadir)?;
    match binlog(datadir)? {
        Some(base) => args.plain("log-bin", &base),
        None => args.0.push("--disable-log-bin".into()),
    }
    Ok(args.0)
}

/// The base name of the binary log whose last part came with the backup.
pub fn binlog(datadir: &Datadir<'_>) -> Result<Option<String>> {
    let Some(base) = datadir.cnf.get("log_bin").filter(|b| !b.is_empty()) else { return Ok(None) };
    let index = MemberName::parse(format!("{base}.index")).ok().filter(|n| n.parent().is_none());
    let index = index.ok_or_else(|| refused("log_bin", base))?;
    Ok(nofollow::is_file(&datadir.root.join(index.as_str())).then(|| base.to_owned()))
}

fn private_files(args: &mut Arguments, run: &Path) {
    let files = RunFiles(run);
    // Relative to the datadir, which a server makes its working folder: paths of sockets are short by nature.
    let relative = Path::new("..").join(run.file_name().unwrap_or(OsStr::new(".")));
    args.path("socket", &relative.join("s"));
    args.path("pid-file", &run.join("pid"));
    args.path("log-error", &files.log());
    args.path("secure-file-priv", run);
    args.path("tmpdir", run);
    args.path("init-file", &files.init());
    args.path("relay-log", &run.join("relay"));
    args.path("relay-log-index", &run.join("relay.index"));
}

/// Where the tablespaces are that the server looks for by option, not in the dictionary.
fn tablespaces(args: &mut Arguments, datadir: &Datadir<'_>) -> Result<()> {
    if let Some(spec) = datadir.cnf.get("innodb_data_file_path") {
        let (home, spec) = system_tablespace(datadir, spec)?;
        args.path("innodb-data-home-dir", &home);
        args.plain("innodb-data-file-path", &spec);
    }
    if let Some(dir) = undo_directory(datadir) {
        args.path("innodb-undo-directory", &dir);
    }
    let mut dirs: Vec<&Path> = datadir
        .external
        .iter()
        .filter_map(|(_, now)| now.parent())
        .filter(|d| !d.starts_with(datadir.root))
        .collect();
    dirs.sort_unstable();
    dirs.dedup();
    if !dirs.is_empty() {
        let mut list = OsString::new();
        for (n, dir) in dirs.iter().enumerate() {
            if n > 0 {
                list.push(";");
            }
            list.push(dir);
        }
        args.path("innodb-directories", Path::new(&list));
    }
    Ok(())
}

/// `innodb_data_file_path` of a server that is not told.
const DEFAULT_SYSTEM: &str = "ibdata1:12M:autoextend";

/// The files of the system tablespace, in their order.
pub(super) fn system_files(datadir: &Datadir<'_>) -> Result<Vec<PathBuf>> {
    let spec = datadir.cnf.get("innodb_data_file_path").unwrap_or(DEFAULT_SYSTEM);
    let (home, spec) = system_tablespace(datadir, spec)?;
    Ok(spec.split(';').map(|part| home.join(part.split(':').next().unwrap_or(part))).collect())
}

/// A file of the system tablespace, as it travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemFile {
    /// Its member.
    pub member: MemberName,
    /// Its size in bytes, where that is fixed: of all but the last.
    pub size: Option<u64>,
}

/// The files of the system tablespace by the source's options; `external` are paths on the source of files outside its
/// datadir, and their members.
///
/// # Errors
/// If the options can't be understood.
pub fn system_members(cnf: &BackupCnf, external: &[(PathBuf, MemberName)]) -> Result<Vec<SystemFile>> {
    const NAME: &str = "innodb_data_file_path";
    let spec = cnf.get(NAME).unwrap_or(DEFAULT_SYSTEM);
    let home = PathBuf::from(cnf.get("innodb_data_home_dir").unwrap_or_default());
    let entries: Vec<&str> = spec.split(';').map(str::trim).filter(|e| !e.is_empty()).collect();
    let mut files = Vec::new();
    for (n, entry) in entries.iter().enumerate() {
        let (name, size) = entry.split_once(':').ok_or_else(|| refused(NAME, spec))?;
        let on_source = home.join(name.trim_start_matches("./"));
        let outside =
            external.iter().find(|(there, _)| *there == on_source).map(|(_, member)| member.clone());
        let member = outside
            .or_else(|| MemberName::parse(inside(&on_source)?.to_str()?).ok())
            .ok_or_else(|| refused(NAME, spec))?;
        let is_last = n + 1 == entries.len();
        files.push(SystemFile { member, size: if is_last { None } else { size_in_bytes(size) } });
    }
    match files.is_empty() {
        true => Err(refused(NAME, spec)),
        false => Ok(files),
    }
}

/// 12M, as in `innodb_data_file_path`.
fn size_in_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The parts of the system tablespace, in the source's order and with its sizes, where they are now.
fn system_tablespace(datadir: &Datadir<'_>, spec: &str) -> Result<(PathBuf, String)> {
    const NAME: &str = "innodb_data_file_path";
    let home = PathBuf::from(datadir.cnf.get("innodb_data_home_dir").unwrap_or_default());
    let mut parts = Vec::new();
    let mut moved = false;
    for entry in spec.split(';').map(str::trim).filter(|e| !e.is_empty()) {
        let (name, size) = entry.split_once(':').ok_or_else(|| refused(NAME, spec))?;
        let sizes_ok = size.bytes().all(|b| b.is_ascii_alphanumeric() || b == b':');
        let on_source = lexical(&home.join(name.trim_start_matches("./")));
        let now = datadir.external.iter().find(|(there, _)| *there == on_source).map(|(_, now)| now.clone());
        let path = match now {
            Some(path) => {
                moved = true;
                path
            }
            None => datadir.root.join(inside(&on_source).ok_or_else(|| refused(NAME, spec))?),
        };
        let text = path
            .to_str()
            .filter(|p| sizes_ok && !p.contains([':', ';']))
            .ok_or_else(|| refused(NAME, spec))?;
        parts.push((text.to_owned(), size.to_owned()));
    }
    let root = datadir.root.to_string_lossy().into_owned();
    let list = |strip: &str| {
        parts
            .iter()
            .map(|(path, size)| format!("{}:{size}", path.trim_start_matches(strip)))
            .collect::<Vec<_>>()
            .join(";")
    };
    // Absolute names are only understood with an empty home.
    Ok(if moved { (PathBuf::new(), list("")) } else { (datadir.root.to_owned(), list(&format!("{root}/"))) })
}

/// The member that a file inside the source's datadir became: its relative name, or, where the source was given an absolute
/// one, its last component, which is where such files lie.
fn inside(on_source: &Path) -> Option<PathBuf> {
    let name = match on_source.is_absolute() {
        true => Path::new(on_source.file_name()?),
        false => on_source,
    };
    let name = MemberName::parse(name.to_str()?).ok()?;
    Some(PathBuf::from(name.as_str()))
}

/// The folder of the undo tablespaces, where that is not the datadir itself.
fn undo_directory(datadir: &Datadir<'_>) -> Option<PathBuf> {
    let on_source = &lexical(Path::new(datadir.cnf.get("innodb_undo_directory")?));
    let found = datadir.external.iter().find(|(there, _)| there.parent() == Some(&**on_source));
    if let Some((_, now)) = found {
        return now.parent().map(Path::to_owned);
    }
    let source_root = datadir.cnf.get("datadir").filter(|d| !d.is_empty()).unwrap_or(".");
    let relative = match on_source.is_absolute() {
        true => on_source.strip_prefix(source_root).ok()?,
        false => on_source,
    };
    let relative =
        MemberName::parse(relative.to_str()?.trim_start_matches("./").trim_end_matches('/')).ok()?;
    Some(datadir.root.join(relative.as_str())).filter(|d| nofollow::is_dir(d))
}

fn plain<'v>(name: &str, value: &'v str) -> Result<&'v str> {
    let word = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    word.then_some(value).ok_or_else(|| refused(name, value))
}

fn refused(name: &str, value: &str) -> Error {
    const SHOWN: usize = 100;
    let value: String = value.chars().take(SHOWN).collect();
    Error::new(
        Code::StreamRefused,
        format!(
            "backup-my.cnf has {name}={}, which is not let in",
            value.chars().take(100).collect::<String>().escape_debug()
        ),
    )
    .hint("use --prepare=none, look into backup-my.cnf of the copy, and start your own server on it")
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn plain(&mut self, name: &str, value: &str) {
        self.0.push(format!("--{}={value}", name.replace('_', "-")).into());
    }

    fn path(&mut self, name: &str, value: &Path) {
        let mut arg = OsString::from(format!("--{name}="));
        arg.push(value);
        self.0.push(arg);
    }
}
