//! Registration as a redo consumer: the server then keeps redo that was not read yet.

use crate::base::{Lsn, Result};

use super::session::Session;
use super::sql_error::SqlError;

/// The server's one user consumer of redo, bound to the session that registered it.
///
/// A consumer that falls behind makes writers wait for space once the log is full, so it must be told often how far
/// reading has come; it is never dropped for being slow.
#[derive(Debug)]
pub struct RedoConsumer(());

impl RedoConsumer {
    /// Registers; `None` where another session is the consumer.
    ///
    /// # Errors
    /// Where the server has no such function, or the session was lost.
    pub fn register(session: &mut Session) -> Result<Option<RedoConsumer>, SqlError> {
        let rows = session.attempt("SELECT innodb_redo_log_consumer_register()")?;
        let taken = matches!(rows.first().map(Vec::as_slice), Some([Some(code)]) if code == "0");
        Ok(taken.then_some(RedoConsumer(())))
    }

    /// Redo below `lsn` is no longer needed. `lsn` must not lie beyond what the server has written.
    pub fn advance(&self, session: &mut Session, lsn: Lsn) -> Result<()> {
        // 1 means that the consumer is there already, which it is after a second without new redo.
        session.scalar(&format!("SELECT innodb_redo_log_consumer_advance({lsn})"))?;
        Ok(())
    }

    /// Gives up: redo may be overwritten from now on.
    pub fn unregister(self, session: &mut Session) -> Result<()> {
        session.scalar("SELECT innodb_redo_log_consumer_unregister()")?;
        Ok(())
    }
}
