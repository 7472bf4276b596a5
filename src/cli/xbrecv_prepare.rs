//! `xbrecv prepare DIR`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Result, Stop};
use crate::codec::age::Keys;
use crate::receive::merge::Source;
use crate::receive::prepare_command::{self, FolderOptions};
use crate::restore::Mapping;

use super::progress::{Display, Mode};
use super::{arguments, folder_report, keys, signals, xbrecv_merge};

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
    /// Where files are that lay outside the source's datadir; a relative NEW lies inside DIR. May be given again
    #[arg(long, value_name = "OLD=NEW", value_parser = Mapping::parse)]
    map: Vec<Mapping>,
    /// Keyring file of the server that the backup is of: encrypted tablespaces and redo are prepared natively. That of
    /// component_keyring_file, or of the plugin keyring_file
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
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
        apply_redo_only: args.apply_redo_only,
        keyring: keys::keyring(args.keyring.as_deref())?,
    };
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
