//! Keeps the stream's metadata: the metadata members, held in memory as they pass, and the manifest.

use std::collections::HashMap;

use crate::base::version::ServerVersion;
use crate::base::{Budget, Charge, Code, Error, Lsn, Result};
use crate::innodb::redo::{BLOCK_LEN, FileChange, HEAD_LEN, RedoHead};
use crate::prepare::checks;
use crate::prepare::datafiles::HeaderSize;
use crate::prepare::logfile::RedoStream;
use crate::prepare::options::system_members;
use crate::restore::Received;
use crate::stream::chain::{INCREMENT, Increment, Lineage};
use crate::stream::delta::DELTA;
use crate::stream::manifest::{LeftOut, MANIFEST, MANIFEST_MAX, Manifest};
use crate::stream::metadata::{
    BACKUP_CNF, BINLOG_INFO, BINLOG_KEY, BackupCnf, BackupType, BinlogInfo, BinlogPosition, CHECKPOINTS,
    Checkpoints, DeltaMeta, INFO, Info, KEYS, LOGFILE, METADATA_MAX, TABLESPACES, Tablespaces,
};
use crate::stream::{Chunk, MANIFEST_SHARE, MemberName, Piece};

use super::arriving_deltas::ArrivingDeltas;
use super::consistency::{self, Statements};
use super::tablespaces::{Against, ArrivingTablespaces, Spaces};

/// Names of the members that are kept.
const KEPT: &[&str] =
    &[KEYS, BINLOG_KEY, INCREMENT, BACKUP_CNF, TABLESPACES, CHECKPOINTS, INFO, BINLOG_INFO, MANIFEST];

/// Maximum number of bytes of a hole in redo that are examined.
const HOLE_MAX: u64 = 4096;

/// The metadata members received so far.
pub(super) struct StreamMetadata {
    texts: HashMap<MemberName, Vec<u8>>,
    kept: Charge,
    /// Number of bytes that were charged for the manifest elsewhere and are not used up.
    reserved: u64,
    manifest: Option<Manifest>,
    /// What the manifest says of the backup's place in a chain.
    lineage: Option<Lineage>,
    deltas: ArrivingDeltas,
    early_version: Option<ServerVersion>,
    first_data: bool,
    redo_head: Option<RedoHead>,
    spaces: ArrivingTablespaces,
    /// Reader of the redo, if nothing else reads it.
    redo: Option<RedoStream>,
}

/// Maximum number of bytes of memory per byte of a text once it is parsed: a transaction number in a GTID set
/// has two bytes in the text, and takes 16.
const TEXT_COST: u64 = 8;
/// The same factor for the manifest: its text, its members, and their names in order. For the members that
/// arrived, this was charged when they did.
const MANIFEST_COST: u64 = 3;

impl StreamMetadata {
    /// Creates the metadata store; texts are charged to `budget`.
    pub(super) fn new(budget: &Budget) -> StreamMetadata {
        StreamMetadata {
            texts: HashMap::new(),
            kept: budget.charged("what the stream says of itself"),
            reserved: 0,
            manifest: None,
            lineage: None,
            deltas: ArrivingDeltas::default(),
            early_version: None,
            first_data: false,
            redo_head: None,
            spaces: ArrivingTablespaces::default(),
            redo: None,
        }
    }

    /// Creates the metadata store for a stream that is only verified: its redo is checked as it passes.
    pub(super) fn verifying(budget: &Budget) -> StreamMetadata {
        StreamMetadata { redo: Some(RedoStream::new(budget)), ..StreamMetadata::new(budget) }
    }

    /// Examines a chunk as it passes.
    pub(super) fn chunk(&mut self, chunk: &Chunk) -> Result<()> {
        self.refuse_after_manifest(&chunk.member)?;
        if chunk.member == LOGFILE && chunk.offset == 0 {
            self.read_redo_head(chunk)?;
        }
        if let Some(redo) = self.redo.as_mut().filter(|_| chunk.member == LOGFILE) {
            chunk.verify()?;
            push_redo(redo, chunk)?;
        }
        self.spaces.chunk(chunk);
        if self.deltas.chunk(chunk) {
            self.kept.grow(ArrivingDeltas::EACH)?;
        }
        if KEPT.contains(&chunk.member.as_str()) {
            // The content is used at once, so a wrong crc must be found now.
            chunk.verify()?;
            self.keep(chunk)?;
        }
        Ok(())
    }

    /// Gives out the text of a member that has ended.
    pub(super) fn take_text(&mut self, member: &MemberName) -> Vec<u8> {
        self.texts.remove(member.as_str()).unwrap_or_default()
    }

    /// Returns the description of the datafile whose changed pages `member` has, if it has arrived.
    pub(super) fn delta_meta(&self, member: &MemberName) -> Option<&DeltaMeta> {
        self.deltas.of(member)
    }

    /// Handles the end of a member.
    pub(super) fn end(&mut self, member: &MemberName) -> Result<()> {
        self.refuse_after_manifest(member)?;
        self.reserved += MANIFEST_SHARE;
        if *member == MANIFEST {
            let text = self.texts.remove(MANIFEST).unwrap_or_default();
            let manifest = Manifest::parse(&text)?;
            self.lineage = Some(Lineage::of_manifest(&manifest, &text));
            self.manifest = Some(manifest);
        }
        Ok(())
    }

    /// Checks, at the end of the stream, that it had its manifest.
    pub(super) fn at_end(&self, allow_no_manifest: bool) -> Result<()> {
        if self.manifest.is_some() || allow_no_manifest {
            return Ok(());
        }
        Err(Error::new(Code::NoManifest, "the stream has no manifest: nothing proves that it is whole").hint(
            "if the sender is xbsend, it failed: look at its messages; streams of other tools have none and are \
             taken with --allow-no-manifest",
        ))
    }

    /// Compares the manifest with the members that arrived; returns whether there is a manifest.
    pub(super) fn verify(&mut self, received: &Received, allow_no_manifest: bool) -> Result<bool> {
        self.at_end(allow_no_manifest)?;
        if let Some(manifest) = &self.manifest {
            manifest.verify(&super::with_digests(received)?)?;
            consistency::check_binlog_member(manifest, received)?;
        } else {
            consistency::check_tools(received, self.is_increment())?;
        }
        if !received.contains_key(LOGFILE) {
            return Err(Error::new(Code::CorruptRedo, format!("the stream has no redo (member {LOGFILE})"))
                .hint("a backup of InnoDB tables without its redo can't be made consistent"));
        }
        self.check_agreement()?;
        let spaces = self.check_spaces(received)?;
        if let Some(redo) = self.redo.take() {
            self.check_redo(redo, &spaces)?;
        }
        Ok(self.manifest.is_some())
    }

    /// Checks that facts which the stream states more than once are consistent.
    fn check_agreement(&self) -> Result<()> {
        let cnf = self.text(BACKUP_CNF).map(BackupCnf::parse).transpose()?;
        let checkpoints = self.text(CHECKPOINTS).map(Checkpoints::parse).transpose()?;
        let info = self.text(INFO).map(Info::parse).transpose()?;
        Statements {
            in_folder: false,
            left_out: self.left_out(),
            lineage: self.text(INCREMENT).map(parse_lineage).transpose()?.as_ref(),
            manifest: self.manifest.as_ref(),
            cnf: cnf.as_ref(),
            checkpoints: checkpoints.as_ref(),
            info: info.as_ref(),
            binlog: self.binlog_info()?.as_ref(),
            redo: self.redo_head.as_ref(),
        }
        .check()
    }

    /// Checks the tablespaces.
    fn check_spaces(&self, received: &Received) -> Result<Spaces> {
        let cnf = self.cnf()?;
        let suffix = if self.is_increment() { DELTA } else { "" };
        let mut external = Vec::new();
        for tablespace in self.tablespaces()?.external {
            let member = tablespace.member().map_err(|e| Error::new(Code::StreamRefused, e.to_string()))?;
            if !received.contains_key(&*format!("{member}{suffix}")) {
                return Err(Error::new(
                    Code::ManifestMismatch,
                    format!("{TABLESPACES} lists member '{member}', which did not come"),
                ));
            }
            external.push((tablespace.file_name.into(), member));
        }
        let page_size = match &self.manifest {
            Some(manifest) => Some(u64::from(manifest.page_size)),
            None => cnf.get("innodb_page_size").and_then(|size| size.parse().ok()),
        };
        let checkpoint = self.redo_head.as_ref().and_then(|h| h.checkpoints.into_iter().flatten().min());
        let system = system_members(&cnf, &external)?;
        if self.is_increment() {
            return self.deltas.check(received, &system, page_size);
        }
        self.spaces.check(&Against { received, system: &system, page_size, checkpoint })
    }

    /// Checks the redo of a stream that is only verified.
    fn check_redo(&self, redo: RedoStream, spaces: &Spaces) -> Result<()> {
        let read = redo.finish()?;
        let promised = self.end_lsn()?;
        read.reaches(promised)?;
        if self.manifest.is_some() {
            read.ends_at(promised)?;
        }
        let Some(events) = &read.events else { return Ok(()) };
        let is_cut =
            |(_, header_size, length): &&(_, HeaderSize, u64)| !read.growth.allows(header_size, *length);
        if let Some((member, header_size, length)) = spaces.short.iter().find(is_cut) {
            return Err(header_size.broken(format!("member '{member}'"), *length));
        }
        // Events behind the end are not in the backup.
        let inside = events.iter().filter(|event| promised.is_none_or(|end| event.lsn < end));
        let events: Vec<_> = inside.cloned().collect();
        checks::check_events(&events)?;
        let made = events.iter().filter(|e| matches!(e.what, FileChange::Create { .. })).map(|e| &e.space);
        let undo = spaces.ids.iter().chain(made).filter_map(|space| space.undo_number()).collect();
        checks::check_spaces(true, &undo)
    }

    /// Returns whether it is an increment.
    pub(super) fn is_increment(&self) -> bool {
        match &self.manifest {
            Some(manifest) => manifest.increment.is_some(),
            None => self
                .text(CHECKPOINTS)
                .and_then(|text| Checkpoints::parse(text).ok())
                .is_some_and(|c| c.backup_type == BackupType::Incremental),
        }
    }

    /// Returns what the stream says of its place in a chain, as far as it is known by now.
    pub(super) fn lineage(&self) -> Result<Lineage> {
        if let Some(lineage) = &self.lineage {
            return Ok(lineage.clone());
        }
        if let Some(text) = self.text(CHECKPOINTS) {
            let checkpoints = Checkpoints::parse(text)?;
            return Ok(Lineage {
                server_uuid: None,
                to_lsn: checkpoints.to_lsn,
                end_lsn: checkpoints.last_lsn,
                increment: (checkpoints.backup_type == BackupType::Incremental)
                    .then_some(Increment { from_lsn: checkpoints.from_lsn, base: None }),
                ..Lineage::default()
            });
        }
        self.text(INCREMENT).map_or_else(|| Ok(Lineage::default()), parse_lineage)
    }

    /// Returns the version of the source's server, once: as soon as something in the stream tells it.
    pub(super) fn early_version(&mut self) -> Option<ServerVersion> {
        self.early_version.take()
    }

    /// Returns the source's options.
    pub(super) fn cnf(&self) -> Result<BackupCnf> {
        Ok(self.text(BACKUP_CNF).map(BackupCnf::parse).transpose()?.unwrap_or_default())
    }

    /// Returns the tablespaces outside the source's datadir.
    pub(super) fn tablespaces(&self) -> Result<Tablespaces> {
        Ok(self.text(TABLESPACES).map(Tablespaces::parse).transpose()?.unwrap_or_default())
    }

    /// Returns the version of the source.
    pub(super) fn server_version(&self) -> Result<Option<String>> {
        if let Some(manifest) = &self.manifest {
            return Ok(Some(manifest.server_version.clone()));
        }
        Ok(self.text(INFO).map(Info::parse).transpose()?.map(|info| info.server_version))
    }

    /// Returns the LSN that the redo must reach.
    pub(super) fn end_lsn(&self) -> Result<Option<Lsn>> {
        if let Some(manifest) = &self.manifest {
            return Ok(Some(manifest.end_lsn));
        }
        Ok(self.text(CHECKPOINTS).map(Checkpoints::parse).transpose()?.map(|c| c.last_lsn))
    }

    /// Returns the manifest.
    pub(super) fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Returns the tablespaces that a partial backup does not have.
    pub(super) fn left_out(&self) -> &[LeftOut] {
        self.manifest.as_ref().map_or(&[], |manifest| &manifest.left_out)
    }

    /// Returns the times at which the backup began and ended.
    pub(super) fn times(&self) -> Option<(String, String)> {
        self.manifest.as_ref().map(|manifest| (manifest.started.clone(), manifest.ended.clone()))
    }

    /// Returns the position in the source's binary log.
    pub(super) fn binlog(&self) -> Result<Option<BinlogPosition>> {
        match &self.manifest {
            Some(manifest) => Ok(manifest.binlog.clone()),
            None => Ok(self.binlog_info()?.map(|info| info.position)),
        }
    }

    /// Returns the GTID set at the end of the backup.
    pub(super) fn gtid_executed(&self) -> Result<Option<String>> {
        match &self.manifest {
            Some(manifest) => Ok(manifest.gtid_executed.clone()),
            None => Ok(self.binlog_info()?.and_then(|info| info.gtid_executed)),
        }
    }

    fn binlog_info(&self) -> Result<Option<BinlogInfo>> {
        Ok(self.text(BINLOG_INFO).map(BinlogInfo::parse).transpose()?)
    }

    fn text(&self, name: &str) -> Option<&[u8]> {
        self.texts.get(name).map(Vec::as_slice)
    }

    fn refuse_after_manifest(&self, member: &MemberName) -> Result<()> {
        match self.manifest {
            None => Ok(()),
            Some(_) => Err(Error::new(
                Code::StreamRefused,
                format!("member '{member}' follows the manifest, which is the end of a stream"),
            )),
        }
    }

    fn keep(&mut self, chunk: &Chunk) -> Result<()> {
        let max = if chunk.member == MANIFEST { MANIFEST_MAX } else { METADATA_MAX };
        if chunk.end() > max as u64 {
            return Err(Error::new(
                Code::StreamRefused,
                format!("member '{}' is larger than {max} bytes", chunk.member),
            ));
        }
        self.charge(chunk.member == MANIFEST, chunk.logical_len())?;
        let text = self.texts.entry(chunk.member.clone()).or_default();
        for (_, piece) in chunk.pieces() {
            match piece {
                Piece::Hole(n) => text.resize(text.len() + n as usize, 0),
                Piece::Data(bytes) => text.extend_from_slice(bytes),
            }
        }
        Ok(())
    }

    fn charge(&mut self, is_manifest: bool, len: u64) -> Result<()> {
        let cost = match is_manifest {
            false => TEXT_COST * len,
            true => {
                let cost = MANIFEST_COST * len;
                let covered = cost.min(self.reserved);
                self.reserved -= covered;
                cost - covered
            }
        };
        Ok(self.kept.grow(cost)?)
    }

    /// Reads the redo's header, which names the server that wrote it: "MySQL 9.7.4". Redo that can't be used
    /// is refused before the data comes.
    fn read_redo_head(&mut self, chunk: &Chunk) -> Result<()> {
        if self.first_data {
            return Ok(());
        }
        self.first_data = true;
        // The header may consist of data and holes.
        let mut bytes = vec![0; chunk.end().min(HEAD_LEN as u64) as usize];
        chunk.copy(0, &mut bytes);
        let Ok(head) = RedoHead::read_logfile(&bytes) else { return Ok(()) };
        checks::check_head(&head)?;
        let creator = head.creator.strip_prefix("MySQL ").map(str::to_owned);
        self.early_version = creator.and_then(|c| ServerVersion::parse(&c));
        self.redo_head = Some(head);
        Ok(())
    }
}

fn parse_lineage(text: &[u8]) -> Result<Lineage> {
    serde_json::from_slice(text).map_err(|e| {
        // The message may quote the input.
        let shown: String = e.to_string().chars().take(200).collect();
        Error::new(Code::StreamCorrupt, format!("member {INCREMENT}: {}", shown.escape_debug()))
    })
}

fn push_redo(redo: &mut RedoStream, chunk: &Chunk) -> Result<()> {
    /// A block without content: the log ends there.
    const NOTHING: [u8; BLOCK_LEN] = [0; BLOCK_LEN];
    for (_, piece) in chunk.pieces() {
        match piece {
            Piece::Data(bytes) => redo.push(bytes)?,
            // A hole is examined no further than `HOLE_MAX`: the log has ended after the first block of it.
            Piece::Hole(n) => {
                for _ in 0..n.min(HOLE_MAX).div_ceil(BLOCK_LEN as u64) {
                    redo.push(&NOTHING[..(n.min(BLOCK_LEN as u64)) as usize])?;
                }
            }
        }
    }
    Ok(())
}
