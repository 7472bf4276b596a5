//! Early write-back: the disk works while the stream still comes.
//!
//! Left alone, the kernel keeps written bytes in memory until a tenth of it is dirty, so the sync at the end would wait for
//! gigabytes. A thread of its own syncs large files every now and then. It never holds up those who write: while it
//! is busy, files are not queued, and the sync at the end gets what is left.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::base::{Code, Error, Result};

/// A file is synced when so many bytes were written to it since the last time.
pub const FLUSH_EVERY: u64 = 64 << 20;
/// A file that is complete is synced for so many bytes; smaller ones are left to the sync at the end.
pub const FLUSH_LAST: u64 = 8 << 20;
/// Files that wait. They are open, so they must be few.
const WAITING_MAX: usize = 4;

/// The thread that syncs.
pub struct Flusher {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    failed: Arc<Mutex<Option<Error>>>,
}

struct Job {
    file: Arc<File>,
    path: String,
}

impl Flusher {
    /// Starts the thread.
    pub fn start() -> Result<Flusher> {
        let (queue, jobs) = sync_channel(WAITING_MAX);
        let failed = Arc::new(Mutex::new(None));
        let of_thread = failed.clone();
        let thread = std::thread::Builder::new()
            .name("flush".to_owned())
            .spawn(move || flush(&jobs, &of_thread))
            .map_err(|e| Error::new(Code::Internal, "can't start a thread").cause(e))?;
        Ok(Flusher { queue: Some(queue), thread: Some(thread), failed })
    }

    /// Asks for what was written to `file` to be brought to the disk, if there is time for that.
    pub fn flush(&self, file: &Arc<File>, path: impl FnOnce() -> String) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Job { file: file.clone(), path: path() });
        }
    }

    /// Waits for what was asked for.
    ///
    /// # Errors
    /// What the disk said meanwhile, which it may say only once.
    pub fn finish(mut self) -> Result<()> {
        self.join();
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn join(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(Error::new(Code::Internal, "the flushing thread panicked"));
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.join();
    }
}

fn flush(jobs: &Receiver<Job>, failed: &Mutex<Option<Error>>) {
    for job in jobs {
        if let Err(e) = job.file.sync_data() {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(Error::io(Code::TargetIo, job.path, e));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_says_is_kept() {
        let flusher = Flusher::start().unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        flusher.flush(&file, || "f".to_owned());
        flusher.finish().unwrap();

        // Pipes can't be synced.
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let flusher = Flusher::start().unwrap();
        flusher.flush(&Arc::new(File::from(reader)), || "some/path".to_owned());
        let e = flusher.finish().unwrap_err();
        assert_eq!(e.code, Code::TargetIo);
        assert!(e.to_string().starts_with("some/path: "), "{e}");
    }
}
