//! The statements that take the backup lock, and the short read lock on tables of other engines.

use std::time::{Duration, Instant};

use crate::base::{Code, Error, Result, quote};
use crate::source::locks::HeldLock;
use crate::source::session::Session;
use crate::source::sql_error::{SqlError, SqlFailure};

/// Takes the backup lock, which keeps DDL out while datafiles are copied; DML goes on. Waits at most `timeout` for running
/// DDL to end.
///
/// The server releases it with the session, so a lost or killed backup never leaves it behind.
///
/// # Errors
/// [`Code::LockTimeout`].
pub(super) fn lock_ddl(session: &mut Session, timeout: Duration) -> Result<HeldLock> {
    const STATEMENT: &str = "LOCK INSTANCE FOR BACKUP";
    let asked = Instant::now();
    wait_for(session, STATEMENT, timeout).map_err(|e| match e.kind {
        SqlFailure::LockWait | SqlFailure::Deadlock => Error::new(
            Code::LockTimeout,
            format!("{STATEMENT} was not granted within {} s", timeout.as_secs()),
        )
        .hint("DDL is running, or another backup holds the lock: look at SHOW PROCESSLIST; --lock-timeout waits longer")
        .cause(Error::from(e)),
        _ => e.into(),
    })?;
    Ok(HeldLock::asked(asked))
}

/// Gives the backup lock back.
pub(super) fn unlock_ddl(session: &mut Session) -> Result<()> {
    session.execute("UNLOCK INSTANCE")
}

/// Flushes the user tables of engines other than InnoDB to their files and locks them, and them only, against writes: unlike
/// `FLUSH TABLES WITH READ LOCK` it does not wait for, nor stop, anything that touches other tables.
///
/// By name where the statement is short and no other backup runs: its lock and the one that comes with names exclude each
/// other, and of two backups each would wait for the other's end. A list that does not fit into `max_allowed_packet`
/// can't be given in parts (a session that holds such a lock gets no other): then the global read lock is taken, whose
/// statement does not grow with the data.
///
/// # Errors
/// [`Code::LockTimeout`].
pub(super) fn lock_tables(
    session: &mut Session,
    tables: &[(String, String)],
    timeout: Duration,
) -> Result<HeldLock> {
    const GLOBAL: &str = "FLUSH TABLES WITH READ LOCK";
    let asked = Instant::now();
    let not_granted = |e: SqlError| {
        match e.kind {
        SqlFailure::LockWait => Error::new(
            Code::LockTimeout,
            format!("the read lock on {} non-InnoDB tables was not granted within {} s", tables.len(), timeout.as_secs()),
        )
        .hint("a long statement uses one of them, or another backup runs: look at SHOW PROCESSLIST; --lock-timeout waits longer")
        .cause(Error::from(e)),
        SqlFailure::Deadlock => Error::new(
            Code::LockTimeout,
            format!("the read lock on {} non-InnoDB tables met a deadlock again and again for {} s", tables.len(), timeout.as_secs()),
        )
        .hint("another session locks them in another order, a second backup for instance; run this one again")
        .cause(Error::from(e)),
        _ => e.into(),
    }
    };
    let statement = match another_backup_runs(session)? {
        true => None,
        false => by_name(tables, session.statement_bytes()),
    };
    match statement.map(|statement| run(session, &statement, timeout)) {
        Some(Ok(())) => {}
        // Another backup that was not seen.
        Some(Err(e)) if e.kind == SqlFailure::Deadlock => {
            tracing::info!(
                "locking the non-InnoDB tables by name met a deadlock; taking the global read lock"
            );
            wait_for(session, GLOBAL, timeout.saturating_sub(asked.elapsed())).map_err(not_granted)?;
        }
        Some(Err(e)) if matches!(e.kind, SqlFailure::LockWait | SqlFailure::Deadlock) || e.ends_session() => {
            return Err(not_granted(e));
        }
        // A MERGE table whose children are gone, for instance, can't be locked by name. The global lock can.
        Some(Err(e)) => {
            let e = Error::from(e);
            tracing::warn!(
                "locking the non-InnoDB tables one by one failed ({e}); taking the global read lock"
            );
            wait_for(session, GLOBAL, timeout.saturating_sub(asked.elapsed())).map_err(not_granted)?;
        }
        None => {
            tracing::info!("{} non-InnoDB tables: taking the global read lock", tables.len());
            wait_for(session, GLOBAL, timeout).map_err(not_granted)?;
        }
    }
    Ok(HeldLock::asked(asked))
}

/// Gives that lock back.
pub(super) fn unlock_tables(session: &mut Session) -> Result<()> {
    session.execute("UNLOCK TABLES")
}

/// The statement that locks these tables; `None` where it would have more than `most` bytes.
fn by_name(tables: &[(String, String)], most: usize) -> Option<String> {
    let mut list = String::new();
    for (schema, table) in tables {
        let comma = if list.is_empty() { "" } else { ", " };
        list.push_str(&format!("{comma}{}.{}", quote::sql_name(schema), quote::sql_name(table)));
        if list.len() + "FLUSH TABLES  WITH READ LOCK".len() > most {
            return None;
        }
    }
    Some(format!("FLUSH TABLES {list} WITH READ LOCK"))
}

/// Whether another session holds the backup lock. An account that may not look finds out by a deadlock.
fn another_backup_runs(session: &mut Session) -> Result<bool, SqlError> {
    const HOLDERS: &str = "SELECT COUNT(DISTINCT OWNER_THREAD_ID) FROM performance_schema.metadata_locks \
                           WHERE OBJECT_TYPE = 'BACKUP LOCK' AND LOCK_TYPE = 'SHARED' AND LOCK_STATUS = 'GRANTED'";
    match session.attempt(HOLDERS) {
        Ok(rows) => {
            let holders = rows.first().and_then(|row| row.first()?.as_ref()?.parse::<u64>().ok());
            Ok(holders.is_some_and(|n| n > 1))
        }
        Err(e) if e.ends_session() => Err(e),
        Err(_) => Ok(false),
    }
}

/// Runs a locking statement that may wait for `timeout`.
fn run(session: &mut Session, statement: &str, timeout: Duration) -> Result<(), SqlError> {
    let seconds = timeout.as_secs().clamp(1, 31_536_000);
    session.attempt(&format!("SET SESSION lock_wait_timeout = {seconds}"))?;
    session.attempt_within(statement, Duration::from_secs(seconds)).map(drop)
}

/// Runs a locking statement, again and again while it meets deadlocks, for `timeout` in all.
///
/// The server's detector of deadlocks between metadata locks ends one of two sessions at once: the other goes on, and so
/// it is worth asking again.
fn wait_for(session: &mut Session, statement: &str, timeout: Duration) -> Result<(), SqlError> {
    let asked = Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        match run(session, statement, timeout.saturating_sub(asked.elapsed())) {
            Err(e) if e.kind == SqlFailure::Deadlock && asked.elapsed() + pause < timeout => {
                tracing::info!("`{statement}` met a deadlock, asking again");
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_statement_grows_with_the_tables() {
        let table = |n: usize| ("d".to_owned(), format!("t`{n}"));
        assert_eq!(
            by_name(&[table(1), table(2)], 1000).unwrap(),
            "FLUSH TABLES `d`.`t``1`, `d`.`t``2` WITH READ LOCK"
        );
        let many: Vec<_> = (0..5000).map(table).collect();
        assert!(by_name(&many, 1000).is_none());
        let most = (1..5000).filter_map(|n| by_name(&many[..n], 1000)).map(|s| s.len()).max().unwrap();
        assert!(most <= 1000, "{most}");
        assert!(by_name(&many, 1 << 20).is_some());
    }
}
