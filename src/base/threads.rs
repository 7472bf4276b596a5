//! Checks whether the system lets this process have threads.

use std::sync::mpsc;
use std::thread;

use super::{Code, Error, Result};

/// Starts `count` threads side by side and ends them again. Some libraries give up if they can't have a
/// thread of their own, so this check is made before they are used.
///
/// # Errors
/// [`Code::Internal`]: the system refuses, for example because of a limit on processes.
pub fn check(count: usize) -> Result<()> {
    let (keep, wait) = (0..count).map(|_| mpsc::channel::<()>()).unzip::<_, _, Vec<_>, Vec<_>>();
    let mut threads = Vec::new();
    let mut outcome = Ok(());
    for wait in wait {
        // Each thread ends when its channel's sender is dropped.
        let started = thread::Builder::new().name("trial".into()).spawn(move || {
            let _ = wait.recv();
        });
        match started {
            Ok(thread) => threads.push(thread),
            Err(e) => {
                let message = format!("the system gives {} of {count} threads", threads.len());
                outcome = Err(Error::io(Code::Internal, message, e).hint(
                    "raise the limit on processes (ulimit -u, TasksMax, pids.max), or ask for fewer threads",
                ));
                break;
            }
        }
    }
    drop(keep);
    for thread in threads {
        // The thread does nothing that could fail.
        let _ = thread.join();
    }
    outcome
}

#[cfg(test)]
mod tests {
    #[test]
    fn some_threads_can_be_had() {
        super::check(8).unwrap();
    }
}
