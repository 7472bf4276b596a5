//! Says what was sent.

use crate::send::SendSummary;
use crate::transport::ConnectionStatistics;

use super::{network, report};

/// Returns the summary of a backup.
pub(super) fn render(program: &str, s: &SendSummary, line: Option<ConnectionStatistics>) -> String {
    let lock = |l: &Option<crate::source::locks::LockTimes>| {
        l.map_or(String::new(), |l| {
            format!("{} (waited {})", report::duration(l.held), report::duration(l.waited))
        })
    };
    let lines = [
        (
            "size",
            format!(
                "{} in {} members, {} sent{}",
                report::bytes(s.bytes),
                s.members,
                report::bytes(s.wire_bytes),
                report::share(s.wire_bytes, s.bytes)
            ),
        ),
        (
            "changed",
            s.changed.as_ref().map_or(String::new(), |c| {
                format!("{} of {} pages, from LSN {} on ({})", c.sent, c.of, c.from, c.how)
            }),
        ),
        ("layers", s.layers.join(", then ")),
        ("time", format!("{}, {}", report::duration(s.time), report::rate(s.bytes, s.time))),
        ("throttle", s.throttle.clone()),
        ("redo", format!("{}, LSN {} to {}", report::bytes(s.redo_bytes), s.checkpoint_lsn, s.end_lsn)),
        ("binlog", s.binlog.as_ref().map_or(String::new(), |(file, at)| format!("{file} position {at}"))),
        ("gtid", s.gtid_executed.clone()),
        ("backup lock", lock(&s.backup_lock)),
        ("table lock", lock(&s.table_lock)),
        (
            "encrypted",
            match s.encrypted {
                (0, 0) => String::new(),
                (opened, 0) => format!("{opened} datafiles, verified in the clear"),
                (0, sealed) => format!(
                    "{sealed} datafiles, whose pages were not verified: their keys would be needed (--keyring FILE)"
                ),
                (opened, sealed) => {
                    format!("{opened} datafiles verified in the clear, {sealed} not verified")
                }
            },
        ),
        (
            "torn pages",
            if s.torn_retries > 0 { format!("{} read again", s.torn_retries) } else { String::new() },
        ),
        ("line", network::summary(line)),
        ("notes", s.notes.join("; ")),
    ];
    let what = if s.changed.is_some() { "increment" } else { "backup" };
    let headline = match line {
        None => format!("the whole {what} was sent"),
        Some(_) => format!("the whole {what} was sent, and the receiver says OK"),
    };
    report::summary(program, &headline, &lines)
}
