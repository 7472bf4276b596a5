//! The layers of the manual hold: no module names one that lies above it or beside it.

use std::path::Path;

use crate::support::imports::{Edges, Imports, rings, rust_files};

/// From the ground up; modules in one row don't import each other.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["stream", "codec", "session", "throttle", "innodb"],
    &["source", "transport", "restore", "prepare"],
    &["family"],
    &["send", "receive"],
    &["cli"],
];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The upward or sideways imports of modules that name these others.
fn violations(edges: &Edges) -> Vec<String> {
    let top = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for (from, others) in edges {
        let (own, own_layer) = (top(from), layer_of(&top(from)));
        let upward = others.iter().filter(|to| top(to) != own && layer_of(&top(to)) >= own_layer);
        found.extend(upward.filter(|_| own_layer.is_some()).map(|to| format!("{from} imports {to}")));
    }
    found
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
    ("restore/staging.rs", "std::fs::metadata("),
    ("restore/staging.rs", "std::fs::symlink_metadata(dir)"),
    ("restore/staging.rs", "use rustix::fs::{AtFlags, CWD"),
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
    files.extend(["restore", "prepare", "receive"].iter().flat_map(|module| rust_files(&src.join(module))));
    let mut bad = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        if !relative.ends_with("_tests.rs") && !relative.ends_with("testing.rs") {
            bad.extend(by_path(&relative, &std::fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(!by_path("restore/x.rs", "    std::fs::write(path, b\"\")?;").is_empty(), "the test can't fail");
}

#[test]
fn imports_go_downwards() {
    let bad = violations(&Imports::of_library().edges());
    assert!(bad.is_empty(), "{bad:#?}");
}

/// Files are layered inside their folders, too. A `mod.rs` that passes names on does not depend on them.
#[test]
fn no_files_import_each_other_in_a_ring() {
    let rings = rings(&Imports::of_library().edges());
    assert!(rings.is_empty(), "{rings:#?}");
}

#[test]
fn every_module_has_a_layer() {
    let lib = include_str!("../../src/lib.rs");
    for module in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")) {
        let module = module.trim_end_matches(';');
        assert!(layer_of(module).is_some(), "{module} has no layer");
    }
}

#[test]
fn the_test_can_fail() {
    let edges = |path: &str, source: &str| {
        let sources = [
            (path, source),
            ("base/mod.rs", "mod ids; pub use ids::Lsn;"),
            ("base/ids.rs", "pub struct Lsn;"),
            ("restore/mod.rs", ""),
            ("stream/mod.rs", "pub use frame::Frame;"),
            ("stream/frame.rs", "use super::x::Y; use crate::base::Lsn;"),
            ("receive.rs", ""),
        ];
        Imports::read(sources).edges()
    };
    assert!(!violations(&edges("stream/x.rs", "use crate::{base::Lsn, restore::Staging};")).is_empty());
    assert!(!violations(&edges("innodb/x.rs", "fn f(x: crate::stream::Frame) {}")).is_empty());
    assert!(!violations(&edges("send.rs", "use crate::receive;")).is_empty());
    assert!(violations(&edges("send.rs", "use crate::{base::{a, b}, source, stream};")).is_empty());
    // Through a name that the folder passes on, and back.
    let ring = edges("stream/x.rs", "use super::Frame; pub struct Y;");
    assert_eq!(rings(&ring), [["stream::frame", "stream::x"]]);
    assert!(rings(&edges("stream/x.rs", "#[cfg(test)] mod tests { use crate::stream::Frame; }")).is_empty());
    assert_eq!(ring["stream::frame"].iter().collect::<Vec<_>>(), ["base::ids", "stream::x"]);
}
