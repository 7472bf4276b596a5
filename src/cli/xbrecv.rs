//! The command line of `xbrecv`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::base::progress::Progress;
use crate::base::{Code, Error, Result, Stop};
use crate::codec::Layer;
use crate::prepare::{Mysqld, Prepare, launch};
use crate::receive::ReceivedKeys;
use crate::receive::chain::{self, Link};
use crate::receive::{self, ReceiveOptions, ReceiveSummary};
use crate::restore::keyring_file::KeyringTarget;
use crate::restore::{Mapping, Target};
use crate::transport::ConnectionStatistics;
use crate::transport::stdin::Stdin;
use crate::transport::{Address, Invitation, StreamReader};

use super::arguments::{self, StreamKeyArgs, XBRECV as PROGRAM, default_memory, native_memory, threads};
use super::network::{self, NetworkArgs};
use super::progress::{Display, Mode};
use super::schemes::{self, Opening};
use super::xbrecv_import::ReceivedArgs;
use super::{
    keys, next, report, secrets, signals, xbrecv_export, xbrecv_import, xbrecv_info, xbrecv_merge,
    xbrecv_prepare,
};

/// Stands for the stream that comes from where `--from` says.
const STANDARD_INPUT: &str = "-";
/// Least memory of the private server: its own default buffer pool.
const MEMORY_MIN: u64 = 128 << 20;

const EXAMPLES: &str = "\
Examples:
  xbsend | xbrecv /restore                               a copy on this machine
  xbsend | ssh replica xbrecv /var/lib/mysql             a new replica, over ssh
  xbrecv /restore < full.xb                              from a backup file
  xbrecv --identity key.txt /restore < full.xb           the same, where it was encrypted
  xbrecv --from quic://0.0.0.0:4810 /var/lib/mysql       over the network: prints what to run on the source
  xbrecv --verify-only < full.xb                         is it whole?
  xbrecv /restore full.xb mon.xb tue.xb                  a full backup and its increments
  xbrecv --base /backup/full /restore < inc.xb           an increment over a folder, which stays as it is
  xbrecv --from quic://0.0.0.0:4810 --base A B           the waiting sender sends an increment by itself
  xbrecv --verify-only full.xb mon.xb tue.xb             does the chain fit together, and is it whole?
  xbrecv merge /backup mon.xb                            a folder is brought forward, in its place
  xbrecv export /backup --tables shop.orders --to out    for ALTER TABLE … IMPORT TABLESPACE, without a server
  xbrecv import /backup --tables shop --into SOCKET      tables of a backup into a running server
  xbsend --databases shop.orders | ssh other xbrecv --import-into /run/mysqld/mysqld.sock
                                                         tables from server to server
  xbrecv info full.xb                                    what is it?
  xbrecv prepare /backup                                 a folder received with --prepare=none, in its place

Compression (zstd, lz4) and encryption (age) are found in the stream itself; no option names them.
Nothing half-done ever looks done: the copy is made in a hidden folder beside DIR and takes DIR's place at the very end,
after everything was verified, prepared and synced. Exit status 0 means just that.";

/// The arguments as typed.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version, about = "Receives a hot backup of a MySQL server and makes a datadir of it", after_help = EXAMPLES)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the datadir is to be: an absent or empty folder
    #[arg(value_name = "DIR", required_unless_present_any = ["verify_only", "import_into"])]
    dir: Option<PathBuf>,
    /// Files with the streams of a chain, a full backup and its increments in their order; - is where --from says
    #[arg(value_name = "STREAM")]
    streams: Vec<PathBuf>,
    /// Folder with the backup that the increment is laid over; it stays as it is, and DIR shares its data where the file system
    /// can
    #[arg(long, value_name = "FOLDER")]
    base: Option<PathBuf>,
    /// Where the stream comes from: -, standard input, or where to listen for it: tcp://ADDRESS:PORT or quic://ADDRESS:PORT
    #[arg(long, value_name = "PLACE", default_value = "-")]
    from: Address,
    /// Read the whole stream, or chain of streams, write nothing, and say whether it is whole
    #[arg(long, conflicts_with_all = ["prepare", "map"])]
    verify_only: bool,
    /// Take a stream without manifest (of mbstream, xbstream or XtraBackup), though nothing proves that it is whole
    #[arg(long)]
    allow_no_manifest: bool,
    /// Where files go that lay outside the source's datadir; a relative NEW lies inside DIR. May be given again
    #[arg(long, value_name = "OLD=NEW", value_parser = Mapping::parse)]
    map: Vec<Mapping>,
    /// Threads that verify and write [default: number of cores]
    #[arg(long, value_name = "N")]
    parallel: Option<usize>,
    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    keys: StreamKeyArgs,

    /// How the copy is made ready [default: native; server if --mysqld is given]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Prepare")]
    prepare: Option<PrepareArg>,
    /// The server binary for --prepare=server [default: the first mysqld in PATH and the usual places]
    #[arg(long, value_name = "PATH", help_heading = "Prepare")]
    mysqld: Option<PathBuf>,
    /// Keyring file of the server that the backup is of: encrypted tablespaces and redo are prepared natively. That of
    /// component_keyring_file, or of the plugin keyring_file
    #[arg(long, value_name = "FILE", help_heading = "Prepare")]
    keyring: Option<PathBuf>,
    /// Put the keys of encrypted tablespaces under a new master key, which is added to the file of --keyring (made if it is not
    /// there): for a server that does not have the source's keyring. The keys come with the stream (xbsend --transition-to) and are
    /// opened with --identity or --passphrase-file, or stand in that file already. No server may be running with it
    #[arg(long, requires = "keyring", help_heading = "Prepare")]
    new_master_key: bool,
    /// Memory for recovery, as 512M or 4G [default: a quarter of what is free, at most 512M for native]
    #[arg(long, value_name = "BYTES", value_parser = arguments::bytes, help_heading = "Prepare")]
    use_memory: Option<u64>,

    #[command(flatten, next_help_heading = "Import")]
    import: ReceivedArgs,

    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Mode::Auto, value_name = "MODE", help_heading = "Messages")]
    progress: Mode,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Messages")]
    verbose: u8,
}

/// The subcommands.
#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Prepares a folder that holds a backup, in its place; it may be killed and run again
    Prepare(xbrecv_prepare::Args),
    /// Lays increments over the backup in a folder, in its place; it may be killed and run again
    Merge(xbrecv_merge::Args),
    /// Makes single tables of a prepared backup ready for ALTER TABLE … IMPORT TABLESPACE on another server
    Export(xbrecv_export::Args),
    /// Brings single tables of a prepared backup into a running server
    Import(xbrecv_import::Args),
    /// Says what a stored stream or a folder is: kind, LSNs, server, what it builds on
    Info(xbrecv_info::Args),
}

/// `--prepare`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum PrepareArg {
    /// Redo is applied to the pages before the copy is put in place; no server is needed
    Native,
    /// A private mysqld recovers the copy before it is put in place
    Server,
    /// Your own server recovers it at its first start
    None,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|first| first == launch::ARGUMENT) {
        eprintln!("{PROGRAM}: {}", launch::run(words));
        return ExitCode::from(report::EXIT_FAILED);
    }
    secrets::no_core_dumps();
    let args = match Args::command().try_get_matches().and_then(|m| Args::from_arg_matches(&m)) {
        Ok(args) => args,
        Err(e) => {
            // Help and version are no errors; nothing can be done where even the words can't be written.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { report::EXIT_USAGE } else { 0 });
        }
    };
    let done = match args.command {
        Some(Command::Prepare(args)) => {
            report::start_log(args.verbose);
            xbrecv_prepare::run(args)
        }
        Some(Command::Export(args)) => {
            report::start_log(args.verbose);
            xbrecv_export::run(args)
        }
        Some(Command::Import(args)) => {
            report::start_log(args.verbose);
            xbrecv_import::run(args)
        }
        Some(Command::Merge(args)) => {
            report::start_log(args.verbose);
            xbrecv_merge::run(args)
        }
        Some(Command::Info(args)) => {
            report::start_log(args.verbose);
            xbrecv_info::run(args)
        }
        None => {
            report::start_log(args.verbose);
            run(args)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprint!("{}", report::render_error(PROGRAM, &e));
            ExitCode::from(report::exit_status(&e))
        }
    }
}

fn run(mut args: Args) -> Result<()> {
    let (mode, from, base) = (args.progress, args.from.clone(), args.base.clone());
    let mut network = args.network.options()?;
    if let Some(base) = &base {
        network.base = chain::describe_base(base, &args.map)?;
    }
    // Without a target there are streams only.
    let verified = args.dir.clone().filter(|_| args.verify_only);
    let mut streams: Vec<_> = verified.into_iter().chain(args.streams.iter().cloned()).collect();
    if streams.is_empty() {
        streams.push(STANDARD_INPUT.into());
    }
    let asks = streams.iter().filter(|name| name.as_os_str() == STANDARD_INPUT).count();
    if asks > 1 {
        return Err(Error::new(Code::Usage, "only one of the streams can be -"));
    }
    if asks == 0 && from != Address::Pipe {
        return Err(Error::new(
            Code::Usage,
            "--from says where a stream comes from, and all streams are files",
        )
        .hint("give - as the one that comes from there, or leave out --from"));
    }
    let import = std::mem::take(&mut args.import);
    let scratch = (import.is_asked() && args.dir.is_none()).then(|| import.scratch()).transpose()?;
    if let Some(scratch) = &scratch {
        args.dir = Some(scratch.copy());
    }
    let (dir, mappings) = (args.dir.clone().unwrap_or_default(), args.map.clone());
    let options = options(args, import.is_asked())?;
    let import = import.plan(dir, mappings, options.keyring.clone())?;
    let stop = Arc::new(Stop::new()?);
    signals::watch(stop.clone())?;
    let progress = Arc::new(Progress::new());
    let opening = Opening { address: &from, network: &network, progress: &progress, stop: &stop };
    let mut origin = (asks > 0).then(|| schemes::origin(&opening)).transpose()?;
    let mut origins_stream = origin.as_mut().map(|origin| origin.stream_reader()).transpose()?;
    if let Some(Invitation { local, to }) = origin.as_ref().and_then(|origin| origin.invitation()) {
        eprintln!("{PROGRAM}: listening on {local}; run on the source:");
        eprintln!("{PROGRAM}:   xbsend --to '{to}'");
    }
    let display = Display::start(PROGRAM, mode, progress.clone());
    let received = match (&base, &streams[..]) {
        (None, [_]) => {
            let mut stream = open(&streams[0], &mut origins_stream, &stop)?;
            receive::run(&options, &mut *stream, &progress, &stop)
        }
        _ => {
            let origins_stream = Arc::new(Mutex::new(origins_stream));
            let link = |path: &PathBuf| {
                let (path, stop, origins_stream) = (path.clone(), stop.clone(), origins_stream.clone());
                let name = path.display().to_string();
                let open = move || {
                    open(&path, &mut origins_stream.lock().unwrap_or_else(PoisonError::into_inner), &stop)
                };
                Link { name, open: Box::new(open) }
            };
            chain::run(&options, base.as_deref(), streams.iter().map(link).collect(), &progress, &stop)
        }
    };
    let imported = received.and_then(|received| {
        let words =
            import.as_ref().map(|import| xbrecv_import::import(import, &progress, &stop)).transpose()?;
        Ok((received, words))
    });
    let told = origin.as_ref().is_none_or(|origin| origin.settle(imported.as_ref().err()));
    let (mut summary, imported) = imported?;
    if !told {
        summary.notes.push("the sender could not be told that all is well".to_owned());
    }
    display.finish();
    let statistics = origin.and_then(|origin| origin.facts());
    eprint!("{}", imported.unwrap_or_else(|| render(&summary, &options.prepare, statistics)));
    Ok(())
}

/// Opens one of the streams.
fn open(
    path: &Path,
    origins_stream: &mut Option<Box<dyn StreamReader>>,
    stop: &Arc<Stop>,
) -> Result<Box<dyn StreamReader>> {
    match origins_stream.take_if(|_| path.as_os_str() == STANDARD_INPUT) {
        Some(stream) => Ok(stream),
        None => Ok(Box::new(Stdin::open_file(path, stop.clone())?)),
    }
}

/// Turns the arguments into options. Everything that can be wrong with it is found before the first byte of the stream is read.
fn options(args: Args, is_imported: bool) -> Result<ReceiveOptions> {
    let prepare = match (args.verify_only, args.prepare) {
        (true, _) | (_, Some(PrepareArg::None)) => Prepare::None,
        (false, Some(PrepareArg::Native)) => Prepare::Native,
        (false, None) if args.mysqld.is_none() => Prepare::Native,
        (false, _) => Prepare::Server(Mysqld::find(args.mysqld.as_deref())?),
    };
    if is_imported && (args.verify_only || args.new_master_key || matches!(prepare, Prepare::None)) {
        let what = "--import-into needs a prepared copy: it goes without --prepare=none, --verify-only and --new-master-key";
        return Err(Error::new(Code::Usage, what));
    }
    let new_master_key = match args.keyring.as_deref().filter(|_| args.new_master_key) {
        Some(_) if !matches!(prepare, Prepare::Native) => {
            let what = "--new-master-key needs the native prepare: neither a server nor --prepare=none can change keys";
            return Err(Error::new(Code::Usage, what));
        }
        keyring => keyring.map(KeyringTarget::check).transpose()?,
    };
    let given = match &new_master_key {
        Some(_) => keys::keyring_if_any(args.keyring.as_deref())?,
        None => keys::keyring(args.keyring.as_deref())?,
    };
    Ok(ReceiveOptions {
        target: args.dir.as_deref().filter(|_| !args.verify_only).map(Target::check).transpose()?,
        mappings: args.map,
        allow_no_manifest: args.allow_no_manifest,
        keys: args.keys.keys()?,
        keyring: Arc::new(ReceivedKeys::new(given, args.new_master_key || is_imported)),
        new_master_key,
        parallel: threads(args.parallel)?,
        use_memory: match prepare {
            Prepare::Native => native_memory(args.use_memory),
            _ => args.use_memory.unwrap_or_else(default_memory).max(MEMORY_MIN),
        },
        prepare,
    })
}

fn render(s: &ReceiveSummary, prepare: &Prepare, line: Option<ConnectionStatistics>) -> String {
    let headline = match (&s.target, s.has_manifest) {
        (None, true) if s.streams > 1 => format!("the chain of {} streams is whole", s.streams),
        (None, true) => "the stream is whole".to_owned(),
        (None, false) => {
            "the stream is well-formed; without a manifest nothing proves that it is whole".to_owned()
        }
        (Some(dir), _) => format!("the copy stands in {}", dir.display()),
    };
    let external: Vec<_> = s.external.iter().map(|p| p.display().to_string()).collect();
    let lines = [
        (
            "size",
            format!(
                "{} in {} members, {} received{}",
                report::bytes(s.bytes),
                s.members,
                report::bytes(s.wire_bytes),
                report::share(s.wire_bytes, s.bytes)
            ),
        ),
        ("chain", chain_words(s)),
        ("layers", s.layers.iter().map(Layer::to_string).collect::<Vec<_>>().join(", then ")),
        ("time", format!("{}, {}", report::duration(s.time), report::rate(s.bytes, s.time))),
        ("steps", steps(s)),
        ("source", s.server_version.as_ref().map_or(String::new(), |v| format!("MySQL {v}"))),
        ("redo", s.lsn.map_or(String::new(), |(from, to)| format!("LSN {from} to {to}"))),
        (
            "binlog",
            s.binlog.as_ref().map_or(String::new(), |b| format!("{} position {}", b.file, b.position)),
        ),
        ("gtid", s.gtid_executed.clone().unwrap_or_default()),
        ("prepared", prepared(s, prepare)),
        ("left out", left_out(s)),
        ("outside", external.join(", ")),
        ("line", network::summary(line)),
        ("notes", s.notes.join("; ")),
    ];
    let lines: Vec<_> = lines.into_iter().chain(next_lines(s, prepare)).collect();
    report::summary(PROGRAM, &headline, &lines)
}

/// The tables that a partial backup does not have, the first of them by name.
fn left_out(s: &ReceiveSummary) -> String {
    const SHOWN: usize = 20;
    let mut tables: Vec<_> = s.left_out.iter().map(|one| format!("{}.{}", one.schema, one.table)).collect();
    tables.sort();
    tables.dedup();
    let more = tables.len().saturating_sub(SHOWN);
    let shown = tables[..tables.len() - more].iter().map(|name| name.escape_debug().to_string());
    let shown = shown.collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Returns the line of the summary about the chain.
fn chain_words(s: &ReceiveSummary) -> String {
    let from = s.lineage.as_ref().and_then(|lineage| lineage.increment.as_ref());
    match (s.streams, from) {
        (0 | 1, None) => String::new(),
        (0 | 1, Some(from)) => format!("an increment, from LSN {} on", from.from_lsn),
        (streams, _) => format!("{streams} streams, {} pages of increments", s.pages),
    }
}

/// The steps that were left when all had come.
fn steps(s: &ReceiveSummary) -> String {
    match &s.target {
        Some(_) => {
            let last = ("after the last byte", s.after_arrival);
            report::steps(&[&[last], &s.steps[..]].concat())
        }
        None => String::new(),
    }
}

fn prepared(s: &ReceiveSummary, prepare: &Prepare) -> String {
    match (&s.target, prepare) {
        (None, _) => String::new(),
        (Some(_), Prepare::Server(m)) => {
            format!("by mysqld {}, {}", m.version, report::duration(s.prepare_time))
        }
        (Some(_), Prepare::Native) => {
            format!("redo applied, {}", report::duration(s.prepare_time))
        }
        (Some(_), Prepare::None) => "no: the first server that starts on it recovers it".to_owned(),
    }
}

/// The commands that come next.
fn next_lines(s: &ReceiveSummary, prepare: &Prepare) -> [(&'static str, String); 2] {
    let Some(dir) = &s.target else { return [("next", String::new()), ("as a replica", String::new())] };
    let log_bin = s.log_bin.as_deref().filter(|_| matches!(prepare, Prepare::None | Prepare::Native));
    let mut folders: Vec<_> = s.external.iter().filter_map(|p| p.parent()?.parent()).collect();
    folders.dedup();
    [
        ("next", next::server(dir, log_bin, &folders)),
        ("as a replica", next::replica(s.gtid_executed.is_some(), s.binlog.as_ref()).unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["xbrecv"]).is_err());
        let args = Args::try_parse_from(["xbrecv", "--verify-only", "/full", "/inc"]).unwrap();
        assert_eq!((args.dir, args.streams), (Some("/full".into()), vec!["/inc".into()]));
        Args::try_parse_from(["xbrecv", "--verify-only"]).unwrap();
        let args = Args::try_parse_from(["xbrecv", "--map", "/a=b", "--map", "/c=/d", "/x"]).unwrap();
        assert_eq!(args.map.len(), 2);
        assert!(Args::try_parse_from(["xbrecv", "--map", "a=b", "/x"]).is_err());
    }

    #[test]
    fn the_next_step_names_what_recovery_needs() {
        let s = ReceiveSummary {
            log_bin: Some("bin".into()),
            gtid_executed: Some("x:1".into()),
            external: vec!["/ext/db/t.ibd".into(), "/ext/db/u.ibd".into()],
            target: Some("/r".into()),
            ..ReceiveSummary::default()
        };
        let [(_, server), (_, replica)] = next_lines(&s, &Prepare::None);
        assert_eq!(server, "mysqld --datadir=/r --log-bin=bin --innodb-directories=/ext");
        assert!(replica.contains("SOURCE_AUTO_POSITION=1"), "{replica}");
    }
}
