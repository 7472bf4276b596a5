//! `scripts/bench` measures what it says: all its rows run, with hardly any data, and the figures can be true.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const BENCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/bench");

/// Every measurement of a small run, and the printed report.
fn bench(arguments: &[&str]) -> (Vec<Value>, String) {
    run("compare", &[&["--small"], arguments].concat())
}

fn run(command: &str, arguments: &[&str]) -> (Vec<Value>, String) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("all.json");
    let programs = Path::new(env!("CARGO_BIN_EXE_xbsend")).parent().unwrap();
    let output = Command::new(BENCH)
        .args([command, "--tables", "1", "--rows", "2000", "--buffer-pool", "128M", "--quiet", "2"])
        .args([Path::new("--programs"), programs, Path::new("--json"), &json])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    (all["samples"].as_array().unwrap().clone(), String::from_utf8(output.stdout).unwrap())
}

fn number(sample: &Value, field: &str) -> f64 {
    sample[field].as_f64().unwrap_or_else(|| panic!("no {field} in {sample}"))
}

#[test]
fn every_row_of_the_comparison_runs() {
    let (samples, report) = bench(&["--phase", "idle"]);
    let rows: Vec<_> = samples.iter().map(|s| s["row"].as_str().unwrap()).collect();
    assert_eq!(
        rows,
        ["read", "send", "land", "ready", "mb-send", "mb-land", "mb-ready", "clone"],
        "{report}"
    );
    for sample in &samples {
        assert!(number(sample, "wall") > 0.0 && number(sample, "cpu") >= 0.0, "{sample}");
        assert!(number(sample, "durable") >= number(sample, "wall"), "{sample}");
        // An empty server has more than that, system tablespaces and all.
        assert!(number(sample, "bytes") > 12e6, "{sample}");
    }
    let peak = |row: usize, program: &str| samples[row]["memory"][program].as_u64().unwrap_or_default();
    assert!(peak(2, "xbsend") > 1 << 20 && peak(2, "xbrecv") > 1 << 20, "{}", samples[2]);
    assert!(report.contains("xbsend | xbrecv --prepare=none / mariadb-backup | mbstream -x"), "{report}");
}

#[test]
fn throttled_backups_are_held_against_their_peers() {
    let (samples, report) = run("throttle", &["--rounds", "1", "--only", "send,send-auto", "--rate", "100"]);
    let rows: Vec<_> = samples.iter().map(|s| s["row"].as_str().unwrap()).collect();
    assert_eq!(rows, ["send", "send-auto"], "{report}");
    assert!(number(&samples[0], "quiet_p95") > 0.0, "{report}");
    assert!(samples[1]["summary"]["throttle"].as_str().unwrap().starts_with("auto, "), "{report}");
    assert!(report.contains("duration with --throttle=auto / unthrottled"), "{report}");
}

#[test]
fn latency_is_measured_under_load() {
    let (samples, report) = bench(&["--phase", "load", "--only", "ready", "--rate", "100"]);
    let sample = &samples[0];
    let (quiet, during, worst) =
        (number(sample, "quiet_p95"), number(sample, "p95"), number(sample, "worst"));
    assert!(quiet > 0.0 && during > 0.0 && worst >= during, "{report}");
    assert!(sample["summary"]["backup lock"].is_string(), "{sample}");
    assert!(number(&sample["parts"], "after the last byte") > 0.0, "{sample}");
    assert!(report.contains("after the last byte / copied and prepared  (goal"), "{report}");
}
