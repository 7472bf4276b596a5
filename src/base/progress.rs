//! Counts the progress of a run: the data path increments counters, and the command line shows them. This
//! module has no clock and no output.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// The phase of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// The sender connects, queries the server and waits for the lock; the receiver waits for the first byte.
    Starting,
    /// Datafiles and redo are copied.
    Copying,
    /// The sender copies non-InnoDB files under their short lock, the position and the last redo.
    Finishing,
    /// The receiver checks, syncs and prepares.
    Preparing,
    /// The run is over.
    Done,
}

impl Phase {
    const ALL: [Phase; 5] =
        [Phase::Starting, Phase::Copying, Phase::Finishing, Phase::Preparing, Phase::Done];

    /// Returns the name as one lower-case word, for progress lines and JSON.
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

/// Counters of one run that threads share. Totals are 0 while they are unknown.
#[derive(Default, Debug)]
pub struct Progress {
    phase: AtomicU8,
    /// Number of bytes of datafiles to copy.
    pub bytes_total: AtomicU64,
    /// Number of bytes of datafiles that are done (holes count as done).
    pub bytes_done: AtomicU64,
    /// Number of bytes that crossed the transport, framing included.
    pub bytes_wire: AtomicU64,
    /// Number of members to transfer.
    pub files_total: AtomicU64,
    /// Number of members that are finished.
    pub files_done: AtomicU64,
    /// Number of redo bytes that were copied.
    pub redo_bytes: AtomicU64,
    /// Number of redo bytes that the server has written and that are not copied yet.
    pub redo_lag: AtomicU64,
    /// Number of redo records to apply.
    pub records_total: AtomicU64,
    /// Number of redo records that were applied to their page.
    pub records_done: AtomicU64,
    /// Number of pages that were brought up to date.
    pub pages_done: AtomicU64,
    /// Number of pages that were read again because they were torn.
    pub torn_retries: AtomicU64,
    /// Number of reads of datafiles.
    pub reads: AtomicU64,
    /// Number of such reads per second that are allowed at present; 0 if there is no limit.
    pub reads_allowed: AtomicU64,
}

impl Progress {
    /// Creates the counters, all zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// Returns the current phase.
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed)).min(Phase::ALL.len() - 1)]
    }

    /// Adds `n` to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// Sets a counter to `n`.
    pub fn set(counter: &AtomicU64, n: u64) {
        counter.store(n, Relaxed);
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }
}
