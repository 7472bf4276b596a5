//! One backup on the sending side, from connecting to the manifest.
//!
//! The steps in order: facts and privileges, the backup lock, the redo tailer, what there is, the datafiles with the redo between them,
//! the other engines' files under their short lock, the consistent cut, the rest of the redo, positions, manifest.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod base;
mod closing_members;
mod datafiles;
mod deltas;
mod extra_files;
mod failure;
mod held_resources;
mod member_writer;
pub mod memory;
mod pages;
mod parts;
mod rate_limiter;
mod transition;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use crate::base::progress::{Phase, Progress};
use crate::base::{Code, Error, Lsn, Result, Stop};
use crate::codec::Compression;
use crate::codec::age::{self, Recipient, SecretString};
use crate::family::{self, Family, RedoRetention, SourceServer};
use crate::innodb::encryption::Keyring;
use crate::innodb::page::PageLayout;
use crate::source::backup_position::BackupPosition;
use crate::source::inventory::Inventory;
use crate::source::locks::{HeldLock, LockTimes};
use crate::source::pages::EncryptedFiles;
use crate::source::replication::{self, ReplicaChannel};
use crate::source::selection::Selection;
use crate::source::server_facts::{ServerFacts, ServerVariables};
use crate::source::session::{ConnectOptions, Session};
use crate::source::spool::Spool;
use crate::source::tailer::Tailer;
use crate::source::zero_pages::EmptyPages;
use crate::stream::chain::Lineage;
use crate::stream::manifest::LeftOut;
use crate::throttle::Throttle;
use crate::transport::stream_writer::Sink;
use crate::transport::{LayerOptions, StreamWriter};

use failure::Failure;
use held_resources::{HeldResources, Timeouts};
use member_writer::MemberWriter;
use rate_limiter::{Baseline, RateLimiter};

/// How often the server is asked whether it still is there.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Time that the tailer is waited for at the cut before everything else is looked at again.
const PAUSE: Duration = Duration::from_millis(200);
/// Time that the end of the backup waits for an undo tablespace that the server is truncating.
const UNDO_PATIENCE: Duration = Duration::from_secs(300);

/// Servers before 8.0 kept a schema's defaults in a file of this name; later ones ignore it, and remove it with the schema.
const EMPTY_SCHEMA_FILE: &str = "db.opt";

/// Options of a backup.
#[derive(Debug)]
pub struct SendOptions {
    /// The server.
    pub connect: ConnectOptions,
    /// Its datadir as this machine sees it, where that differs from what the server says.
    pub datadir: Option<PathBuf>,
    /// Threads that read datafiles.
    pub parallel: usize,
    /// Limit on reading datafiles.
    pub throttle: Throttle,
    /// The backup that this one is an increment of; `None` for a full backup.
    pub since: Option<Lineage>,
    /// Which tables are sent.
    pub selection: Selection,
    /// Whether the server is asked which pages have changed.
    pub page_tracking: PageTracking,
    /// Folder that gets copies of the metadata that the next increment and users' scripts read.
    pub extra_lsndir: Option<PathBuf>,
    /// Timeout for each lock.
    pub lock_timeout: Duration,
    /// Whether to register as a redo consumer.
    pub redo_consumer: bool,
    /// Whether holes are sent as zeros.
    pub dense: bool,
    /// Compression of the stream.
    pub compression: Option<Compression>,
    /// Encryption of the stream.
    pub encryption: Encryption,
    /// Whom the keys of encrypted tablespaces are sent to; `None`: to nobody.
    pub transition: Encryption,
    /// Keys of encrypted tablespaces, with which their pages are verified in the clear.
    pub keyring: Arc<dyn Keyring>,
    /// Folder for redo that the receiver is too slow for.
    pub tmpdir: PathBuf,
    /// Bytes of redo that may be spooled there.
    pub spool_limit: u64,
    /// The command line, with nothing secret in it.
    pub command: String,
}

/// Whether the server is asked which pages have changed since the base, so that only those are read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PageTracking {
    /// If it keeps record of them, and the record is complete.
    #[default]
    Auto,
    /// The same; and the server is told to keep record from now on.
    On,
    /// All pages are read.
    Off,
}

/// The encryption of the stream: who can open it.
#[derive(Clone, Debug, Default)]
pub enum Encryption {
    /// Everybody.
    #[default]
    None,
    /// Each of these.
    Recipients(Vec<Recipient>),
    /// Everybody who knows the passphrase.
    Passphrase(SecretString),
}

impl Encryption {
    fn describe(&self) -> Option<String> {
        match self {
            Encryption::None => None,
            Encryption::Recipients(all) if all.len() == 1 => Some("age, to one recipient".into()),
            Encryption::Recipients(all) => Some(format!("age, to {} recipients", all.len())),
            Encryption::Passphrase(_) => Some("age, with a passphrase".into()),
        }
    }

    /// Whether nothing is encrypted.
    fn is_none(&self) -> bool {
        matches!(self, Encryption::None)
    }

    /// Returns `bytes`, encrypted as an age file.
    fn encrypt(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Encryption::None => return Err(Error::new(Code::Internal, "encryption to nobody")),
            Encryption::Recipients(recipients) => age::encrypt(recipients, bytes)?,
            Encryption::Passphrase(passphrase) => age::encrypt_with_passphrase(passphrase.clone(), bytes)?,
        })
    }

    fn encryptor(&self) -> Result<Option<age::StreamEncryption>> {
        Ok(match self {
            Encryption::None => None,
            Encryption::Recipients(recipients) => Some(age::cover(recipients)?),
            Encryption::Passphrase(passphrase) => Some(age::cover_with_passphrase(passphrase.clone())?),
        })
    }
}

/// The result of a send.
#[derive(Debug, Default)]
pub struct SendSummary {
    /// Bytes of members; holes count.
    pub bytes: u64,
    /// Bytes written to the transport.
    pub wire_bytes: u64,
    /// Layers around the stream, from the inside out, in words.
    pub layers: Vec<String>,
    /// Number of members.
    pub members: usize,
    /// From connecting to the last byte.
    pub time: Duration,
    /// Bytes of redo.
    pub redo_bytes: u64,
    /// LSN of the checkpoint at which the redo begins.
    pub checkpoint_lsn: Lsn,
    /// The consistent cut.
    pub end_lsn: Lsn,
    /// Binlog file and position at the cut.
    pub binlog: Option<(String, u64)>,
    /// GTID set at the cut.
    pub gtid_executed: String,
    /// Positions in the binary logs of the server's own sources.
    pub replica_channels: Vec<ReplicaChannel>,
    /// `LOCK INSTANCE FOR BACKUP`.
    pub backup_lock: Option<LockTimes>,
    /// The read lock on non-InnoDB tables, where there are any.
    pub table_lock: Option<LockTimes>,
    /// Of an increment: which pages were sent.
    pub changed: Option<Changed>,
    /// Pages read again because they were torn.
    pub torn_retries: u64,
    /// Numbers of encrypted datafiles whose pages were verified in the clear, and of those for which there was no key.
    pub encrypted: (u64, u64),
    /// How reading was held back; empty where it was not.
    pub throttle: String,
    /// Notes for the user: files that were left out, and why.
    pub notes: Vec<String>,
}

/// The pages of an increment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// LSN from which on pages were sent.
    pub from: Lsn,
    /// Number of pages sent.
    pub sent: u64,
    /// Number of pages that the datafiles have.
    pub of: u64,
    /// How they were found, in words.
    pub how: String,
}

/// Time that the cut is taken again because channels of a replica that have no GTIDs went on meanwhile.
const REPLICA_PATIENCE: Duration = Duration::from_secs(2);

/// Sends a backup of the server into `sink`.
///
/// # Errors
/// Whatever goes wrong, the stream then has no manifest and so is no backup to anybody.
pub fn run(
    options: &SendOptions,
    sink: Box<dyn Sink>,
    progress: &Progress,
    stop: &Stop,
) -> Result<SendSummary> {
    let started = Instant::now();
    let started_text = now_text();
    progress.enter(Phase::Starting);
    let spool = Arc::new(Spool::new(&options.tmpdir, options.spool_limit)?);
    // A passphrase takes its time: before anything is locked.
    let wraps = LayerOptions { compression: options.compression, cover: options.encryption.encryptor()? };
    let mut session = Session::connect(&options.connect)?;
    let variables = ServerVariables::ask(&mut session)?;
    let family = family::of_server(variables.get("version"), variables.get("version_comment"))?;
    let facts = Arc::new(ServerFacts::gather(variables, options.datadir.as_deref())?);
    let server = family.examine(&mut session, facts.clone(), &options.connect, stop)?;
    let replica = server.replica(&mut session, &options.connect)?;

    tracing::info!(
        "{} {} at {}, datadir {}",
        family.name(),
        facts.version,
        options.connect.describe(),
        facts.datadir.display()
    );
    let learning = match options.throttle {
        Throttle::Auto => Some(Baseline::start(&options.connect)?),
        Throttle::Off | Throttle::Reads(_) => None,
    };
    pages::track(&*server, &mut session, options.page_tracking, stop)?;
    let server_started = base::server_started(&mut session)?;
    let lock = server.lock_ddl(&mut session, options.lock_timeout)?;
    tracing::info!("backup lock taken");
    stop.check()?;
    let mut notes = Vec::new();
    let copied = Arc::new(AtomicU64::new(0));
    let consumer = retain_redo(&*server, options, copied.clone(), &mut notes)?;
    let tailer = Tailer::start(server.redo_log()?, spool.clone(), copied)?;
    tracing::info!("redo is copied from checkpoint LSN {} on", tailer.checkpoint);
    let checkpoint = tailer.checkpoint;
    let redo_uuid = tailer.redo_uuid;
    if let Some(base) = &options.since {
        let selection = options.selection.describe();
        base::check(base, &facts, selection.as_ref(), redo_uuid, tailer.copied().max(checkpoint))?;
    }
    let mut live = HeldResources::new(session, replica, consumer, tailer, learning);
    let mut inventory = server.inventory(live.session()?)?;
    let left_out = select(&*server, live.session()?, &options.selection, &mut inventory)?;
    tracing::info!("{} datafiles, {} bytes", inventory.datafiles.len(), inventory.bytes());
    notes.extend(inventory.notes.iter().cloned());
    Progress::set(&progress.bytes_total, inventory.bytes());
    let files = inventory.datafiles.len() + inventory.plain.len() + inventory.locked.len();
    Progress::set(&progress.files_total, files as u64);

    let stream_writer = StreamWriter::wrapped(sink, wraps)?;
    let member_writer = MemberWriter::new(&stream_writer, progress, options.dense, facts.owner);
    let pacer = RateLimiter::new(options.throttle, progress);
    let failure = Failure::new(&stream_writer, &spool, &pacer);
    let backup = Backup {
        options,
        family,
        keyring: &*options.keyring,
        server: &*server,
        facts: &facts,
        inventory: &inventory,
        member_writer: &member_writer,
        failure: &failure,
        pacer: &pacer,
        progress,
        stop,
        plain_layout: PageLayout::plain(facts.page_size()? as usize)
            .ok_or_else(|| Error::new(Code::Unsupported, "innodb_page_size is no page size"))?,
        suspects: EmptyPages::new(checkpoint),
        encrypted: EncryptedFiles::default(),
        redo_uuid,
        server_started,
        left_out,
        started_text,
    };
    let head = live.tailer.head.clone();
    let summary = thread::scope(|scope| {
        // The keys come before the redo, which may be encrypted.
        backup.beside(&mut live, || backup.send_keys(&head)).map_err(|e| backup.fail(&mut live, e))?;
        let pump = thread::Builder::new()
            .name("redo-pump".into())
            .spawn_scoped(scope, || failure.watch(|| member_writer.send_redo(&head, &spool)))
            .map_err(|e| Error::io(Code::Internal, "can't start a thread", e))?;
        let sent = backup.send(&mut live, lock).map_err(|e| backup.fail(&mut live, e))?;
        pump.join().map_err(|_| Error::new(Code::Internal, "the redo pump panicked"))?;
        failure.check()?;
        backup.end(sent, &mut live).map_err(|e| backup.fail(&mut live, e))
    });
    notes.extend(live.consumer_note());
    let mut summary = summary.map_err(|e| failure.first().unwrap_or(e))?;
    summary.notes.splice(0..0, notes);
    summary.time = started.elapsed();
    summary.wire_bytes = stream_writer.written();
    summary.layers.extend(options.compression.map(|c| c.to_string()));
    summary.layers.extend(options.encryption.describe());
    progress.enter(Phase::Done);
    Ok(summary)
}

/// Everything of a run that stays as it is.
struct Backup<'a> {
    options: &'a SendOptions,
    family: &'static dyn Family,
    keyring: &'a dyn Keyring,
    server: &'a dyn SourceServer,
    facts: &'a ServerFacts,
    inventory: &'a Inventory,
    member_writer: &'a MemberWriter<'a>,
    failure: &'a Failure<'a>,
    pacer: &'a RateLimiter<'a>,
    progress: &'a Progress,
    stop: &'a Stop,
    plain_layout: PageLayout,
    suspects: EmptyPages,
    encrypted: EncryptedFiles,
    redo_uuid: Option<u32>,
    server_started: Option<u64>,
    /// Tablespaces that were not chosen.
    left_out: Vec<LeftOut>,
    started_text: String,
}

impl Backup<'_> {
    /// Sends everything from the first member to the consistent cut; the redo pump works beside it.
    fn send(&self, live: &mut HeldResources, lock: HeldLock) -> Result<SendSummary> {
        self.beside(live, || self.send_head())?;
        self.progress.enter(Phase::Copying);
        let mut summary = SendSummary::default();
        self.send_pages(live, &mut summary)?;
        self.beside(live, || self.send_plain())?;

        tracing::info!("datafiles sent");
        self.progress.enter(Phase::Finishing);
        let table_lock = self.lock_tables(live)?;
        live.patience =
            table_lock.is_some().then(|| Timeouts::new(self.member_writer.stream_writer.written()));
        self.beside(live, || {
            self.inventory.locked.iter().try_for_each(|f| self.member_writer.send_file(&f.member, &f.path))
        })?;
        live.patience = None;
        let mut notes = Vec::new();
        let (cut, replica_channels) = self.cut(live, &mut notes)?;
        tracing::info!("consistent cut at LSN {}", cut.lsn);
        let binlog = self.open_binlog(&cut)?;
        notes.extend(binlog.as_ref().and_then(|b| b.note()).map(str::to_owned));
        let table_lock = table_lock.map(|lock| live.unlock_tables(self.server, &lock)).transpose()?;
        self.server.check_redo_enabled(live.session()?)?;
        self.server.unlock_ddl(live.session()?)?;
        let backup_lock = Some(lock.times());

        live.tailer.finish_at(cut.lsn);
        while !live.tailer.is_over() {
            self.heartbeat(live)?;
            thread::sleep(Duration::from_millis(2));
        }
        live.tailer.check()?;
        self.suspects.settle(self.facts.owner, |wanted| self.server.pages_in_redo(cut.lsn, wanted))?;
        // All redo is in our hands. From here on the line may be as slow as it likes: the server waits for nothing.
        live.drop_consumer();
        let gtid_executed = match binlog {
            Some(binlog) => self.send_binlog(binlog, cut.gtid_executed)?,
            None => cut.gtid_executed,
        };
        Ok(SendSummary {
            checkpoint_lsn: live.tailer.checkpoint,
            end_lsn: cut.lsn,
            binlog: cut.binlog,
            gtid_executed,
            replica_channels,
            notes,
            backup_lock,
            table_lock,
            ..summary
        })
    }

    /// Sends the files that need no lock beside the backup lock, and no reading by several threads.
    fn send_plain(&self) -> Result<()> {
        for file in &self.inventory.plain {
            self.member_writer.send_file(&file.member, &file.path)?;
        }
        for schema in &self.inventory.empty_schemas {
            // A stream has no folders; an empty file of a name that servers know as theirs makes one.
            self.member_writer.send_bytes(&format!("{schema}/{EMPTY_SCHEMA_FILE}"), b"")?;
        }
        Ok(())
    }

    /// Does `work` in a thread of its own while this one talks to the server: work may have to wait for the line, and
    /// the server must go on hearing how far redo was read.
    fn beside(&self, live: &mut HeldResources, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        thread::scope(|scope| -> Result<()> {
            let worker = thread::Builder::new()
                .name("files".into())
                .spawn_scoped(scope, || self.failure.watch(work))
                .map_err(|e| Error::io(Code::Internal, "can't start a thread", e))?;
            self.attend(live, &[worker]);
            Ok(())
        })?;
        self.failure.check()
    }

    /// Talks to the server until all of these threads are done.
    fn attend(&self, live: &mut HeldResources, threads: &[thread::ScopedJoinHandle<'_, ()>]) {
        while threads.iter().any(|t| !t.is_finished()) {
            if let Err(e) = self.heartbeat(live) {
                // They wait for their turns or for the line, and must not. Who waits for them afterwards may wait for long,
                // the server not at all.
                self.fail(live, e);
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The backup fails: first of all the server gets back what it holds for us. What this returns stands for the first
    /// failure.
    fn fail(&self, live: &mut HeldResources, error: Error) -> Error {
        live.let_go();
        self.failure.keep(error)
    }

    /// Looks whether all is well, and every now and then whether the server is still there.
    fn heartbeat(&self, live: &mut HeldResources) -> Result<()> {
        self.stop.check()?;
        self.failure.check()?;
        live.tailer.check()?;
        if let Some(patience) = &mut live.patience {
            patience.check(self.member_writer.stream_writer.written())?;
        }
        let copied = live.tailer.copied();
        Progress::set(&self.progress.redo_bytes, copied.since(live.tailer.checkpoint));
        if live.beat.elapsed() < HEARTBEAT {
            return Ok(());
        }
        live.beat = Instant::now();
        if let Some(current) = self.server.redo_lsns(live.session()?)?.current {
            Progress::set(&self.progress.redo_lag, current.since(copied));
        }
        Ok(())
    }

    fn lock_tables(&self, live: &mut HeldResources) -> Result<Option<HeldLock>> {
        let tables = &self.inventory.locked_tables;
        if tables.is_empty() {
            return Ok(None);
        }
        live.lock_tables(self.server, tables, self.options.lock_timeout).map(Some)
    }

    /// The consistent cut: behind everything that was passed on, and not in the middle of an undo truncation. On a replica, also
    /// where its channels stood then.
    fn cut(
        &self,
        live: &mut HeldResources,
        notes: &mut Vec<String>,
    ) -> Result<(BackupPosition, Vec<ReplicaChannel>)> {
        let begun = Instant::now();
        while begun.elapsed() < UNDO_PATIENCE {
            let before = self.server.steady_state(live.session()?)?;
            if before.is_some() {
                let channels = live.replica.channels();
                if !live.tailer.pause(PAUSE)? {
                    self.heartbeat(live)?;
                    continue;
                }
                let cut = self.server.position(live.session()?)?;
                let moved = live.replica.channels() != channels;
                let patient = begun.elapsed() < REPLICA_PATIENCE;
                if self.server.steady_state(live.session()?)? == before
                    && !(moved && patient && channels.iter().any(|c| !c.auto_position))
                {
                    let (channels, words) = replication::known(channels, moved);
                    notes.extend(words);
                    return Ok((cut, channels));
                }
                live.tailer.resume();
            }
            self.heartbeat(live)?;
            thread::sleep(Duration::from_millis(50));
        }
        Err(Error::new(Code::SourceIncomplete, "the server did not stop truncating undo tablespaces")
            .hint("SET GLOBAL innodb_undo_log_truncate=OFF, then run the backup again"))
    }
}

/// Takes out of the inventory what was not chosen, and notes tables that those chosen refer to.
fn select(
    server: &dyn SourceServer,
    session: &mut Session,
    selection: &Selection,
    inventory: &mut Inventory,
) -> Result<Vec<LeftOut>> {
    if selection.is_everything() {
        return Ok(Vec::new());
    }
    let left_out = selection.apply(inventory, &server.tables(session)?)?;
    let is_out = |(schema, table): &(String, String)| {
        left_out.iter().any(|one| one.schema == *schema && one.table == *table)
    };
    for (from, to) in server.foreign_keys(session)? {
        if !is_out(&from) && is_out(&to) {
            let ((a, b), (c, d)) = (from, to);
            inventory.notes.push(format!("{a}.{b} refers to {c}.{d}, which is left out"));
        }
    }
    inventory.notes.push(format!("partial: {} tablespaces are left out", left_out.len()));
    Ok(left_out)
}

fn retain_redo(
    server: &dyn SourceServer,
    options: &SendOptions,
    copied: Arc<AtomicU64>,
    notes: &mut Vec<String>,
) -> Result<Option<Box<dyn RedoRetention>>> {
    if !options.redo_consumer {
        return Ok(None);
    }
    let reason = match server.retain_redo(&options.connect, copied) {
        Ok(Some(consumer)) => return Ok(Some(consumer)),
        Ok(None) => "another session is the server's redo consumer".to_owned(),
        Err(e) => e.to_string(),
    };
    tracing::warn!(
        "not registered as redo consumer ({reason}): if the server overwrites redo too early, the backup fails"
    );
    notes.push(format!("without redo consumer: {reason}"));
    Ok(None)
}

/// Now, in the manner of RFC 3339, in UTC.
fn now_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
