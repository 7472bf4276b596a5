//! `xbrecv export DIR`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Result, Stop};
use crate::receive::export_command::{self, ExportOptions, ExportSummary};

use super::arguments::{self, ChosenTablesArgs};
use super::progress::{Display, Mode};
use super::{report, signals};

/// The arguments of `xbrecv export` as typed.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    chosen: ChosenTablesArgs,
    /// Folder that gets a copy of the datafiles and what belongs beside them; made if it is not there [default: the backup stays where
    /// it is, and the files are put beside its datafiles]
    #[arg(long, value_name = "OUT")]
    to: Option<PathBuf>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Mode::Auto, value_name = "MODE")]
    progress: Mode,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// Does it.
pub(super) fn run(args: Args) -> Result<()> {
    let options = ExportOptions { tables: args.chosen.tables()?, to: args.to };
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    let progress = Arc::new(Progress::new());
    let display = Display::start(arguments::XBRECV, args.progress, progress.clone());
    let summary = export_command::run(&options, &progress, &stop)?;
    display.finish();
    eprint!("{}", render(&summary));
    Ok(())
}

fn render(s: &ExportSummary) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<_> = s.tables.iter().map(|(schema, name, ..)| format!("{schema}.{name}")).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let files: usize = s.tables.iter().map(|(.., files)| files).sum();
    let next = s.tables.first().map_or(String::new(), |(_, _, path, _)| {
        let path = path.display();
        format!(
            "on the other server run {path}.create.sql in the schema that gets the table, move the .ibd, .cfg and .cfp files into \
             that schema's folder as the server's user, and run {path}.import.sql"
        )
    });
    let keys = if s.has_keys { "the .cfp files hold the tables' keys: keep them secret" } else { "" };
    let lines = [
        ("tables", names.join(", ") + &more),
        ("datafiles", files.to_string()),
        ("time", report::duration(s.time)),
        ("keys", keys.to_owned()),
        ("next", next),
    ];
    report::summary(arguments::XBRECV, &format!("exported to {}", s.to.display()), &lines)
}
