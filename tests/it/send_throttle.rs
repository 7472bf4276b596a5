//! `xbsend --throttle`: the rate is kept, by the reads that the kernel counts, and waiting ends at once.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::pipe::{into_nothing, said, xbsend};
use crate::support::{Kind, Server};

const RATE: u64 = 8;
const MIB: u64 = 1 << 20;

/// A server with some 60 MB in a table, beside the 70 MB that every one has.
fn server() -> Server {
    let server = Server::start(Kind::Mysql97, &["--cte-max-recursion-depth=100000"]);
    server.run_script(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, c CHAR(250) NOT NULL) CHARACTER SET latin1; \
         INSERT INTO d.t WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
         SELECT i, REPEAT('x', 250) FROM n; INSERT INTO d.t SELECT id + 100000, c FROM d.t;",
    );
    server
}

/// Bytes that the reading threads of a process have read so far; `None` when there are none.
fn read_so_far(pid: u32) -> Option<u64> {
    let mut sum = None;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let file = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if file("comm").starts_with("read-") {
            let bytes = file("io").lines().find_map(|l| l.strip_prefix("rchar: ")?.parse::<u64>().ok());
            sum = Some(sum.unwrap_or(0) + bytes.unwrap_or(0));
        }
    }
    sum
}

#[test]
fn any_ten_seconds_have_the_reads_that_were_asked_for() {
    let server = server();
    let mut command = xbsend(&server);
    command.args(["--throttle", &RATE.to_string(), "--parallel=2"]);
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut samples: Vec<(Instant, u64)> = Vec::new();
    let begun = Instant::now();
    loop {
        match read_so_far(child.id()) {
            Some(bytes) => samples.push((Instant::now(), bytes)),
            None if samples.is_empty() && begun.elapsed() < Duration::from_secs(20) => {}
            None => break,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // The last ones may have lost a thread that had ended.
    let full = samples.windows(2).position(|w| w[1].1 < w[0].1).map_or(samples.len(), |at| at + 1);
    let samples = &samples[..full];
    let mut windows = 0;
    for (i, (from, before)) in samples.iter().enumerate() {
        let Some((_, after)) = samples[i..].iter().find(|(at, _)| *at - *from >= Duration::from_secs(10))
        else {
            break;
        };
        windows += 1;
        let mib = (after - before) as f64 / MIB as f64;
        let wanted = (RATE * 10) as f64;
        // One read more or less belongs to where the window begins and to how often was looked.
        assert!(mib <= wanted * 1.05 + 1.0, "{mib} MiB from {:?} on", *from - samples[0].0);
        // Small files and the ends of large ones are reads of less than 1 MiB.
        assert!(mib >= wanted * 0.95 - 12.0, "{mib} MiB from {:?} on", *from - samples[0].0);
    }
    assert!(windows > 50, "only {windows} windows of {} samples", samples.len());
    let said = said(child).ok();
    let words = said.value("throttle").unwrap();
    let made: f64 = words.split([' ', ',']).filter_map(|w| w.parse().ok()).next_back().unwrap();
    assert!((made / RATE as f64 - 1.0).abs() < 0.05, "{words}");
}

#[test]
fn auto_gives_way_or_not_but_the_backup_is_whole() {
    let server = server();
    let mut command = xbsend(&server);
    command.arg("--throttle=auto");
    let said = into_nothing(command).ok();
    assert!(said.value("throttle").unwrap().starts_with("auto, gave way "), "{}", said.words);
}

#[test]
fn an_option_file_may_say_it_and_waiting_ends_with_the_run() {
    let server = server();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[xbsend]\nthrottle=1\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xbsend"));
    command.arg(format!("--defaults-file={}", file.path().display()));
    command.args(["--user=root", "--progress=none", "--parallel=4", "--socket"]).arg(server.socket());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // All four threads wait by now, for seconds.
    std::thread::sleep(Duration::from_secs(3));
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    let asked = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    said(child).failed("interrupted");
    assert!(asked.elapsed() < Duration::from_millis(700), "{:?}", asked.elapsed());

    std::fs::write(file.path(), "[xbsend]\nthrottle=fast\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xbsend"));
    command.arg(format!("--defaults-file={}", file.path().display())).stderr(Stdio::piped());
    into_nothing(command).failed("usage").says("throttle=fast in an option file is not understood");
}
