//! Counters that the data path bumps and the command line renders. No clock, no output here.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// The phase of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Connecting, asking, waiting for the lock (sender); waiting for the first byte (receiver).
    Starting,
    /// Datafiles and redo are under way.
    Copying,
    /// Non-InnoDB files under their short lock, positions, the last redo.
    Finishing,
    /// The receiver checks, syncs and prepares.
    Preparing,
    /// Over.
    Done,
}

impl Phase {
    const ALL: [Phase; 5] =
        [Phase::Starting, Phase::Copying, Phase::Finishing, Phase::Preparing, Phase::Done];

    /// One lower-case word for lines and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Copying => "copying",
            Phase::Finishing => "finishing",
            Phase::Preparing => "preparing",
            Phase::Done => "done",
        }
    }
}

/// Shared counters of one run. Totals are 0 where they are not known.
#[derive(Default, Debug)]
pub struct Progress {
    phase: AtomicU8,
    /// Bytes of datafiles to copy.
    pub bytes_total: AtomicU64,
    /// Bytes of datafiles done (holes count as done).
    pub bytes_done: AtomicU64,
    /// Bytes that crossed the transport, framing included.
    pub bytes_wire: AtomicU64,
    /// Members to come.
    pub files_total: AtomicU64,
    /// Members finished.
    pub files_done: AtomicU64,
    /// Redo bytes copied.
    pub redo_bytes: AtomicU64,
    /// Redo bytes that the server has written and that are not copied yet.
    pub redo_lag: AtomicU64,
    /// Redo records to apply.
    pub records_total: AtomicU64,
    /// Redo records that their page has.
    pub records_done: AtomicU64,
    /// Pages brought up to date.
    pub pages_done: AtomicU64,
    /// Pages read again because they were torn.
    pub torn_retries: AtomicU64,
    /// Reads of datafiles.
    pub reads: AtomicU64,
    /// Most of them that are allowed a second just now; 0 where nothing limits them.
    pub reads_allowed: AtomicU64,
}

impl Progress {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// The phase just now.
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed)).min(Phase::ALL.len() - 1)]
    }

    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// Sets a counter.
    pub fn set(counter: &AtomicU64, n: u64) {
        counter.store(n, Relaxed);
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }
}
