//! Computes when to try again: exponential backoff with jitter.

use std::time::Duration;

/// First wait, at most.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(10);

/// Returns the time to wait before attempt number `attempts` (from 0). It grows exponentially; a `random`
/// number reduces it by up to a half.
pub fn delay(attempts: u32, random: u64) -> Duration {
    let full = FIRST.saturating_mul(1u32.checked_shl(attempts).unwrap_or(u32::MAX)).min(LONGEST);
    let part = (random >> 32) as u32;
    full - full.mul_f64(f64::from(part) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_differ() {
        assert_eq!(delay(0, 0), FIRST);
        assert_eq!(delay(0, u64::MAX), FIRST / 2);
        assert_eq!(delay(3, 0), FIRST * 8);
        for attempts in [7, 31, 32, 1000, u32::MAX] {
            assert_eq!(delay(attempts, 0), LONGEST);
            assert!(delay(attempts, u64::MAX) >= LONGEST / 2 - Duration::from_millis(1));
        }
    }
}
