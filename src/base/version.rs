//! Represents versions of servers.

use std::fmt;

/// A server's version as `SELECT VERSION()` gives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ServerVersion {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
}

impl ServerVersion {
    /// Creates a version from its three numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        ServerVersion { major, minor, patch }
    }

    /// Reads `9.7.4`, `8.0.36-28`, `10.11.6-MariaDB-…`; text behind the third number is ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.splitn(3, '.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        let rest = numbers.next()?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(ServerVersion { major, minor, patch: rest[..digits].parse().ok()? })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(ServerVersion::parse("9.7.4"), Some(ServerVersion::new(9, 7, 4)));
        assert_eq!(ServerVersion::parse("8.0.36-28"), Some(ServerVersion::new(8, 0, 36)));
        assert_eq!(ServerVersion::parse("9.7"), None);
        assert_eq!(ServerVersion::parse("x.y.z"), None);
    }
}
