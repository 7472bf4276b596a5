//! Implements a token bucket, stored as the time at which the next token is available.

use std::time::{Duration, Instant};

/// Time that a late reader may catch up with: sleeps end late, and a read may take longer than its share. In
/// any ten seconds that is one per cent.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Longest time between two reads, so that no rate stops reading altogether.
const INTERVAL_MAX: Duration = Duration::from_secs(10);

/// Limits reads to a number per second.
#[derive(Clone, Debug)]
pub struct Bucket {
    interval: Duration,
    next: Instant,
}

impl Bucket {
    /// Creates a bucket whose first token is available now.
    pub fn new(per_second: f64, now: Instant) -> Bucket {
        Bucket { interval: interval(per_second), next: now }
    }

    /// Takes a token, or returns when to ask again.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if now < self.next {
            return Err(self.next);
        }
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.next = self.next.max(earliest) + self.interval;
        Ok(())
    }

    /// Changes the rate. A reader that waits for the next token waits no longer than at the new rate.
    pub fn set_rate(&mut self, per_second: f64, now: Instant) {
        self.interval = interval(per_second);
        self.next = self.next.min(now + self.interval);
    }
}

fn interval(per_second: f64) -> Duration {
    let seconds = 1.0 / per_second;
    if seconds.is_finite() && seconds > 0.0 && seconds < INTERVAL_MAX.as_secs_f64() {
        Duration::from_secs_f64(seconds)
    } else if per_second > 1.0 {
        Duration::ZERO
    } else {
        INTERVAL_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns when reads happen, if each begins as soon as the bucket allows it and the previous one is
    /// done. `late` holds the microseconds by which waits end late, `long` those that reads take.
    fn run(rate: f64, late: &[u64], long: &[u64], seconds: u64) -> Vec<Duration> {
        let start = Instant::now_for_tests();
        let mut bucket = Bucket::new(rate, start);
        let (mut now, mut reads) = (start, Vec::new());
        let mut waits = 0;
        while now - start < Duration::from_secs(seconds) {
            match bucket.take(now) {
                Ok(()) => {
                    reads.push(now - start);
                    now += Duration::from_micros(long[(reads.len() - 1) % long.len()]);
                }
                Err(then) => {
                    assert!(then > now);
                    now = then + Duration::from_micros(late[waits % late.len()]);
                    waits += 1;
                }
            }
        }
        reads
    }

    trait ForTests {
        fn now_for_tests() -> Instant;
    }

    impl ForTests for Instant {
        #[allow(clippy::disallowed_methods)]
        fn now_for_tests() -> Instant {
            Instant::now()
        }
    }

    /// Returns the fewest and the most reads in any ten seconds.
    fn extremes(reads: &[Duration], seconds: u64) -> (usize, usize) {
        let ten = Duration::from_secs(10);
        let end = Duration::from_secs(seconds);
        let (mut fewest, mut most) = (usize::MAX, 0);
        for (i, first) in reads.iter().enumerate() {
            // A window that begins with a read has the most, one that begins just behind it the fewest.
            let within = reads[i..].partition_point(|t| *t < *first + ten);
            most = most.max(within);
            if *first + ten < end {
                fewest = fewest.min(reads[i + 1..].partition_point(|t| *t <= *first + ten));
            }
        }
        (fewest, most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_ten_seconds_have_the_rate(
            rate in prop_oneof![1.0..40.0f64, 40.0..2000.0f64],
            late in proptest::collection::vec(0..4000u64, 1..20),
            // One read in fifty takes this many times its share, up to the time that may be caught up with.
            stuck in 0..20u64,
        ) {
            let share = (1e6 / rate) as u64;
            let mut long = vec![share * 2 / 5; 50];
            long[49] = (stuck * share).min(90_000);
            let reads = run(rate, &late, &long, 31);
            let (fewest, most) = extremes(&reads, 31);
            let wanted = rate * 10.0;
            // The number differs by one depending on where the window begins.
            prop_assert!(most as f64 <= wanted * 1.05 + 1.0, "{most} of {wanted}");
            prop_assert!(fewest as f64 >= wanted * 0.95 - 1.0, "{fewest} of {wanted}");
        }

        #[test]
        fn whatever_the_reader_does_it_is_never_more(
            rate in 1.0..3000.0f64,
            long in proptest::collection::vec(0..3_000_000u64, 1..30),
        ) {
            let reads = run(rate, &[0], &long, 25);
            let (_, most) = extremes(&reads, 25);
            prop_assert!(most as f64 <= rate * 10.0 * 1.05 + 1.0, "{most} of {}", rate * 10.0);
        }
    }

    #[test]
    fn a_higher_rate_is_in_force_at_once() {
        let start = Instant::now_for_tests();
        let mut bucket = Bucket::new(0.1, start);
        bucket.take(start).unwrap();
        assert_eq!(bucket.take(start), Err(start + Duration::from_secs(10)));
        bucket.set_rate(100.0, start);
        assert_eq!(bucket.take(start), Err(start + Duration::from_millis(10)));
        bucket.set_rate(0.0, start);
        assert_eq!(
            bucket.take(start),
            Err(start + Duration::from_millis(10)),
            "no later than it was promised"
        );
        bucket.set_rate(f64::INFINITY, start);
        for _ in 0..1000 {
            bucket.take(start).unwrap();
        }
    }
}
