//! `xbrecv import DIR`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::nofollow;
use crate::base::progress::Progress;
use crate::base::{Code, Error, Result, Stop};
use crate::innodb::encryption::Keyring;
use crate::receive::export_command::ChosenTables;
use crate::receive::import_command::{self, ImportOptions, ImportSummary, Rename};
use crate::restore::Mapping;
use crate::source::selection::Selection;
use crate::source::session::ConnectOptions;

use super::arguments::{self, ChosenTablesArgs};
use super::progress::{Display, Mode};
use super::{report, secrets, signals};

/// Longest password, in bytes.
const PASSWORD_MAX: u64 = 4096;

/// The arguments of `xbrecv import` as typed.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    chosen: ChosenTablesArgs,
    /// Socket of the server that gets the tables; it runs on this machine, and its datadir can be written
    #[arg(long, value_name = "SOCKET")]
    into: PathBuf,
    #[command(flatten)]
    how: HowArgs,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Mode::Auto, value_name = "MODE")]
    progress: Mode,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// How tables are imported.
#[derive(clap::Args, Debug, Default)]
pub(super) struct HowArgs {
    /// Another name for a table, or for a schema with all of its tables: shop.orders=archive.orders_2026, or shop=archive. May be given
    /// again
    #[arg(long, value_name = "OLD=NEW", value_parser = Rename::parse)]
    rename: Vec<Rename>,
    /// Replace tables that have rows
    #[arg(long)]
    replace: bool,
    /// Account on the server [default: $USER]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// File with the account's password [default: $MYSQL_PWD, or none]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl HowArgs {
    fn is_given(&self) -> bool {
        self.replace || !self.rename.is_empty() || self.user.is_some() || self.password_file.is_some()
    }

    /// Returns the options for an import of `tables` into the server at `socket`.
    ///
    /// # Errors
    /// [`Code::Usage`]: the password can't be read.
    fn options(self, tables: ChosenTables, socket: PathBuf) -> Result<ImportOptions> {
        let password = match &self.password_file {
            Some(file) => {
                let text = secrets::read(file, PASSWORD_MAX, "a password", |_| true)?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            None => std::env::var("MYSQL_PWD").ok(),
        };
        let server = ConnectOptions {
            socket: Some(socket),
            user: self.user.or_else(|| std::env::var("USER").ok()),
            password,
            ..ConnectOptions::default()
        };
        Ok(ImportOptions { tables, server, renames: self.rename, replace: self.replace })
    }
}

/// Does it.
pub(super) fn run(args: Args) -> Result<()> {
    let options = args.how.options(args.chosen.tables()?, args.into)?;
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    let progress = Arc::new(Progress::new());
    let display = Display::start(arguments::XBRECV, args.progress, progress.clone());
    let summary = import_command::run(&options, &progress, &stop)?;
    display.finish();
    eprint!("{}", render(&summary));
    Ok(())
}

/// The arguments of an import of all that is received.
#[derive(clap::Args, Debug, Default)]
pub(super) struct ReceivedArgs {
    /// Bring all tables of the backup into the running server with this socket, instead of making a datadir: for partial backups. Without
    /// DIR, the copy goes to a folder in --tmpdir and is removed afterwards
    #[arg(long, value_name = "SOCKET")]
    import_into: Option<PathBuf>,
    /// Where the copy is made [default: $TMPDIR, or /tmp]
    #[arg(long, value_name = "DIR", requires = "import_into")]
    tmpdir: Option<PathBuf>,
    #[command(flatten)]
    how: HowArgs,
}

impl ReceivedArgs {
    /// Whether an import was asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.import_into.is_some()
    }

    /// Makes a folder for the copy, where none was given.
    ///
    /// # Errors
    /// [`Code::TargetIo`].
    pub(super) fn scratch(&self) -> Result<Scratch> {
        let name = format!("xbrecv-import-{}", uuid::Uuid::new_v4().simple());
        let folder = self.tmpdir.clone().unwrap_or_else(std::env::temp_dir).join(name);
        nofollow::create_dir(&folder, 0o700).map_err(|e| Error::io(Code::TargetIo, folder.display(), e))?;
        Ok(Scratch(folder))
    }

    /// Returns the import that was asked for, of the copy in `dir`. The server has been asked whether it is there.
    ///
    /// # Errors
    /// [`Code::Usage`], [`Code::Connect`], [`Code::Target`].
    pub(super) fn plan(
        self,
        dir: PathBuf,
        mappings: Vec<Mapping>,
        keyring: Arc<dyn Keyring>,
    ) -> Result<Option<ImportOptions>> {
        let Some(socket) = self.import_into else {
            return match self.how.is_given() {
                false => Ok(None),
                true => Err(Error::new(
                    Code::Usage,
                    "--rename, --replace, --user and --password-file are for an import: give --import-into as well",
                )),
            };
        };
        let tables = ChosenTables { dir, selection: Selection::default(), mappings, keyring };
        let options = self.how.options(tables, socket)?;
        import_command::check_server(&options)?;
        Ok(Some(options))
    }
}

/// Imports what was received; returns the words for the user.
///
/// # Errors
/// Those of [`import_command::run`].
pub(super) fn import(options: &ImportOptions, progress: &Progress, stop: &Stop) -> Result<String> {
    import_command::run(options, progress, stop).map(|summary| render(&summary))
}

/// A folder that is removed in the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// The place in it for a copy.
    pub(super) fn copy(&self) -> PathBuf {
        self.0.join("copy")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        match nofollow::remove_all(&self.0) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("{} can't be removed: {e}", self.0.display());
            }
            _ => {}
        }
    }
}

fn render(s: &ImportSummary) -> String {
    const SHOWN: usize = 10;
    let mut tables: Vec<_> =
        s.tables.iter().map(|(schema, name, rows)| format!("{schema}.{name} ({rows} rows)")).collect();
    let more = tables.len().saturating_sub(SHOWN);
    tables.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let position = s.position.as_ref();
    let binlog =
        position.map_or(String::new(), |p| format!("{} at {}", p.position.file, p.position.position));
    let lines = [
        ("tables", tables.join(", ") + &more),
        ("time", report::duration(s.time)),
        ("binlog", binlog),
        ("gtid", position.and_then(|p| p.gtid_executed.clone()).unwrap_or_default()),
        ("notes", s.notes.join("; ")),
    ];
    report::summary(arguments::XBRECV, "imported and checked", &lines)
}
