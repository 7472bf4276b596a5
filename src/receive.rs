//! Runs the receiving side: this module shows the path of the data, top to bottom.
//!
//! Bytes become frames, and their chunks are written to staged files beside their final places. Then the
//! statements in the stream are compared with the data that arrived. Finally the copy is prepared, made
//! durable, and put in its place. If anything fails on the way, the staged files are removed and the target
//! is as it was.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod arrival;
mod arriving_deltas;
mod base_folder;
pub mod chain;
mod consistency;
mod decode;
pub mod export_command;
pub mod import_command;
pub mod info;
mod layers;
pub mod merge;
pub mod merge_streams;
pub mod prepare_command;
mod received_keys;
mod receiver;
mod stream_metadata;
mod streaming_prepare;
mod tablespaces;
mod workers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::budget::Shares;
use crate::base::progress::{Phase, Progress};
use crate::base::{Budget, Code, Error, Lsn, Result, Stop};
use crate::codec::Layer;
use crate::codec::age::Keys;
use crate::family;
use crate::innodb::encryption::key_info::MasterKey;
use crate::prepare::new_master_key::NewMasterKey;
use crate::prepare::{self, Datadir, Prepare, Resources, checks};
use crate::restore::keyring_file::KeyringTarget;
use crate::restore::{ExternalFiles, Mapping, Received, Staging, Target, durability};
use crate::stream::MemberName;
use crate::stream::chain::Lineage;
use crate::stream::manifest::LeftOut;
use crate::stream::metadata::BinlogPosition;
use crate::transport::StreamReader;

use arrival::{Arrived, Hooks};
use layers::{Counted, Opened};
pub use received_keys::ReceivedKeys;
use receiver::Place;
use stream_metadata::StreamMetadata;
use streaming_prepare::StreamingPrepare;

/// Options of a receive.
#[derive(Debug)]
pub struct ReceiveOptions {
    /// Target folder; if `None`, the stream is only verified.
    pub target: Option<Target>,
    /// Way in which the copy is prepared.
    pub prepare: Prepare,
    /// Places for files that lay outside the source's datadir.
    pub mappings: Vec<Mapping>,
    /// Keys for an encrypted stream.
    pub keys: Keys,
    /// Keys of the server's encrypted tablespaces and redo.
    pub keyring: Arc<ReceivedKeys>,
    /// The keyring file that gets a new master key for the copy; `None`: the copy's server needs the source's.
    pub new_master_key: Option<KeyringTarget>,
    /// True if a stream without manifest is accepted.
    pub allow_no_manifest: bool,
    /// Number of threads that verify and write.
    pub parallel: usize,
    /// Memory for preparing, in bytes.
    pub use_memory: u64,
}

/// The result of a receive.
#[derive(Debug, Default)]
pub struct ReceiveSummary {
    /// Path of the copy; `None` if the stream was only verified.
    pub target: Option<PathBuf>,
    /// Number of bytes of members, holes included.
    pub bytes: u64,
    /// Number of bytes of the stream, with its layers.
    pub wire_bytes: u64,
    /// Layers around the stream, from the outside in.
    pub layers: Vec<Layer>,
    /// Number of members.
    pub members: usize,
    /// Number of streams.
    pub streams: usize,
    /// Number of pages of increments.
    pub pages: u64,
    /// What the last stream says of its place in a chain.
    pub lineage: Option<Lineage>,
    /// Time from the first byte to the last rename.
    pub time: Duration,
    /// Part of that time after the last byte had come.
    pub after_arrival: Duration,
    /// Part of that time that preparing took.
    pub prepare_time: Duration,
    /// Steps, and the time that each took.
    pub steps: Vec<(&'static str, Duration)>,
    /// Version of the source.
    pub server_version: Option<String>,
    /// LSN at which recovery begins, and LSN at which it ends.
    pub lsn: Option<(Lsn, Lsn)>,
    /// Binlog file and position at the end of the backup.
    pub binlog: Option<BinlogPosition>,
    /// GTID set at the end of the backup.
    pub gtid_executed: Option<String>,
    /// Times at which the backup began and ended, if a manifest says so.
    pub times: Option<(String, String)>,
    /// Base name of the binary log whose last part is in the stream.
    pub log_bin: Option<String>,
    /// Paths of files outside the target.
    pub external: Vec<PathBuf>,
    /// True if there was a manifest to verify against.
    pub has_manifest: bool,
    /// Tables that a partial backup does not have.
    pub left_out: Vec<LeftOut>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Receives a backup from `stream_reader`.
///
/// # Errors
/// Whatever goes wrong, the target is as it was.
pub fn run(
    options: &ReceiveOptions,
    stream_reader: &mut dyn StreamReader,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<ReceiveSummary> {
    with_stream(options, stream_reader, progress, stop, |memory, opened| {
        take_in(options, memory, opened, progress, stop)
    })
}

/// Removes the layers of a stream, and does `work` with what is inside, within the limits on memory.
fn with_stream<R>(
    options: &ReceiveOptions,
    stream_reader: &mut dyn StreamReader,
    progress: &Arc<Progress>,
    stop: &Stop,
    work: impl FnOnce(&Memory<'_>, Opened<'_>) -> Result<R>,
) -> Result<R> {
    let shares = Shares::of(options.use_memory);
    let budget = Budget::new(shares.kept() + layers::WINDOWS_MAX);
    std::thread::scope(|scope| {
        progress.enter(Phase::Starting);
        let counted = Box::new(Counted::new(stream_reader, progress));
        let threads = options.parallel;
        let means = layers::Resources { threads, budget: &budget, hardening: shares.hardening(), stop };
        let opened = layers::open(scope, counted, &options.keys, &means)?;
        // Windows that grow later are charged to the share of everything else.
        let windows = budget.used();
        budget.lower(shares.kept() + windows);
        let beside = workers::memory(threads) + layers::memory(opened.layers.len(), threads) + windows;
        work(&Memory { budget: &budget, redo: shares.redo(beside) }, opened)
    })
}

/// Limits on the memory that a stream may take.
struct Memory<'a> {
    /// Budget for the data that is kept of the stream.
    budget: &'a Budget,
    /// Number of bytes for the stream's redo.
    redo: u64,
}

impl Memory<'_> {
    /// Returns the resources that preparing may use.
    fn means<'a>(
        &'a self,
        options: &ReceiveOptions,
        progress: &'a Progress,
        stop: &'a Stop,
    ) -> Resources<'a> {
        let memory = match options.prepare {
            Prepare::Native => self.redo,
            // A private server is another process.
            Prepare::None | Prepare::Server(_) => options.use_memory,
        };
        Resources { memory, budget: self.budget, threads: options.parallel, progress, stop }
    }
}

/// Receives the stream without its layers.
fn take_in(
    options: &ReceiveOptions,
    memory: &Memory<'_>,
    opened: Opened<'_>,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<ReceiveSummary> {
    let started = Instant::now();
    progress.enter(Phase::Copying);
    let staging = options.target.as_ref().map(Target::stage).transpose()?;
    let place = staging.as_ref().map(|staging| Place {
        data: staging.data(),
        target: staging.target(),
        owner: staging.owner(),
        alone: true,
        base: None,
    });
    let mut fits = |lineage: &_| match options.target {
        Some(_) => Err(chain::needs_base(lineage)),
        None => Ok(None),
    };
    let arrived = arrival::receive(
        options,
        memory,
        opened,
        place,
        Hooks { fits: &mut fits, tap: None },
        progress,
        stop,
    )?;
    let at = Instant::now();
    let mut summary = ReceiveSummary::of(&arrived)?;
    summary.wire_bytes = Progress::get(&progress.bytes_wire);
    if let Some(staging) = staging {
        let Arrived { book, outside, external, early, .. } = arrived;
        if book.is_increment() {
            return Err(chain::needs_base(&book.lineage()?));
        }
        let staged = Staged { staging, outside, external, early };
        staged.finish(options, &book, &memory.means(options, progress, stop), &mut summary)?;
    }
    summary.time = started.elapsed();
    summary.after_arrival = at.elapsed();
    progress.enter(Phase::Done);
    Ok(summary)
}

impl ReceiveSummary {
    /// Returns what a stream says of itself.
    fn of(arrived: &Arrived) -> Result<ReceiveSummary> {
        let book = &arrived.book;
        Ok(ReceiveSummary {
            bytes: arrived.received.values().map(|(size, _)| size).sum(),
            layers: arrived.layers.clone(),
            members: arrived.received.len(),
            streams: 1,
            lineage: Some(book.lineage()?),
            server_version: book.server_version()?,
            binlog: book.binlog()?,
            gtid_executed: book.gtid_executed()?,
            times: book.times(),
            left_out: book.left_out().to_vec(),
            has_manifest: arrived.has_manifest,
            notes: arrived.notes.clone(),
            ..ReceiveSummary::default()
        })
    }
}

/// Files that are complete and verified, staged beside their final places.
struct Staged {
    staging: Staging,
    outside: ExternalFiles,
    external: Vec<(PathBuf, PathBuf)>,
    early: Option<StreamingPrepare>,
}

impl Staged {
    /// Prepares the copy, makes it durable, and puts it in its place.
    fn finish(
        self,
        options: &ReceiveOptions,
        book: &StreamMetadata,
        means: &Resources<'_>,
        summary: &mut ReceiveSummary,
    ) -> Result<()> {
        let Staged { staging, outside, external, early } = self;
        let Resources { progress, stop, .. } = *means;
        progress.enter(Phase::Preparing);
        let begun = Instant::now();
        let run = prepare::run_folder(staging.data());
        let gtid_executed = book.gtid_executed()?;
        let datadir = Datadir {
            keyring: options.keyring.clone(),
            redo: family::redo_of_copies(),
            root: staging.data(),
            left_out: book.left_out(),
            run: &run,
            external: &external,
            owner: staging.owner().map(|o| (o.uid, o.gid)),
            cnf: &book.cnf()?,
            gtid_executed: gtid_executed.as_deref(),
            end_lsn: book.end_lsn()?,
            server_version: summary.server_version.as_deref(),
        };
        // A private server runs as the owner, who must have access to the files before they are in their
        // places.
        let by_server = matches!(options.prepare, Prepare::Server(_));
        let let_owner_in = |enters: bool| {
            outside.let_owner_in(enters && by_server).and_then(|()| staging.let_owner_in(enters && by_server))
        };
        if by_server {
            outside.give()?;
            staging.give()?;
        }
        let_owner_in(true)?;
        let prepared =
            prepare::prepare(&options.prepare, &datadir, early.map(StreamingPrepare::into_live), means)?;
        let_owner_in(false)?;
        summary.steps.extend(prepared.steps);
        summary.lsn = prepared.lsn;
        summary.notes.extend(prepared.notes);
        let new_entries = match &options.new_master_key {
            None => Vec::new(),
            Some(_) => new_entries(options, &datadir, &mut summary.notes)?,
        };
        checks::check_required(&datadir)?;
        summary.log_bin = prepare::options::binlog(&datadir)?;
        summary.prepare_time = begun.elapsed();

        stop.check()?;
        outside.give()?;
        staging.give()?;
        let syncing = Instant::now();
        outside.sync()?;
        durability::sync_tree(staging.fs(), staging.data())?;
        summary.steps.push(("sync", syncing.elapsed()));
        stop.check()?;
        // The entries are there before the copy that needs them. If it does not come, nothing needs them.
        if let Some(keyring) = options.new_master_key.as_ref().filter(|_| !new_entries.is_empty()) {
            keyring.add(&new_entries, staging.owner())?;
        }
        let target = staging.target().to_owned();
        summary.external = outside.places();
        outside.announce(staging.hidden())?;
        let not_durable = outside.publish_before(|| staging.publish())?;
        summary.notes.extend(not_durable);
        summary.target = Some(target);
        Ok(())
    }
}

/// Puts the keys of the copy's tablespaces under a new master key. Returns the entries that its server's keyring must have.
fn new_entries(
    options: &ReceiveOptions,
    datadir: &Datadir<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, MasterKey)>> {
    let master = NewMasterKey::generate()?;
    let mut entries = options.keyring.entries();
    let count = master.install(datadir)?;
    if count > 0 {
        let entry = master.entry();
        notes.push(format!("the keys of {count} tablespaces are under the new master key {}", entry.0));
        entries.push(entry);
    }
    Ok(entries)
}

/// Returns sizes and digests for comparison with the manifest, which needs every one of them.
fn with_digests(received: &Received) -> Result<crate::stream::manifest::Received> {
    let mut all = BTreeMap::new();
    for (name, (size, digest)) in received {
        let digest = digest.ok_or_else(|| no_digest(name))?;
        all.insert(name.clone(), (*size, digest));
    }
    Ok(all)
}

fn no_digest(name: &MemberName) -> Error {
    Error::new(
        Code::StreamRefused,
        format!("member '{name}' is not cut into chunks as a stream with a manifest is"),
    )
    .hint("receive the stream as xbsend wrote it")
}
