//! The server family and redo format in hand: one value, chosen once from what the server says of itself.

use std::fmt;

use super::{Code, Error, Result};

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
    /// A version from its three numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        ServerVersion { major, minor, patch }
    }

    /// Reads `9.7.4`, `8.0.36-28`, `10.11.6-MariaDB-…`; what follows the third number is left out.
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

/// A line of servers that share locks, discovery, redo format and record types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Format {
    /// MySQL and Percona Server 8.0.30 to 9.7: redo format 6 in `#innodb_redo/`, `LOCK INSTANCE FOR BACKUP`,
    /// `performance_schema.log_status`.
    MySql8,
}

impl Format {
    /// The first version with redo format 6.
    pub const MYSQL8_FIRST: ServerVersion = ServerVersion::new(8, 0, 30);
    /// The newest release line that this format was checked against.
    pub const MYSQL8_LAST: ServerVersion = ServerVersion::new(9, 7, u16::MAX);

    /// Chooses the format for a server that calls itself `version` (`VERSION()`) and `comment` (`@@version_comment`).
    pub fn for_server(version: &str, comment: &str) -> Result<Format> {
        let mariadb = version.to_ascii_lowercase().contains("mariadb")
            || comment.to_ascii_lowercase().contains("mariadb");
        let refuse = |hint: &str| {
            Err(Error::new(Code::Unsupported, format!("server {version} ({comment}) can't be backed up yet"))
                .hint(hint.to_owned()))
        };
        if mariadb {
            return refuse("for MariaDB use mariadb-backup");
        }
        match ServerVersion::parse(version) {
            None => refuse("its version was not understood; MySQL 8.0.30 to 9.7 are supported"),
            Some(v) if v < Self::MYSQL8_FIRST => refuse(
                "MySQL 8.0.30 to 9.7 are supported; for older servers use Percona XtraBackup 2.4 or 8.0",
            ),
            Some(v) if v > Self::MYSQL8_LAST => {
                refuse("this server is newer than xbpipe knows; MySQL 8.0.30 to 9.7 are supported")
            }
            Some(_) => Ok(Format::MySql8),
        }
    }

    /// The number in redo file headers (`Log_format` in log0constants.h).
    pub fn redo_format(self) -> u32 {
        match self {
            Format::MySql8 => 6,
        }
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

    #[test]
    fn servers_are_told_apart() {
        assert_eq!(Format::for_server("9.7.4", "MySQL").unwrap(), Format::MySql8);
        assert_eq!(Format::for_server("8.0.30", "Percona Server").unwrap(), Format::MySql8);
        for (version, comment) in
            [("8.0.29", ""), ("5.6.24", "MySQL"), ("10.11.6-MariaDB", ""), ("10.0.0", "MySQL"), ("?", "")]
        {
            let e = Format::for_server(version, comment).unwrap_err();
            assert_eq!(e.code, Code::Unsupported, "{version}");
            assert!(e.hint.is_some());
        }
    }
}
