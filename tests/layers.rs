//! The layers of the manual hold: no module names one that lies above it or beside it.

use std::path::{Path, PathBuf};

/// From the ground up; modules in one row don't import each other.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["stream", "codec", "session", "throttle", "innodb"],
    &["source", "transport", "target", "prepare"],
    &["send", "receive"],
    &["cli"],
];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Modules named after `crate::` (also in `use crate::{a, b}`), comments left out.
fn imports(source: &str) -> Vec<String> {
    let code: String =
        source.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join(" ");
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            found.push(word(&group[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// The upward or sideways imports of a file at `relative` (to `src`).
fn violations(relative: &Path, source: &str) -> Vec<String> {
    let first = relative.iter().next().unwrap().to_string_lossy();
    let module = first.strip_suffix(".rs").unwrap_or(&first);
    let Some(own) = layer_of(module) else { return Vec::new() };
    imports(source)
        .into_iter()
        .filter(|other| other != module)
        .filter(|other| layer_of(other).is_some_and(|layer| layer >= own))
        .map(|other| format!("{} imports {other}", relative.display()))
        .collect()
}

#[test]
fn imports_go_downwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 10, "the source tree was not found");
    let bad: Vec<_> = files
        .iter()
        .flat_map(|f| violations(f.strip_prefix(&src).unwrap(), &std::fs::read_to_string(f).unwrap()))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_module_has_a_layer() {
    let lib = include_str!("../src/lib.rs");
    for module in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")) {
        let module = module.trim_end_matches(';');
        assert!(layer_of(module).is_some(), "{module} has no layer");
    }
}

#[test]
fn the_test_can_fail() {
    assert!(!violations(Path::new("stream/x.rs"), "use crate::{base::Lsn, target::Staging};").is_empty());
    assert!(!violations(Path::new("innodb/x.rs"), "fn f(x: crate::stream::Frame) {}").is_empty());
    assert!(!violations(Path::new("send.rs"), "use crate::receive;").is_empty());
    assert!(violations(Path::new("send.rs"), "use crate::{base::{a, b}, source, stream};").is_empty());
}
