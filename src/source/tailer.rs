//! The redo tailer: follows the log from the newest checkpoint, block by block, and never waits for anything but
//! the server.
//!
//! Only blocks that will never change again are passed on; the block in which the backup ends is cut at the very
//! LSN of the consistent cut, so that nothing that was committed after it travels. Files of the log are never
//! wrapped, but a file whose redo is below the checkpoint is made into a spare and filled with new redo later: then
//! its header, and the numbers in its blocks, tell that what was to be read is gone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::format::Format;
use crate::base::{Code, Error, Lsn, PageBuffer, Result};
use crate::innodb::redo::{
    BLOCK_HEADER, BLOCK_LEN, Block, BlockState, FileName, HEAD_LEN, RedoFile, RedoFlags, RedoHead, block,
    newest_checkpoint,
};

use super::files;
use super::spool::Spool;

/// Most bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// How long the tailer sleeps when it has read everything.
const IDLE: Duration = Duration::from_millis(10);
/// How long the end of a backup waits for the tailer.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a block may stay unreadable, or the server silent before it has written what it promised.
const PATIENCE: Duration = Duration::from_secs(60);

/// Follows the redo log on a thread of its own.
pub struct Tailer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    /// The checkpoint that it began at.
    pub checkpoint: Lsn,
    /// Header blocks for the copy of the log, whose first block is the checkpoint's.
    pub head: [u8; HEAD_LEN],
}

struct Shared {
    control: Mutex<Control>,
    changed: Condvar,
    copied: Arc<AtomicU64>,
}

#[derive(Default)]
struct Control {
    paused: bool,
    parked: bool,
    stop_at: Option<Lsn>,
    abandoned: bool,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Control)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for `what`, or for `time`.
    fn until(&self, time: Instant, what: impl Fn(&Control) -> bool) -> MutexGuard<'_, Control> {
        let mut control = self.lock();
        while !what(&control) {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            control = self.changed.wait_timeout(control, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        control
    }
}

impl Tailer {
    /// Finds the newest checkpoint in `dir`, whose files are those of the server of user `owner`, and follows the log from there into `spool`. `copied` tells everybody the LSN below which it is copied.
    ///
    /// # Errors
    /// [`Code::RedoDisabled`], [`Code::CorruptRedo`], [`Code::SourceIo`].
    pub fn start(
        dir: &Path,
        owner: u32,
        format: Format,
        spool: Arc<Spool>,
        copied: Arc<AtomicU64>,
    ) -> Result<Tailer> {
        let log = Log { dir: dir.to_owned(), owner, format };
        let (reader, checkpoint) = log.open_at_checkpoint()?;
        let head = RedoHead {
            start_lsn: checkpoint.block_start(),
            flags: RedoFlags::default(),
            checkpoints: [Some(checkpoint); 2],
            ..reader.info.head.clone()
        };
        let head = head.build(format);
        copied.store(checkpoint.block_start().0, Ordering::Release);
        let shared = Arc::new(Shared { control: Mutex::default(), changed: Condvar::new(), copied });
        let follower = Follower {
            position: checkpoint.block_start(),
            log,
            reader,
            spool,
            shared: shared.clone(),
            bad_since: None,
        };
        let thread = std::thread::Builder::new()
            .name("redo-tailer".into())
            .spawn(move || follower.run())
            .map_err(|e| Error::io(Code::Internal, "can't start the redo tailer", e))?;
        Ok(Tailer { shared, thread: Some(thread), checkpoint, head })
    }

    /// Everything below this LSN is copied.
    pub fn copied(&self) -> Lsn {
        Lsn(self.shared.copied.load(Ordering::Acquire))
    }

    /// Fails with the tailer's error once it has one.
    pub fn check(&mut self) -> Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) { self.join() } else { Ok(()) }
    }

    /// Passes nothing on from here until [`Tailer::resume`] or [`Tailer::finish_at`]: a consistent cut taken after this said
    /// `true` lies behind everything that was passed on. `false` where it is still busy after `patience`: ask again.
    pub fn pause(&mut self, patience: Duration) -> Result<bool> {
        self.shared.change(|c| c.paused = true);
        let until = Instant::now() + patience;
        let control = self.shared.until(until, |c| c.parked || c.over);
        let ready = control.parked || control.over;
        drop(control);
        self.check()?;
        Ok(ready)
    }

    /// Goes on after [`Tailer::pause`].
    pub fn resume(&self) {
        self.shared.change(|c| c.paused = false);
    }

    /// Lets the tailer go on to `lsn`, which the server may have yet to write, and end exactly there.
    pub fn finish_at(&self, lsn: Lsn) {
        self.shared.change(|c| {
            c.stop_at = Some(lsn);
            c.paused = false;
        });
    }

    /// Whether it has ended, well or not.
    pub fn is_over(&self) -> bool {
        self.shared.lock().over
    }

    fn join(&mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(e))) => Err(e),
            Some(Err(_)) => Err(Error::new(Code::Internal, "the redo tailer panicked")),
        }
    }
}

impl Drop for Tailer {
    fn drop(&mut self) {
        self.shared.change(|c| c.abandoned = true);
        // A disk that does not answer may hold it for long: then it ends with the process.
        if self.shared.until(Instant::now() + GOODBYE, |c| c.over).over {
            // Its error was either taken by `check`, or the backup fails for another reason.
            let _ = self.join();
        }
    }
}

/// The files of the log.
pub(super) struct Log {
    pub(super) dir: PathBuf,
    /// The server's user.
    pub(super) owner: u32,
    pub(super) format: Format,
}

/// A redo file that is being read.
pub(super) struct Reader {
    path: PathBuf,
    pub(super) file: File,
    pub(super) info: RedoFile,
}

impl Log {
    /// The files of the log that are there at present.
    pub(super) fn files(&self) -> Result<Vec<Reader>> {
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
        match RedoHead::read(&head, self.format) {
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
pub fn redo_disabled() -> Error {
    Error::new(Code::RedoDisabled, "redo logging is disabled on the server: no hot backup is possible")
        .hint("ALTER INSTANCE ENABLE INNODB REDO_LOG, then run the backup again")
}

/// The thread.
struct Follower {
    log: Log,
    reader: Reader,
    position: Lsn,
    spool: Arc<Spool>,
    shared: Arc<Shared>,
    /// Since when the next block has been unreadable.
    bad_since: Option<Instant>,
}

impl Follower {
    fn run(mut self) -> Result<()> {
        let done = self.follow();
        self.spool.close();
        self.shared.change(|c| c.over = true);
        done
    }

    fn follow(&mut self) -> Result<()> {
        let mut buffer = PageBuffer::new(READ_BYTES);
        // Only once the end is known is a silent server a sign of trouble.
        let mut silent_since = None;
        loop {
            let Some(stop_at) = self.orders() else { return Ok(()) };
            let last = stop_at.map(Lsn::block_start);
            if let (Some(stop), true) = (stop_at, last.is_some_and(|l| self.position >= l)) {
                if self.finish(stop)? {
                    return Ok(());
                }
            } else if self.advance(&mut buffer, last)? {
                silent_since = None;
                continue;
            }
            if stop_at.is_some() && silent_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return Err(Error::new(
                    Code::CorruptRedo,
                    format!(
                        "the server has not written redo from LSN {} on for {} s",
                        self.position,
                        PATIENCE.as_secs()
                    ),
                )
                .hint("look into the server's error log"));
            }
            self.idle();
        }
    }

    /// Where to stop, if that is known; outer `None` when nobody wants the redo any more. Waits while paused.
    fn orders(&mut self) -> Option<Option<Lsn>> {
        let mut control = self.shared.lock();
        while control.paused && !control.abandoned {
            if !control.parked {
                control.parked = true;
                self.shared.changed.notify_all();
            }
            control = self.shared.changed.wait(control).unwrap_or_else(PoisonError::into_inner);
        }
        control.parked = false;
        (!control.abandoned).then_some(control.stop_at)
    }

    fn idle(&self) {
        let control = self.shared.lock();
        if !control.paused && !control.abandoned {
            // Woken early by a new order.
            let _ = self.shared.changed.wait_timeout(control, IDLE);
        }
    }

    /// Passes on the full blocks that are there, up to `last`; whether there were any.
    fn advance(&mut self, buffer: &mut [u8], last: Option<Lsn>) -> Result<bool> {
        let Some(offset) = self.reader.info.offset_of(self.position) else {
            return self.next_file();
        };
        let in_file = self.reader.info.len - offset;
        let wanted = last.map_or(u64::MAX, |l| l.since(self.position)).min(in_file).min(buffer.len() as u64);
        let buffer = &mut buffer[..wanted as usize];
        self.read_at(buffer, offset)?;
        let full = self.count_full(buffer)?;
        if full == 0 {
            return Ok(false);
        }
        self.spool.push(&buffer[..full * BLOCK_LEN])?;
        self.position = self.position.plus((full * BLOCK_LEN) as u64);
        self.shared.copied.store(self.position.0, Ordering::Release);
        Ok(true)
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
                match RedoHead::read(&head, self.log.format) {
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
    fn finish(&mut self, stop: Lsn) -> Result<bool> {
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
            self.spool.push(&block::cut(&bytes, used))?;
            self.shared.copied.store(stop.0, Ordering::Release);
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
