//! The redo log and the system tablespace of a copy whose pages are up to date.
//!
//! The server gets a log of one file that begins in the block behind the end of the old one, with its checkpoint there; its
//! only records are the auto-increment counters. The same LSN goes into the header of the system tablespace, where a clean
//! shutdown leaves it (`recv_recovery_from_checkpoint_start` compares the two): no page is newer than that.
//!
//! The old log goes last, when all else is durable: until then the whole may be done again.

use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::base::nofollow;
use crate::base::{Code, Error, Lsn, Result};
use crate::innodb::page::header::FLUSH_LSN;
use crate::innodb::redo::file::DIRECTORY;
use crate::innodb::redo::{BLOCK_LEN, BlockWriter, FileName, HEAD_LEN, RedoFlags, RedoHead, lsn};
use crate::prepare::Datadir;
use crate::prepare::native::log::table_metadata::TableMetadata;
use crate::prepare::native::log::{APPLIED, OUR_UUID, RedoLocation, remove_dir};
use crate::stream::metadata::{BackupType, CHECKPOINTS, Checkpoints, METADATA_MAX};

pub(crate) mod prepared_transactions;

/// The new log while it is made.
const NEW: &str = "#innodb_redo.new";
/// Its size, unless the counters of very many tables need more.
const LOG_LEN: u64 = 1 << 20;
/// A multiple of every page size.
const SIZE_UNIT: u64 = 64 << 10;
/// Permissions as mysqld gives them.
const DIR_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// Bits of a file's mode that say who may what.
const PERMISSIONS: u32 = 0o777;

/// What is left to do when all pages are up to date and durable.
#[derive(Debug)]
pub struct Finish {
    pub(crate) place: RedoLocation,
    pub(crate) end: Lsn,
    pub(crate) system: PathBuf,
    pub(crate) dynamic: TableMetadata,
}

impl Finish {
    /// Makes the copy startable. `sync` makes durable what was written so far; it is called before each step that can't be
    /// taken back.
    pub fn run(self, datadir: &Datadir<'_>, mut sync: impl FnMut() -> Result<()>) -> Result<()> {
        let root = datadir.root;
        let failed = |e| Error::io(Code::TargetIo, format!("the redo log of {}", root.display()), e);
        let start = Lsn(self.end.0.next_multiple_of(BLOCK_LEN as u64));
        self.write_log(root, start).map_err(failed)?;
        own(datadir.owner, &root.join(NEW)).map_err(failed)?;
        stamp(&self.system, lsn::first_payload(start))
            .map_err(|e| Error::io(Code::TargetIo, self.system.display(), e))?;
        sync()?;
        self.switch(root).map_err(failed)?;
        sync()?;
        self.remove_old(root).map_err(failed)?;
        mark_prepared(root)
    }

    fn write_log(&self, root: &Path, start: Lsn) -> io::Result<()> {
        let dir = root.join(NEW);
        remove_dir(&dir)?;
        nofollow::create_dir(&dir, DIR_MODE)?;
        let mut writer = BlockWriter::new(start);
        self.dynamic.groups().for_each(|group| writer.push_group(&group));
        let (blocks, _) = writer.finish();
        let head = RedoHead {
            uuid: OUR_UUID,
            start_lsn: start,
            creator: concat!("MySQL xbpipe ", env!("CARGO_PKG_VERSION")).to_owned(),
            flags: RedoFlags::default(),
            checkpoints: [Some(lsn::first_payload(start)); 2],
            encryption: None,
        };
        let name = dir.join(FileName { id: 0, spare: false }.to_string());
        let file = nofollow::create_new(&name, FILE_MODE)?;
        file.write_all_at(&head.build(), 0)?;
        file.write_all_at(blocks.as_flattened(), HEAD_LEN as u64)?;
        // A block of zeros behind the end.
        let len = (HEAD_LEN + (blocks.len() + 1) * BLOCK_LEN) as u64;
        file.set_len(len.next_multiple_of(SIZE_UNIT).max(LOG_LEN))
    }

    /// The new log takes its place.
    fn switch(&self, root: &Path) -> io::Result<()> {
        let place = root.join(DIRECTORY);
        match &self.place {
            RedoLocation::Folder(folder) if *folder == place => {
                nofollow::rename(folder, &root.join(APPLIED))?
            }
            // What is there was made by an earlier run that was killed just after this.
            _ => remove_dir(&place)?,
        }
        nofollow::rename_new(&root.join(NEW), &place)
    }

    fn remove_old(&self, root: &Path) -> io::Result<()> {
        match &self.place {
            RedoLocation::Logfile(path) => nofollow::remove_file(path),
            RedoLocation::Folder(_) => remove_dir(&root.join(APPLIED)),
        }
    }
}

/// The LSN of a clean shutdown. The page's checksum does not cover it.
fn stamp(system: &Path, at: Lsn) -> io::Result<()> {
    let file = nofollow::open_rw(system)?;
    file.write_all_at(&at.0.to_be_bytes(), FLUSH_LSN as u64)
}

/// Says in `xtrabackup_checkpoints`, where there is one, that the backup is prepared: users' scripts read it.
pub fn mark_prepared(root: &Path) -> Result<()> {
    let path = root.join(CHECKPOINTS);
    let failed = |e| Error::io(Code::TargetIo, path.display(), e);
    let now = match nofollow::stat(&path) {
        Ok(stat) if stat.st_size <= METADATA_MAX as i64 => stat,
        _ => return Ok(()),
    };
    let content = nofollow::read(&path, METADATA_MAX as u64).map_err(failed)?;
    let mut checkpoints = Checkpoints::parse(&content)?;
    if checkpoints.backup_type == BackupType::FullPrepared {
        return Ok(());
    }
    checkpoints.backup_type = BackupType::FullPrepared;
    let new = root.join(format!("{CHECKPOINTS}.new"));
    let replaced = (|| {
        // An earlier run may have been killed before it renamed its own; a link goes itself.
        match nofollow::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = nofollow::create_new(&new, FILE_MODE)?;
        file.write_all(checkpoints.render().as_bytes())?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(now.st_mode & PERMISSIONS))?;
        nofollow::give(&file, (now.st_uid, now.st_gid))?;
        nofollow::rename(&new, &path)
    })();
    replaced.map_err(failed)
}

fn own(owner: Option<(u32, u32)>, dir: &Path) -> io::Result<()> {
    owner.map_or(Ok(()), |owner| nofollow::give_tree(nofollow::open_dir(dir)?, owner))
}
