//! SIGINT, SIGTERM and SIGHUP ask the run to stop; a second one ends it at once.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::base::{Code, Error, Result, Stop};

/// `SIGXFSZ`, which kills a process that writes a file beyond its limit.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// Watches from now on, on a thread of its own. A file that grows beyond the limit is an error of that write from now on.
pub fn watch(stop: Arc<Stop>) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(Code::Internal, "can't watch for signals", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let signals = {
        let _inside = runtime.enter();
        // Its handler stays for good: the write itself reports what happened.
        drop(signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED)).map_err(failed)?);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        kinds.into_iter().map(signal).collect::<std::io::Result<Vec<_>>>().map_err(failed)?
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(wait(signals, &stop)))
        .map_err(failed)?;
    Ok(())
}

async fn wait(mut signals: Vec<tokio::signal::unix::Signal>, stop: &Stop) {
    let [interrupt, terminate, hangup] = signals.as_mut_slice() else { return };
    loop {
        let (name, number) = tokio::select! {
            _ = interrupt.recv() => ("SIGINT", 2),
            _ = terminate.recv() => ("SIGTERM", 15),
            _ = hangup.recv() => ("SIGHUP", 1),
        };
        if stop.requested() {
            std::process::exit(128 + number);
        }
        stop.request(name);
    }
}
