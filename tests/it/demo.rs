//! `scripts/demo`, the first command of the README, with little data and the programs under test.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");

/// What it said, and which of its servers it left.
fn demo(programs: &Path) -> (Output, Vec<String>) {
    let child = Command::new(format!("{SCRIPTS}/demo"))
        .args(["--rows", "2000", "--programs"])
        .arg(programs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let names = ["source", "copy"].map(|which| format!("demo-{which}-{}\t", child.id()));
    let output = child.wait_with_output().unwrap();
    let list = Command::new(format!("{SCRIPTS}/servers")).arg("list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let left = list.lines().filter(|line| names.iter().any(|n| line.starts_with(n)));
    (output, left.map(str::to_owned).collect())
}

#[test]
fn the_demo_succeeds_and_cleans_up() {
    let programs = Path::new(env!("CARGO_BIN_EXE_xbsend")).parent().unwrap();
    let (output, left) = demo(programs);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("CHECKSUM TABLE: 7 of 7 tables are equal"), "{report}{words}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_demo_fails_loudly() {
    let programs = tempfile::tempdir().unwrap();
    let link = |from: &str, name: &str| std::os::unix::fs::symlink(from, programs.path().join(name)).unwrap();
    link(env!("CARGO_BIN_EXE_xbsend"), "xbsend");
    link("/bin/false", "xbrecv");
    let (output, left) = demo(programs.path());
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("demo: FAILED while xbsend | xbrecv\n"), "{words}");
    assert!(output.stdout.is_empty());
    assert!(left.is_empty(), "{left:?}");
}
