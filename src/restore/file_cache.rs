//! A cache of open files, not more of them at once than the process may have.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};

use crate::base::nofollow;

/// Never more open files than this: a sender has a few members under way at a time, so more would gain nothing.
const OPEN_MAX: usize = 128;
/// What the process needs beside them: standard streams, pipes, staging folders, the private server's files.
const RESERVED: u64 = 64;
/// Fewer would make files be opened again for nearly every chunk.
const OPEN_MIN: usize = 8;

/// The files used last.
///
/// A file that falls out is closed by its last user. Errors that some file systems report only at `close` are not
/// lost: they are reported by the sync of that file or file system at the end as well.
pub struct FileCache {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashMap<usize, Entry>,
    /// Counts uses, to find the one longest ago.
    uses: u64,
}

struct Entry {
    file: Arc<File>,
    used: u64,
}

impl FileCache {
    /// As many as the limit on open files lets us have.
    pub fn new() -> FileCache {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let free = usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
        FileCache::with_capacity(free.clamp(OPEN_MIN, OPEN_MAX))
    }

    fn with_capacity(capacity: usize) -> FileCache {
        FileCache { capacity, state: Mutex::default() }
    }

    /// Keeps a file that was just made under `id`.
    pub fn insert(&self, id: usize, file: File) -> Arc<File> {
        let file = Arc::new(file);
        let mut state = self.lock();
        state.uses += 1;
        let used = state.uses;
        state.open.insert(id, Entry { file: file.clone(), used });
        let longest_ago = match state.open.len() > self.capacity {
            true => state.open.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id),
            false => None,
        };
        let evicted = longest_ago.and_then(|id| state.open.remove(&id));
        // Closing may wait for the disk: not under the lock.
        drop(state);
        drop(evicted);
        file
    }

    /// The file of `id`, opened again at `path` if it was closed meanwhile.
    pub fn get(&self, id: usize, path: &Path) -> io::Result<Arc<File>> {
        let mut state = self.lock();
        state.uses += 1;
        let used = state.uses;
        if let Some(entry) = state.open.get_mut(&id) {
            entry.used = used;
            return Ok(entry.file.clone());
        }
        drop(state);
        Ok(self.insert(id, nofollow::open_rw(path)?))
    }

    /// Closes the file of `id`, which is complete.
    pub fn remove(&self, id: usize) {
        let entry = self.lock().open.remove(&id);
        drop(entry);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FileCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_one_used_longest_ago_is_closed_and_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = |id: usize| dir.path().join(id.to_string());
        let handles = FileCache::with_capacity(2);
        for id in 0..2 {
            handles.insert(id, File::create(path(id)).unwrap());
        }
        handles.get(0, &path(0)).unwrap();
        handles.insert(2, File::create(path(2)).unwrap());
        assert!(handles.lock().open.contains_key(&0) && !handles.lock().open.contains_key(&1));
        for id in 0..3 {
            handles.get(id, &path(id)).unwrap().write_all_at(b"x", id as u64).unwrap();
            assert!(handles.lock().open.len() <= 2);
        }
        assert_eq!(std::fs::read(path(1)).unwrap(), b"\0x");
        handles.remove(2);
        std::fs::remove_file(path(1)).unwrap();
        handles.get(0, &path(0)).unwrap();
        handles.insert(3, File::create(path(3)).unwrap());
        assert!(handles.get(1, &path(1)).is_err(), "a file that is gone is not made anew");
    }
}
