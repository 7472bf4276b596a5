//! Resources that the server holds for a backup (locks, redo consumer, session): it gets them back before anything else,
//! whatever has failed.

use std::time::{Duration, Instant};

use crate::base::{Code, Error, Result};
use crate::family::{RedoRetention, SourceServer};
use crate::source::locks::{HeldLock, LockTimes};
use crate::source::replication::ReplicaStatus;
use crate::source::session::Session;
use crate::source::tailer::Tailer;

use super::rate_limiter::Baseline;

/// Time that the line may take nothing while tables are locked.
const STILL: Duration = Duration::from_secs(10);
/// After so many seconds without a statement the server ends a session that has locked tables: we stand still, not our reader.
const SERVER_PATIENCE_S: u32 = 10;
/// What a session waits otherwise: no backup takes longer.
const SERVER_PATIENCE_USUAL_S: u32 = 2_147_483;

/// Resources that live as long as the session.
pub(super) struct HeldResources {
    /// `None` once all was given back.
    session: Option<Session>,
    pub(super) replica: Box<dyn ReplicaStatus>,
    consumer: Option<Box<dyn RedoRetention>>,
    consumer_dropped: bool,
    pub(super) tailer: Tailer,
    pub(super) learning: Option<Baseline>,
    pub(super) beat: Instant,
    /// Only while tables are locked.
    pub(super) patience: Option<Timeouts>,
}

impl HeldResources {
    pub(super) fn new(
        session: Session,
        replica: Box<dyn ReplicaStatus>,
        consumer: Option<Box<dyn RedoRetention>>,
        tailer: Tailer,
        learning: Option<Baseline>,
    ) -> HeldResources {
        HeldResources {
            session: Some(session),
            replica,
            consumer,
            consumer_dropped: false,
            tailer,
            learning,
            beat: Instant::now(),
            patience: None,
        }
    }

    /// The session that holds the locks.
    ///
    /// # Errors
    /// [`Code::GivenUp`] once the backup has failed.
    pub(super) fn session(&mut self) -> Result<&mut Session> {
        self.session.as_mut().ok_or_else(|| Error::new(Code::GivenUp, "the session was given up"))
    }

    /// Locks tables of other engines. If this process stands still meanwhile, the server unlocks them itself.
    pub(super) fn lock_tables(
        &mut self,
        server: &dyn SourceServer,
        tables: &[(String, String)],
        timeout: Duration,
    ) -> Result<HeldLock> {
        let session = self.session()?;
        let lock = server.lock_tables(session, tables, timeout)?;
        session.execute(&format!("SET SESSION wait_timeout={SERVER_PATIENCE_S}"))?;
        Ok(lock)
    }

    /// Gives that lock back.
    pub(super) fn unlock_tables(&mut self, server: &dyn SourceServer, lock: &HeldLock) -> Result<LockTimes> {
        let session = self.session()?;
        server.unlock_tables(session)?;
        let times = lock.times();
        session.execute(&format!("SET SESSION wait_timeout={SERVER_PATIENCE_USUAL_S}"))?;
        Ok(times)
    }

    /// Gives the redo consumer up, once all redo is read.
    pub(super) fn drop_consumer(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            self.consumer_dropped = consumer.was_dropped();
        }
    }

    /// A note about the redo consumer.
    pub(super) fn consumer_note(&self) -> Option<String> {
        self.consumer_dropped
            .then(|| "the redo consumer was given up, since it would have held up the server".into())
    }

    /// Gives back everything that the server holds: locks, consumer, session. Waits for the server a short while, and for
    /// nobody else.
    pub(super) fn let_go(&mut self) {
        if let Some(consumer) = &self.consumer {
            consumer.let_go();
        }
        if let Some(session) = self.session.take() {
            session.close();
        }
        self.drop_consumer();
    }
}

impl Drop for HeldResources {
    fn drop(&mut self) {
        // Before the tailer, which may be waited for.
        self.let_go();
    }
}

/// Time that the line may stand still.
pub(super) struct Timeouts {
    written: u64,
    since: Instant,
}

impl Timeouts {
    pub(super) fn new(written: u64) -> Timeouts {
        Timeouts { written, since: Instant::now() }
    }

    /// `written` bytes have been taken so far.
    ///
    /// # Errors
    /// [`Code::StreamIo`] after [`STILL`] without any more.
    pub(super) fn check(&mut self, written: u64) -> Result<()> {
        if written != self.written {
            *self = Timeouts::new(written);
        }
        if self.since.elapsed() < STILL {
            return Ok(());
        }
        let message = format!(
            "the reader of the stream took nothing for {} s while tables were locked",
            STILL.as_secs()
        );
        Err(Error::new(Code::StreamIo, message).hint(
            "tables of other engines than InnoDB can't be written to while their files are sent: the reader must keep up then",
        ))
    }
}
