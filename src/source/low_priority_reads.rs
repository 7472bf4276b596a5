//! Low-priority reads: they give way to the server's own.
//!
//! A disk serves who came first, and nobody's small read or sync comes before a large read that is under way. So these reads
//! are small, none is made ahead, and one is under way at a time, of all threads together: the server waits for a
//! fraction of a millisecond then, not for all that readers have asked for. They are made in the disk's idle class, and past the page
//! cache where the server's own are: that takes less than half the processor time, much of it in the kernel, where many
//! kernels let nobody in between. (256 KiB at a time, 300 MB/s: 0.29 s against 0.76 s for 0.9 GB.)
//!
//! In the idle class a busy disk may let a read wait for seconds (`mq-deadline`: ten, `prio_aging_expire`). A backup that stands
//! still holds the server's locks and its redo all the longer. So whoever had to wait for long is served as the server
//! is for a while (`Standing`).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::priority::{self, DiskClass};

/// Bytes of a read that gives way.
pub const SMALL: usize = 256 << 10;
/// A read of so few bytes that took so long was not served.
const STARVED: Duration = Duration::from_millis(200);
/// In units of the time for which it was not served: so a backup takes three halves of its time at most, not for ever.
const MADE_UP: u32 = 2;

/// How reads give way, and whose turn it is: for all reading threads together.
#[derive(Debug)]
pub struct LowPriorityReads {
    standing: Mutex<Standing>,
    past_cache: bool,
}

impl LowPriorityReads {
    /// `past_cache`: the server itself reads past the page cache.
    pub fn new(past_cache: bool) -> LowPriorityReads {
        LowPriorityReads { standing: Mutex::default(), past_cache }
    }

    pub(super) fn past_cache(&self) -> bool {
        self.past_cache
    }

    /// Makes a read while no other one is under way.
    pub(super) fn read<T>(&self, read: impl FnOnce() -> T) -> T {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let class = standing.class(began);
        priority::set_disk_class(class);
        let done = read();
        standing.took(class, began, Instant::now());
        done
    }
}

/// In which class the next read is to be made.
#[derive(Debug, Default)]
struct Standing {
    ordinary_until: Option<Instant>,
}

impl Standing {
    fn class(&self, now: Instant) -> DiskClass {
        match self.ordinary_until {
            Some(until) if now < until => DiskClass::Ordinary,
            _ => DiskClass::Idle,
        }
    }

    fn took(&mut self, class: DiskClass, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        if class == DiskClass::Idle && took >= STARVED {
            tracing::debug!("a read waited for {took:?} in the disk's idle class");
            self.ordinary_until = Some(ended + took * MADE_UP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in a minute on a disk that lets the idle class wait for `idle`.
    fn reads(idle: Duration) -> (u32, u32) {
        const ORDINARY: Duration = Duration::from_millis(2);
        let start = Instant::now();
        let (mut now, mut standing, mut idle_reads, mut all) = (start, Standing::default(), 0, 0);
        while now < start + Duration::from_secs(60) {
            let class = standing.class(now);
            let took = if class == DiskClass::Idle { idle } else { ORDINARY };
            standing.took(class, now, now + took);
            now += took;
            all += 1;
            idle_reads += u32::from(class == DiskClass::Idle);
        }
        (idle_reads, all)
    }

    #[test]
    fn whoever_is_served_stands_back_all_the_time() {
        let (idle, all) = reads(Duration::from_millis(20));
        assert_eq!(idle, all);
    }

    #[test]
    fn whoever_is_not_served_goes_on_all_the_same() {
        for seconds in [1, 10] {
            let (idle, all) = reads(Duration::from_secs(seconds));
            // Two thirds of a minute, at 2 ms each.
            assert!(all >= 60_000 / 2 * 6 / 10, "{all} reads");
            // And tries to stand back again.
            assert!(idle >= 2, "{idle}");
        }
    }
}
