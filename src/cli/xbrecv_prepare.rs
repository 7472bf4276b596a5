//! `xbrecv prepare DIR`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Result, Stop};
use crate::codec::age::Keys;
use crate::receive::merge::Source;
use crate::receive::prepare_command;

use super::arguments::{self, FolderArgs};
use super::progress::{Display, Mode};
use super::{folder_report, signals, xbrecv_merge};

/// The arguments of `xbrecv prepare` as typed.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The folder of a backup that was received with --prepare=none, or extracted by xbstream or mbstream
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Lay the increment in this folder (extracted by xbstream or mbstream, too) over the backup in DIR first. INCDIR stays as it
    /// is
    #[arg(long, value_name = "INCDIR")]
    increment: Option<PathBuf>,
    /// Mark the folder as one that increments will still be laid over. Transactions are never rolled back here, so increments fit
    /// in either case; XtraBackup's scripts read the mark
    #[arg(long)]
    apply_redo_only: bool,
    #[command(flatten)]
    folder: FolderArgs,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Mode::Auto, value_name = "MODE")]
    progress: Mode,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// Does it.
pub(super) fn run(args: Args) -> Result<()> {
    let options = args.folder.options(args.dir, args.apply_redo_only)?;
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    if let Some(increment) = args.increment {
        let sources = vec![Source::Folder(increment)];
        return xbrecv_merge::merge(options, Keys::default(), true, sources, args.progress, &stop);
    }
    let progress = Arc::new(Progress::new());
    let display = Display::start(arguments::XBRECV, args.progress, progress.clone());
    let summary = prepare_command::run(&options, &progress, &stop)?;
    display.finish();
    eprint!("{}", folder_report::render(&summary, &[]));
    Ok(())
}
