//! `xbrecv import DIR`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Result, Stop};
use crate::receive::import_command::{self, ImportOptions, ImportSummary, Rename};
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
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Mode::Auto, value_name = "MODE")]
    progress: Mode,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// Does it.
pub(super) fn run(args: Args) -> Result<()> {
    let password = match &args.password_file {
        Some(file) => {
            let text = secrets::read(file, PASSWORD_MAX, "a password", |_| true)?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        None => std::env::var("MYSQL_PWD").ok(),
    };
    let server = ConnectOptions {
        socket: Some(args.into),
        user: args.user.or_else(|| std::env::var("USER").ok()),
        password,
        ..ConnectOptions::default()
    };
    let (renames, replace) = (args.rename, args.replace);
    let options = ImportOptions { tables: args.chosen.tables()?, server, renames, replace };
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    let progress = Arc::new(Progress::new());
    let display = Display::start(arguments::XBRECV, args.progress, progress.clone());
    let summary = import_command::run(&options, &progress, &stop)?;
    display.finish();
    eprint!("{}", render(&summary));
    Ok(())
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
    let note = match s.not_in_binlog {
        true => "the import is not in the server's binary log: its replicas do not have the tables",
        false => "",
    };
    let lines = [
        ("tables", tables.join(", ") + &more),
        ("time", report::duration(s.time)),
        ("binlog", binlog),
        ("gtid", position.and_then(|p| p.gtid_executed.clone()).unwrap_or_default()),
        ("notes", note.to_owned()),
    ];
    report::summary(arguments::XBRECV, "imported and checked", &lines)
}
