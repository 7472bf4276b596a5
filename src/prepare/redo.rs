//! Makes a redo log of the streamed redo, for a server to recover.
//!
//! `xtrabackup_logfile` holds the header blocks of a redo file and then log blocks from the checkpoint's on. It moves
//! to `#innodb_redo/#ib_redo0` and gets a header of its own: format 6, the LSN of its first block, and the checkpoint in
//! both checkpoint blocks; encryption information stays as it was. The server wants a size that is a multiple of the
//! page size, at least 64 KiB and at most 16 GiB (`Log_files_capacity`, `log_files_validate_format`), and at least one
//! block of zeros behind the end; what is more than one file holds goes to `#ib_redo1` and so on, every file but the
//! last marked as full.
//!
//! The log is cut where the backup ends: groups behind that may be incomplete, and transactions that committed there
//! are not in the backup.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Datadir;
use super::lengths::Growth;
use super::logfile::{RedoRead, RedoStream};
use crate::base::nofollow;
use crate::base::read::read_full;
use crate::base::{Budget, Code, Error, Lsn, Result};
use crate::innodb::redo::file::{DIRECTORY, FILE_MAX, FILE_MIN};
use crate::innodb::redo::{
    BLOCK_HEADER, BLOCK_LEN, Block, BlockState, BlockWriter, FileEvent, FileName, HEAD_LEN, RedoFlags,
    RedoHead, block, lsn,
};
use crate::stream::metadata::LOGFILE;

/// A multiple of every page size.
const SIZE_UNIT: u64 = 64 << 10;
/// Bytes read at a time.
const READ_LEN: usize = 1 << 20;
/// Permissions as mysqld gives them.
const DIR_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// What servers write as creator begins so; anything else makes them say something.
const CREATOR_MYSQL: &str = "MySQL ";
/// A creator whose redo a server reads by rules of its own.
const CREATOR_CLONE: &str = "MySQL Clone";

/// The redo of a backup, read and checked.
#[derive(Debug)]
pub struct Redo {
    path: PathBuf,
    head: RedoHead,
    /// Recovery begins here.
    pub checkpoint: Lsn,
    /// The last byte of redo lies before this.
    pub end: Lsn,
    /// What it says about files; `None` where it is encrypted.
    pub events: Option<Vec<FileEvent>>,
    /// The places in redo at which tablespaces grow.
    pub growth: Growth,
}

impl Redo {
    /// Reads the redo of the datadir at `root` to its end, and checks every block and record.
    ///
    /// # Errors
    /// [`Code::CorruptRedo`], also where it ends before `promised`.
    pub fn open(root: &Path, promised: Option<Lsn>, budget: &Budget) -> Result<Redo> {
        let path = root.join(LOGFILE);
        let failed = |e| Error::io(Code::TargetIo, path.display(), e);
        let mut file = nofollow::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                Error::new(Code::CorruptRedo, format!("the stream has no redo (member {LOGFILE})"))
            }
            _ => failed(e),
        })?;
        let mut stream = RedoStream::new(budget);
        let mut buffer = vec![0; READ_LEN];
        loop {
            let filled = read_full(&mut file, &mut buffer).map_err(failed)?;
            stream.push_until(&buffer[..filled], promised)?;
            if filled < buffer.len() {
                break;
            }
        }
        let read = stream.finish()?;
        read.reaches(promised)?;
        let RedoRead { head, checkpoint, end, events, growth, .. } = read;
        Ok(Redo { path, head, checkpoint, end: promised.map_or(end, lsn::next_payload), events, growth })
    }

    /// Makes the redo log of `datadir` out of it.
    pub fn install(self, datadir: &Datadir<'_>) -> Result<()> {
        self.install_in_files_of(datadir, FILE_MAX)
    }

    fn install_in_files_of(self, datadir: &Datadir<'_>, file_max: u64) -> Result<()> {
        let dir = datadir.root.join(DIRECTORY);
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(Code::StreamRefused, format!("the stream has a member in {DIRECTORY}"))
            }
            _ => Error::io(Code::TargetIo, dir.display(), e),
        };
        nofollow::create_dir(&dir, DIR_MODE).map_err(failed)?;
        let first = dir.join(FileName { id: 0, spare: false }.to_string());
        nofollow::rename_new(&self.path, &first).map_err(failed)?;
        self.lay_out(&dir, &first, file_max).map_err(failed)?;
        own(datadir.owner, &dir).map_err(failed)
    }

    /// Cuts the log at its end and spreads it over files.
    fn lay_out(&self, dir: &Path, first: &Path, file_max: u64) -> io::Result<()> {
        let file = nofollow::open_rw(first)?;
        let blocks_len = self.cut(&file)?;
        let pieces = pieces(blocks_len, file_max - HEAD_LEN as u64);
        let last = pieces.len() - 1;
        for (id, &(at, len)) in pieces.iter().enumerate().skip(1) {
            let name = dir.join(FileName { id: id as u64, spare: false }.to_string());
            let next = nofollow::create_new(&name, FILE_MODE)?;
            copy(&file, HEAD_LEN as u64 + at, &next, HEAD_LEN as u64, len)?;
            self.finish(&next, at, len, id == last)?;
        }
        let (at, len) = pieces[0];
        file.set_len(HEAD_LEN as u64 + len)?;
        self.finish(&file, at, len, last == 0)
    }

    /// Writes the header of the file whose blocks, `len` bytes, begin at `at` in the log; the last file ends with zeros.
    fn finish(&self, file: &File, at: u64, len: u64, is_last: bool) -> io::Result<()> {
        let start_lsn = self.head.start_lsn.plus(at);
        let here = self.checkpoint >= start_lsn && (is_last || self.checkpoint < start_lsn.plus(len));
        let checkpoint = here.then_some(self.checkpoint);
        let creator = match self.head.creator.as_str() {
            c if c.starts_with(CREATOR_MYSQL) && !c.starts_with(CREATOR_CLONE) => c.to_owned(),
            _ => concat!("xbpipe ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let flags = RedoFlags::default();
        let head = RedoHead {
            uuid: self.head.uuid.max(1),
            start_lsn,
            creator,
            flags: if is_last { flags } else { flags.full() },
            checkpoints: [checkpoint; 2],
            encryption: self.head.encryption.clone(),
        };
        file.write_all_at(&head.build(), 0)?;
        if is_last {
            let whole = HEAD_LEN as u64 + len + BLOCK_LEN as u64;
            file.set_len(whole.next_multiple_of(SIZE_UNIT).max(FILE_MIN))?;
        }
        Ok(())
    }

    /// Cuts the blocks at the end of the backup; gives their length.
    fn cut(&self, file: &File) -> io::Result<u64> {
        let used = (self.end.0 % BLOCK_LEN as u64) as usize;
        let whole = self.end.block_start().since(self.head.start_lsn);
        let at = HEAD_LEN as u64 + whole;
        let mut block = [0; BLOCK_LEN];
        if file.metadata()?.len() >= at + BLOCK_LEN as u64 {
            file.read_exact_at(&mut block, at)?;
        }
        if used < BLOCK_HEADER || Block::of(&block).check(self.end.block_start()) == BlockState::NotWritten {
            // A server may end a block's worth of log with or without the empty block behind it; the one that holds the
            // checkpoint must be there.
            block = BlockWriter::new(self.end).finish().0[0];
        } else if usize::from(Block::of(&block).data_len()) > used {
            block = block::cut(&block, used);
        }
        file.write_all_at(&block, at)?;
        let len = whole + BLOCK_LEN as u64;
        file.set_len(HEAD_LEN as u64 + len)?;
        Ok(len)
    }
}

/// Offset and length of what each file takes of a log of `len` bytes. The last one is never full, so that a block of zeros
/// follows the end.
fn pieces(len: u64, per_file: u64) -> Vec<(u64, u64)> {
    let full = (0..len / per_file).map(|n| (n * per_file, per_file));
    full.chain([(len - len % per_file, len % per_file)]).collect()
}

fn copy(from: &File, from_at: u64, to: &File, to_at: u64, len: u64) -> io::Result<()> {
    let mut buffer = vec![0; READ_LEN];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(READ_LEN as u64) as usize;
        from.read_exact_at(&mut buffer[..n], from_at + done)?;
        to.write_all_at(&buffer[..n], to_at + done)?;
        done += n as u64;
    }
    Ok(())
}

fn own(owner: Option<(u32, u32)>, dir: &Path) -> io::Result<()> {
    owner.map_or(Ok(()), |owner| nofollow::give_tree(nofollow::open_dir(dir)?, owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::redo::{RedoFile, lsn};
    use crate::stream::metadata::BackupCnf;

    const START: u64 = 20 * BLOCK_LEN as u64;

    /// A record that stands alone and says nothing (`MLOG_DUMMY_RECORD`).
    const DUMMY: u8 = 32;

    /// A log of `groups` groups of 100 bytes from `START`, with its checkpoint in the first block; gives its end.
    fn write_log(root: &Path, groups: usize) -> Lsn {
        let mut writer = BlockWriter::new(Lsn(START));
        (0..groups).for_each(|_| writer.push_group(&[DUMMY; 100]));
        let (blocks, end) = writer.finish();
        let head = RedoHead {
            uuid: 7,
            start_lsn: Lsn(START),
            creator: "MySQL 9.7.4".into(),
            flags: RedoFlags(0),
            checkpoints: [Some(Lsn(START + 12)), None],
            encryption: None,
        };
        let mut bytes = head.build().to_vec();
        blocks.iter().for_each(|b| bytes.extend_from_slice(b));
        std::fs::write(root.join(LOGFILE), bytes).unwrap();
        end
    }

    fn open(root: &Path, promised: Option<Lsn>) -> Result<Redo> {
        Redo::open(root, promised, &Budget::new(1 << 20))
    }

    fn install(root: &Path, redo: Redo, file_max: u64) -> Vec<RedoFile> {
        let cnf = BackupCnf::new();
        let run = root.join("run");
        let datadir = Datadir {
            keyring: std::sync::Arc::new(crate::innodb::encryption::NoKeyring),
            redo: crate::family::redo_of_copies(),
            left_out: &[],
            root,
            run: &run,
            external: &[],
            owner: None,
            cnf: &cnf,
            gtid_executed: None,
            end_lsn: None,
            server_version: None,
        };
        redo.install_in_files_of(&datadir, file_max).unwrap();
        assert!(!root.join(LOGFILE).exists());
        let mut names: Vec<_> =
            std::fs::read_dir(root.join(DIRECTORY)).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names
            .iter()
            .map(|name| {
                let bytes = std::fs::read(name).unwrap();
                RedoFile { head: RedoHead::read(&bytes).unwrap(), len: bytes.len() as u64 }
            })
            .collect()
    }

    #[test]
    fn one_file_is_enough_as_a_rule() {
        let dir = tempfile::tempdir().unwrap();
        let end = write_log(dir.path(), 50);
        let redo = open(dir.path(), Some(end)).unwrap();
        assert_eq!((redo.checkpoint, redo.end), (Lsn(START + 12), end));
        let files = install(dir.path(), redo, FILE_MAX);
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].len, files[0].head.start_lsn), (FILE_MIN, Lsn(START)));
        assert_eq!(files[0].head.checkpoints, [Some(Lsn(START + 12)); 2]);
        assert!(!files[0].head.flags.is_full());
    }

    #[test]
    fn more_than_a_file_holds_is_chained() {
        let dir = tempfile::tempdir().unwrap();
        let end = write_log(dir.path(), 3000);
        let before = std::fs::read(dir.path().join(LOGFILE)).unwrap();
        let files = install(dir.path(), open(dir.path(), Some(end)).unwrap(), FILE_MIN);
        assert!(files.len() > 3);
        let mut log = Vec::new();
        for (n, file) in files.iter().enumerate() {
            assert_eq!(file.len, FILE_MIN);
            assert_eq!(file.head.flags.is_full(), n + 1 < files.len());
            assert_eq!(file.checkpoint().is_some(), n == 0);
            if n > 0 {
                assert_eq!(file.head.start_lsn, files[n - 1].end_lsn());
            }
            let name = FileName { id: n as u64, spare: false }.to_string();
            log.extend_from_slice(&std::fs::read(dir.path().join(DIRECTORY).join(name)).unwrap()[HEAD_LEN..]);
        }
        let len = before.len() - HEAD_LEN;
        assert_eq!(log[..len], before[HEAD_LEN..]);
        assert!(log.len() >= len + BLOCK_LEN && log[len..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_log_that_fills_its_last_file_gets_one_more() {
        let per_file = FILE_MIN - HEAD_LEN as u64;
        assert_eq!(pieces(per_file, per_file), [(0, per_file), (per_file, 0)]);
        assert_eq!(pieces(per_file - 512, per_file), [(0, per_file - 512)]);
        assert_eq!(
            pieces(2 * per_file + 512, per_file),
            [(0, per_file), (per_file, per_file), (2 * per_file, 512)]
        );
    }

    #[test]
    fn the_log_is_cut_at_the_end_of_the_backup() {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), 50);
        // The seventh group ends 204 payload bytes into the second block.
        let end = lsn::advance(Lsn(START + 12), 700);
        let files = install(dir.path(), open(dir.path(), Some(end)).unwrap(), FILE_MAX);
        let log = std::fs::read(dir.path().join(DIRECTORY).join("#ib_redo0")).unwrap();
        let (blocks, _) = log[HEAD_LEN..].as_chunks::<BLOCK_LEN>();
        assert_eq!(Block::of(&blocks[0]).check(Lsn(START)), BlockState::Full);
        assert_eq!(Block::of(&blocks[1]).check(Lsn(START + 512)), BlockState::Partial(12 + 204));
        assert_eq!(Block::of(&blocks[1]).first_group(), Some(12 + 4));
        assert!(blocks[2..].iter().all(|b| b.iter().all(|b| *b == 0)));
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn a_log_without_records_keeps_the_block_of_its_checkpoint() {
        for drop_block in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let end = write_log(dir.path(), 0);
            if drop_block {
                let file = File::options().write(true).open(dir.path().join(LOGFILE)).unwrap();
                file.set_len(HEAD_LEN as u64).unwrap();
            }
            assert_eq!(end, Lsn(START + 12));
            install(dir.path(), open(dir.path(), Some(end)).unwrap(), FILE_MAX);
            let log = std::fs::read(dir.path().join(DIRECTORY).join("#ib_redo0")).unwrap();
            let block = log[HEAD_LEN..].first_chunk().unwrap();
            assert_eq!(Block::of(block).check(Lsn(START)), BlockState::Partial(12));
        }
    }

    #[test]
    fn redo_that_can_not_be_used_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOGFILE);
        assert_eq!(open(dir.path(), None).unwrap_err().code, Code::CorruptRedo);
        let end = write_log(dir.path(), 50);
        let good = std::fs::read(&path).unwrap();
        open(dir.path(), Some(end)).unwrap();
        assert!(open(dir.path(), Some(end.plus(1))).unwrap_err().message.contains("before the backup's end"));
        let refuses = |bytes: &[u8], why: &str| {
            std::fs::write(&path, bytes).unwrap();
            let e = open(dir.path(), Some(end)).unwrap_err();
            assert_eq!(e.code, Code::CorruptRedo);
            assert!(e.message.contains(why), "{e}");
        };
        refuses(&good[..100], "too short");
        refuses(&good[..good.len() - 1], "inside a block");
        refuses(&good[..good.len() - BLOCK_LEN], "before the backup's end");
        let mut damaged = good.clone();
        damaged[HEAD_LEN + 300] ^= 1;
        refuses(&damaged, "damaged");
        let mut headless = good.clone();
        headless[8] ^= 1;
        refuses(&headless, "checksum");
        let mut no_checkpoint = good.clone();
        no_checkpoint[BLOCK_LEN + 8] ^= 1;
        refuses(&no_checkpoint, "no valid checkpoint");
    }
}
