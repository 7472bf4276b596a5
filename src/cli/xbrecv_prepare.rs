//! `xbrecv prepare DIR`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Result, Stop};
use crate::receive::prepare_command::{self, FolderOptions, FolderSummary};
use crate::restore::Mapping;

use super::progress::{Display, Mode};
use super::{arguments, next, report, signals};

/// The arguments of `xbrecv prepare` as typed.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The folder of a backup that was received with --prepare=none, or extracted by xbstream or mbstream
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where files are that lay outside the source's datadir; a relative NEW lies inside DIR. May be given again
    #[arg(long, value_name = "OLD=NEW", value_parser = Mapping::parse)]
    map: Vec<Mapping>,
    /// Threads that apply redo [default: number of cores]
    #[arg(long, value_name = "N")]
    parallel: Option<usize>,
    /// Memory for redo records, as 512M or 4G [default: a quarter of what is free, at most 512M]
    #[arg(long, value_name = "BYTES", value_parser = arguments::bytes)]
    use_memory: Option<u64>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Mode::Auto, value_name = "MODE")]
    progress: Mode,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// Does it.
pub(super) fn run(args: Args) -> Result<()> {
    let options = FolderOptions {
        dir: args.dir,
        mappings: args.map,
        parallel: arguments::threads(args.parallel)?,
        use_memory: arguments::native_memory(args.use_memory),
    };
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    let progress = Arc::new(Progress::new());
    let display = Display::start(arguments::XBRECV, args.progress, progress.clone());
    let summary = prepare_command::run(&options, &progress, &stop)?;
    display.finish();
    eprint!("{}", render(&summary));
    Ok(())
}

fn render(s: &FolderSummary) -> String {
    let headline = match s.was_prepared {
        true => format!("{} is prepared already", s.dir.display()),
        false => format!("{} is prepared", s.dir.display()),
    };
    let lines = [
        ("time", report::duration(s.time)),
        ("steps", report::steps(&s.steps)),
        ("source", s.server_version.as_ref().map_or(String::new(), |v| format!("MySQL {v}"))),
        ("redo", s.lsn.map_or(String::new(), |(from, to)| format!("LSN {from} to {to}"))),
        ("gtid", s.gtid_executed.clone().unwrap_or_default()),
        ("notes", s.notes.join("; ")),
        ("next", next::server(&s.dir, s.log_bin.as_deref(), &[])),
    ];
    report::summary(arguments::XBRECV, &headline, &lines)
}
