//! How errors and summaries reach a person: on standard error, as plain lines.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::base::{Code, Error, show};

/// Exit status of a command line that was not understood.
pub const EXIT_USAGE: u8 = 2;
/// Exit status of everything else that failed.
pub const EXIT_FAILED: u8 = 1;

/// Sends the library's own words to standard error: warnings, and with `-v`, `-vv` more.
pub fn start_log(verbose: u8) {
    let level = ["warn", "info", "debug"].get(usize::from(verbose)).unwrap_or(&"trace");
    let filter = tracing_subscriber::EnvFilter::try_from_env("XBPIPE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("xbpipe={level}")));
    let format =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Shown::default).with_target(false);
    let format = format.with_ansi(std::io::stderr().is_terminal());
    // Only a test that starts two programs in one process finds it set already.
    let _ = match verbose {
        0 => format.without_time().try_init(),
        _ => format.with_timer(tracing_subscriber::fmt::time::uptime()).try_init(),
    };
}

/// Standard error for events: what deceives in them is escaped. An event comes in one piece; its own colours and line break
/// stay, and control characters of what it quotes are escaped before they come here.
#[derive(Default)]
struct Shown(String);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for c in String::from_utf8_lossy(bytes).chars() {
            match c.is_control() {
                true => self.0.push(c),
                false => self.0.push_str(&show::escaped(c.encode_utf8(&mut [0; 4]))),
            }
        }
        self.flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().write_all(std::mem::take(&mut self.0).as_bytes())
    }
}

/// Renders an error: what and where, its stable code, and the way out.
pub fn render_error(program: &str, error: &Error) -> String {
    let mut text = format!("{program}: error[{}]: {error}\n", error.code.as_str());
    if let Some(hint) = &error.hint {
        let _ = writeln!(text, "{program}: hint: {}", show::shown_to(hint, show::MESSAGE_MAX));
    }
    text
}

/// The exit status for an error.
pub fn exit_status(error: &Error) -> u8 {
    if error.code == Code::Usage { EXIT_USAGE } else { EXIT_FAILED }
}

/// Bytes for people: three digits and a binary unit.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    match (unit, value) {
        (0, _) => format!("{n} B"),
        (_, v) if v < 10.0 => format!("{v:.2} {}", UNITS[unit]),
        (_, v) if v < 100.0 => format!("{v:.1} {}", UNITS[unit]),
        (_, v) => format!("{v:.0} {}", UNITS[unit]),
    }
}

/// What part of `whole` is on the wire, where layers or holes make that worth saying.
pub fn share(wire: u64, whole: u64) -> String {
    let percent = wire as f64 * 100.0 / whole.max(1) as f64;
    if whole == 0 || (98.0..=102.0).contains(&percent) { String::new() } else { format!(" ({percent:.0} %)") }
}

/// Steps, and the time that each took.
pub fn steps(steps: &[(&str, Duration)]) -> String {
    let steps: Vec<_> = steps.iter().map(|(what, time)| format!("{what} {}", duration(*time))).collect();
    steps.join(", ")
}

/// A rate in bytes a second.
pub fn rate(n: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 { "–".into() } else { format!("{}/s", bytes((n as f64 / seconds) as u64)) }
}

/// A duration for people.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 if d.as_millis() < 1 => format!("{} µs", d.as_micros()),
        0 => format!("{} ms", d.as_millis()),
        1..=59 => format!("{:.1} s", d.as_secs_f64()),
        60..=3599 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

/// A summary of `label: value` lines under a headline; values without text are left out.
pub fn summary(program: &str, headline: &str, lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut text = format!("{program}: {}\n", show::escaped(headline));
    for (label, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{program}:   {label:<width$}  {}", show::escaped(value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_code_and_hint() {
        let e = Error::new(Code::RedoOverrun, "redo from LSN 7 on was overwritten")
            .hint("make it larger")
            .cause("gone");
        assert_eq!(
            render_error("xbsend", &e),
            "xbsend: error[redo-overrun]: redo from LSN 7 on was overwritten: gone\nxbsend: hint: make it larger\n"
        );
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(2 << 30), "2.00 GiB");
        assert_eq!(share(44, 100), " (44 %)");
        assert_eq!((share(100, 100), share(7, 0)), (String::new(), String::new()));
        assert_eq!(rate(1 << 20, Duration::from_millis(500)), "2.00 MiB/s");
        assert_eq!(duration(Duration::from_millis(42)), "42 ms");
        assert_eq!(duration(Duration::from_secs(3700)), "1 h 01 min");
    }

    #[test]
    fn a_summary_leaves_out_what_is_not_known() {
        let text = summary("xbrecv", "done", &[("size", "1 B".into()), ("gtid", String::new())]);
        assert_eq!(text, "xbrecv: done\nxbrecv:   size  1 B\n");
    }
}
