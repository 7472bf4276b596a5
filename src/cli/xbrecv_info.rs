//! `xbrecv info`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Result, Stop};
use crate::innodb::encryption::NoKeyring;
use crate::prepare::Prepare;
use crate::receive::ReceiveOptions;
use crate::receive::ReceivedKeys;
use crate::receive::info::{self, BackupInfo};
use crate::transport::stdin::Stdin;

use super::arguments::{self, StreamKeyArgs};
use super::progress::{Display, Mode};
use super::{report, signals};

/// The arguments of `xbrecv info` as typed.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A stored stream, which is read to its end, or the folder of a backup
    #[arg(value_name = "FILE|DIR")]
    place: PathBuf,
    /// Say it as JSON, which `xbsend --since` reads as well
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keys: StreamKeyArgs,
    /// Take a stream without manifest
    #[arg(long)]
    allow_no_manifest: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Mode::Auto, value_name = "MODE")]
    progress: Mode,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// Does it.
pub(super) fn run(args: Args) -> Result<()> {
    let info = if args.place.is_dir() { info::of_folder(&args.place)? } else { of_stream(&args)? };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&info).expect("no map keys and no failing types"));
    } else {
        print!("{}", render(&info));
    }
    Ok(())
}

fn of_stream(args: &Args) -> Result<BackupInfo> {
    let options = ReceiveOptions {
        target: None,
        prepare: Prepare::None,
        mappings: Vec::new(),
        keys: args.keys.keys()?,
        keyring: Arc::new(ReceivedKeys::new(Arc::new(NoKeyring), false)),
        new_master_key: None,
        allow_no_manifest: args.allow_no_manifest,
        parallel: arguments::threads(None)?,
        use_memory: arguments::default_memory(),
    };
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    let progress = Arc::new(Progress::new());
    let mut stream = Stdin::open_file(&args.place, stop.clone())?;
    let display = Display::start(arguments::XBRECV, args.progress, progress.clone());
    let info = info::of_stream(&options, &mut stream, &progress, &stop)?;
    display.finish();
    Ok(info)
}

fn render(info: &BackupInfo) -> String {
    let lineage = &info.lineage;
    let shown = |text: &Option<String>| text.clone().unwrap_or_default();
    let base = lineage.increment.as_ref().map(|increment| {
        let named =
            increment.base.map_or("a backup that is known by its LSN".to_owned(), |base| base.to_string());
        format!("{named}, pages from LSN {} on", increment.from_lsn)
    });
    let lines = [
        ("kind", info.kind.to_owned()),
        ("state", info.state.unwrap_or_default().to_owned()),
        ("identity", lineage.identity.map_or(String::new(), |identity| identity.to_string())),
        ("builds on", base.unwrap_or_default()),
        ("redo", format!("LSN {} to {}", lineage.to_lsn, lineage.end_lsn)),
        ("source", info.server_version.as_ref().map_or(String::new(), |v| format!("MySQL {v}"))),
        ("server uuid", shown(&lineage.server_uuid)),
        ("page size", lineage.page_size.map_or(String::new(), |size| size.to_string())),
        ("begun", shown(&info.started)),
        ("ended", shown(&info.ended)),
        ("size", format!("{} in {} files", report::bytes(info.bytes), info.members)),
        ("layers", info.layers.as_ref().map_or(String::new(), |layers| layers.join(", then "))),
        (
            "binlog",
            info.binlog.as_ref().map_or(String::new(), |b| format!("{} position {}", b.file, b.position)),
        ),
        ("gtid", shown(&info.gtid_executed)),
        (
            "manifest",
            if info.has_manifest { "yes" } else { "no: nothing proves that it is whole" }.to_owned(),
        ),
    ];
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(label, value)| format!("{label:<12}{value}\n")).collect()
}
