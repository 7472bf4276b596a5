//! Progress on standard error: a bar on a terminal, a plain line now and then elsewhere, JSON lines for programs.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::progress::{Phase, Progress};

use super::report;

/// The way in which progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Mode {
    /// A bar on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// A line every ten seconds.
    Plain,
    /// A JSON object a line, every second.
    Json,
    /// Nothing.
    None,
}

impl Mode {
    fn resolve(self) -> Mode {
        match self {
            Mode::Auto if std::io::stderr().is_terminal() => Mode::Bar,
            Mode::Auto => Mode::Plain,
            other => other,
        }
    }

    fn interval(self) -> Duration {
        match self {
            Mode::Plain => Duration::from_secs(10),
            Mode::Json => Duration::from_secs(1),
            _ => Duration::from_millis(120),
        }
    }
}

/// Renders the counters of a run until it is dropped.
pub struct Display {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    last_word: Arc<AtomicBool>,
}

impl Display {
    /// Starts to show `progress`.
    pub fn start(program: &'static str, mode: Mode, progress: Arc<Progress>) -> Display {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let last_word = Arc::new(AtomicBool::new(false));
        let mode = mode.resolve();
        let thread = (mode != Mode::None).then(|| {
            let (over, last_word) = (over.clone(), last_word.clone());
            let show = move || show(program, mode, &progress, &over, &last_word);
            std::thread::Builder::new().name("progress".into()).spawn(show)
        });
        let thread = thread.and_then(|started| {
            started.map_err(|e| tracing::warn!("progress is not shown, there is no thread for it: {e}")).ok()
        });
        Display { over, thread, last_word }
    }

    /// Ends it with a last word on the state reached.
    pub fn finish(mut self) {
        self.last_word.store(true, Ordering::Relaxed);
        self.stop();
    }

    fn stop(&mut self) {
        *self.over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // Only words are lost where it panicked.
            let _ = thread.join();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop();
    }
}

fn show(
    program: &str,
    mode: Mode,
    progress: &Progress,
    over: &(Mutex<bool>, Condvar),
    last_word: &AtomicBool,
) {
    let started = Instant::now();
    let bar = (mode == Mode::Bar).then(|| bar(program));
    let mut rate = Rate::new(started);
    loop {
        let guard = over.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = over
            .1
            .wait_timeout_while(guard, mode.interval(), |over| !*over)
            .unwrap_or_else(PoisonError::into_inner);
        let done = *guard;
        drop(guard);
        if done && !last_word.load(Ordering::Relaxed) {
            break;
        }
        let snapshot = Snapshot::take(progress, started, &mut rate);
        match &bar {
            Some(bar) => snapshot.draw(bar),
            // A reader of standard error that went away must not end a backup.
            None if mode == Mode::Json => drop(writeln!(std::io::stderr(), "{}", snapshot.json())),
            None if !done => drop(writeln!(std::io::stderr(), "{program}: {}", snapshot.line())),
            None => {}
        }
        if done {
            break;
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn bar(program: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
    bar.set_prefix(program.to_owned());
    let style = ProgressStyle::with_template("{prefix} {bar:24} {percent:>3}%  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Bytes a second over the last few seconds.
struct Rate {
    points: Vec<(Instant, u64)>,
}

impl Rate {
    const WINDOW: Duration = Duration::from_secs(5);

    fn new(now: Instant) -> Rate {
        Rate { points: vec![(now, 0)] }
    }

    fn update(&mut self, now: Instant, bytes: u64) -> u64 {
        self.points.push((now, bytes));
        while self.points.len() > 2 && now - self.points[0].0 > Self::WINDOW {
            self.points.remove(0);
        }
        let (then, before) = self.points[0];
        let seconds = (now - then).as_secs_f64();
        if seconds > 0.0 { (bytes.saturating_sub(before) as f64 / seconds) as u64 } else { 0 }
    }
}

#[derive(serde::Serialize)]
struct Snapshot {
    phase: &'static str,
    elapsed_seconds: f64,
    bytes_done: u64,
    bytes_total: u64,
    bytes_per_second: u64,
    bytes_wire: u64,
    files_done: u64,
    files_total: u64,
    redo_bytes: u64,
    redo_lag_bytes: u64,
    records_done: u64,
    records_total: u64,
    pages_done: u64,
    torn_page_retries: u64,
    reads: u64,
    reads_per_second_allowed: Option<u64>,
    seconds_left: Option<u64>,
}

impl Snapshot {
    fn take(p: &Progress, started: Instant, rate: &mut Rate) -> Snapshot {
        let now = Instant::now();
        let (done, total, wire) =
            (Progress::get(&p.bytes_done), Progress::get(&p.bytes_total), Progress::get(&p.bytes_wire));
        let (records, records_total) = (Progress::get(&p.records_done), Progress::get(&p.records_total));
        let applying = p.phase() == Phase::Preparing && records > 0;
        let per_second = match applying {
            true => rate.update(now, records),
            // The receiver learns the total only at the end: what crosses the transport shows that it moves.
            false => rate.update(now, if total > 0 { done } else { wire.max(done) }),
        };
        let left = match p.phase() {
            Phase::Copying if total > 0 => Some(total.saturating_sub(done)),
            Phase::Preparing if applying => Some(records_total.saturating_sub(records)),
            _ => None,
        };
        Snapshot {
            phase: p.phase().as_str(),
            elapsed_seconds: (now - started).as_secs_f64(),
            bytes_done: done,
            bytes_total: total,
            bytes_per_second: if applying { 0 } else { per_second },
            bytes_wire: wire,
            files_done: Progress::get(&p.files_done),
            files_total: Progress::get(&p.files_total),
            redo_bytes: Progress::get(&p.redo_bytes),
            redo_lag_bytes: Progress::get(&p.redo_lag),
            records_done: records,
            records_total,
            pages_done: Progress::get(&p.pages_done),
            torn_page_retries: Progress::get(&p.torn_retries),
            reads: Progress::get(&p.reads),
            reads_per_second_allowed: Some(Progress::get(&p.reads_allowed)).filter(|n| *n > 0),
            seconds_left: left.filter(|_| per_second > 0).map(|left| left / per_second),
        }
    }

    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn line(&self) -> String {
        let mut parts = vec![self.phase.to_owned()];
        if self.phase == Phase::Preparing.as_str() && self.records_total > 0 {
            parts.push(format!("{} of {} redo records", self.records_done, self.records_total));
            parts.push(format!("{} pages", self.pages_done));
            parts.extend(self.seconds_left.map(left));
            return parts.join(", ");
        }
        if self.bytes_total > 0 {
            parts.push(format!("{} of {}", report::bytes(self.bytes_done), report::bytes(self.bytes_total)));
        } else {
            parts.push(report::bytes(self.bytes_wire.max(self.bytes_done)));
        }
        parts.push(format!("{}/s", report::bytes(self.bytes_per_second)));
        if self.files_total > 0 {
            parts.push(format!("files {}/{}", self.files_done, self.files_total));
        } else if self.files_done > 0 {
            parts.push(format!("files {}", self.files_done));
        }
        if self.redo_bytes > 0 {
            parts.push(format!(
                "redo {} (lag {})",
                report::bytes(self.redo_bytes),
                report::bytes(self.redo_lag_bytes)
            ));
        }
        if self.phase == Phase::Copying.as_str() {
            parts.extend(self.reads_per_second_allowed.map(|n| format!("at most {n} reads/s")));
        }
        parts.extend(self.seconds_left.map(left));
        parts.join(", ")
    }

    fn draw(&self, bar: &ProgressBar) {
        let (done, total) = match self.records_done {
            0 => (self.bytes_done, self.bytes_total),
            records => (records, self.records_total),
        };
        bar.set_length(total.max(1));
        bar.set_position(done.min(total));
        bar.set_message(self.line());
    }
}

fn left(seconds: u64) -> String {
    format!("{} left", report::duration(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let p = Progress::new();
        p.enter(Phase::Copying);
        Progress::set(&p.bytes_total, 4 << 20);
        Progress::set(&p.bytes_done, 1 << 20);
        Progress::set(&p.files_total, 8);
        Progress::set(&p.redo_bytes, 2048);
        let started = Instant::now() - Duration::from_secs(1);
        let mut rate = Rate { points: vec![(started, 0)] };
        let s = Snapshot::take(&p, started, &mut rate);
        assert!(s.line().starts_with("copying, 1.00 MiB of 4.00 MiB, "), "{}", s.line());
        assert!(s.line().contains("files 0/8, redo 2.00 KiB (lag 0 B)"), "{}", s.line());
        assert!(s.seconds_left.is_some());
        p.enter(Phase::Preparing);
        Progress::set(&p.records_total, 300);
        Progress::set(&p.records_done, 100);
        rate.points = vec![(started, 0)];
        let s = Snapshot::take(&p, started, &mut rate);
        assert!(s.line().starts_with("preparing, 100 of 300 redo records, 0 pages, 2"), "{}", s.line());
        let json: serde_json::Value = serde_json::from_str(&s.json()).unwrap();
        assert_eq!(json["bytes_done"], 1 << 20);
    }
}
