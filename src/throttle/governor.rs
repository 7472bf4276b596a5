//! Finds the rate of reading at which the server's own work goes on as before.
//!
//! First the governor learns the usual values: how long the server's statements take on average, how long a
//! cheap query takes, how many threads are at work. It observes before the first read is made, while the
//! backup gets ready; if that was too short, reading begins so gently that hardly anything changes. Then the
//! rate grows quickly until the server shows that it is under pressure. From there on it is reduced by a
//! factor at every sign of pressure and grows slowly while there is none (additive increase and
//! multiplicative decrease, as in TCP: it finds the limit, and shares fairly with loads that change).
//!
//! The average over all statements is the most important sign, because it is what the server's users wait
//! for. A server without load has no average; then nobody is disturbed. If the account may not read it, only
//! the cheap query and the threads remain. Learning continues while hardly anything is read: if a server
//! stays under pressure then, either its usual values have changed, or the short observation at the beginning
//! was misleading; the pressure does not come from the backup.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Interval between two observations of the server.
pub const TICK: Duration = Duration::from_millis(50);
/// Time of observation before the rate grows.
const LEARNING: Duration = Duration::from_millis(600);
/// Time whose statements are averaged together: fewer would be noise.
const WINDOW: Duration = Duration::from_millis(400);
/// Minimum number of statements in a window; an average of fewer is meaningless.
const STATEMENTS_MIN: u64 = 12;
/// Rates in reads per second: the first one, the lowest one, and the one above which there is no limit in
/// effect.
const RATE_FIRST: f64 = 20.0;
const RATE_MIN: f64 = 10.0;
const RATE_MAX: f64 = 50_000.0;
/// Factors by which a tick without pressure multiplies the rate: before any pressure was seen, and after.
const OPENING: f64 = 1.5;
const GROWTH: f64 = 1.05;
/// Factor by which pressure multiplies the rate, at most once in [`WINDOW`].
const RETREAT: f64 = 0.75;
/// Thresholds for the average of a window, in units of the usual one: above the first there is pressure,
/// below the second there is none.
const PRESSED: f64 = 1.25;
const CALM: f64 = 1.10;
/// Thresholds for the cheap query: it is no sign below this duration, and means pressure above this multiple
/// of its usual duration.
const QUERY_FLOOR: Duration = Duration::from_millis(2);
const QUERY_PRESSED: f64 = 4.0;
/// Number of running threads beyond the usual that means pressure.
const RUNNING_MORE: f64 = 4.0;
/// Rate below which observations are taken for the usual values, the more so the lower the rate is; and the
/// greatest part of the difference that one tick takes over.
const RATE_HARDLY: f64 = 25.0;
const RELEARNED: f64 = 0.1;

/// An observation of the server at one time. Counters may start anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Time of the observation.
    pub at: Instant,
    /// Duration of the observation itself, a cheap query.
    pub took: Duration,
    /// Number of statements that ended so far, and their total duration; `None` if the account may not see
    /// that.
    pub statements: Option<(u64, Duration)>,
    /// Number of threads at work, without the one that observes.
    pub running: u64,
    /// Number of reads, writes and syncs that wait in InnoDB, including those of the redo log.
    pub pending: u64,
    /// Number of times so far that a thread had to wait for a free page or for room in the log.
    pub stalls: u64,
}

/// The usual values of a server.
#[derive(Clone, Copy, Debug)]
struct Usual {
    /// Average seconds of a statement; `None` if there were no statements.
    statement: Option<f64>,
    query: f64,
    running: f64,
    pending: f64,
}

impl Usual {
    /// Returns these values moved towards others by a part of the distance.
    fn drawn_to(&self, to: &Usual, part: f64) -> Usual {
        let between = |a: f64, b: f64| a + (b - a) * part;
        Usual {
            statement: match (self.statement, to.statement) {
                (Some(a), Some(b)) => Some(between(a, b)),
                (one, other) => one.or(other),
            },
            query: between(self.query, to.query),
            running: between(self.running, to.running),
            pending: between(self.pending, to.pending),
        }
    }
}

/// Decides the rate from one observation to the next. The default has seen nothing yet.
#[derive(Debug)]
pub struct Governor {
    looks: VecDeque<Look>,
    usual: Option<Usual>,
    rate: f64,
    opening: bool,
    /// Time since when the rate has been below [`RATE_HARDLY`].
    hardly_since: Option<Instant>,
    retreated: Option<Instant>,
    /// Number of times that the rate was reduced.
    pub retreats: u64,
}

impl Default for Governor {
    fn default() -> Self {
        Governor {
            looks: VecDeque::new(),
            usual: None,
            rate: RATE_FIRST,
            opening: true,
            hardly_since: None,
            retreated: None,
            retreats: 0,
        }
    }
}

impl Governor {
    /// Takes an observation into account; returns how many reads per second may be made from now on.
    pub fn see(&mut self, look: Look) -> f64 {
        self.looks.push_back(look);
        let Some(mut usual) = self.usual else {
            let first = self.looks.front().map_or(look.at, |first| first.at);
            if look.at.saturating_duration_since(first) >= LEARNING {
                self.usual = Some(self.learned());
            }
            return self.rate;
        };
        while self.looks.len() > 2 && self.looks[1].at + WINDOW <= look.at {
            self.looks.pop_front();
        }
        // Only if the rate was that low during the whole window.
        if self.rate >= RATE_HARDLY {
            self.hardly_since = None;
        } else if *self.hardly_since.get_or_insert(look.at) + WINDOW + TICK <= look.at {
            usual = usual.drawn_to(&self.learned(), RELEARNED * (1.0 - self.rate / RATE_HARDLY).sqrt());
            self.usual = Some(usual);
        }
        match self.pressure(&usual) {
            p if p >= 1.0 => self.retreat(look.at),
            p if p <= 0.0 => self.advance(),
            _ => {}
        }
        self.rate
    }

    fn retreat(&mut self, now: Instant) {
        // The reads made before still show in the window.
        let lately = self.retreated.is_some_and(|at| now.saturating_duration_since(at) < WINDOW);
        if lately || self.rate <= RATE_MIN {
            return;
        }
        self.opening = false;
        self.retreated = Some(now);
        self.retreats += 1;
        self.rate = (self.rate * RETREAT).max(RATE_MIN);
    }

    fn advance(&mut self) {
        self.rate = (self.rate * if self.opening { OPENING } else { GROWTH }).min(RATE_MAX);
    }

    /// Returns the averages of all stored observations.
    fn learned(&self) -> Usual {
        let mean =
            |of: fn(&Look) -> f64| self.looks.iter().map(of).sum::<f64>() / self.looks.len().max(1) as f64;
        Usual {
            statement: self.statement(),
            query: mean(|l| l.took.as_secs_f64()),
            running: mean(|l| l.running as f64),
            pending: mean(|l| l.pending as f64),
        }
    }

    /// Returns the average seconds of a statement over the stored observations.
    fn statement(&self) -> Option<f64> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let ((count, busy), (count_before, busy_before)) = (last.statements?, first.statements?);
        let n = count.saturating_sub(count_before);
        (n >= STATEMENTS_MIN).then(|| busy.saturating_sub(busy_before).as_secs_f64() / n as f64)
    }

    /// Returns the pressure: 1 and more is pressure, 0 and less is none; between them the rate stays.
    fn pressure(&self, usual: &Usual) -> f64 {
        let (Some(first), Some(last)) = (self.looks.front(), self.looks.back()) else { return 0.0 };
        let statement = match (self.statement(), usual.statement) {
            (Some(now), Some(before)) if before > 0.0 => (now / before - CALM) / (PRESSED - CALM),
            // Load that was not there before is protected by the other signs only.
            _ => 0.0,
        };
        let queries = self.looks.iter().map(|l| l.took.as_secs_f64());
        let query = queries.fold(f64::INFINITY, f64::min);
        let signs = [
            query > QUERY_FLOOR.as_secs_f64().max(usual.query * QUERY_PRESSED),
            self.looks.iter().all(|l| l.running as f64 > usual.running * 2.0 + RUNNING_MORE),
            self.looks.iter().all(|l| l.pending as f64 > usual.pending * 2.0 + RUNNING_MORE),
            last.stalls > first.stalls,
        ];
        if signs.contains(&true) { 1.0 } else { statement }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A simulated server whose statements take longer the more the rate of reading exceeds its limit.
    struct Server {
        usual: f64,
        limit: f64,
        per_second: f64,
        look: Look,
        statements: (f64, f64),
    }

    impl Server {
        #[allow(clippy::disallowed_methods)]
        fn new(usual: f64, limit: f64, per_second: f64) -> Server {
            let look = Look {
                at: Instant::now(),
                took: Duration::from_micros(300),
                statements: Some((0, Duration::ZERO)),
                running: 2,
                pending: 0,
                stalls: 0,
            };
            Server { usual, limit, per_second, look, statements: (0.0, 0.0) }
        }

        fn latency(&self, rate: f64) -> f64 {
            self.usual * (1.0 + (rate / self.limit - 1.0).max(0.0))
        }

        /// Simulates one tick at a rate of reading.
        fn tick(&mut self, rate: f64) -> Look {
            let n = self.per_second * TICK.as_secs_f64();
            self.statements.0 += n;
            self.statements.1 += n * self.latency(rate);
            self.look.at += TICK;
            self.look.statements =
                Some((self.statements.0 as u64, Duration::from_secs_f64(self.statements.1)));
            self.look
        }

        /// Returns the rates of `ticks` ticks.
        fn run(&mut self, governor: &mut Governor, ticks: usize) -> Vec<f64> {
            let mut rate = 0.0;
            (0..ticks)
                .map(|_| {
                    rate = governor.see(self.tick(rate));
                    rate
                })
                .collect()
        }
    }

    #[test]
    fn hardly_anything_is_read_while_it_learns() {
        let mut server = Server::new(0.001, 1e9, 1000.0);
        let learning = (LEARNING.as_secs_f64() / TICK.as_secs_f64()) as usize;
        let rates = server.run(&mut Governor::default(), learning + 20);
        assert!(rates[..learning].iter().all(|r| *r == RATE_FIRST));
        assert!(rates[learning + 12] > 50.0 * RATE_FIRST, "{rates:?}");
    }

    #[test]
    fn an_idle_server_is_read_at_full_speed_soon() {
        let mut server = Server::new(0.001, 1.0, 0.0);
        let rates = server.run(&mut Governor::default(), 40);
        assert_eq!(rates[39], RATE_MAX);
    }

    #[test]
    fn a_server_that_stays_slow_without_us_has_a_new_usual() {
        let mut server = Server::new(0.001, 500.0, 2000.0);
        let mut governor = Governor::default();
        server.run(&mut governor, 100);
        server.usual *= 10.0;
        let rates = server.run(&mut governor, 300);
        assert!(rates.iter().any(|r| *r < RATE_HARDLY));
        assert!(rates[299] > 100.0, "{}", rates[299]);
    }

    #[test]
    fn without_statements_the_other_signs_count() {
        let mut server = Server::new(0.001, 1e9, 0.0);
        let mut governor = Governor::default();
        let calm = *server.run(&mut governor, 30).last().unwrap();
        type Press = fn(&mut Look, u64);
        let presses: [Press; 4] = [
            |l, _| l.took = Duration::from_millis(9),
            |l, _| l.running = 40,
            |l, _| l.pending = 40,
            |l, i| l.stalls = i,
        ];
        for press in presses {
            let mut governor = Governor { rate: calm, ..Governor::default() };
            let mut server = Server::new(0.001, 1e9, 0.0);
            server.run(&mut governor, 14);
            let before = governor.rate;
            for i in 0..20 {
                let mut look = server.tick(0.0);
                press(&mut look, i + 1);
                governor.see(look);
            }
            assert!(governor.rate < before, "{before} {}", governor.rate);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_settles_where_the_server_can_stand_it(
            usual in 0.0002..0.02f64,
            limit in 30.0..5000.0f64,
            per_second in 500.0..20_000.0f64,
        ) {
            let mut server = Server::new(usual, limit, per_second);
            let mut governor = Governor::default();
            server.run(&mut governor, 150);
            let rates = server.run(&mut governor, 600);
            let mean = rates.iter().sum::<f64>() / rates.len() as f64;
            let latency = rates.iter().map(|r| server.latency(*r)).sum::<f64>() / rates.len() as f64;
            prop_assert!(latency <= usual * 1.3, "{} times as long", latency / usual);
            // And the governor does not leave unused capacity idle.
            prop_assert!(mean >= limit * 0.7, "{mean} of {limit}");
        }

        #[test]
        fn anything_may_be_seen(
            looks in proptest::collection::vec(
                (0..5000u64, 0..10_000u64, proptest::option::of((any::<u64>(), any::<u32>())), any::<u64>(), any::<u64>(), any::<u64>()),
                0..100,
            ),
        ) {
            let server = Server::new(0.001, 1.0, 1.0);
            let mut governor = Governor::default();
            let mut at = server.look.at;
            for (gap, took, statements, running, pending, stalls) in looks {
                at += Duration::from_millis(gap);
                let statements = statements.map(|(n, ms)| (n, Duration::from_millis(ms.into())));
                let took = Duration::from_millis(took);
                let rate = governor.see(Look { at, took, statements, running, pending, stalls });
                prop_assert!((RATE_MIN..=RATE_MAX).contains(&rate));
            }
        }
    }
}
