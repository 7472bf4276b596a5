//! Says what became of a folder that was prepared in its place.

use crate::receive::prepare_command::FolderSummary;

use super::{arguments, next, report};

/// The summary, with some lines before the usual ones.
pub(super) fn render(s: &FolderSummary, before: &[(&'static str, String)]) -> String {
    let headline = match s.was_prepared {
        true => format!("{} is prepared already", s.dir.display()),
        false => format!("{} is prepared", s.dir.display()),
    };
    let lines = [
        ("time", report::duration(s.time)),
        ("steps", report::steps(&s.steps)),
        ("source", s.server_version.as_ref().map_or(String::new(), |v| format!("MySQL {v}"))),
        ("redo", s.lsn.map_or(String::new(), |(from, to)| format!("LSN {from} to {to}"))),
        ("gtid", s.gtid_executed.clone().unwrap_or_default()),
        ("notes", s.notes.join("; ")),
        ("next", next::server(&s.dir, s.log_bin.as_deref(), &[])),
    ];
    report::summary(arguments::XBRECV, &headline, &[before, &lines[..]].concat())
}
