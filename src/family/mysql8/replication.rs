//! Reads the positions of a server that is a replica itself in its own sources' binary logs.
//!
//! The applier keeps its position in `mysql.slave_relay_log_info`, in the transactions that it applies: what is committed there is
//! what is applied. Channels of group replication have no source that a copy could be pointed at.

use crate::base::Result;
use crate::source::replication::{ReplicaChannel, ReplicaStatus};
use crate::source::session::{ConnectOptions, Session};
use crate::source::sql_error::SqlFailure;

/// A server that may be a replica.
///
/// It is asked in a session of its own: one that holds locks on tables by name may read no others.
pub(super) struct Replica(Option<Session>);

impl Replica {
    /// Whether this server is one.
    ///
    /// # Errors
    /// As of a session, and of connecting.
    pub(super) fn find(session: &mut Session, options: &ConnectOptions) -> Result<Replica> {
        let found = !all(session)?.is_empty();
        found.then(|| Session::connect(options)).transpose().map(Replica)
    }
}

impl ReplicaStatus for Replica {
    fn channels(&mut self) -> Vec<ReplicaChannel> {
        let Some(session) = &mut self.0 else { return Vec::new() };
        all(session).unwrap_or_else(|e| {
            tracing::warn!("the positions of this replica's channels can't be read: {e}");
            self.0 = None;
            Vec::new()
        })
    }
}

/// The channels of this server; none for a server that is no replica, or whose account may not see them.
fn all(session: &mut Session) -> Result<Vec<ReplicaChannel>> {
    const POSITIONS: &str = "SELECT i.Channel_name, i.Master_log_name, i.Master_log_pos, i.Number_of_workers, c.AUTO_POSITION \
                             FROM mysql.slave_relay_log_info i \
                             JOIN performance_schema.replication_connection_configuration c ON c.CHANNEL_NAME = i.Channel_name \
                             WHERE i.Channel_name NOT LIKE 'group\\_replication\\_%' ORDER BY i.Channel_name";
    let rows = match session.attempt(POSITIONS) {
        Ok(rows) => rows,
        Err(e) if e.kind == SqlFailure::Denied => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    Ok(rows.into_iter().filter_map(|row| of_row(&row)).collect())
}

fn of_row(row: &[Option<String>]) -> Option<ReplicaChannel> {
    let [Some(name), file, at, workers, auto] = row else { return None };
    let position = file.clone().filter(|f| !f.is_empty()).zip(at.as_ref().and_then(|n| n.parse().ok()));
    Some(ReplicaChannel {
        name: name.clone(),
        position,
        auto_position: auto.as_deref() == Some("1"),
        parallel: workers.as_ref().and_then(|n| n.parse().ok()).unwrap_or(0) > 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let row = |values: [Option<&str>; 5]| values.map(|v| v.map(str::to_owned)).to_vec();
        let read = |values| of_row(&row(values));
        let whole = read([Some("c"), Some("b.000003"), Some("157"), Some("4"), Some("0")]).unwrap();
        assert_eq!(whole.position, Some(("b.000003".into(), 157)));
        assert!(whole.parallel && !whole.auto_position);
        let fresh = read([Some(""), Some(""), Some("4"), Some("0"), Some("1")]).unwrap();
        assert!(fresh.position.is_none() && fresh.auto_position && !fresh.parallel);
        assert!(read([None, None, None, None, None]).is_none());
        assert!(of_row(&[]).is_none());
    }
}
