//! Looks up the LSN of pages that are in the page cache, so that records older than it need not be stored.
//!
//! A page that lies in the page cache is read by one system call, and the records that it has need not be kept. Since it
//! may not be read again then, it is verified here: what a page that is not whole says of itself is not believed, and its
//! turn comes later. What would have to be read from a disk is not asked: it will be read once, when its turn comes. A file
//! system in memory always answers.

use std::collections::HashMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;

use rustix::fs::fstatfs;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::base::{Lsn, PageBuffer, PageNo, SpaceId};
use crate::innodb::page::{FilHeader, LOGICAL_MAX, Scratch, Verdict};
use crate::prepare::Datadir;
use crate::prepare::native::records::store::CachedLsnLookup;
use crate::prepare::native::tablespaces::{OpenTablespace, TablespaceFiles};

/// Tablespaces that are open at a time.
const OPEN_MAX: usize = 64;
/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: i64 = 0x0102_1994;

/// Asks the tablespaces of `datadir` as they are now. Where they can't be told from each other, nothing is known.
pub(crate) fn asker(datadir: &Datadir<'_>) -> CachedLsnLookup {
    let spaces = TablespaceFiles::find(datadir, Default::default(), &Default::default()).ok();
    let mut open: HashMap<SpaceId, Option<OpenTablespace>> = HashMap::new();
    let (mut bytes, mut scratch) = (PageBuffer::new(LOGICAL_MAX), Scratch::new());
    Box::new(move |id, page| {
        if open.len() >= OPEN_MAX && !open.contains_key(&id) {
            open.clear();
        }
        let space = open.entry(id).or_insert_with(|| spaces.as_ref()?.get(id)?.open(id).ok());
        lsn(space.as_ref()?, page, &mut bytes, &mut scratch)
    })
}

fn lsn(space: &OpenTablespace, page: PageNo, buffer: &mut [u8], scratch: &mut Scratch) -> Option<Lsn> {
    let bytes = buffer.get_mut(..space.layout.physical())?;
    let (file, at) = space.at(page);
    if !read_cached(file, bytes, at) {
        return None;
    }
    let is_whole = space.verify(page, bytes, scratch) == Ok(Verdict::Ok);
    FilHeader::of(bytes).filter(|_| is_whole).map(|header| header.lsn())
}

/// Fills `into`, if that takes no wait.
fn read_cached(file: &File, into: &mut [u8], at: u64) -> bool {
    let len = into.len();
    match preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT) {
        Ok(filled) => filled == len,
        Err(Errno::OPNOTSUPP) if fstatfs(file).is_ok_and(|fs| fs.f_type == TMPFS) => {
            file.read_exact_at(into, at).is_ok()
        }
        Err(_) => false,
    }
}
