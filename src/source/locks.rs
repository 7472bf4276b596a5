//! The backup lock, the short read lock for other engines, and how long each was held.

use std::time::{Duration, Instant};

use crate::base::format::Format;
use crate::base::{Code, Error, Result};

use super::session::Session;

/// Keeps DDL out while datafiles are copied; DML goes on.
///
/// The server releases it with the session, so a lost or killed backup never leaves it behind.
#[derive(Debug)]
pub struct BackupLock {
    waited: Duration,
    taken: Instant,
    format: Format,
}

impl BackupLock {
    /// Takes the lock, waiting at most `timeout` for running DDL to end.
    ///
    /// # Errors
    /// [`Code::LockTimeout`].
    pub fn take(session: &mut Session, format: Format, timeout: Duration) -> Result<BackupLock> {
        session.execute(&format!("SET SESSION lock_wait_timeout = {}", timeout.as_secs().max(1)))?;
        let asked = Instant::now();
        let statement = match format {
            Format::MySql8 => "LOCK INSTANCE FOR BACKUP",
        };
        session.execute(statement).map_err(|e| match e.code {
            Code::LockTimeout => Error::new(
                Code::LockTimeout,
                format!("{statement} was not granted within {} s", timeout.as_secs()),
            )
            .hint("DDL is running, or another backup holds the lock: look at SHOW PROCESSLIST; --lock-timeout waits longer"),
            _ => e,
        })?;
        Ok(BackupLock { waited: asked.elapsed(), taken: Instant::now(), format })
    }

    /// Gives the lock back; returns how long it was waited for and how long it was held.
    pub fn release(self, session: &mut Session) -> Result<LockTimes> {
        match self.format {
            Format::MySql8 => session.execute("UNLOCK INSTANCE")?,
        }
        Ok(LockTimes { waited: self.waited, held: self.taken.elapsed() })
    }
}

/// How long a lock was waited for and held.
#[derive(Clone, Copy, Debug, Default)]
pub struct LockTimes {
    /// From asking to getting.
    pub waited: Duration,
    /// From getting to giving back.
    pub held: Duration,
}

/// A read lock on the user tables of engines other than InnoDB, and on them only: unlike
/// `FLUSH TABLES WITH READ LOCK` it does not wait for, nor stop, anything that touches other tables.
#[derive(Debug)]
pub struct TableLock {
    waited: Duration,
    taken: Instant,
}

impl TableLock {
    /// Flushes those tables to their files and locks them against writes.
    ///
    /// # Errors
    /// [`Code::LockTimeout`].
    pub fn take(session: &mut Session, tables: &[(String, String)], timeout: Duration) -> Result<TableLock> {
        session.execute(&format!("SET SESSION lock_wait_timeout = {}", timeout.as_secs().max(1)))?;
        let list: Vec<_> = tables.iter().map(|(s, t)| format!("{}.{}", quoted(s), quoted(t))).collect();
        let asked = Instant::now();
        match session.execute(&format!("FLUSH TABLES {} WITH READ LOCK", list.join(", "))) {
            Ok(()) => {}
            Err(e) if e.code == Code::LockTimeout => {
                return Err(Error::new(
                    Code::LockTimeout,
                    format!("the read lock on {} non-InnoDB tables was not granted within {} s", tables.len(), timeout.as_secs()),
                )
                .hint("a long statement uses one of them: look at SHOW PROCESSLIST; --lock-timeout waits longer")
                .cause(e));
            }
            // A MERGE table whose children are gone, for instance, can't be locked by name. The global lock can.
            Err(e) => {
                tracing::warn!(
                    "locking the non-InnoDB tables one by one failed ({e}); taking the global read lock"
                );
                session.execute("FLUSH TABLES WITH READ LOCK")?;
            }
        }
        Ok(TableLock { waited: asked.elapsed(), taken: Instant::now() })
    }

    /// Gives the lock back.
    pub fn release(self, session: &mut Session) -> Result<LockTimes> {
        session.execute("UNLOCK TABLES")?;
        Ok(LockTimes { waited: self.waited, held: self.taken.elapsed() })
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
