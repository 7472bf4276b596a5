//! Runs the streaming prepare: informs the native prepare about redo and pages as they are written.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Budget, Result};
use crate::family;
use crate::innodb::page::LOGICAL_MAX;
use crate::prepare::native::{StreamedTablespace, StreamingApply};
use crate::restore::WriteTask;
use crate::stream::metadata::LOGFILE;
use crate::stream::{Chunk, MemberName};

use super::ReceiveOptions;

/// A native prepare that runs while the stream arrives.
pub(super) struct StreamingPrepare {
    live: StreamingApply,
    spaces: HashMap<MemberName, StreamedTablespace>,
}

impl StreamingPrepare {
    /// Starts it for a stream that is written to `root`.
    pub(super) fn start(
        options: &ReceiveOptions,
        memory: u64,
        budget: &Budget,
        root: &Path,
        progress: &Arc<Progress>,
    ) -> Result<StreamingPrepare> {
        // If there must be a manifest, the stream comes from xbsend, and its redo ends with the backup.
        let changes = !options.allow_no_manifest;
        let live = StreamingApply::start(
            family::redo_of_copies(),
            options.keyring.clone(),
            root,
            memory,
            budget,
            changes,
            progress.clone(),
        )?;
        Ok(StreamingPrepare { live, spaces: HashMap::new() })
    }

    /// Examines a chunk; chunks must be given in order.
    ///
    /// # Errors
    /// If something can't be prepared natively, or a defect was found in the redo meanwhile.
    pub(super) fn chunk(&mut self, chunk: &Chunk) -> Result<()> {
        self.live.check()?;
        if chunk.offset == 0 && is_tablespace(&chunk.member) {
            // The checksum is not verified yet; if it is wrong, that fails the whole run later.
            let mut first = vec![0; chunk.end().min(LOGICAL_MAX as u64) as usize];
            chunk.copy(0, &mut first);
            let found = self.live.arriving().space(chunk.member.as_str(), &first)?;
            self.spaces.extend(found.map(|space| (chunk.member.clone(), space)));
        }
        Ok(())
    }

    /// Makes the write task of that chunk report to the native prepare.
    pub(super) fn attach(&self, work: &mut WriteTask, member: &MemberName, from: u64, to: u64) {
        let arriving = self.live.arriving().clone();
        if *member == LOGFILE {
            work.when_written(move || arriving.redo_written(from, to));
        } else if let Some(&space) = self.spaces.get(member) {
            work.amend_with(move |chunk| arriving.pages(space, chunk));
        }
    }

    /// Handles the end of a member.
    pub(super) fn end(&mut self, member: &MemberName, size: u64) {
        if *member == LOGFILE {
            self.live.arriving().redo_ended(size);
        }
        self.spaces.remove(member);
    }

    /// Returns the native prepare once everything was written.
    pub(super) fn into_live(self) -> StreamingApply {
        self.live
    }
}

/// Returns whether a server takes the member for a tablespace.
fn is_tablespace(member: &MemberName) -> bool {
    let name = member.as_str();
    let last = name.rsplit('/').next().unwrap_or(name);
    last.ends_with(".ibd")
        || last.ends_with(".ibu")
        || last.starts_with("undo_")
        || last.starts_with("ibdata")
}
