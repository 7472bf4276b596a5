//! What a run of a program took: memory and time, beside its words.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::pipe::{Said, said};

/// What became of a stream.
pub struct Measured {
    pub said: Said,
    /// Most memory that the process had at once, in bytes.
    pub peak: u64,
    pub time: Duration,
}

/// Runs it on what `write` writes.
pub fn on(
    mut command: Command,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()> + Send,
) -> Measured {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = std::io::BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    std::thread::scope(|scope| {
        // It may stop reading where it finds something wrong.
        scope.spawn(move || drop(write(&mut stdin)));
        let peak = scope.spawn({
            let pid = child.id();
            move || watch(pid)
        });
        let said = said(child);
        Measured { said, peak: peak.join().unwrap(), time: begun.elapsed() }
    })
}

/// The most memory that a process has had when it ends.
fn watch(pid: u32) -> u64 {
    let mut peak = 0;
    while let Some(now) = high_water(pid) {
        peak = peak.max(now);
        std::thread::sleep(Duration::from_millis(2));
    }
    peak
}

fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}
