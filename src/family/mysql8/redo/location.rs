//! Finds the redo of a copy: in the member that a stream brings, in redo files, or where an earlier run left it.

use std::io;
use std::path::Path;

use crate::base::nofollow;
use crate::base::read::read_up_to;
use crate::base::{Code, Error, Result};
use crate::innodb::redo::file::DIRECTORY;
use crate::innodb::redo::{FileName, HEAD_LEN, RedoHead, lsn};
use crate::prepare::native::RedoLocation;
use crate::stream::metadata::LOGFILE;

/// Where the old log waits for its removal while the new one takes its place.
pub(super) const APPLIED: &str = "#innodb_redo.applied";

/// What every redo log that native prepare makes says of its creator first, by which it is known again.
pub(super) const OUR_CREATOR: &str = "MySQL xbpipe ";

/// Looks for the redo of the copy at `root`: where an earlier run left it, too. `None`: it was applied already.
pub(super) fn find(root: &Path) -> Result<Option<RedoLocation>> {
    let (logfile, applied, folder) = (root.join(LOGFILE), root.join(APPLIED), root.join(DIRECTORY));
    let ours = is_ours(&folder);
    if ours && nofollow::is_dir(&applied) {
        // All was durable before the new log took its place: an earlier run was killed while it removed the old one, of
        // which no more than a part may be left.
        remove_dir(&applied).map_err(|e| Error::io(Code::TargetIo, applied.display(), e))?;
    }
    if nofollow::is_file(&logfile) || nofollow::is_dir(&applied) {
        if nofollow::is_dir(&folder) && !ours {
            return Err(Error::new(
                Code::Prepare,
                format!("{} has the redo of a backup and that of a server", root.display()),
            )
            .hint("a server was started on it before it was prepared: extract the backup again"));
        }
        return Ok(Some(if nofollow::is_file(&logfile) {
            RedoLocation::Logfile(logfile)
        } else {
            RedoLocation::Folder(applied)
        }));
    }
    match nofollow::is_dir(&folder) {
        true => Ok((!ours).then_some(RedoLocation::Folder(folder))),
        false => Err(Error::new(
            Code::CorruptRedo,
            format!("{} has no redo: neither {LOGFILE} nor {DIRECTORY}", root.display()),
        )
        .hint("give the folder of a whole backup")),
    }
}

/// Whether the redo log in the folder `dir` is one that native prepare made.
fn is_ours(dir: &Path) -> bool {
    first_head(dir).is_some_and(|head| head.creator.starts_with(OUR_CREATOR))
}

/// Whether the redo log of the copy at `root` is the empty one that native prepare made, and no server has written to it: a server
/// moves the checkpoint on when it starts.
pub(super) fn is_untouched(root: &Path) -> bool {
    let dir = root.join(DIRECTORY);
    let files = nofollow::entries(&dir).map_or(0, |entries| entries.len());
    is_ours(&dir)
        && files == 1
        && first_head(&dir).is_some_and(|head| {
            head.checkpoints.into_iter().all(|c| c == Some(lsn::first_payload(head.start_lsn)))
        })
}

fn first_head(dir: &Path) -> Option<RedoHead> {
    let mut head = [0; HEAD_LEN];
    let name = dir.join(FileName { id: 0, spare: false }.to_string());
    let read = nofollow::open(&name).and_then(|file| read_up_to(&file, &mut head, 0));
    read.ok().and_then(|n| RedoHead::read(&head[..n]).ok())
}

pub(super) fn remove_dir(dir: &Path) -> io::Result<()> {
    match nofollow::remove_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
