//! Runs the receiving side: this module shows the path of the data, top to bottom.
//!
//! Bytes become frames, and their chunks are written to staged files beside their final places. Then the
//! statements in the stream are compared with the data that arrived. Finally the copy is prepared, made
//! durable, and put in its place. If anything fails on the way, the staged files are removed and the target
//! is as it was.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod consistency;
mod decode;
mod layers;
pub mod prepare_command;
mod stream_metadata;
mod streaming_prepare;
mod tablespaces;
mod workers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::budget::Shares;
use crate::base::progress::{Phase, Progress};
use crate::base::{Budget, Code, Error, Lsn, Result, Stop};
use crate::codec::Layer;
use crate::codec::age::Keys;
use crate::family;
use crate::innodb::encryption::NoKeyring;
use crate::prepare::{self, Datadir, Prepare, Resources, checks};
use crate::restore::{
    ExternalFiles, FileWriter, Mapping, PathMap, Received, Staging, Target, WriteTask, durability,
    external_files,
};
use crate::stream::metadata::{BinlogPosition, ExternalTablespace, LOGFILE, TABLESPACES, TablespaceType};
use crate::stream::{Demux, Event, Limits, MemberName};
use crate::transport::StreamReader;

use layers::{Counted, Opened};
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
    /// Time from the first byte to the last rename.
    pub time: Duration,
    /// Part of that time after the last byte had come.
    pub after_arrival: Duration,
    /// Part of that time that preparing took.
    pub prepare_time: Duration,
    /// Steps, and the time that each took.
    pub steps: Vec<(&'static str, Duration)>,
    /// Way in which the copy was prepared.
    pub prepared: &'static str,
    /// Version of the source.
    pub server_version: Option<String>,
    /// LSN at which recovery begins, and LSN at which it ends.
    pub lsn: Option<(Lsn, Lsn)>,
    /// Binlog file and position at the end of the backup.
    pub binlog: Option<BinlogPosition>,
    /// GTID set at the end of the backup.
    pub gtid_executed: Option<String>,
    /// Base name of the binary log whose last part is in the stream.
    pub log_bin: Option<String>,
    /// Paths of files outside the target.
    pub external: Vec<PathBuf>,
    /// True if there was a manifest to verify against.
    pub has_manifest: bool,
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
        let memory = Memory { budget: &budget, redo: shares.redo(beside) };
        take_in(options, &memory, opened, progress, stop)
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
    mut opened: Opened<'_>,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<ReceiveSummary> {
    let started = Instant::now();
    progress.enter(Phase::Copying);
    let staging = options.target.as_ref().map(Target::stage).transpose()?;
    let mut receiver =
        Receiver::start(options, memory, staging.as_ref(), &mut *opened.stream_reader, progress)?;
    receiver.demux.feed(&opened.head);
    let receiver = workers::run(receiver, options.parallel, stop)?;
    let Receiver { landing, mut book, outside, external, demux, early, .. } = receiver;
    drop((demux, opened.stream_reader));

    progress.enter(Phase::Finishing);
    let arrived = Instant::now();
    let (received, places) = landing.finish()?;
    let has_manifest = book.verify(&received, options.allow_no_manifest)?;
    let mut summary = ReceiveSummary {
        bytes: received.values().map(|(size, _)| size).sum(),
        wire_bytes: Progress::get(&progress.bytes_wire),
        layers: opened.layers,
        members: received.len(),
        server_version: book.server_version()?,
        binlog: book.binlog()?,
        gtid_executed: book.gtid_executed()?,
        has_manifest,
        prepared: options.prepare.as_str(),
        ..ReceiveSummary::default()
    };
    for (member, name) in places.iter().flat_map(|places| places.set_aside()) {
        summary.notes.push(format!("{member} was set aside as {name}: it would configure your server"));
    }
    if let Some(staging) = staging {
        let staged = Staged { staging, outside, external, early };
        staged.finish(options, &book, &received, &memory.means(options, progress, stop), &mut summary)?;
    }
    summary.time = started.elapsed();
    summary.after_arrival = arrived.elapsed();
    progress.enter(Phase::Done);
    Ok(summary)
}

/// The state of receiving a stream into files.
struct Receiver<'a> {
    options: &'a ReceiveOptions,
    progress: &'a Progress,
    demux: Demux,
    landing: FileWriter,
    book: StreamMetadata,
    outside: ExternalFiles,
    /// Files that lay outside the source's datadir: their paths there, and where they are staged.
    external: Vec<(PathBuf, PathBuf)>,
    target: Option<PathBuf>,
    root: Option<PathBuf>,
    /// Streaming prepare: the part of preparing that is done while the stream arrives.
    early: Option<StreamingPrepare>,
    stream_reader: &'a mut dyn StreamReader,
    ended: bool,
}

impl<'a> Receiver<'a> {
    fn start(
        options: &'a ReceiveOptions,
        memory: &Memory<'_>,
        staging: Option<&Staging>,
        stream_reader: &'a mut dyn StreamReader,
        progress: &'a Arc<Progress>,
    ) -> Result<Receiver<'a>> {
        let owner = staging.and_then(Staging::owner);
        let places = staging.map(|s| PathMap::new(s.data()));
        let early = match (&options.prepare, staging) {
            (Prepare::Native, Some(staging)) => {
                Some(StreamingPrepare::start(options, memory.redo, memory.budget, staging.data(), progress)?)
            }
            _ => None,
        };
        Ok(Receiver {
            options,
            progress,
            demux: Demux::new(Limits::default()).charging(memory.budget),
            landing: FileWriter::new(places, progress.clone())?,
            book: if staging.is_some() {
                StreamMetadata::new(memory.budget)
            } else {
                StreamMetadata::verifying(memory.budget)
            },
            outside: ExternalFiles::new(owner),
            external: Vec::new(),
            target: staging.map(|s| s.target().to_owned()),
            root: staging.map(|s| s.data().to_owned()),
            early,
            stream_reader,
            ended: false,
        })
    }

    /// Reads up to the next chunk, which any thread may then write; `None` at the end of the stream.
    fn next(&mut self) -> Result<Option<WriteTask>> {
        while !self.ended {
            if let Some(event) = self.demux.poll()? {
                if let Some(work) = self.event(event)? {
                    return Ok(Some(work));
                }
                continue;
            }
            match self.stream_reader.read(self.demux.space())? {
                0 => {
                    self.demux.finish()?;
                    self.book.at_end(self.options.allow_no_manifest)?;
                    self.ended = true;
                }
                n => self.demux.filled(n),
            }
        }
        Ok(None)
    }

    fn event(&mut self, event: Event) -> Result<Option<WriteTask>> {
        match event {
            Event::Chunk(chunk) => {
                self.book.chunk(&chunk)?;
                if let Some(version) = self.book.early_version()
                    && let Prepare::Server(mysqld) = &self.options.prepare
                    && self.options.target.is_some()
                {
                    mysqld.check_fits(version)?;
                }
                let serial = chunk.member == LOGFILE;
                if serial {
                    Progress::set(&self.progress.redo_bytes, chunk.end());
                }
                let (member, from, to) = (chunk.member.clone(), chunk.offset, chunk.end());
                if let Some(early) = &mut self.early {
                    early.chunk(&chunk)?;
                }
                let mut work = self.landing.chunk(chunk, serial)?;
                if let Some(early) = &self.early {
                    early.attach(&mut work, &member, from, to);
                }
                Ok(Some(work))
            }
            Event::End { member, size } => {
                self.landing.end(&member, size)?;
                self.book.end(&member)?;
                if let Some(early) = &mut self.early {
                    early.end(&member, size);
                }
                if member == TABLESPACES {
                    self.place_external()?;
                }
                Ok(None)
            }
        }
    }

    /// Places the files that lay outside the source's datadir, as the mappings say, or refuses them before
    /// any data is written.
    fn place_external(&mut self) -> Result<()> {
        let (Some(target), Some(root)) = (&self.target, &self.root) else { return Ok(()) };
        let mut taken: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        for external in self.book.tablespaces()?.external {
            let path = Path::new(&external.file_name);
            let member = external.member().map_err(|e| Error::new(Code::StreamRefused, e.to_string()))?;
            let place = match external_files::destination(
                path,
                &member,
                is_general(&external),
                &self.options.mappings,
                target,
            )? {
                external_files::Destination::Inside(name) => root.join(name.as_str()),
                external_files::Destination::ExternalFiles(dir, rest) => self.outside.stage(&dir, &rest)?,
            };
            if let Some(other) = taken.insert(place.clone(), path.to_owned()) {
                return Err(external_files::same_place(&other, path));
            }
            if self.landing.has_begun(&member) && place != root.join(member.as_str()) {
                let message = format!("the stream lists {} only after its data", path.display());
                return Err(Error::new(Code::Unmapped, message)
                    .hint(format!("map it to the place it has in the stream: the target's {member}")));
            }
            self.external.push((path.to_owned(), place.clone()));
            if let Some(places) = self.landing.places() {
                places.place(member, place);
            }
        }
        Ok(())
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
        received: &Received,
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
            keyring: Arc::new(NoKeyring),
            redo: family::redo_of_copies(),
            root: staging.data(),
            run: &run,
            external: &external,
            owner: staging.owner().map(|o| (o.uid, o.gid)),
            cnf: &book.cnf()?,
            gtid_executed: gtid_executed.as_deref(),
            end_lsn: book.end_lsn()?,
            server_version: summary.server_version.as_deref(),
        };
        if received.contains_key(LOGFILE) {
            // A private server runs as the owner, who must have access to the files before they are in their
            // places.
            let by_server = matches!(options.prepare, Prepare::Server(_));
            let let_owner_in = |enters: bool| {
                outside
                    .let_owner_in(enters && by_server)
                    .and_then(|()| staging.let_owner_in(enters && by_server))
            };
            if by_server {
                outside.give()?;
                staging.give()?;
            }
            let_owner_in(true)?;
            let prepared =
                prepare::prepare(&options.prepare, &datadir, early.map(StreamingPrepare::into_live), means)?;
            let_owner_in(false)?;
            summary.steps = prepared.steps;
            summary.lsn = prepared.lsn;
            summary.notes.extend(prepared.notes);
            checks::check_required(&datadir)?;
        } else {
            return Err(Error::new(Code::CorruptRedo, format!("the stream has no redo (member {LOGFILE})"))
                .hint("a backup of InnoDB tables without its redo can't be made consistent"));
        }
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
        let target = staging.target().to_owned();
        summary.external = outside.places();
        outside.announce(staging.hidden())?;
        let not_durable = outside.publish_before(|| staging.publish())?;
        summary.notes.extend(not_durable);
        summary.target = Some(target);
        Ok(())
    }
}

/// Returns whether it is a general tablespace: neither a table's own (`db/t`), nor undo, nor the system's.
fn is_general(external: &ExternalTablespace) -> bool {
    const SYSTEM: &str = "innodb_system";
    let name = external.tablespace_name.as_str();
    external.tablespace_type == TablespaceType::Tables && !name.contains('/') && name != SYSTEM
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
