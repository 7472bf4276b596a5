//! Runs the workers that receive the stream. One thread at a time reads, until it has a chunk. Then the next
//! one may, while this one verifies, hashes and writes the chunk: the bytes are still in its core's cache,
//! nothing is queued, and every thread has one buffer.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Code, Error, PageBuffer, Result, Stop};
use crate::restore::WriteTask;

use super::receiver::Receiver;

/// Maximum number of bytes of chunks that all threads hold together, and that each holds. A chunk that is
/// larger than a thread's share is written before the next is read. XtraBackup's chunks have 10 MiB.
const IN_HAND_MAX: usize = 64 << 20;
const SHARE_MAX: usize = 12 << 20;
/// Number of bytes that the threads take in addition, each and together: pages that were amended in memory,
/// maps, the largest chunk that is not charged.
const BESIDE_EACH: u64 = 6 << 20;
const BESIDE: u64 = 32 << 20;
/// Maximum number of threads; more gain nothing, because the disk is the limit.
const THREADS_MAX: usize = 16;

/// Returns the number of bytes that receiving takes at most, with buffers that wait to be used again.
pub(super) fn memory(threads: usize) -> u64 {
    let threads = threads.clamp(1, THREADS_MAX);
    let in_hand = (threads * share(threads)) as u64;
    in_hand + in_hand / 4 + BESIDE_EACH * threads as u64 + BESIDE
}

fn share(threads: usize) -> usize {
    (IN_HAND_MAX / threads).min(SHARE_MAX)
}

/// Receives the whole stream.
pub(super) fn run<'a>(receiver: Receiver<'a>, threads: usize, stop: &'a Stop) -> Result<Receiver<'a>> {
    let threads = threads.clamp(1, THREADS_MAX);
    let quit = receiver.stream_reader.quit();
    let workers = Workers {
        receiver: Mutex::new(receiver),
        failed: Mutex::new(None),
        quit,
        stop,
        share: share(threads),
    };
    std::thread::scope(|scope| {
        for n in 0..threads {
            let spawned = std::thread::Builder::new().name(format!("land-{n}")).spawn_scoped(scope, || {
                // A panic must not leave the others waiting for a stream that makes no progress.
                let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| workers.work()));
                match worked {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => workers.fail(e),
                    Err(_) => workers.fail(Error::new(Code::Internal, "a receiving thread panicked")),
                }
            });
            if let Err(e) = spawned {
                workers.fail(Error::new(Code::Internal, "can't start a thread").cause(e));
            }
        }
    });
    match workers.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => Ok(workers.receiver.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

struct Workers<'a> {
    receiver: Mutex<Receiver<'a>>,
    failed: Mutex<Option<Error>>,
    quit: Arc<Stop>,
    /// Checked here too: a layer may give any number of bytes without asking the connection, which also
    /// checks it, for more.
    stop: &'a Stop,
    share: usize,
}

impl Workers<'_> {
    fn work(&self) -> Result<()> {
        let mut buffer = None;
        loop {
            let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
            match self.read(&mut receiver, buffer.take()) {
                Ok(Some(work)) => {
                    drop(receiver);
                    buffer = Some(work.land()?);
                }
                Ok(None) => return Ok(()),
                // The error is recorded before the next thread may read on: any error that it would meet then
                // is only a consequence.
                Err(e) => {
                    self.fail(e);
                    return Ok(());
                }
            }
        }
    }

    /// Reads until there is a chunk that can be written while another thread reads; `None` at the end of the
    /// stream.
    fn read(&self, receiver: &mut Receiver<'_>, buffer: Option<PageBuffer>) -> Result<Option<WriteTask>> {
        if let Some(buffer) = buffer {
            receiver.demux.recycle(buffer);
        }
        loop {
            self.stop.check()?;
            self.quit.check()?;
            match receiver.next()? {
                Some(work) if work.bytes() > self.share => {
                    let buffer = work.land()?;
                    receiver.demux.recycle(buffer);
                }
                work => return Ok(work),
            }
        }
    }

    /// Keeps the first error, and stops the other threads.
    fn fail(&self, e: Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
        self.quit.request("an error");
    }
}
