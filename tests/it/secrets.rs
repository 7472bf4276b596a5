//! Files that hold secrets: a warning where others than the owner can read one, for every option that takes such a file.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::pipe::{Said, said};

const XBSEND: &str = env!("CARGO_BIN_EXE_xbsend");
const XBRECV: &str = env!("CARGO_BIN_EXE_xbrecv");

/// Options whose files hold nothing that others must not see.
const OPEN: &[&str] = &[
    "--ssl-ca",
    "--ssl-cert",
    "--tls-cert",
    "--tls-ca",
    "--encrypt-to-file",
    "--databases-exclude-file",
    "--databases-file",
    "--tables-exclude-file",
    "--tables-file",
];

/// The others: a program, an option, what is in its file, and what else is given.
const SECRET: &[(&str, &str, &str, &[&str])] = &[
    (XBSEND, "--defaults-file", "[client]\npassword=x\nsocket=/nowhere\n", &[]),
    (XBSEND, "--defaults-extra-file", "[xbsend]\npassword=x\nsocket=/nowhere\n", &[]),
    (XBSEND, "--ssl-key", "x", &["--socket=/nowhere", "--ssl-cert=/nowhere"]),
    (XBSEND, "--to-file", "tcp://127.0.0.1:1/#x", &["--socket=/nowhere"]),
    (XBSEND, "--tls-key", "x", &["--tls-cert=/nowhere", "--tls-ca=/nowhere", "--socket=/nowhere"]),
    (XBSEND, "--passphrase-file", "x", &["--socket=/nowhere"]),
    (XBSEND, "--keyring", "x", &["--socket=/nowhere"]),
    (XBSEND, "--transition-passphrase-file", "x", &["--socket=/nowhere"]),
    (XBRECV, "--identity", "x", &["--verify-only"]),
    (XBRECV, "--passphrase-file", "x", &["--verify-only"]),
    (XBRECV, "--keyring", "x", &["--verify-only"]),
    (XBRECV, "--password-file", "x", &["--import-into=/nowhere"]),
    (XBRECV, "--tls-key", "x", &["--tls-cert=/nowhere", "--tls-ca=/nowhere", "--verify-only"]),
];

/// The options of a program that take a file, as its help has them.
fn options_with_files(program: &str) -> BTreeSet<String> {
    let help = Command::new(program).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let option = |line: &str| {
        let (option, value) = line.split_once(" <")?;
        value.starts_with("FILE>").then(|| option.rsplit(' ').next().unwrap().to_owned())
    };
    help.lines().filter_map(option).collect()
}

fn run(program: &str, option: &str, file: &Path, others: &[&str]) -> Said {
    let mut command = Command::new(program);
    // An option file must come first where it counts, as the mysql client has it.
    command.arg(option).arg(file).args(others).arg("--progress=none");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    said(command.spawn().unwrap())
}

#[test]
fn every_option_with_a_file_is_known_here() {
    for program in [XBSEND, XBRECV] {
        let secret = SECRET.iter().filter(|(of, ..)| *of == program).map(|(_, option, ..)| *option);
        let known: BTreeSet<String> = secret.chain(OPEN.iter().copied()).map(str::to_owned).collect();
        let unknown: Vec<_> = options_with_files(program).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{program}: may others read the files of {unknown:?}?");
    }
}

#[test]
fn a_secret_that_others_can_read_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    for (program, option, text, others) in SECRET {
        for (mode, who) in
            [(0o600, None), (0o640, Some("the group can read")), (0o604, Some("everybody can read"))]
        {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            let said = run(program, option, &file, others);
            assert_ne!(said.status, Some(0), "{option}");
            match who {
                Some(who) => drop(said.says(who).says("chmod 600")),
                None => assert!(!said.words.contains("chmod"), "{option}: {}", said.words),
            }
            std::fs::remove_file(&file).unwrap();
        }
    }
}

/// Whether a program leaves a core dump when it is told to, run where it may.
fn dumps_core(words: &[&str]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]).args(words).current_dir(dir.path());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It waits for its standard input.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6), "{words:?}");
    status.core_dumped()
}

#[test]
fn no_core_dump_has_what_is_in_memory() {
    if !dumps_core(&["cat"]) {
        eprintln!("no program leaves a core dump here (/proc/sys/kernel/core_pattern): this shows nothing");
    }
    assert!(!dumps_core(&[XBRECV, "--verify-only", "--progress=none"]));
}
