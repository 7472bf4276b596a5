//! Holds back the reading of datafiles, and only that: threads wait here before a read, and are freed at once when the run
//! fails or is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::base::progress::Progress;
use crate::base::{Code, Error, Result};
use crate::source::load_sampler::LoadSampler;
use crate::source::priority;
use crate::source::session::ConnectOptions;
use crate::throttle::governor::{Governor, TICK};
use crate::throttle::{Bucket, Throttle};

/// Looks at the server while the backup gets ready: what is usual is known, or almost, when the first read is to be made.
pub(super) struct Baseline {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(LoadSampler, Governor)>>>,
}

impl Baseline {
    /// Begins to look.
    ///
    /// # Errors
    /// [`Code::Internal`], without threads.
    pub(super) fn start(server: &ConnectOptions) -> Result<Baseline> {
        let over = Arc::new(AtomicBool::new(false));
        let (server, ends) = (server.clone(), over.clone());
        let look = move || {
            let mut watch = LoadSampler::connect(&server)?;
            let mut governor = Governor::default();
            while !ends.load(Ordering::Acquire) {
                governor.see(watch.look()?);
                thread::park_timeout(TICK);
            }
            Ok((watch, governor))
        };
        let thread = thread::Builder::new()
            .name("load".into())
            .spawn(look)
            .map_err(|e| Error::io(Code::Internal, "can't start a thread", e))?;
        Ok(Baseline { over, thread: Some(thread) })
    }

    /// Ends learning, and returns the sampler of the server's load and what was learned.
    fn finish(mut self) -> Result<(LoadSampler, Governor)> {
        self.over.store(true, Ordering::Release);
        let panicked = || Error::new(Code::Internal, "the thread that looks at the server's load panicked");
        let thread = self.thread.take().ok_or_else(panicked)?;
        thread.thread().unpark();
        thread.join().map_err(|_| panicked())?
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// The state that reading threads wait for.
pub(super) struct RateLimiter<'a> {
    throttle: Throttle,
    state: Mutex<State>,
    changed: Condvar,
    progress: &'a Progress,
}

struct State {
    /// `None`: nothing may be read yet.
    bucket: Option<Bucket>,
    limited: bool,
    closed: bool,
}

impl<'a> RateLimiter<'a> {
    pub(super) fn new(throttle: Throttle, progress: &'a Progress) -> RateLimiter<'a> {
        let rate = match throttle {
            Throttle::Reads(n) => Some(f64::from(n.get())),
            Throttle::Off | Throttle::Auto => None,
        };
        Progress::set(&progress.reads_allowed, rate.map_or(0, |r| r as u64));
        let bucket = rate.map(|r| Bucket::new(r, Instant::now()));
        let state = State { bucket, limited: throttle != Throttle::Off, closed: false };
        RateLimiter { throttle, state: Mutex::new(state), changed: Condvar::new(), progress }
    }

    /// A reading thread begins.
    pub(super) fn enter(&self) {
        if self.throttle == Throttle::Auto {
            priority::stand_back();
        }
    }

    /// Waits until one more read may be made.
    ///
    /// # Errors
    /// [`Code::GivenUp`] once it is closed: somebody else has the reason.
    pub(super) fn wait(&self) -> Result<()> {
        Progress::add(&self.progress.reads, 1);
        if self.throttle == Throttle::Off {
            return Ok(());
        }
        let mut state = self.lock();
        while state.limited {
            if state.closed {
                return Err(Error::new(Code::GivenUp, "reading was given up"));
            }
            let now = Instant::now();
            let pause = match state.bucket.as_mut().map(|b| b.take(now)) {
                Some(Ok(())) => return Ok(()),
                Some(Err(then)) => then - now,
                None => Duration::MAX,
            };
            state = self.sleep(state, pause);
        }
        Ok(())
    }

    /// Ends all waits: the run is over.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Looks at the server and sets the rate until `is_over`; says how often reading gave way, or what became of it.
    pub(super) fn govern(&self, learning: Baseline, is_over: impl Fn() -> bool) -> String {
        let governed = learning.finish().and_then(|(watch, governor)| self.follow(watch, governor, is_over));
        match governed {
            Ok(retreats) => format!("auto, gave way {retreats} times"),
            Err(e) => {
                // The backup's own session notices by itself whether the server is there.
                tracing::warn!("the server's load can't be watched any more, reading is not held back: {e}");
                self.set(f64::INFINITY);
                "auto, but the server's load could not be watched to the end".into()
            }
        }
    }

    fn follow(
        &self,
        mut watch: LoadSampler,
        mut governor: Governor,
        is_over: impl Fn() -> bool,
    ) -> Result<u64> {
        let mut due = Instant::now();
        while !is_over() && !self.lock().closed {
            let look = watch.look()?;
            self.set(governor.see(look));
            tracing::trace!("{look:?} {governor:?}");
            due = (due + TICK).max(Instant::now());
            let mut state = self.lock();
            while !state.closed && Instant::now() < due && !is_over() {
                state = self.sleep(state, due - Instant::now().min(due));
            }
        }
        Ok(governor.retreats)
    }

    fn set(&self, rate: f64) {
        Progress::set(&self.progress.reads_allowed, if rate.is_finite() { rate as u64 } else { 0 });
        let now = Instant::now();
        let mut state = self.lock();
        match &mut state.bucket {
            Some(bucket) => bucket.set_rate(rate, now),
            None => state.bucket = Some(Bucket::new(rate, now)),
        }
        state.limited = rate.is_finite();
        drop(state);
        self.changed.notify_all();
    }

    fn sleep<'s>(&self, state: MutexGuard<'s, State>, pause: Duration) -> MutexGuard<'s, State> {
        // Without a time it is woken by the first rate, or by the end.
        const LONG: Duration = Duration::from_secs(3600);
        self.changed.wait_timeout(state, pause.min(LONG)).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn who_waits_is_freed_at_once() {
        let progress = Progress::new();
        for throttle in [Throttle::Auto, Throttle::Reads(NonZeroU32::MIN)] {
            let pacer = RateLimiter::new(throttle, &progress);
            let began = Instant::now();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| (0..9).try_for_each(|_| pacer.wait()));
                std::thread::sleep(Duration::from_millis(50));
                assert!(!waiting.is_finished());
                pacer.close();
                assert_eq!(waiting.join().unwrap().unwrap_err().code, Code::GivenUp);
            });
            assert!(began.elapsed() < Duration::from_millis(900));
        }
    }

    #[test]
    fn a_rate_is_kept_and_a_new_one_is_in_force_at_once() {
        let progress = Progress::new();
        let pacer = RateLimiter::new(Throttle::Auto, &progress);
        let reads = |n: u32| {
            let began = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..n / 2).for_each(|_| pacer.wait().unwrap()));
                }
            });
            began.elapsed()
        };
        pacer.set(200.0);
        assert!(reads(60) >= Duration::from_millis(280));
        pacer.set(f64::INFINITY);
        assert!(reads(1000) < Duration::from_millis(200));
        assert_eq!(Progress::get(&progress.reads), 1060);
    }
}
