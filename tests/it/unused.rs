//! No function of the library is public for nobody: the compiler can't say so of a library.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::imports::rust_files;

/// Functions that only tests, fuzz targets and benchmarks call, and why they are in the library.
const FOR_TESTS: &[(&str, &str)] = &[
    ("held_upto", "what a receiver holds, for tests of the session"),
    ("parse_body", "the fuzz target of redo records"),
    ("payload_frame", "streams made by hand"),
    ("write_space", "datafiles made by hand"),
];

/// The code of a file: without comments, and without its tests, which stand at its end.
fn code(source: &str) -> String {
    let mut code = String::new();
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'))
        {
            break;
        }
        code.push_str(line.split("//").next().unwrap_or(""));
        code.push('\n');
    }
    code
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The name of the public function that a line begins.
fn public_function(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = if rest.starts_with('(') { rest.split_once(')')?.1 } else { rest };
    let (before, after) = rest.split_once("fn ")?;
    let only = words(before).all(|word| matches!(word, "const" | "async" | "unsafe"));
    only.then(|| words(after).next())?
}

/// Names of public functions that are named nowhere but where they are defined.
fn unused(sources: &[String]) -> Vec<String> {
    let (mut named, mut defined) = (BTreeMap::new(), BTreeMap::new());
    let codes: Vec<String> = sources.iter().map(|source| code(source)).collect();
    for code in &codes {
        words(code).for_each(|word| *named.entry(word).or_insert(0) += 1);
        code.lines().filter_map(public_function).for_each(|name| *defined.entry(name).or_insert(0) += 1);
    }
    defined
        .into_iter()
        .filter(|(name, times)| named[name] <= *times)
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn every_public_function_has_a_caller() {
    let mut files = rust_files(Path::new("src"));
    files.retain(|path| !path.to_string_lossy().ends_with("tests.rs"));
    assert!(files.len() > 100);
    let sources: Vec<_> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let expected: Vec<_> = FOR_TESTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        unused(&sources),
        expected,
        "a function without a caller is to go, or has its reason in FOR_TESTS"
    );
}

#[test]
fn the_test_can_fail() {
    let sources = [
        "pub fn a() {}\n// a\npub(super) const fn b() {}\nfn c() { b() }\n".to_owned(),
        "impl X {\n    pub async fn d(&self) {}\n}\n#[cfg(test)]\nmod tests {\n    fn t() { d(); a() }\n}\n"
            .to_owned(),
    ];
    assert_eq!(unused(&sources), ["a", "d"]);
}
