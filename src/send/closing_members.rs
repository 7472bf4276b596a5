//! Sends the members at both ends of the stream: the options and outside files first, the binlog's tail, the metadata and
//! the manifest last.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::confined::lexical;
use crate::base::gtid::GtidSet;
use crate::base::{Code, Error, Lsn, Result, show};
use crate::innodb::encryption::{Cipher, Sealed, Unit};
use crate::source::backup_position::BackupPosition;
use crate::source::binlog::{GtidScanner, is_binlog, uncounted_bytes};
use crate::source::files;
use crate::source::replication::ReplicaChannel;
use crate::stream::chain::{INCREMENT, Lineage};
use crate::stream::manifest::{self, MANIFEST, Manifest};
use crate::stream::metadata::{
    BACKUP_CNF, BINLOG_INFO, BackupCnf, BackupType, BinlogInfo, BinlogPosition, CHECKPOINTS, Channel,
    Checkpoints, ExternalTablespace, INFO, Info, SLAVE_INFO, SlaveInfo, TABLESPACES, TablespaceType,
    Tablespaces,
};

use super::extra_files;
use super::held_resources::HeldResources;
use super::member_writer::member_name;
use super::{Backup, SendSummary, now_text};

/// Options that the copy's server must have like the source's, where the source has them.
const COPIED_OPTIONS: &[&str] = &[
    "innodb_checksum_algorithm",
    "innodb_page_size",
    "innodb_data_file_path",
    "innodb_undo_log_encrypt",
    "lower_case_table_names",
    "server_id",
];
/// Bytes at the head of a binary log that say what it is; an encrypted one has 512 of them (`Rpl_encryption_header`).
const BINLOG_START: usize = 512;
/// Options that name a folder: relative where it is inside the datadir.
const COPIED_FOLDERS: &[&str] = &["innodb_data_home_dir", "innodb_undo_directory"];

/// The binlog file of the cut, kept open: the server may purge it, but not take it away from us.
pub(super) struct OpenBinlog {
    file: File,
    path: PathBuf,
    name: String,
    bytes: u64,
    basename: String,
    /// Its first bytes, if it is encrypted.
    sealed: Option<Vec<u8>>,
}

impl OpenBinlog {
    /// A note about it for the user.
    pub(super) fn note(&self) -> Option<&'static str> {
        self.sealed.as_ref().map(|_|
            "the binary log is encrypted: the first server that starts on the copy needs this server's keyring",
        )
    }
}

/// Reads a binlog, looking at its GTIDs on the way.
struct Watched {
    file: File,
    gtids: GtidScanner,
    /// Bytes read so far.
    at: u64,
    /// The cipher, if it is encrypted and the key is known.
    cipher: Option<Arc<dyn Cipher>>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        match &self.cipher {
            None => self.gtids.feed(&buffer[..n]),
            Some(cipher) => {
                let mut clear = buffer[..n].to_vec();
                cipher.decrypt(Unit::Binlog(self.at), &mut clear);
                self.gtids.feed(&clear);
            }
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Backup<'_> {
    /// The members that the receiver needs before any other.
    pub(super) fn send_head(&self) -> Result<()> {
        if let Some(increment) = self.increment() {
            let lineage = Lineage {
                identity: None,
                server_uuid: Some(self.facts.server_uuid.clone()),
                redo_uuid: self.redo_uuid,
                server_started: self.server_started,
                selection: self.options.selection.describe(),
                page_size: Some(self.facts.page_size()?),
                to_lsn: Lsn(0),
                end_lsn: Lsn(0),
                increment: Some(increment),
            };
            let json = serde_json::to_vec(&lineage).expect("no map keys and no failing types");
            self.member_writer.send_bytes(INCREMENT, &json)?;
        }
        self.member_writer.send_bytes(BACKUP_CNF, self.backup_cnf().render().as_bytes())?;
        let mut external = Vec::new();
        for file in &self.inventory.external {
            let kind = if file.kind == "undo" { TablespaceType::Undo } else { TablespaceType::Tables };
            // A server reports paths as they were given to it; receivers let none in that leads upwards.
            let path = lexical(&file.path).to_string_lossy().into_owned();
            external.push(ExternalTablespace::new(path, &file.tablespace, kind, member_name(&file.member)?));
        }
        self.member_writer.send_bytes(TABLESPACES, Tablespaces { external }.render().as_bytes())
    }

    fn backup_cnf(&self) -> BackupCnf {
        let mut cnf = BackupCnf::new();
        for name in COPIED_OPTIONS {
            let value = self.facts.variable(name);
            if !value.is_empty() {
                cnf.set(name, value);
            }
        }
        for name in COPIED_FOLDERS {
            let value = self.facts.variable(name);
            let folder = self.facts.resolve(value);
            if !value.is_empty() && folder != self.facts.datadir {
                let inside = folder.strip_prefix(&self.facts.datadir).map(Path::to_path_buf);
                cnf.set(name, inside.unwrap_or(folder).display());
            }
        }
        if self.facts.has_binlog() {
            cnf.set("log_bin", self.binlog_basename());
        }
        cnf
    }

    fn binlog_basename(&self) -> String {
        let basename = Path::new(self.facts.variable("log_bin_basename"));
        basename.file_name().map_or_else(|| "binlog".into(), |n| n.to_string_lossy().into_owned())
    }

    /// Opens the binlog file that the cut names.
    ///
    /// Transactions that are in it, but only prepared in InnoDB at the cut, are committed by the server that
    /// recovers the copy, because it finds them there; those that are not in it are rolled back. Only the last file
    /// can hold such transactions: the server rotates when none is left in between (`MYSQL_BIN_LOG::rotate`).
    pub(super) fn open_binlog(&self, cut: &BackupPosition) -> Result<Option<OpenBinlog>> {
        let Some((name, position)) = &cut.binlog else { return Ok(None) };
        let dir = Path::new(self.facts.variable("log_bin_basename")).parent().map(Path::to_path_buf);
        let path = self.facts.resolve(&dir.unwrap_or_default().to_string_lossy()).join(name);
        let file = files::open(&path, self.facts.owner).map_err(|e| {
            files::failed(&path, e)
                .hint("its tail settles prepared transactions: run xbsend as the server's user or root")
        })?;
        let mut start = [0; BINLOG_START];
        let known = file.metadata().and_then(|m| file.read_at(&mut start, 0).map(|n| (m.len(), n)));
        let (len, read) = known.map_err(|e| files::failed(&path, e))?;
        if !is_binlog(&start[..read]) || Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(Error::new(
                Code::SourceIncomplete,
                format!("{}, which the server names as its binary log, is none", show::shown_path(&path)),
            )
            .hint("is this the folder of this server's binary logs?"));
        }
        let uncounted = uncounted_bytes(&start[..read]);
        let bytes = position + uncounted;
        if len < bytes {
            return Err(Error::new(
                Code::SourceIncomplete,
                format!(
                    "binary log {} has {len} bytes, and the server's position is {position}",
                    show::shown_path(&path)
                ),
            )
            .hint(
                "its tail settles prepared transactions: is this the folder of this server's binary logs?",
            ));
        }
        Ok(Some(OpenBinlog {
            file,
            path,
            name: name.clone(),
            bytes,
            sealed: (uncounted > 0).then(|| start[..read].to_vec()),
            basename: self.binlog_basename(),
        }))
    }

    /// Sends it, and completes the cut's GTID set from it: what a server commits that recovers with this binlog.
    pub(super) fn send_binlog(&self, binlog: OpenBinlog, gtid_executed: String) -> Result<String> {
        let what = binlog.path.display().to_string();
        if let Some(header) = &binlog.sealed {
            self.send_binlog_key(header)?;
        }
        let cipher = binlog.sealed.and_then(|header| self.keyring.cipher(Sealed::Binlog(&header)).ok());
        let mut watched = Watched { file: binlog.file, gtids: GtidScanner::new(), at: 0, cipher };
        self.member_writer.send_reader(&binlog.name, &mut watched, binlog.bytes, &what)?;
        let index = format!("./{}\n", binlog.name);
        self.member_writer.send_bytes(&format!("{}.index", binlog.basename), index.as_bytes())?;
        // Computed here: a statement with the set in it may be longer than the server takes.
        let strange = |e| Error::new(Code::Sql, "a GTID set of the server was not understood").cause(e);
        let mut union = GtidSet::parse(&gtid_executed).map_err(strange)?;
        for newest in watched.gtids.newest() {
            union = union.union(GtidSet::parse(newest).map_err(strange)?);
        }
        let union = union.to_string();
        if union != gtid_executed {
            tracing::info!("the binlog holds more than log_status said: {union} instead of {gtid_executed}");
        }
        Ok(union)
    }

    /// Sends metadata and manifest, once all other members are sent.
    pub(super) fn end(&self, mut summary: SendSummary, live: &mut HeldResources) -> Result<SendSummary> {
        // The last look at the server: a session that was lost released the locks some time before.
        let lsns = self.server.redo_lsns(live.session()?)?;
        live.let_go();
        let increment = self.increment();
        let checkpoints = Checkpoints {
            backup_type: increment.as_ref().map_or(BackupType::FullBackuped, |_| BackupType::Incremental),
            from_lsn: increment.map_or(Lsn(0), |i| i.from_lsn),
            // Not the newest checkpoint: then the next increment has all that this backup's redo changes.
            to_lsn: summary.checkpoint_lsn,
            last_lsn: summary.end_lsn,
            flushed_lsn: lsns.flushed.map_or(summary.end_lsn, |n| n.min(summary.end_lsn)),
        };
        self.send_positions(&summary)?;
        self.send_slave_info(&summary)?;
        self.member_writer.send_bytes(CHECKPOINTS, checkpoints.render().as_bytes())?;
        let ended = now_text();
        let info = self.info(&summary, &ended).render();
        self.member_writer.send_bytes(INFO, info.as_bytes())?;
        let manifest = self.send_manifest(&mut summary, ended)?;
        summary.redo_bytes = summary.end_lsn.since(summary.checkpoint_lsn);
        summary.encrypted = self.encrypted.counts();
        summary.torn_retries = crate::base::progress::Progress::get(&self.progress.torn_retries);
        self.member_writer.stream_writer.finish()?;
        // Last, when the backup is whole: what stands there is what the next increment builds on.
        if let Some(dir) = &self.options.extra_lsndir {
            let files = [
                (CHECKPOINTS, checkpoints.render().into_bytes()),
                (INFO, info.into_bytes()),
                (MANIFEST, manifest),
            ];
            extra_files::write(dir, &files)?;
        }
        Ok(summary)
    }

    fn send_positions(&self, summary: &SendSummary) -> Result<()> {
        let Some(position) = position(summary) else { return Ok(()) };
        let info = BinlogInfo { position, gtid_executed: gtid_set(summary) };
        self.member_writer.send_bytes(BINLOG_INFO, info.render().as_bytes())
    }

    /// Sends the statements that make the copy a replica of this server's own sources.
    fn send_slave_info(&self, summary: &SendSummary) -> Result<()> {
        if summary.replica_channels.is_empty() {
            return Ok(());
        }
        let by_gtid = summary.replica_channels.iter().any(|c| c.auto_position);
        let channel = |c: &ReplicaChannel| {
            let position = match c.auto_position {
                true => None,
                false => Some(c.position.clone()?),
            };
            Some(Channel { name: c.name.clone(), position })
        };
        let info = SlaveInfo {
            gtid_purged: by_gtid.then(|| summary.gtid_executed.clone()),
            channels: summary.replica_channels.iter().filter_map(channel).collect(),
        };
        self.member_writer.send_bytes(SLAVE_INFO, info.render().as_bytes())
    }

    fn info(&self, summary: &SendSummary, ended: &str) -> Info {
        let gtid = gtid_set(summary);
        let locked = summary.table_lock.unwrap_or_default().held;
        Info {
            uuid: uuid::Uuid::new_v4().to_string(),
            name: String::new(),
            tool_name: "xbpipe".into(),
            tool_command: self.options.command.clone(),
            tool_version: env!("CARGO_PKG_VERSION").into(),
            server_version: self.facts.version.clone(),
            server_flavor: self.facts.version_comment.clone(),
            start_time: self.started_text.clone(),
            end_time: ended.to_owned(),
            lock_time: locked.as_secs(),
            binlog_pos: summary
                .binlog
                .as_ref()
                .map(|(file, at)| Info::binlog_pos(file, *at, gtid.as_deref()))
                .unwrap_or_default(),
            innodb_from_lsn: self.increment().map_or(Lsn(0), |i| i.from_lsn),
            innodb_to_lsn: summary.checkpoint_lsn,
            partial: !self.options.selection.is_everything(),
            incremental: self.options.since.is_some(),
            format: "xbstream".into(),
            compressed: false,
            encrypted: false,
            backup_size: Some(self.inventory.bytes()),
        }
    }

    fn send_manifest(&self, summary: &mut SendSummary, ended: String) -> Result<Vec<u8>> {
        let members = self.member_writer.take_members();
        summary.members = members.len() + 1;
        summary.bytes = members.iter().map(|m| m.size).sum();
        let manifest = Manifest {
            format: manifest::FORMAT,
            tool: "xbpipe".into(),
            tool_version: env!("CARGO_PKG_VERSION").into(),
            server_version: self.facts.version.clone(),
            server_uuid: self.facts.server_uuid.clone(),
            page_size: self.facts.page_size()?,
            started: self.started_text.clone(),
            ended,
            checkpoint_lsn: summary.checkpoint_lsn,
            end_lsn: summary.end_lsn,
            binlog: position(summary),
            gtid_executed: gtid_set(summary),
            redo_uuid: self.redo_uuid,
            server_started: self.server_started,
            selection: self.options.selection.describe(),
            left_out: self.left_out.clone(),
            increment: self.increment(),
            stands_for: None,
            members,
        };
        let manifest = manifest.encode();
        self.member_writer.send_bytes(MANIFEST, &manifest)?;
        Ok(manifest)
    }
}

fn position(summary: &SendSummary) -> Option<BinlogPosition> {
    summary.binlog.as_ref().map(|(file, position)| BinlogPosition { file: file.clone(), position: *position })
}

fn gtid_set(summary: &SendSummary) -> Option<String> {
    (!summary.gtid_executed.is_empty()).then(|| summary.gtid_executed.clone())
}
