//! Registers a redo consumer: the server then keeps redo that was not read yet.
//!
//! A consumer that stands still makes every writer on the server wait once the redo log is full. So it has a session and a
//! thread of its own, which neither data nor locks hold up. It is given up when what was not read has filled half of the log
//! for [`DROP_AFTER`]. And its session has the shortest time-out that the server knows: where this whole process stands
//! still, the server ends the session, and the consumer with it. When the process goes on, it registers again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::{Code, Error, Result};
use crate::family::server::RedoRetention;

use crate::source::session::{ConnectOptions, Session};

/// How often the server hears how far redo was read.
const BEAT: Duration = Duration::from_millis(200);
/// Time that unread redo may fill half of the log.
const DROP_AFTER: Duration = Duration::from_secs(1);
/// After so many seconds without a statement the server ends the consumer's session.
const SERVER_PATIENCE_S: u32 = 1;
/// Time that the end of the backup waits for the consumer's goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// The server's one user consumer of redo, bound to a session of its own; given up when this is dropped.
#[derive(Debug)]
pub(in crate::family::mysql8) struct RedoConsumer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ends: bool,
    over: bool,
    dropped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl RedoConsumer {
    /// Registers; `None` where another session is the consumer. `read` is the LSN below which redo was read, 0 for none yet;
    /// it must not lie beyond what the server has written.
    ///
    /// # Errors
    /// If the server has no such function, or has no room for one more session.
    pub(in crate::family::mysql8) fn register(
        options: &ConnectOptions,
        read: Arc<AtomicU64>,
    ) -> Result<Option<RedoConsumer>> {
        let Some(session) = registered(options)? else { return Ok(None) };
        let shared = Arc::new(Shared::default());
        let keeper = Keeper {
            options: options.clone(),
            session: Some(session),
            read,
            shared: shared.clone(),
            full_since: None,
        };
        thread::Builder::new()
            .name("redo-consumer".into())
            .spawn(move || keeper.run())
            .map_err(|e| Error::io(Code::Internal, "can't start a thread", e))?;
        Ok(Some(RedoConsumer { shared }))
    }
}

impl RedoRetention for RedoConsumer {
    fn was_dropped(&self) -> bool {
        self.shared.lock().dropped
    }

    fn let_go(&self) {
        self.shared.change(|s| s.ends = true);
    }
}

impl Drop for RedoConsumer {
    fn drop(&mut self) {
        self.let_go();
        // A server that does not answer ends the session by itself.
        let until = Instant::now() + GOODBYE;
        let mut state = self.shared.lock();
        while !state.over && Instant::now() < until {
            let changed = &self.shared.changed;
            state = changed.wait_timeout(state, GOODBYE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A new session that is the consumer; `None` where another is.
fn registered(options: &ConnectOptions) -> Result<Option<Session>> {
    let mut session = Session::connect(options)?;
    session.execute(&format!("SET SESSION wait_timeout={SERVER_PATIENCE_S}"))?;
    let code = session.scalar("SELECT innodb_redo_log_consumer_register()")?;
    Ok((code.as_deref() == Some("0")).then_some(session))
}

/// The thread.
struct Keeper {
    options: ConnectOptions,
    /// `None` once it was lost.
    session: Option<Session>,
    read: Arc<AtomicU64>,
    shared: Arc<Shared>,
    /// Since when unread redo fills half of the log.
    full_since: Option<Instant>,
}

impl Keeper {
    fn run(mut self) {
        while !self.pause() {
            let kept = match &mut self.session {
                Some(session) => is_half_full(session, self.read.load(Ordering::Acquire)),
                None => {
                    self.register_again();
                    continue;
                }
            };
            match kept {
                Ok(full) if self.is_too_long(full) => {
                    tracing::warn!(
                        "redo was not read for {} s while the log filled up: the server keeps it no longer; the backup \
                         fails if it overwrites what is still to be read",
                        DROP_AFTER.as_secs()
                    );
                    self.shared.lock().dropped = true;
                    break;
                }
                Ok(_) => {}
                Err(e) => {
                    tracing::debug!("the redo consumer's session was lost: {e}");
                    self.session = None;
                }
            }
        }
        if let Some(mut session) = self.session.take() {
            // It goes with the session, if not by itself.
            let _ = session.scalar("SELECT innodb_redo_log_consumer_unregister()");
            session.close();
        }
        self.shared.change(|s| s.over = true);
    }

    /// Until the next beat; whether there is none.
    fn pause(&self) -> bool {
        let state = self.shared.lock();
        if state.ends {
            return true;
        }
        self.shared.changed.wait_timeout(state, BEAT).unwrap_or_else(PoisonError::into_inner).0.ends
    }

    fn is_too_long(&mut self, full: bool) -> bool {
        self.full_since = full.then(|| self.full_since.unwrap_or_else(Instant::now));
        self.full_since.is_some_and(|since| since.elapsed() >= DROP_AFTER)
    }

    fn register_again(&mut self) {
        match registered(&self.options) {
            Ok(Some(session)) => {
                tracing::warn!(
                    "xbsend stood still, or the server ended its redo consumer; it is registered again"
                );
                self.session = Some(session);
            }
            // The old session may not be gone yet.
            Ok(None) => {}
            Err(e) => tracing::debug!("the redo consumer can't be registered again: {e}"),
        }
    }
}

/// Tells the server that redo below `read` was read; whether what was not read fills half of the log.
fn is_half_full(session: &mut Session, read: u64) -> Result<bool> {
    if read > 0 {
        // 1 means that the consumer is there already, which it is after a second without new redo.
        session.scalar(&format!("SELECT innodb_redo_log_consumer_advance({read})"))?;
    }
    let rows = session.query(
        "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_status \
         WHERE VARIABLE_NAME IN ('Innodb_redo_log_current_lsn', 'Innodb_redo_log_capacity_resized')",
    )?;
    let value = |name: &str| {
        let row = rows.iter().find(|r| r.first().and_then(Option::as_deref) == Some(name))?;
        row.get(1)?.as_deref()?.parse::<u64>().ok()
    };
    let (Some(current), Some(capacity)) =
        (value("Innodb_redo_log_current_lsn"), value("Innodb_redo_log_capacity_resized"))
    else {
        return Ok(false);
    };
    Ok(read > 0 && current.saturating_sub(read) >= capacity / 2)
}
