//! Decides how fast datafiles may be read, from `now` and observations of the server. Waiting and observing
//! are done elsewhere ([`crate::send`], [`crate::source`]). The redo tailer is never throttled.
//!
//! * [`bucket`] limits reads to a number per second.
//! * [`governor`] finds the rate at which the server's own work goes on as before.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod bucket;
pub mod governor;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

pub use bucket::Bucket;
pub use governor::{Governor, Look};

/// The throttle that the user asked for. One read is at most 1 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Throttle {
    /// Reads as fast as possible.
    #[default]
    Off,
    /// Limits reads to a number per second.
    Reads(NonZeroU32),
    /// Reads as fast as the latency of the server's load allows.
    Auto,
}

/// Error: the text is not a throttle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is 'auto', or a number of reads a second (0: no limit)")]
pub struct NotAThrottle;

impl FromStr for Throttle {
    type Err = NotAThrottle;

    fn from_str(text: &str) -> Result<Throttle, NotAThrottle> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Throttle::Auto);
        }
        let reads: u32 = text.parse().map_err(|_| NotAThrottle)?;
        Ok(NonZeroU32::new(reads).map_or(Throttle::Off, Throttle::Reads))
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Throttle::Off => f.write_str("0"),
            Throttle::Reads(n) => n.fmt(f),
            Throttle::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_understood() {
        assert_eq!("auto".parse(), Ok(Throttle::Auto));
        assert_eq!("0".parse(), Ok(Throttle::Off));
        assert_eq!("40".parse::<Throttle>().unwrap().to_string(), "40");
        for bad in ["", "-1", "fast", "1.5", "99999999999"] {
            assert_eq!(bad.parse::<Throttle>(), Err(NotAThrottle), "{bad}");
        }
    }
}
