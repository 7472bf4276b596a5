//! The command line of `xbsend`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::base::progress::Progress;
use crate::base::{Code, Error, Result, Stop, threads};
use crate::codec::Compression;
use crate::send::{self, Encryption, PageTracking, SendOptions};
use crate::source::session::{ConnectOptions, SslMode};
use crate::throttle::Throttle;
use crate::transport::Address;

use super::network::NetworkArgs;
use super::option_files::{self, Choice, Options};
use super::progress::{Display, Mode};
use super::schemes::{self, Opening};
use super::selection::SelectionArgs;
use super::{keys, password, report, secrets, signals, xbsend_summary};

const PROGRAM: &str = "xbsend";
/// More readers than this only take turns.
const PARALLEL_MAX: usize = 64;
/// Threads beside the readers: those of the line, the redo, the sessions, signals and progress.
const THREADS_BESIDE: usize = 12;
/// Longest file with a place to send to, in bytes.
const PLACE_MAX: u64 = 4096;

const EXAMPLES: &str = "\
Examples:
  xbsend | xbrecv /restore                               a copy on this machine
  xbsend | ssh replica xbrecv /var/lib/mysql             a new replica, over ssh
  xbsend --user backup --password > full.xb              a backup file (asks for the password)
  xbsend --compress --encrypt-to age1… > full.xb         a small one that only the owner of the key can read
  xbsend --dense | mbstream -x -C /restore               read with MariaDB's or Percona's extractor
  xbsend --since /backup/full > inc.xb                   only what changed since that backup
  xbsend --to 'quic://replica:4810/#…'                   over the network: the line that xbrecv --from prints

Options also come from the [client] and [xbsend] groups of my.cnf.
The account needs: GRANT BACKUP_ADMIN, PROCESS, RELOAD, SELECT, LOCK TABLES ON *.* TO 'backup'@'localhost';
Data goes to standard output, words to standard error. Exit status 0 means that the whole stream was written.";

/// The arguments as typed.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version, about = "Sends a hot backup of a running MySQL server as one stream", after_help = EXAMPLES, args_override_self = true)]
struct Args {
    /// Read options only from this file
    #[arg(long, value_name = "FILE", help_heading = "Option files")]
    defaults_file: Option<PathBuf>,
    /// Read this file after the usual option files
    #[arg(long, value_name = "FILE", help_heading = "Option files")]
    defaults_extra_file: Option<PathBuf>,
    /// Also read groups with this suffix
    #[arg(long, value_name = "TEXT", help_heading = "Option files")]
    defaults_group_suffix: Option<String>,
    /// Read no option files
    #[arg(long, help_heading = "Option files")]
    no_defaults: bool,

    /// Unix socket of the server
    #[arg(short = 'S', long, value_name = "PATH", help_heading = "Server")]
    socket: Option<PathBuf>,
    /// Host of the server; it must be this machine, since the datafiles are read here
    #[arg(short = 'H', long, value_name = "NAME", help_heading = "Server")]
    host: Option<String>,
    /// Port of the server
    #[arg(short = 'P', long, value_name = "NUMBER", help_heading = "Server")]
    port: Option<u16>,
    /// Account
    #[arg(short, long, value_name = "NAME", help_heading = "Server")]
    user: Option<String>,
    /// Password; without a value it is asked for. Wiped from the process list at once
    #[arg(short, long, value_name = "TEXT", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = "Server")]
    password: Option<String>,
    #[arg(long, hide = true)]
    password_fd: Option<i32>,
    /// TLS on TCP connections
    #[arg(long, value_enum, ignore_case = true, value_name = "MODE", help_heading = "Server")]
    ssl_mode: Option<SslModeArg>,
    /// Certificate authority for TLS (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    ssl_ca: Option<PathBuf>,
    /// Client certificate for TLS (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    ssl_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    ssl_key: Option<PathBuf>,
    /// Seconds that connecting may take [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = "Server")]
    connect_timeout: Option<u64>,
    /// Seconds that the server may take to answer a statement, beside waiting for locks [default: 300]
    #[arg(long, value_name = "SECONDS", help_heading = "Server")]
    statement_timeout: Option<u64>,
    /// The server's datadir, where this machine sees it under another path than the server says
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    datadir: Option<PathBuf>,

    #[command(flatten)]
    selection: SelectionArgs,

    /// Send only what changed since BASE: the folder of a backup, its xbpipe_manifest or xtrabackup_checkpoints, or an LSN
    #[arg(long, value_name = "BASE", help_heading = "Increment")]
    since: Option<String>,
    /// Ask the server which pages have changed, instead of reading all of them (component_mysqlbackup): `auto`, if it keeps record of
    /// them and the record is complete; `on` has it begin to keep record as well [default: auto]
    #[arg(long, value_enum, value_name = "WHETHER", help_heading = "Increment")]
    page_tracking: Option<PageTrackingArg>,
    /// Write copies of xtrabackup_checkpoints, xtrabackup_info and xbpipe_manifest there, for the next increment
    #[arg(long, value_name = "DIR", help_heading = "Increment")]
    extra_lsndir: Option<PathBuf>,

    /// The server's keyring file (of component_keyring_file, or of the plugin keyring_file): pages of encrypted tablespaces are
    /// verified in the clear. They travel encrypted in any case
    #[arg(long, value_name = "FILE", help_heading = "Backup")]
    keyring: Option<PathBuf>,
    /// Send the keys of encrypted tablespaces along, encrypted to this recipient (age1…), for a server with another keyring:
    /// xbrecv --new-master-key. May be given again
    #[arg(long, value_name = "RECIPIENT", help_heading = "Backup")]
    transition_to: Vec<String>,
    /// The same, encrypted with the passphrase in this file
    #[arg(long, value_name = "FILE", help_heading = "Backup")]
    transition_passphrase_file: Option<PathBuf>,
    /// Threads that read datafiles [default: number of cores, at most 4]
    #[arg(long, value_name = "N", help_heading = "Backup")]
    parallel: Option<usize>,
    /// Most reads of datafiles a second, of 1 MiB each, or `auto`: reading gives way to the server's own work. Redo is never
    /// held back [default: no limit]
    #[arg(long, value_name = "N|auto", help_heading = "Backup")]
    throttle: Option<Throttle>,
    /// Seconds to wait for the backup lock and for the read lock on non-InnoDB tables [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Backup")]
    lock_timeout: Option<u64>,
    /// Don't register as a redo consumer: the server may then overwrite redo before it is read (the backup fails
    /// if it does)
    #[arg(long, help_heading = "Backup")]
    no_redo_consumer: bool,
    /// Send holes as zeros, for extractors that don't know sparse chunks (mbstream)
    #[arg(long, help_heading = "Backup")]
    dense: bool,
    /// Folder for redo that the line is too slow for [default: the system's]
    #[arg(long, value_name = "DIR", help_heading = "Backup")]
    tmpdir: Option<PathBuf>,
    /// How much redo may wait there, as 512M or 64G; the backup fails when more has to
    #[arg(long, value_name = "BYTES", value_parser = super::arguments::bytes, default_value = "64G", help_heading = "Backup")]
    spool_limit: u64,
    /// Where the stream goes: -, standard output, or what a waiting xbrecv prints, tcp://… or quic://…; its ticket is wiped
    /// from the process list at once [default: $XBSEND_TO, then -]
    #[arg(long, value_name = "PLACE", help_heading = "Backup")]
    to: Option<String>,
    /// Read that place from a file
    #[arg(long, value_name = "FILE", conflicts_with = "to", help_heading = "Backup")]
    to_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    to_fd: Option<i32>,
    #[command(flatten)]
    network: NetworkArgs,

    /// Compress the stream; a value may be `zstd` (the default) or `lz4`
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "zstd", value_enum, help_heading = "Layers")]
    compress: Option<CompressArg>,
    /// Level of zstd, from -7 (fastest) to 19 (smallest) [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Layers")]
    compress_level: Option<i32>,
    /// Encrypt the stream so that this recipient (age1…) can open it. May be given again
    #[arg(long, value_name = "RECIPIENT", help_heading = "Layers")]
    encrypt_to: Vec<String>,
    /// Encrypt to the recipients in this file, one a line. May be given again
    #[arg(long, value_name = "FILE", help_heading = "Layers")]
    encrypt_to_file: Vec<PathBuf>,
    /// Encrypt with the passphrase in this file
    #[arg(long, value_name = "FILE", help_heading = "Layers")]
    passphrase_file: Option<PathBuf>,

    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Mode::Auto, value_name = "MODE", help_heading = "Messages")]
    progress: Mode,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Messages")]
    verbose: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum CompressArg {
    Zstd,
    Lz4,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum PageTrackingArg {
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum SslModeArg {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

impl From<SslModeArg> for SslMode {
    fn from(mode: SslModeArg) -> SslMode {
        match mode {
            SslModeArg::Disabled => SslMode::Disabled,
            SslModeArg::Preferred => SslMode::Preferred,
            SslModeArg::Required => SslMode::Required,
            SslModeArg::VerifyCa => SslMode::VerifyCa,
            SslModeArg::VerifyIdentity => SslMode::VerifyIdentity,
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    secrets::no_core_dumps();
    let typed: Vec<OsString> = password::spell_out(&Args::command(), std::env::args_os());
    let args = match Args::command().try_get_matches_from(&typed).and_then(|m| Args::from_arg_matches(&m)) {
        Ok(args) => args,
        Err(e) => {
            // Help and version are no errors; nothing can be done where even the words can't be written.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { report::EXIT_USAGE } else { 0 });
        }
    };
    report::start_log(args.verbose);
    match run(args, &typed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprint!("{}", report::render_error(PROGRAM, &e));
            ExitCode::from(report::exit_status(&e))
        }
    }
}

fn run(mut args: Args, typed: &[OsString]) -> Result<()> {
    wipe_secrets(&args, typed)?;
    match (args.password_fd, args.password.as_deref()) {
        (Some(fd), _) => args.password = Some(password::from_fd(fd)?),
        (None, Some("")) => args.password = Some(password::ask()?),
        _ => {}
    }
    let to = address(&args)?;
    let network = args.network.options()?;
    let mode = args.progress;
    let mut options = options(args, typed)?;
    threads::check(options.parallel + THREADS_BESIDE)?;
    let stop = Arc::new(Stop::new()?);
    let progress = Arc::new(Progress::new());
    signals::watch(stop.clone())?;
    let opening = Opening { address: &to, network: &network, progress: &progress, stop: &stop };
    let mut destination = schemes::destination(&opening)?;
    if let Some(base) = destination.base().filter(|_| options.since.is_none()) {
        options.since = Some(send::base::of_receiver(&base)?);
        tracing::info!("the receiver wants an increment: {base}");
    }
    let sink = destination.sink()?;
    let display = Display::start(PROGRAM, mode, progress.clone());
    let sent = send::run(&options, sink, &progress, &stop);
    if let Err(e) = &sent {
        destination.abandon(e);
    }
    let summary = sent?;
    display.finish();
    eprint!("{}", xbsend_summary::render(PROGRAM, &summary, destination.facts()));
    Ok(())
}

/// Removes secrets from the process list.
fn wipe_secrets(args: &Args, typed: &[OsString]) -> Result<()> {
    let password = args.password.as_deref().filter(|p| !p.is_empty()).map(|p| ("--password-fd", p));
    if password.is_some() && args.password_fd.is_some() {
        // Handed over once already: it would never end.
        return Err(Error::new(Code::Usage, "the password can't be hidden from the process list")
            .hint("give it as --password=TEXT, or better in the [xbsend] group of an option file"));
    }
    let ticket =
        args.to.as_deref().filter(|to| to.contains('#') && args.to_fd.is_none()).map(|to| ("--to-fd", to));
    let secrets: Vec<_> = password.into_iter().chain(ticket).collect();
    if secrets.is_empty() { Ok(()) } else { password::wipe(typed, &secrets) }
}

/// Where the stream goes. Not read by clap, whose words would repeat what is secret in it.
fn address(args: &Args) -> Result<Address> {
    let text = match (args.to_fd, &args.to, &args.to_file) {
        (Some(fd), ..) => password::from_fd(fd)?,
        (None, Some(to), _) => to.clone(),
        (None, None, Some(file)) => secrets::read(file, PLACE_MAX, "a place", |text| text.contains('#'))?,
        (None, None, None) => std::env::var("XBSEND_TO").unwrap_or_else(|_| "-".to_owned()),
    };
    text.trim().parse()
}

/// Turns the arguments into options: the command line over the option files over the environment.
fn options(args: Args, typed: &[OsString]) -> Result<SendOptions> {
    let choice = Choice {
        only: args.defaults_file.clone(),
        extra: args.defaults_extra_file.clone(),
        none: args.no_defaults,
        group_suffix: args.defaults_group_suffix.clone(),
    };
    let files = option_files::read(&choice, &["client", "xbsend"])?;
    let connect = connect_options(&args, &files)?;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let parallel = match args.parallel.or(number(&files, "parallel")?) {
        Some(0) => return Err(Error::new(Code::Usage, "--parallel must be at least 1")),
        Some(n) => n.min(PARALLEL_MAX),
        None => cores.min(4),
    };
    let compression = compression(&args, &files)?;
    let asked = parallel;
    let parallel = send::memory::threads(asked, compression);
    if parallel < asked {
        tracing::warn!(
            "{parallel} threads instead of {asked}: more would take too much memory at this level of compression"
        );
    }
    let throttle = match (args.throttle, text(&files, "throttle")) {
        (Some(throttle), _) => throttle,
        (None, Some(text)) => text.parse().map_err(|e| {
            Error::new(Code::Usage, format!("throttle={text} in an option file is not understood: {e}"))
        })?,
        (None, None) => Throttle::default(),
    };
    let lock_timeout = args.lock_timeout.or(number(&files, "lock-timeout")?).unwrap_or(60);
    Ok(SendOptions {
        connect,
        parallel,
        throttle,
        since: args.since.as_deref().map(send::base::read).transpose()?,
        selection: args.selection.selection()?,
        page_tracking: page_tracking(&args, &files)?,
        extra_lsndir: args.extra_lsndir.clone().or_else(|| path(&files, "extra-lsndir")),
        lock_timeout: Duration::from_secs(lock_timeout),
        redo_consumer: !(args.no_redo_consumer || files.contains_key("no-redo-consumer")),
        dense: args.dense || files.contains_key("dense"),
        compression,
        encryption: encryption(&args, &files)?,
        transition: transition(&args, &files)?,
        keyring: keys::keyring(args.keyring.clone().or_else(|| path(&files, "keyring")).as_deref())?,
        datadir: args.datadir.or_else(|| path(&files, "datadir")),
        tmpdir: args.tmpdir.or_else(|| path(&files, "tmpdir")).unwrap_or_else(std::env::temp_dir),
        spool_limit: args.spool_limit,
        command: password::without(typed),
    })
}

/// Returns whom the keys of encrypted tablespaces are sent to.
fn transition(args: &Args, files: &Options) -> Result<Encryption> {
    let to = keys::encryption(&args.transition_to, &[], args.transition_passphrase_file.as_deref())?;
    let has_keyring = args.keyring.is_some() || files.contains_key("keyring");
    match to {
        Encryption::None => Ok(to),
        _ if !has_keyring => {
            Err(Error::new(Code::Usage, "keys can be sent only where the server's keyring is given")
                .hint("add --keyring FILE"))
        }
        _ => Ok(to),
    }
}

fn page_tracking(args: &Args, files: &Options) -> Result<PageTracking> {
    let asked = match (args.page_tracking, text(files, "page-tracking")) {
        (Some(asked), _) => asked,
        (None, None) => PageTrackingArg::Auto,
        (None, Some(text)) => PageTrackingArg::from_str(&text, true).map_err(|_| {
            Error::new(Code::Usage, format!("page-tracking={text} in an option file is not understood"))
        })?,
    };
    Ok(match asked {
        PageTrackingArg::Auto => PageTracking::Auto,
        PageTrackingArg::On => PageTracking::On,
        PageTrackingArg::Off => PageTracking::Off,
    })
}

fn compression(args: &Args, files: &Options) -> Result<Option<Compression>> {
    let asked = match (args.compress, files.get("compress")) {
        (Some(how), _) => Some(how),
        (None, Some(None)) => Some(CompressArg::Zstd),
        (None, Some(Some(name))) => Some(CompressArg::from_str(name, true).map_err(|_| {
            Error::new(Code::Usage, format!("compress={name} in an option file is not understood"))
        })?),
        (None, None) => None,
    };
    let level = match args.compress_level {
        Some(level) => Some(level),
        None => number(files, "compress-level")?,
    };
    match (asked, level) {
        (None, None) => Ok(None),
        (Some(CompressArg::Lz4), None) => Ok(Some(Compression::Lz4)),
        (Some(CompressArg::Lz4), Some(_)) => {
            Err(Error::new(Code::Usage, "lz4 has no levels here")
                .hint("leave out --compress-level, or use zstd"))
        }
        (Some(CompressArg::Zstd), None) => Ok(Some(Compression::Zstd(Compression::ZSTD_LEVEL))),
        (_, Some(level)) if Compression::ZSTD_LEVELS.contains(&level) => Ok(Some(Compression::Zstd(level))),
        (_, Some(level)) => Err(Error::new(Code::Usage, format!("there is no level {level} of zstd here"))
            .hint(format!(
                "levels go from {} to {}",
                Compression::ZSTD_LEVELS.start(),
                Compression::ZSTD_LEVELS.end()
            ))),
    }
}

/// Returns the encryption of the stream. What the command line says of that stands for all that option files say.
fn encryption(args: &Args, files: &Options) -> Result<Encryption> {
    let typed =
        !args.encrypt_to.is_empty() || !args.encrypt_to_file.is_empty() || args.passphrase_file.is_some();
    if typed {
        return keys::encryption(&args.encrypt_to, &args.encrypt_to_file, args.passphrase_file.as_deref());
    }
    // A key can stand only once in an option file.
    let listed = text(files, "encrypt-to").unwrap_or_default();
    let recipients: Vec<String> =
        listed.split([',', ' ']).filter(|r| !r.is_empty()).map(str::to_owned).collect();
    let file: Vec<PathBuf> = path(files, "encrypt-to-file").into_iter().collect();
    keys::encryption(&recipients, &file, path(files, "passphrase-file").as_deref())
}

fn connect_options(args: &Args, files: &Options) -> Result<ConnectOptions> {
    let ssl_mode = match (args.ssl_mode, text(files, "ssl-mode")) {
        (Some(mode), _) => mode.into(),
        (None, Some(name)) => SslModeArg::from_str(&name.to_lowercase(), true)
            .map_err(|_| {
                Error::new(Code::Usage, format!("ssl-mode={name} in an option file is not understood"))
            })?
            .into(),
        (None, None) => SslMode::default(),
    };
    // A host given on the command line is meant, even where an option file names a socket.
    let host_typed = args.host.is_some() && args.socket.is_none();
    let seconds = args.connect_timeout.or(number(files, "connect-timeout")?);
    let answer = args.statement_timeout.or(number(files, "statement-timeout")?);
    let ssl_key = args.ssl_key.clone().or_else(|| path(files, "ssl-key"));
    if let Some(key) = &ssl_key {
        secrets::warn_of_path(key);
    }
    Ok(ConnectOptions {
        socket: args.socket.clone().or_else(|| path(files, "socket").filter(|_| !host_typed)),
        host: args.host.clone().or_else(|| text(files, "host")),
        port: match args.port {
            Some(port) => Some(port),
            None => number(files, "port")?,
        },
        user: args.user.clone().or_else(|| text(files, "user")).or_else(|| std::env::var("USER").ok()),
        password: args
            .password
            .clone()
            .or_else(|| text(files, "password"))
            .or_else(|| std::env::var("MYSQL_PWD").ok()),
        ssl_mode,
        ssl_ca: args.ssl_ca.clone().or_else(|| path(files, "ssl-ca")),
        ssl_cert: args.ssl_cert.clone().or_else(|| path(files, "ssl-cert")),
        ssl_key,
        timeout: seconds.map(Duration::from_secs),
        statement_timeout: answer.map(Duration::from_secs),
    })
}

fn text(files: &Options, key: &str) -> Option<String> {
    files.get(key).cloned().flatten()
}

fn path(files: &Options, key: &str) -> Option<PathBuf> {
    text(files, key).map(PathBuf::from)
}

fn number<T: std::str::FromStr>(files: &Options, key: &str) -> Result<Option<T>> {
    text(files, key)
        .map(|t| {
            t.parse()
                .map_err(|_| Error::new(Code::Usage, format!("{key}={t} in an option file is no number")))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Args {
        Args::try_parse_from([&[PROGRAM], words].concat()).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_command_line_wins_over_files() {
        let files: Options = [("user", "u"), ("socket", "/s"), ("port", "7"), ("ssl-mode", "REQUIRED")]
            .map(|(k, v)| (k.to_owned(), Some(v.to_owned())))
            .into();
        let c = connect_options(&parsed(&["--user", "me"]), &files).unwrap();
        assert_eq!((c.user.as_deref(), c.port, c.ssl_mode), (Some("me"), Some(7), SslMode::Required));
        assert_eq!(c.socket, Some("/s".into()));
        let c = connect_options(&parsed(&["--host", "h", "-p=x"]), &files).unwrap();
        assert_eq!((c.socket, c.host, c.password), (None, Some("h".into()), Some("x".into())));
    }

    #[test]
    fn layers_are_asked_for() {
        let none = Options::new();
        let how = |words: &[&str], files: &Options| compression(&parsed(words), files);
        assert_eq!(how(&[], &none).unwrap(), None);
        assert_eq!(how(&["--compress"], &none).unwrap(), Some(Compression::Zstd(Compression::ZSTD_LEVEL)));
        assert_eq!(how(&["--compress=lz4"], &none).unwrap(), Some(Compression::Lz4));
        assert_eq!(how(&["--compress-level", "-3"], &none).unwrap(), Some(Compression::Zstd(-3)));
        assert_eq!(how(&["--compress=lz4", "--compress-level=2"], &none).unwrap_err().code, Code::Usage);
        assert_eq!(how(&["--compress-level=40"], &none).unwrap_err().code, Code::Usage);
        let files: Options =
            [("compress".to_owned(), None), ("compress-level".to_owned(), Some("5".into()))].into();
        assert_eq!(how(&[], &files).unwrap(), Some(Compression::Zstd(5)));
        let to = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        let both = encryption(&parsed(&["--encrypt-to", to, "--encrypt-to", to]), &none).unwrap();
        assert!(matches!(both, Encryption::Recipients(all) if all.len() == 2));
        let files: Options = [("encrypt-to".to_owned(), Some(format!("{to}, {to}")))].into();
        assert!(
            matches!(encryption(&parsed(&[]), &files).unwrap(), Encryption::Recipients(all) if all.len() == 2)
        );
    }

    #[test]
    fn an_option_file_with_a_strange_number_is_refused() {
        let files: Options = [("port".to_owned(), Some("x".to_owned()))].into();
        assert_eq!(connect_options(&parsed(&[]), &files).unwrap_err().code, Code::Usage);
    }
}
