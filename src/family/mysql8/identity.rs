//! Checks that the datadir on this machine is that of the server that answers.

use std::io::Read;

use crate::base::{Code, Error, Result};
use crate::source::files;
use crate::source::server_facts::ServerFacts;

/// Bytes of `auto.cnf` that are looked at; it has some sixty.
const AUTO_CNF_MAX: u64 = 64 << 10;

/// Checks that the datadir on this machine is the one of the server that answers: two servers on one
/// machine, or a forwarded port, would otherwise give a mixture of both.
pub(super) fn check_same_server(facts: &ServerFacts) -> Result<()> {
    let path = facts.datadir.join("auto.cnf");
    let mut text = String::new();
    let read = files::open(&path, facts.owner).and_then(|f| f.take(AUTO_CNF_MAX).read_to_string(&mut text));
    read.map_err(|e| {
        files::failed(&path, e).hint("run xbsend as the server's user (or root) on the server's machine")
    })?;
    let on_disk = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| matches!(key.trim(), "server-uuid" | "server_uuid"))
        .map(|(_, value)| value.trim().to_owned());
    if on_disk.as_deref() == Some(facts.server_uuid.as_str()) {
        return Ok(());
    }
    Err(Error::new(
        Code::SourceIo,
        format!(
            "the datadir {} belongs to another server ({}) than the one that answers ({})",
            facts.datadir.display(),
            on_disk.as_deref().unwrap_or("no server-uuid in auto.cnf"),
            facts.server_uuid
        ),
    )
    .hint("connect to the server whose files these are, or give its datadir with --datadir"))
}
