//! Makes the empty redo log that a server starts on, once the pages of a copy are up to date.
//!
//! The server gets a log of one file that begins in the block behind the end of the old one, with its checkpoint there; its
//! only records are the auto-increment counters. The same LSN goes into the header of the system tablespace, where a clean
//! shutdown leaves it (`recv_recovery_from_checkpoint_start` compares the two): no page is newer than that.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::location::{APPLIED, OUR_CREATOR, remove_dir};
use crate::base::nofollow;
use crate::base::{Code, Error, Lsn, Result};
use crate::innodb::page::header::FLUSH_LSN;
use crate::innodb::redo::file::DIRECTORY;
use crate::innodb::redo::{BLOCK_LEN, BlockWriter, FileName, HEAD_LEN, RedoFlags, RedoHead, lsn};
use crate::prepare::Datadir;
use crate::prepare::native::{AppliedLog, RedoLocation};

/// The new log while it is made.
const NEW: &str = "#innodb_redo.new";
/// Its size, unless the counters of very many tables need more.
const LOG_LEN: u64 = 1 << 20;
/// A multiple of every page size.
const SIZE_UNIT: u64 = 64 << 10;
/// Permissions as mysqld gives them.
const DIR_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Puts a new and empty log into the place of the one that was applied. `sync` makes durable what was written so far.
///
/// # Errors
/// [`Code::TargetIo`], and those of `sync`.
pub(super) fn install(
    datadir: &Datadir<'_>,
    log: &AppliedLog,
    sync: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let root = datadir.root;
    let failed = |e| Error::io(Code::TargetIo, format!("the redo log of {}", root.display()), e);
    let start = Lsn(log.end.0.next_multiple_of(BLOCK_LEN as u64));
    write_log(log, root, start).map_err(failed)?;
    own(datadir.owner, &root.join(NEW)).map_err(failed)?;
    stamp(&log.system, lsn::first_payload(start))
        .map_err(|e| Error::io(Code::TargetIo, log.system.display(), e))?;
    sync()?;
    switch(log, root).map_err(failed)?;
    sync()?;
    remove_old(log, root).map_err(failed)
}

fn write_log(log: &AppliedLog, root: &Path, start: Lsn) -> io::Result<()> {
    let dir = root.join(NEW);
    remove_dir(&dir)?;
    nofollow::create_dir(&dir, DIR_MODE)?;
    let mut writer = BlockWriter::new(start);
    log.dynamic.groups().for_each(|group| writer.push_group(&group));
    let (blocks, _) = writer.finish();
    let head = RedoHead {
        uuid: new_uuid(),
        start_lsn: start,
        creator: format!("{OUR_CREATOR}{}", env!("CARGO_PKG_VERSION")),
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

/// Returns a number for the log that no other has: increments of the server that starts on the copy don't fit backups that were
/// taken before it was restored.
fn new_uuid() -> u32 {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    // A server takes 0 for none.
    random.max(1)
}

/// The new log takes its place.
fn switch(log: &AppliedLog, root: &Path) -> io::Result<()> {
    let place = root.join(DIRECTORY);
    match &log.place {
        RedoLocation::Folder(folder) if *folder == place => nofollow::rename(folder, &root.join(APPLIED))?,
        // What is there was made by an earlier run that was killed just after this.
        _ => remove_dir(&place)?,
    }
    nofollow::rename_new(&root.join(NEW), &place)
}

fn remove_old(log: &AppliedLog, root: &Path) -> io::Result<()> {
    match &log.place {
        RedoLocation::Logfile(path) => nofollow::remove_file(path),
        RedoLocation::Folder(_) => remove_dir(&root.join(APPLIED)),
    }
}

/// The LSN of a clean shutdown. The page's checksum does not cover it.
fn stamp(system: &Path, at: Lsn) -> io::Result<()> {
    let file = nofollow::open_rw(system)?;
    file.write_all_at(&at.0.to_be_bytes(), FLUSH_LSN as u64)
}

fn own(owner: Option<(u32, u32)>, dir: &Path) -> io::Result<()> {
    owner.map_or(Ok(()), |owner| nofollow::give_tree(nofollow::open_dir(dir)?, owner))
}
