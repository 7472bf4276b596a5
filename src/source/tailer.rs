//! The redo tailer: a thread that follows the log of a running server from its newest checkpoint on, and never waits for
//! anything but the server.
//!
//! How a log is read, and which of its bytes will never change again, is its family's ([`RedoLog`]). Here are the thread, the
//! orders that it takes, and the spool that it fills. It ends at the very LSN of the backup's position, so that nothing that
//! was committed after it travels.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::{Code, Error, Lsn, Result};

use super::spool::Spool;

/// Time that the tailer sleeps when it has read everything.
const IDLE: Duration = Duration::from_millis(10);
/// Time that the end of a backup waits for the tailer.
const GOODBYE: Duration = Duration::from_secs(2);
/// Time that the server may be silent before it has written what it promised.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes redo that will never change again.
pub type RedoOut<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// The redo log of a running server, as its family writes it: read in order, from the newest checkpoint on.
pub trait RedoLog: Send {
    /// The checkpoint that reading began at.
    fn checkpoint(&self) -> Lsn;

    /// The header that the copy of the log begins with.
    fn head(&self) -> Vec<u8>;

    /// Returns the number that tells this log from every other: a server keeps it as long as it goes on with its log. `None`
    /// for a family whose logs have none.
    fn uuid(&self) -> Option<u32>;

    /// The LSN below which everything was passed on.
    fn position(&self) -> Lsn;

    /// Passes on what is there by now and will never change again, not beyond `end`.
    ///
    /// # Errors
    /// [`Code::RedoOverrun`] where the server has overwritten what comes next, [`Code::RedoDisabled`], [`Code::CorruptRedo`],
    /// [`Code::SourceIo`], and those of `out`.
    fn advance(&mut self, end: Option<Lsn>, out: &mut RedoOut<'_>) -> Result<Advance>;
}

/// The result of [`RedoLog::advance`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advance {
    /// Some redo was passed on.
    More,
    /// The server has written no more yet.
    Nothing,
    /// Everything up to the end that was asked for is passed on.
    End,
}

/// Follows the redo log on a thread of its own.
pub struct Tailer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
    /// The checkpoint that it began at.
    pub checkpoint: Lsn,
    /// The header that the copy of the log begins with.
    pub head: Vec<u8>,
    /// The number that tells the log from every other.
    pub redo_uuid: Option<u32>,
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
    /// Follows `log` into `spool`. `copied` tells everybody the LSN below which it is copied.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(log: Box<dyn RedoLog>, spool: Arc<Spool>, copied: Arc<AtomicU64>) -> Result<Tailer> {
        let (checkpoint, head, redo_uuid) = (log.checkpoint(), log.head(), log.uuid());
        copied.store(log.position().0, Ordering::Release);
        let shared = Arc::new(Shared { control: Mutex::default(), changed: Condvar::new(), copied });
        let follower = Follower { log, spool, shared: shared.clone() };
        let thread = std::thread::Builder::new()
            .name("redo-tailer".into())
            .spawn(move || follower.run())
            .map_err(|e| Error::io(Code::Internal, "can't start the redo tailer", e))?;
        Ok(Tailer { shared, thread: Some(thread), checkpoint, head, redo_uuid })
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

/// The thread.
struct Follower {
    log: Box<dyn RedoLog>,
    spool: Arc<Spool>,
    shared: Arc<Shared>,
}

impl Follower {
    fn run(mut self) -> Result<()> {
        let done = self.follow();
        self.spool.close();
        self.shared.change(|c| c.over = true);
        done
    }

    fn follow(&mut self) -> Result<()> {
        // Only once the end is known is a silent server a sign of trouble.
        let mut silent_since = None;
        loop {
            let Some(stop_at) = self.orders() else { return Ok(()) };
            let spool = &self.spool;
            let advance = self.log.advance(stop_at, &mut |redo| spool.push(redo))?;
            self.shared.copied.store(self.log.position().0, Ordering::Release);
            match advance {
                Advance::End => return Ok(()),
                Advance::More => {
                    silent_since = None;
                    continue;
                }
                Advance::Nothing => {}
            }
            if stop_at.is_some() && silent_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return Err(Error::new(
                    Code::CorruptRedo,
                    format!(
                        "the server has not written redo from LSN {} on for {} s",
                        self.log.position(),
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
}
