//! Checks that the stream is consistent. The manifest, the metadata members and the redo's header repeat many
//! facts; if two of them differ, one is not what the sender wrote, and the stream is refused with an error
//! that shows both values.

use std::fmt::{Debug, Display};

use crate::base::version::ServerVersion;
use crate::base::{Code, Error, Lsn, Result};
use crate::innodb::redo::RedoHead;
use crate::restore::Received;
use crate::stream::chain::{INCREMENT, Lineage};
use crate::stream::delta::{DELTA, META};
use crate::stream::manifest::{LeftOut, MANIFEST, Manifest};
use crate::stream::metadata::{
    BACKUP_CNF, BINLOG_INFO, BackupCnf, BackupType, BinlogInfo, CHECKPOINTS, Checkpoints, INFO, Info, LOGFILE,
};

/// Number of bytes at the start of an encrypted binary log that its positions do not count.
const BINLOG_HEADER: u64 = 512;

/// The statements that a stream, or a folder, makes about itself.
pub(super) struct Statements<'a> {
    pub(super) lineage: Option<&'a Lineage>,
    /// Whether they stand in a folder, whose backup may have been worked on.
    pub(super) in_folder: bool,
    /// Tablespaces that a partial backup does not have.
    pub(super) left_out: &'a [LeftOut],
    pub(super) manifest: Option<&'a Manifest>,
    pub(super) cnf: Option<&'a BackupCnf>,
    pub(super) checkpoints: Option<&'a Checkpoints>,
    pub(super) info: Option<&'a Info>,
    pub(super) binlog: Option<&'a BinlogInfo>,
    pub(super) redo: Option<&'a RedoHead>,
}

impl Statements<'_> {
    /// Compares all statements with each other.
    ///
    /// # Errors
    /// [`Code::ManifestMismatch`]; [`Code::Unsupported`] if it is not a full backup.
    pub(super) fn check(&self) -> Result<()> {
        self.check_kind()?;
        self.check_without_manifest()?;
        let Some(manifest) = self.manifest else { return Ok(()) };
        for (there, name) in [
            (self.cnf.is_some(), BACKUP_CNF),
            (self.checkpoints.is_some(), CHECKPOINTS),
            (self.info.is_some(), INFO),
        ] {
            if !there {
                return Err(mismatch(format!("the stream has a manifest, and no member {name}")));
            }
        }
        if manifest.started > manifest.ended {
            return Err(differ(
                (MANIFEST, "started", &manifest.started),
                (MANIFEST, "ended", &manifest.ended),
            ));
        }
        self.check_options(manifest)?;
        self.check_checkpoints(manifest)?;
        self.check_info(manifest)?;
        self.check_binlog(manifest)?;
        self.check_redo(manifest)
    }

    /// Checks that all say the same of what kind it is: full, or an increment from one LSN on.
    fn check_kind(&self) -> Result<()> {
        if let Some(info) = self.info {
            match self.manifest.map(|manifest| manifest.selection.is_some()) {
                Some(partial) => same((MANIFEST, "partial", partial), (INFO, "partial", info.partial))?,
                None if info.partial && self.left_out.is_empty() => {
                    return Err(Error::new(
                        Code::Unsupported,
                        format!("{INFO} says that the backup is partial, and nothing says what it lacks"),
                    )
                    .hint("prepare this one with the tool that made it"));
                }
                None => {}
            }
        }
        let Some(c) = self.checkpoints else { return Ok(()) };
        let is_sent = matches!(c.backup_type, BackupType::FullBackuped | BackupType::Incremental);
        if !is_sent && !self.in_folder {
            return Err(Error::new(
                Code::Unsupported,
                format!(
                    "{CHECKPOINTS} has backup_type {}: no sender sends such a backup",
                    c.backup_type.as_str()
                ),
            )
            .hint("prepare this one with the tool that made it"));
        }
        let from = (c.backup_type == BackupType::Incremental).then_some(c.from_lsn);
        let shown = |from: Option<Lsn>| {
            from.map_or("a full backup".to_owned(), |lsn| format!("an increment from LSN {lsn} on"))
        };
        if from.is_none() && c.from_lsn != Lsn(0) {
            return Err(differ(
                (CHECKPOINTS, "backup_type", c.backup_type.as_str().to_owned()),
                (CHECKPOINTS, "from_lsn", c.from_lsn.to_string()),
            ));
        }
        // XtraBackup leaves the statement of the last increment in the info of a folder that it has merged increments into.
        if let Some(info) = self.info.filter(|_| c.backup_type != BackupType::LogApplied) {
            let theirs = info.incremental.then_some(info.innodb_from_lsn);
            same((CHECKPOINTS, "kind", shown(from)), (INFO, "kind", shown(theirs)))?;
        }
        if let Some(manifest) = self.manifest {
            let theirs = manifest.increment.as_ref().map(|i| i.from_lsn);
            same((CHECKPOINTS, "kind", shown(from)), (MANIFEST, "kind", shown(theirs)))?;
            let increment = |lineage: Option<&Lineage>| lineage.and_then(|l| l.increment.clone());
            if increment(self.lineage) != manifest.increment {
                return Err(mismatch(format!("{MANIFEST} and {INCREMENT} name different bases")));
            }
        }
        Ok(())
    }

    /// Checks the statements that streams of other tools have as well.
    fn check_without_manifest(&self) -> Result<()> {
        if let (Some(info), Some(c)) = (self.info, self.checkpoints)
            && ![c.to_lsn, c.last_lsn].contains(&info.innodb_to_lsn)
        {
            return Err(differ(
                (INFO, "innodb_to_lsn", info.innodb_to_lsn),
                (CHECKPOINTS, "to_lsn", c.to_lsn),
            ));
        }
        if let Some(c) = self.checkpoints.filter(|c| c.to_lsn > c.last_lsn) {
            return Err(differ((CHECKPOINTS, "to_lsn", c.to_lsn), (CHECKPOINTS, "last_lsn", c.last_lsn)));
        }
        let Some((version, redo)) = self.info.zip(self.redo) else { return Ok(()) };
        check_creator(INFO, &version.server_version, redo)
    }

    fn check_options(&self, manifest: &Manifest) -> Result<()> {
        let size = self.cnf.and_then(|cnf| cnf.get("innodb_page_size"));
        let size = size.filter(|size| *size != manifest.page_size.to_string());
        size.map_or(Ok(()), |size| {
            let size = size.escape_debug().to_string();
            Err(differ(
                (MANIFEST, "page_size", manifest.page_size.to_string()),
                (BACKUP_CNF, "innodb_page_size", size),
            ))
        })
    }

    fn check_checkpoints(&self, manifest: &Manifest) -> Result<()> {
        let Some(c) = self.checkpoints else { return Ok(()) };
        same((MANIFEST, "end_lsn", manifest.end_lsn), (CHECKPOINTS, "last_lsn", c.last_lsn))?;
        for (key, lsn) in [("to_lsn", c.to_lsn), ("flushed_lsn", c.flushed_lsn)] {
            if lsn < manifest.checkpoint_lsn {
                return Err(differ(
                    (MANIFEST, "checkpoint_lsn", manifest.checkpoint_lsn),
                    (CHECKPOINTS, key, lsn),
                ));
            }
        }
        Ok(())
    }

    fn check_info(&self, manifest: &Manifest) -> Result<()> {
        let Some(info) = self.info else { return Ok(()) };
        for (key, ours, theirs, value) in [
            ("server_version", &manifest.server_version, "server_version", &info.server_version),
            ("tool", &manifest.tool, "tool_name", &info.tool_name),
            ("tool_version", &manifest.tool_version, "tool_version", &info.tool_version),
            ("started", &manifest.started, "start_time", &info.start_time),
            ("ended", &manifest.ended, "end_time", &info.end_time),
        ] {
            same((MANIFEST, key, ours), (INFO, theirs, value))?;
        }
        let position = manifest
            .binlog
            .as_ref()
            .map(|b| Info::binlog_pos(&b.file, b.position, manifest.gtid_executed.as_deref()));
        same(
            (MANIFEST, "binlog", position.as_deref().unwrap_or_default()),
            (INFO, "binlog_pos", &info.binlog_pos),
        )
    }

    fn check_binlog(&self, manifest: &Manifest) -> Result<()> {
        let (ours, theirs) = (manifest.binlog.as_ref(), self.binlog.map(|info| &info.position));
        let shown = |position: Option<&crate::stream::metadata::BinlogPosition>| {
            position.map_or("no position".to_owned(), |p| format!("{} {}", p.file.escape_debug(), p.position))
        };
        same((MANIFEST, "binlog", shown(ours)), (BINLOG_INFO, "position", shown(theirs)))?;
        let (Some(binlog), Some(info)) = (ours, self.binlog) else { return Ok(()) };
        let set = |set: &Option<String>| set.clone().unwrap_or_default();
        same(
            (MANIFEST, "gtid_executed", set(&manifest.gtid_executed)),
            (BINLOG_INFO, "GTID set", set(&info.gtid_executed)),
        )?;
        let base = self.cnf.and_then(|cnf| cnf.get("log_bin")).unwrap_or_default();
        let number = binlog.file.strip_prefix(base).and_then(|rest| rest.strip_prefix('.'));
        if base.is_empty() || !number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        {
            let (file, base) = (binlog.file.escape_debug().to_string(), base.escape_debug().to_string());
            return Err(differ((MANIFEST, "binlog.file", file), (BACKUP_CNF, "log_bin", base)));
        }
        Ok(())
    }

    fn check_redo(&self, manifest: &Manifest) -> Result<()> {
        let Some(head) = self.redo else {
            return Err(mismatch(format!(
                "the first chunk of {LOGFILE} does not begin with the header of a redo file"
            )));
        };
        for checkpoint in head.checkpoints.into_iter().flatten() {
            same((MANIFEST, "checkpoint_lsn", manifest.checkpoint_lsn), (LOGFILE, "checkpoint", checkpoint))?;
        }
        check_creator(MANIFEST, &manifest.server_version, head)
    }
}

/// Name suffixes of files that only the tool that wrote them can turn into their final form: files compressed
/// or encrypted one by one, pages of an incremental backup, and files that record DDL which ran under a
/// reduced lock (`ddl_tracker.cc` in XtraBackup).
const OF_OTHER_TOOLS: &[(&str, &str)] = &[
    (".zst", "is compressed by itself"),
    (".lz4", "is compressed by itself"),
    (".qp", "is compressed by itself"),
    (".xbcrypt", "is encrypted by itself"),
    (DELTA, "is a part of an incremental backup"),
    (META, "is a part of an incremental backup"),
    (".new", "is to take another file's place"),
    (".ren", "says that a tablespace is to be renamed"),
    (".del", "says that a tablespace is to be removed"),
    (".crpt", "says that a tablespace is not whole"),
];

/// Refuses a stream of another tool that has members which can't be handled here.
pub(super) fn check_tools(received: &Received, increment: bool) -> Result<()> {
    let known = |suffix: &str| increment && [DELTA, META].contains(&suffix);
    let meaning =
        |name: &str| OF_OTHER_TOOLS.iter().find(|(suffix, _)| name.ends_with(suffix) && !known(suffix));
    let found = received.keys().find_map(|name| Some((name, meaning(name.as_str())?.1)));
    found.map_or(Ok(()), |(name, what)| {
        Err(Error::new(Code::Unsupported, format!("member '{name}' {what}")).hint(
            "take the backup without compression or encryption of single files, not as an increment, and with --lock-ddl=ON; \
             or extract and prepare it with the tool that made it",
        ))
    })
}

/// Checks that the binlog file of the backup's position has arrived, up to that position.
pub(super) fn check_binlog_member(manifest: &Manifest, received: &Received) -> Result<()> {
    let Some(binlog) = &manifest.binlog else { return Ok(()) };
    let size = received.iter().find(|(name, _)| name.as_str() == binlog.file).map(|(_, (size, _))| *size);
    match size {
        Some(size) if size == binlog.position || size == binlog.position.saturating_add(BINLOG_HEADER) => {
            Ok(())
        }
        Some(size) => {
            Err(differ((MANIFEST, "binlog.position", binlog.position), (&binlog.file, "size", size)))
        }
        None => Err(mismatch(format!(
            "the manifest names the binlog {}, which did not come",
            binlog.file.escape_debug()
        ))),
    }
}

/// Checks the version of the redo's creator: a server reads only the redo of its own series and of earlier
/// ones.
fn check_creator(member: &str, version: &str, head: &RedoHead) -> Result<()> {
    let creator = head.creator.strip_prefix("MySQL ").and_then(ServerVersion::parse);
    let (Some(creator), Some(known)) = (creator, ServerVersion::parse(version)) else { return Ok(()) };
    if (creator.major, creator.minor) <= (known.major, known.minor) {
        return Ok(());
    }
    let version = version.escape_debug().to_string();
    let creator = head.creator.escape_debug().to_string();
    Err(differ((member, "server_version", version), (LOGFILE, "creator", creator)))
}

type Said<'a, T> = (&'a str, &'a str, T);

fn same<T: PartialEq + Display + Debug>(one: Said<'_, T>, other: Said<'_, T>) -> Result<()> {
    if one.2 == other.2 { Ok(()) } else { Err(differ(one, other)) }
}

fn differ<T: Display>(one: Said<'_, T>, other: Said<'_, T>) -> Error {
    let shown = |(member, key, value): Said<'_, T>| {
        const SHOWN: usize = 200;
        let value: String = value.to_string().chars().take(SHOWN).collect();
        format!("{key} is '{value}' in {member}")
    };
    mismatch(format!("the stream contradicts itself: {}, {}", shown(one), shown(other)))
}

fn mismatch(what: String) -> Error {
    Error::new(Code::ManifestMismatch, what)
        .hint("the stream is not what a sender writes: take the backup again, and look where it comes from")
}
