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

/// Words that take a path to the kernel as a whole.
const BY_PATH: &[&str] = &[
    "std::fs::",
    " fs::",
    "File::open",
    "File::create",
    "File::options",
    "OpenOptions",
    "DirBuilder",
    "unix::fs::chown",
    "unix::fs::lchown",
    "unix::fs::symlink",
    "fs::CWD",
];

/// What may say one nevertheless: the type, traits, and paths that are the user's own and are followed once.
const OWN_PATHS: &[(&str, &str)] = &[
    ("", "use std::fs::File;"),
    ("", "use std::os::unix::fs::"),
    ("", "use rustix::fs::{"),
    ("", "rustix::fs::fchmod("),
    ("", "rustix::fs::syncfs("),
    ("", "rustix::fs::fcntl_setfl("),
    ("", "rustix::fs::flock("),
    // The target as it was given, before anything is made.
    ("target/staging.rs", "std::fs::metadata("),
    ("target/staging.rs", "std::fs::symlink_metadata(dir)"),
    ("target/staging.rs", "use rustix::fs::{AtFlags, CWD"),
    // Server binaries, and a log for the user in the folder for temporary files.
    ("prepare/mysqld.rs", "std::fs::metadata("),
    ("prepare/server.rs", "File::create_new(&path)"),
];

/// Lines of a receiving module that reach a file by its path, tests and comments left out.
fn by_path(relative: &str, source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter(|line| BY_PATH.iter().any(|word| line.contains(word)))
        .filter(|line| !OWN_PATHS.iter().any(|(file, text)| relative.ends_with(file) && line.contains(text)))
        .map(|line| format!("{relative}: {}", line.trim()))
        .collect()
}

/// Links in folders of others lead nowhere: see `base::nofollow`.
#[test]
fn receivers_reach_no_file_by_its_whole_path() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.join("receive.rs")];
    for module in ["target", "prepare", "receive"] {
        rust_files(&src.join(module), &mut files);
    }
    let mut bad = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        if !relative.ends_with("_tests.rs") && !relative.ends_with("testing.rs") {
            bad.extend(by_path(&relative, &std::fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(!by_path("target/x.rs", "    std::fs::write(path, b\"\")?;").is_empty(), "the test can't fail");
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
