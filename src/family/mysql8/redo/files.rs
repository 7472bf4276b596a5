//! Finds the redo files of a running server, `#innodb_redo/#ib_redo<N>`, and follows them block by block.
//!
//! Only blocks that will never change again are passed on; the block in which the backup ends is cut at the very
//! LSN of its position, so that nothing that was committed after it travels. Files of the log are never
//! wrapped, but a file whose redo is below the checkpoint is made into a spare and filled with new redo later: then
//! its header, and the numbers in its blocks, tell that what was to be read is gone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::base::{Code, Error, Lsn, PageBuffer, Result};
use crate::innodb::redo::{
    BLOCK_HEADER, BLOCK_LEN, Block, BlockState, FileName, HEAD_LEN, RedoFile, RedoFlags, RedoHead, block,
    file, newest_checkpoint,
};
use crate::source::files;
use crate::source::server_facts::ServerFacts;
use crate::source::tailer::{Advance, RedoLog, RedoOut};

/// Most bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// Time that the header of a file that is made just now is waited for between two looks.
const IDLE: Duration = Duration::from_millis(10);
/// Time that a block may stay unreadable.
const PATIENCE: Duration = Duration::from_secs(60);

/// The files of the log.
pub(in crate::family::mysql8) struct Log {
    pub(in crate::family::mysql8) dir: PathBuf,
    /// The server's user.
    pub(in crate::family::mysql8) owner: u32,
}

/// A redo file that is being read.
pub(in crate::family::mysql8) struct Reader {
    path: PathBuf,
    pub(in crate::family::mysql8) file: File,
    pub(in crate::family::mysql8) info: RedoFile,
}

impl Log {
    /// Where this server's log is.
    pub(in crate::family::mysql8) fn of(facts: &ServerFacts) -> Log {
        let home = facts.resolve(facts.variable("innodb_log_group_home_dir"));
        Log { dir: home.join(file::DIRECTORY), owner: facts.owner }
    }

    /// The files of the log that are there at present.
    pub(in crate::family::mysql8) fn files(&self) -> Result<Vec<Reader>> {
        let failed = |e| {
            Error::io(Code::SourceIo, format!("can't list the redo files in {}", self.dir.display()), e)
                .hint("run xbsend as the server's user or root")
        };
        let mut readers = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).and_then(FileName::parse);
            if name.is_some_and(|n| !n.spare)
                && let Some(reader) = self.open(path)?
            {
                readers.push(reader);
            }
        }
        Ok(readers)
    }

    /// `None` for a file that went away, or whose header is being written just now.
    fn open(&self, path: PathBuf) -> Result<Option<Reader>> {
        let failed = |e| files::failed(&path, e);
        let file = match files::open(&path, self.owner) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut head = [0; HEAD_LEN];
        let len = file.metadata().map_err(failed)?.len();
        if file.read_exact_at(&mut head, 0).is_err() {
            return Ok(None);
        }
        match RedoHead::read(&head) {
            Ok(head) => Ok(Some(Reader { path, file, info: RedoFile { head, len } })),
            Err(e) => {
                tracing::debug!("{}: {e}", path.display());
                Ok(None)
            }
        }
    }

    fn open_at_checkpoint(&self) -> Result<(Reader, Lsn)> {
        // The header of a file that is made just now is not complete yet: look again.
        for _ in 0..50 {
            let files = self.files()?;
            if files.iter().any(|f| f.info.head.flags.is_logging_disabled()) {
                return Err(redo_disabled());
            }
            if let Some(checkpoint) = newest_checkpoint(files.iter().map(|f| &f.info)) {
                let start = checkpoint.block_start();
                if let Some(reader) = files.into_iter().find(|f| f.info.offset_of(start).is_some()) {
                    return Ok((reader, checkpoint));
                }
            }
            std::thread::sleep(IDLE);
        }
        Err(Error::new(
            Code::CorruptRedo,
            format!("no valid checkpoint in the redo files of {}", self.dir.display()),
        )
        .hint("is --datadir the datadir of the running server?"))
    }
}

/// The error for a server that runs without redo.
pub(in crate::family::mysql8) fn redo_disabled() -> Error {
    Error::new(Code::RedoDisabled, "redo logging is disabled on the server: no hot backup is possible")
        .hint("ALTER INSTANCE ENABLE INNODB REDO_LOG, then run the backup again")
}

/// The log, read in order.
pub(in crate::family::mysql8) struct RedoFiles {
    log: Log,
    reader: Reader,
    checkpoint: Lsn,
    position: Lsn,
    buffer: PageBuffer,
    /// Since when the next block has been unreadable.
    bad_since: Option<Instant>,
}

impl RedoFiles {
    /// Finds the newest checkpoint, from which the log is read.
    ///
    /// # Errors
    /// [`Code::RedoDisabled`], [`Code::CorruptRedo`], [`Code::SourceIo`].
    pub(in crate::family::mysql8) fn open(log: Log) -> Result<RedoFiles> {
        let (reader, checkpoint) = log.open_at_checkpoint()?;
        let (position, buffer) = (checkpoint.block_start(), PageBuffer::new(READ_BYTES));
        Ok(RedoFiles { log, reader, checkpoint, position, buffer, bad_since: None })
    }
}

impl RedoLog for RedoFiles {
    fn checkpoint(&self) -> Lsn {
        self.checkpoint
    }

    /// Header blocks of a file whose first block is the checkpoint's.
    fn head(&self) -> Vec<u8> {
        let head = RedoHead {
            start_lsn: self.checkpoint.block_start(),
            flags: RedoFlags::default(),
            checkpoints: [Some(self.checkpoint); 2],
            ..self.reader.info.head.clone()
        };
        head.build().to_vec()
    }

    fn uuid(&self) -> Option<u32> {
        Some(self.reader.info.head.uuid)
    }

    fn position(&self) -> Lsn {
        self.position
    }

    fn advance(&mut self, end: Option<Lsn>, out: &mut RedoOut<'_>) -> Result<Advance> {
        let last = end.map(Lsn::block_start);
        let more = match end {
            Some(end) if self.position >= end.block_start() => {
                return Ok(if self.finish(end, out)? { Advance::End } else { Advance::Nothing });
            }
            _ => self.pass_full_blocks(last, out)?,
        };
        Ok(if more { Advance::More } else { Advance::Nothing })
    }
}

impl RedoFiles {
    /// Passes on the full blocks that are there, up to `last`; whether there were any.
    fn pass_full_blocks(&mut self, last: Option<Lsn>, out: &mut RedoOut<'_>) -> Result<bool> {
        let Some(offset) = self.reader.info.offset_of(self.position) else {
            return self.next_file();
        };
        let in_file = self.reader.info.len - offset;
        let wanted = last.map_or(u64::MAX, |l| l.since(self.position)).min(in_file).min(READ_BYTES as u64);
        let mut buffer = std::mem::take(&mut self.buffer);
        let passed = self.pass_blocks_at(offset, &mut buffer[..wanted as usize], out);
        self.buffer = buffer;
        passed
    }

    fn pass_blocks_at(&mut self, offset: u64, buffer: &mut [u8], out: &mut RedoOut<'_>) -> Result<bool> {
        self.read_at(buffer, offset)?;
        let full = self.count_full(buffer)?;
        if full > 0 {
            out(&buffer[..full * BLOCK_LEN])?;
            self.position = self.position.plus((full * BLOCK_LEN) as u64);
        }
        Ok(full > 0)
    }

    /// How many blocks from the start of `bytes` are full.
    fn count_full(&mut self, bytes: &[u8]) -> Result<usize> {
        for (i, bytes) in bytes.as_chunks::<BLOCK_LEN>().0.iter().enumerate() {
            let lsn = self.position.plus((i * BLOCK_LEN) as u64);
            match Block::of(bytes).check(lsn) {
                BlockState::Full => {}
                BlockState::Encrypted(len) if usize::from(len) == BLOCK_LEN => {}
                state => {
                    if i == 0 {
                        self.look_into(lsn, state)?;
                    }
                    return Ok(i);
                }
            }
        }
        Ok(bytes.len() / BLOCK_LEN)
    }

    /// The next block is not there: because it is not written yet, or because it never will be?
    fn look_into(&mut self, lsn: Lsn, state: BlockState) -> Result<()> {
        let bad = matches!(state, BlockState::BadChecksum | BlockState::Malformed);
        let bad_since =
            if bad { self.bad_since.get_or_insert_with(Instant::now).elapsed() } else { Duration::ZERO };
        if !bad {
            self.bad_since = None;
        }
        match state {
            BlockState::NotWritten => {
                let mut head = [0; HEAD_LEN];
                self.read_at(&mut head, 0)?;
                // A header that is being rewritten does not read at all: next time it tells.
                match RedoHead::read(&head) {
                    Ok(now) if now.start_lsn != self.reader.info.head.start_lsn => Err(overrun(lsn)),
                    Ok(now) if now.flags.is_logging_disabled() => Err(redo_disabled()),
                    _ => Ok(()),
                }
            }
            _ if bad_since > PATIENCE => Err(Error::new(
                Code::CorruptRedo,
                format!(
                    "the redo block at LSN {lsn} in {} stays unreadable ({state:?})",
                    self.reader.path.display()
                ),
            )
            .hint("the redo log is damaged on disk: look into the server's error log")),
            _ => Ok(()),
        }
    }

    /// Moves to the file that holds the position; whether it is there already.
    fn next_file(&mut self) -> Result<bool> {
        let files = self.log.files()?;
        if files.iter().any(|f| f.info.head.flags.is_logging_disabled()) {
            return Err(redo_disabled());
        }
        let oldest = files.iter().map(|f| f.info.head.start_lsn).min();
        let uuid = self.reader.info.head.uuid;
        if let Some(next) = files.into_iter().find(|f| f.info.offset_of(self.position).is_some()) {
            if next.info.head.uuid != uuid {
                return Err(Error::new(
                    Code::CorruptRedo,
                    format!("{} belongs to another log", next.path.display()),
                )
                .hint("the server was restarted on a new redo log: run the backup again"));
            }
            tracing::debug!("redo goes on in {}", next.path.display());
            self.reader = next;
            return Ok(true);
        }
        if oldest.is_some_and(|oldest| oldest > self.position) {
            return Err(overrun(self.position));
        }
        Ok(false)
    }

    /// Passes on the block in which the backup ends, cut at `stop`; whether it is written that far.
    fn finish(&mut self, stop: Lsn, out: &mut RedoOut<'_>) -> Result<bool> {
        let used = (stop.0 % BLOCK_LEN as u64) as usize;
        if used <= BLOCK_HEADER {
            return Ok(true);
        }
        let Some(offset) = self.reader.info.offset_of(self.position) else {
            self.next_file()?;
            return Ok(false);
        };
        let mut bytes = [0; BLOCK_LEN];
        self.read_at(&mut bytes, offset)?;
        let reached = match Block::of(&bytes).check(self.position) {
            BlockState::Full => true,
            BlockState::Partial(len) | BlockState::Encrypted(len) => usize::from(len) >= used,
            state => {
                self.look_into(self.position, state)?;
                false
            }
        };
        if reached {
            out(&block::cut(&bytes, used))?;
            self.position = stop;
        }
        Ok(reached)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.reader.file.read_exact_at(buffer, offset).map_err(|e| {
            Error::io(
                Code::SourceIo,
                format!("can't read redo at LSN {} in {}", self.position, self.reader.path.display()),
                e,
            )
        })
    }
}

fn overrun(lsn: Lsn) -> Error {
    Error::new(Code::RedoOverrun, format!("the server overwrote redo from LSN {lsn} on before it was read"))
        .hint("leave the redo consumer on, or raise innodb_redo_log_capacity, or back up when fewer writes go on")
}
