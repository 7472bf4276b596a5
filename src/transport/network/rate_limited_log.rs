//! Limits the rate of log lines about events that others can cause as often as they like: at most one line
//! per second, with a count of those left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Minimum time between two lines.
const APART: Duration = Duration::from_secs(1);

/// The limit for one kind of log line.
#[derive(Debug, Default)]
pub(super) struct RateLimitedLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Duration>,
    untold: u64,
}

impl RateLimitedLog {
    /// Records an event. Returns the text to append to its log line, or `None` if no line is to be written
    /// now.
    pub(super) fn note(&self, now: Duration) -> Option<String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now < last + APART) {
            state.untold += 1;
            return None;
        }
        state.last = Some(now);
        Some(match std::mem::take(&mut state.untold) {
            0 => String::new(),
            n => format!("; {n} more since the last such line"),
        })
    }

    /// Returns the number of events that no line was written about, once no line has been written for a
    /// while.
    pub(super) fn rest(&self, now: Duration) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.untold == 0 || state.last.is_some_and(|last| now < last + APART) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second() {
        let (notices, ms) = (RateLimitedLog::default(), Duration::from_millis);
        assert_eq!(notices.note(ms(0)).as_deref(), Some(""));
        assert!((1..1000).all(|n| notices.note(ms(n)).is_none()));
        assert_eq!(notices.rest(ms(999)), None);
        assert_eq!(notices.note(ms(1000)).as_deref(), Some("; 999 more since the last such line"));
        assert_eq!(notices.note(ms(1001)), None);
        assert_eq!((notices.rest(ms(2000)), notices.rest(ms(9000))), (Some(1), None));
    }
}
