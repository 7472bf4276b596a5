//! Errors of SQL statements, told apart by variant.

use crate::base::{Code, Error};

/// A statement that failed.
#[derive(Debug)]
pub struct SqlError {
    /// The kind of failure.
    pub kind: SqlFailure,
    /// The statement, shortened.
    statement: String,
    /// The server's or the connection's message.
    cause: String,
}

/// Kinds of failure that callers treat differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SqlFailure {
    /// A lock was not granted within `lock_wait_timeout` or `innodb_lock_wait_timeout`.
    LockWait,
    /// The server saw a deadlock of locks, at once.
    Deadlock,
    /// The statement was ended by `max_execution_time`.
    TimedOut,
    /// The statement was killed.
    Killed,
    /// The server has no variable of that name.
    NoSuchVariable,
    /// The account may not do this.
    Denied,
    /// The server is being shut down.
    ShuttingDown,
    /// The session is gone.
    Lost,
    /// The server did not answer in time.
    Silent,
    /// The server sent more than any answer to this statement can be, or what is no answer.
    Nonsense,
    /// Any other refusal, with the server's number.
    Refused(u16),
}

impl SqlFailure {
    /// The kind of an error number of the server (`share/messages_to_clients.txt`).
    pub(super) fn of_code(code: u16) -> SqlFailure {
        match code {
            1205 => SqlFailure::LockWait,
            1213 | 3058 => SqlFailure::Deadlock,
            3024 => SqlFailure::TimedOut,
            1317 => SqlFailure::Killed,
            1193 => SqlFailure::NoSuchVariable,
            // Of an account, a schema, a table, a column, a privilege by name, a routine.
            1044 | 1142 | 1143 | 1227 | 1370 | 3530 => SqlFailure::Denied,
            1053 => SqlFailure::ShuttingDown,
            // The connection was refused by `init_connect`, was killed, was silent for too long, took too much memory.
            1184 | 1927 | 3169 | 4031 | 4082 => SqlFailure::Lost,
            other => SqlFailure::Refused(other),
        }
    }
}

impl SqlError {
    /// Shown part of a statement, in characters.
    const SHOWN: usize = 120;
    /// Shown part of what the other side said: it may be anything.
    const CAUSE_SHOWN: usize = 600;

    pub(super) fn new(kind: SqlFailure, statement: &str, cause: impl std::fmt::Display) -> SqlError {
        SqlError {
            kind,
            statement: statement.chars().take(Self::SHOWN).collect(),
            cause: cause.to_string().chars().take(Self::CAUSE_SHOWN).collect(),
        }
    }

    pub(super) fn from_client(statement: &str, e: mysql_async::Error) -> SqlError {
        let kind = match &e {
            mysql_async::Error::Server(s) => SqlFailure::of_code(s.code),
            mysql_async::Error::Io(_) => SqlFailure::Lost,
            mysql_async::Error::Driver(mysql_async::DriverError::ConnectionClosed) => SqlFailure::Lost,
            _ => SqlFailure::Nonsense,
        };
        SqlError::new(kind, statement, e)
    }

    /// Whether the server can't be asked anything after it.
    pub fn ends_session(&self) -> bool {
        matches!(
            self.kind,
            SqlFailure::ShuttingDown | SqlFailure::Lost | SqlFailure::Silent | SqlFailure::Nonsense
        )
    }
}

impl From<SqlError> for Error {
    fn from(e: SqlError) -> Error {
        const GONE: &str = "the backup is not usable: its locks were released; look into the server's error log, then run it again";
        let SqlError { kind, statement, cause } = e;
        let error = |code, what: &str| Error::new(code, format!("`{statement}` {what}"));
        let error = match kind {
            SqlFailure::LockWait => error(Code::LockTimeout, "was not granted in time"),
            SqlFailure::Deadlock => error(Code::LockTimeout, "met a deadlock of locks")
                .hint("something else takes locks in another order, another backup for instance; run this one again"),
            SqlFailure::TimedOut => error(Code::Sql, "was ended by the server for taking too long")
                .hint("something set max_execution_time for xbsend's session, or ends long statements"),
            SqlFailure::Killed => error(Code::Sql, "was killed")
                .hint("an administrator or a watchdog killed it; run the backup again"),
            SqlFailure::Denied => error(Code::Privilege, "is not allowed to this account"),
            SqlFailure::ShuttingDown => error(Code::Sql, "failed: the server is being shut down, and the SQL session was lost")
                .hint(GONE),
            SqlFailure::Lost => Error::new(Code::Sql, format!("the SQL session was lost at `{statement}`")).hint(GONE),
            SqlFailure::Silent => Error::new(Code::Sql, format!("the server did not answer `{statement}`"))
                .hint("look at SHOW PROCESSLIST and the server's error log; --statement-timeout waits longer"),
            SqlFailure::Nonsense => Error::new(Code::Sql, format!("the answer to `{statement}` is none that a MySQL server gives"))
                .hint("is this the server's own port or socket, with no other program between?"),
            SqlFailure::NoSuchVariable | SqlFailure::Refused(_) => error(Code::Sql, "failed"),
        };
        error.cause(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_no_lock() {
        let code = |n| Error::from(SqlError::new(SqlFailure::of_code(n), "SELECT 1", "x")).code;
        assert_eq!(code(1205), Code::LockTimeout);
        assert_eq!(code(1213), Code::LockTimeout);
        assert_eq!(code(3024), Code::Sql);
        assert_eq!(code(1227), Code::Privilege);
        assert_eq!(code(1064), Code::Sql);
        assert_ne!(SqlFailure::of_code(1205), SqlFailure::of_code(1213));
    }

    #[test]
    fn what_a_server_says_is_cut() {
        let e: Error = SqlError::new(SqlFailure::Lost, &"x".repeat(1 << 20), "y".repeat(1 << 20)).into();
        assert!(e.to_string().len() < 2000);
        assert!(e.hint.is_some());
    }
}
