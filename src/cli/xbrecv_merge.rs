//! `xbrecv merge`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Result, Stop};
use crate::codec::age::Keys;
use crate::innodb::encryption::NoKeyring;
use crate::prepare::Prepare;
use crate::receive::chain::Link;
use crate::receive::merge::{self, MergeSummary, Source};
use crate::receive::merge_streams;
use crate::receive::prepare_command::FolderOptions;
use crate::receive::{ReceiveOptions, ReceivedKeys};
use crate::transport::stdin::Stdin;
use crate::transport::stdout::StandardOutput;
use crate::transport::{Destination, StreamReader};

use super::arguments::{self, FolderArgs, StreamKeyArgs};
use super::progress::{Display, Mode};
use super::{folder_report, report, signals};

const EXAMPLES: &str = "\
Examples:
  xbrecv merge /backup mon.xb tue.xb       the folder becomes the backup of Tuesday, ready for a server
  xbrecv merge /backup < wed.xb            the next one
  xbrecv merge /backup                     finishes a merge that was killed
  xbrecv merge --stream full.xb mon.xb | zstd > new.xb.zst      a new full backup, without a datadir

Until an increment has arrived whole and was found to fit, the folder is as it was. From then on a merge can be killed at any
moment; the same command, or one without increments, goes on. Increments that were merged before are skipped.";

/// The arguments of `xbrecv merge` as typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder of a backup, no server having started on it; with --stream, the file of a full backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Write one stream to standard output instead, of the full backup and its increments: no datadir is made
    #[arg(long, conflicts_with_all = ["map", "use_memory", "allow_no_manifest", "keyring"])]
    stream: bool,
    /// Folder for the increments meanwhile, with --stream [default: the system's]
    #[arg(long, value_name = "DIR", requires = "stream")]
    tmpdir: Option<PathBuf>,
    /// Files with increments in their order; - is standard input
    #[arg(value_name = "STREAM")]
    streams: Vec<PathBuf>,
    #[command(flatten)]
    keys: StreamKeyArgs,
    /// Take streams without manifest, though nothing proves that they are whole
    #[arg(long)]
    allow_no_manifest: bool,
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
    if args.stream {
        return merge_streams(args);
    }
    let folder = args.folder.options(args.dir, false)?;
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    let sources = args.streams.into_iter().map(|path| Source::Stream(link(path, &stop))).collect();
    merge(folder, args.keys.keys()?, args.allow_no_manifest, sources, args.progress, &stop)
}

/// A stream of a chain, in a file or on standard input.
fn link(path: PathBuf, stop: &Arc<Stop>) -> Link<'static> {
    let stop = stop.clone();
    let name = path.display().to_string();
    let open = move || -> Result<Box<dyn StreamReader>> {
        Ok(Box::new(match path.as_os_str() == "-" {
            true => Stdin::open(stop)?,
            false => Stdin::open_file(&path, stop)?,
        }))
    };
    Link { name, open: Box::new(open) }
}

/// Makes one stream of several.
fn merge_streams(args: Args) -> Result<()> {
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    let progress = Arc::new(Progress::new());
    let options = ReceiveOptions {
        target: None,
        prepare: Prepare::None,
        mappings: Vec::new(),
        keys: args.keys.keys()?,
        keyring: Arc::new(ReceivedKeys::new(Arc::new(NoKeyring), false)),
        new_master_key: None,
        allow_no_manifest: false,
        parallel: arguments::threads(args.folder.parallel)?,
        use_memory: arguments::default_memory(),
    };
    let links = std::iter::once(args.dir).chain(args.streams).map(|path| link(path, &stop)).collect();
    let sink = StandardOutput { stop: stop.clone() }.sink()?;
    let scratch = args.tmpdir.unwrap_or_else(std::env::temp_dir);
    let display = Display::start(arguments::XBRECV, args.progress, progress.clone());
    let s = merge_streams::run(&options, links, &scratch, sink, &progress, &stop)?;
    display.finish();
    let lines = [
        ("size", format!("{} in {} members", report::bytes(s.bytes), s.members)),
        ("merged", format!("{} streams, {} pages of increments", s.streams, s.pages)),
        ("time", format!("{}, {}", report::duration(s.time), report::rate(s.bytes, s.time))),
    ];
    eprint!("{}", report::summary(arguments::XBRECV, "the merged backup was written", &lines));
    Ok(())
}

/// Merges these increments into a folder, and says what became of it.
pub(super) fn merge(
    folder: FolderOptions,
    keys: Keys,
    allow_no_manifest: bool,
    sources: Vec<Source<'_>>,
    mode: Mode,
    stop: &Arc<Stop>,
) -> Result<()> {
    let options = ReceiveOptions {
        target: None,
        prepare: Prepare::None,
        mappings: Vec::new(),
        keys,
        keyring: Arc::new(ReceivedKeys::new(folder.keyring.clone(), false)),
        new_master_key: None,
        allow_no_manifest,
        parallel: folder.parallel,
        use_memory: folder.use_memory,
    };
    let progress = Arc::new(Progress::new());
    let display = Display::start(arguments::XBRECV, mode, progress.clone());
    let summary = merge::run(&options, &folder, sources, &progress, stop)?;
    display.finish();
    eprint!("{}", render(&summary));
    Ok(())
}

fn render(s: &MergeSummary) -> String {
    let lines = [
        (
            "merged",
            format!(
                "{} increment{}, {} pages{}",
                s.merged,
                if s.merged == 1 { "" } else { "s" },
                s.pages,
                if s.skipped > 0 { format!("; {} had been merged before", s.skipped) } else { String::new() }
            ),
        ),
        ("in all", report::duration(s.time)),
    ];
    folder_report::render(&s.folder, &lines)
}
