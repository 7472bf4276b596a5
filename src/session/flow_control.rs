//! Controls the flow of bytes: limits the bytes in flight to those that the connection can hold, and a little
//! more. Bytes that are in flight when a connection is lost must be sent again.
//!
//! The buffers of the kernels, and of the devices between them, take megabytes, however slow the network is.
//! So two things are measured: the rate at which the other side takes bytes over, and the shortest time that
//! this takes. Their product is what the connection holds (as in the congestion control BBR; here it only
//! bounds what is given to the connection, which has a congestion control of its own). While the rate grows,
//! twice as much is allowed, so that it can grow.

use std::collections::VecDeque;
use std::time::Duration;

/// Number of bytes that may always be in flight.
const FLOOR: u64 = 256 << 10;
/// Number of bytes in flight that is never exceeded.
pub const CEILING: u64 = 32 << 20;
/// Lower limit on the measured round trip: the time that a thread waits for its turn must not count as a
/// property of the network.
const ROUND_MIN: Duration = Duration::from_millis(20);
/// Number of round trips in which the rate grows by no more than a quarter, after which it is taken to be the
/// rate of the network.
const STEADY_ROUNDS: u32 = 3;
/// Factor by which all round trips of a period must exceed the shortest one before the packets are taken to
/// use another route. The period lasts eight of these longer round trips.
const OTHER_WAY: u32 = 4;

/// Measures and limits the bytes in flight of one session, over all its connections.
#[derive(Debug, Default)]
pub struct FlowControl {
    /// Bytes in flight, oldest first.
    flights: VecDeque<Flight>,
    in_flight: u64,
    delivered: u64,
    delivered_at: Duration,
    /// Rate in bytes per second.
    rate: f64,
    round: Option<Duration>,
    longer: Option<Longer>,
    growth: Growth,
}

#[derive(Debug)]
struct Flight {
    bytes: u64,
    sent: Duration,
    delivered: u64,
    delivered_at: Duration,
}

/// Round trips in a row that were all much longer than the shortest.
#[derive(Debug)]
struct Longer {
    shortest: Duration,
    since: Duration,
}

#[derive(Debug, Default)]
struct Growth {
    rate: f64,
    rounds: u32,
    round_ends: u64,
}

impl FlowControl {
    /// Returns whether more may be sent.
    pub fn allows(&self) -> bool {
        self.in_flight < self.window()
    }

    /// Returns the number of bytes that may be in flight.
    pub fn window(&self) -> u64 {
        let round = self.round.unwrap_or_default().max(ROUND_MIN);
        let gain = if self.growth.rounds < STEADY_ROUNDS { 2.0 } else { 1.25 };
        let held = self.rate * round.as_secs_f64() * gain;
        (held as u64).clamp(FLOOR, CEILING)
    }

    /// Records that `bytes` were given to the connection.
    pub fn sent(&mut self, now: Duration, bytes: u64) {
        if self.in_flight == 0 {
            self.delivered_at = now;
        }
        self.in_flight += bytes;
        let (delivered, delivered_at) = (self.delivered, self.delivered_at);
        self.flights.push_back(Flight { bytes, sent: now, delivered, delivered_at });
    }

    /// Records that `bytes` were taken over by the other side.
    pub fn acked(&mut self, now: Duration, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let mut left = bytes;
        let mut newest = None;
        while left > 0
            && let Some(flight) = self.flights.front_mut()
        {
            let n = left.min(flight.bytes);
            flight.bytes -= n;
            left -= n;
            if flight.bytes == 0 {
                newest = self.flights.pop_front();
            }
        }
        if let Some(flight) = newest {
            self.sample(now, &flight);
        }
    }

    /// Records that the connection is lost, together with everything that was in flight on it.
    pub fn lost(&mut self) {
        self.flights.clear();
        self.in_flight = 0;
        self.growth.round_ends = self.delivered;
    }

    fn sample(&mut self, now: Duration, flight: &Flight) {
        let trip = now.saturating_sub(flight.sent);
        self.sample_round(now, trip);
        let took = now.saturating_sub(flight.delivered_at).max(trip).as_secs_f64();
        if took <= 0.0 {
            return;
        }
        let rate = (self.delivered - flight.delivered) as f64 / took;
        // The rate goes up at once and down slowly: a moment without bytes to send tells nothing about the
        // network.
        self.rate = if rate > self.rate { rate } else { self.rate + (rate - self.rate) / 32.0 };
        if flight.delivered >= self.growth.round_ends {
            self.growth.round_ends = self.delivered;
            self.growth.rounds = if self.rate > self.growth.rate * 1.25 { 0 } else { self.growth.rounds + 1 };
            self.growth.rate = self.growth.rate.max(self.rate);
        }
    }

    fn sample_round(&mut self, now: Duration, trip: Duration) {
        let Some(round) = self.round.filter(|round| trip > *round) else {
            self.round = Some(trip);
            self.longer = None;
            return;
        };
        if trip < round.max(ROUND_MIN) * OTHER_WAY {
            self.longer = None;
            return;
        }
        let longer = self.longer.get_or_insert(Longer { shortest: trip, since: now });
        longer.shortest = longer.shortest.min(trip);
        if now.saturating_sub(longer.since) > longer.shortest * 8 {
            self.round = Some(longer.shortest);
            self.longer = None;
            self.growth.rounds = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a connection of `rate` bytes per second, whose bytes are acknowledged after `trip`, with an
    /// unlimited buffer in front of it.
    fn run(pace: &mut FlowControl, start: Duration, rate: u64, trip: Duration, time: Duration) -> (u64, u64) {
        const SEGMENT: u64 = 64 << 10;
        let (mut queue, mut free, mut sent, mut most) = (VecDeque::new(), start, 0, 0);
        let mut now = start;
        while now < start + time {
            while let Some((at, bytes)) = queue.front().copied()
                && at <= now
            {
                queue.pop_front();
                pace.acked(now, bytes);
            }
            while pace.allows() {
                pace.sent(now, SEGMENT);
                sent += SEGMENT;
                free = free.max(now) + Duration::from_secs_f64(SEGMENT as f64 / rate as f64);
                queue.push_back((free + trip, SEGMENT));
            }
            if now > start + time / 2 {
                most = most.max(pace.in_flight);
            }
            now += Duration::from_millis(1);
        }
        pace.lost();
        (sent, most)
    }

    #[test]
    fn the_line_is_filled_and_no_more() {
        for (rate, trip) in [(4 << 20, 80), (100 << 20, 80), (1 << 20, 200), (50 << 20, 1), (200 << 20, 5)] {
            let mut pace = FlowControl::default();
            let time = Duration::from_secs(10);
            let (sent, most) = run(&mut pace, Duration::ZERO, rate, Duration::from_millis(trip), time);
            let full = rate * 10;
            assert!(sent > full * 9 / 10, "{rate}/s, {trip} ms: {sent} of {full}");
            let held = rate * trip.max(20) / 1000;
            assert!(
                most < held * 3 / 2 + FLOOR + (64 << 10),
                "{rate}/s, {trip} ms: {most} under way, {held} held"
            );
        }
    }

    #[test]
    fn a_longer_way_is_found_out() {
        let mut pace = FlowControl::default();
        let time = Duration::from_secs(5);
        run(&mut pace, Duration::ZERO, 50 << 20, Duration::from_millis(1), time);
        let (sent, _) = run(&mut pace, time, 50 << 20, Duration::from_millis(200), time * 4);
        assert!(sent > (50 << 20) * 14, "{sent}");
    }
}
