//! Samples the server's own load while it is backed up, on a session of its own.
//!
//! Everything is read from `performance_schema`, whose counters cost the server nothing to keep and little to read.

use std::time::{Duration, Instant};

use crate::base::Result;
use crate::throttle::Look;

use super::session::{ConnectOptions, Session};

/// Statements of all sessions: how many ended, and how many picoseconds they took.
const STATEMENTS: &str = "SELECT SUM(COUNT_STAR), SUM(SUM_TIMER_WAIT) FROM \
                          performance_schema.events_statements_summary_global_by_event_name WHERE COUNT_STAR > 0";
const RUNNING: &str = "Threads_running";
const PENDING: [&str; 4] = [
    "Innodb_data_pending_reads",
    "Innodb_data_pending_writes",
    "Innodb_data_pending_fsyncs",
    "Innodb_os_log_pending_fsyncs",
];
const STALLS: [&str; 2] = ["Innodb_buffer_pool_wait_free", "Innodb_log_waits"];

/// Looks at the server.
pub struct LoadSampler {
    session: Session,
    /// Whether the account may read [`STATEMENTS`].
    statements: bool,
    /// Statements of this session, which are not the load's.
    own: (u64, Duration),
    status: String,
}

impl LoadSampler {
    /// Connects once more.
    pub fn connect(options: &ConnectOptions) -> Result<LoadSampler> {
        let mut session = Session::connect(options)?;
        let statements = session.query(STATEMENTS).is_ok();
        if !statements {
            tracing::info!(
                "the account may not read the times of statements: throttling goes by less certain signs"
            );
        }
        let names: Vec<_> = PENDING.iter().chain(&STALLS).chain([&RUNNING]).collect();
        let list: Vec<_> = names.iter().map(|n| format!("'{n}'")).collect();
        let status = format!(
            "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_status \
             WHERE VARIABLE_NAME IN ({})",
            list.join(", ")
        );
        Ok(LoadSampler { session, statements, own: (0, Duration::ZERO), status })
    }

    /// Looks now.
    pub fn look(&mut self) -> Result<Look> {
        let began = Instant::now();
        let status = self.session.query(&self.status)?;
        let took = began.elapsed();
        let value = |name: &str| -> u64 {
            status
                .iter()
                .find_map(|row| match row.as_slice() {
                    [Some(found), Some(value)] if found == name => value.parse().ok(),
                    _ => None,
                })
                .unwrap_or(0)
        };
        let sum = |names: &[&str]| names.iter().map(|n| value(n)).sum();
        let statements = self.statements()?;
        Ok(Look {
            at: Instant::now(),
            took,
            statements,
            // This session is one of them.
            running: value(RUNNING).saturating_sub(1),
            pending: sum(&PENDING),
            stalls: sum(&STALLS),
        })
    }

    /// The load's statements so far; its own are left out, as exactly as a client can know them.
    fn statements(&mut self) -> Result<Option<(u64, Duration)>> {
        if !self.statements {
            return Ok(None);
        }
        let began = Instant::now();
        let rows = self.session.query(STATEMENTS)?;
        let (own, own_time) = self.own;
        // The one under way counts from the next time on; the one for the status before it took less.
        self.own = (own + 2, own_time + began.elapsed());
        let Some([Some(count), Some(picoseconds)]) = rows.first().map(Vec::as_slice) else { return Ok(None) };
        let (Ok(count), Ok(picoseconds)) = (count.parse::<u64>(), picoseconds.parse::<u128>()) else {
            return Ok(None);
        };
        let time = Duration::from_nanos(u64::try_from(picoseconds / 1000).unwrap_or(u64::MAX));
        Ok(Some((count.saturating_sub(own), time.saturating_sub(own_time))))
    }
}
