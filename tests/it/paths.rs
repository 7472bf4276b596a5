//! Names of files that come with a stream, a folder or its redo lead nowhere but to where the user said.

// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::StreamMaker;
use crate::support::pipe::{Said, on_bytes, said, xbrecv_unprepared};
use crate::support::streams::{CNF, tablespace};
use xbpipe::base::SpaceId;

/// A target, a folder that files are mapped to, and a canary beside both that nobody may touch.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        let ground = Ground { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(ground.canary().join("db")).unwrap();
        fs::create_dir(ground.at("new")).unwrap();
        for name in ["mysql.ibd", "db/t.ibd", "x"] {
            fs::write(ground.canary().join(name), format!("untouched {name}")).unwrap();
        }
        ground
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn canary(&self) -> PathBuf {
        self.at("canary")
    }

    fn map(&self) -> String {
        format!("--map=/ext={}", self.at("new").display())
    }

    #[track_caller]
    fn is_untouched(&self, what: &str) {
        let mut expected = BTreeMap::new();
        for name in ["mysql.ibd", "db/t.ibd", "x"] {
            expected.insert(PathBuf::from(name), format!("untouched {name}").into_bytes());
        }
        assert_eq!(files(&self.canary()), expected, "{what}");
        assert!(files(&self.at("new")).is_empty(), "{what}");
        assert!(!self.at("planted").exists(), "{what}");
    }
}

/// Every file below `root`, and its content.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.symlink_metadata().unwrap().is_dir() {
                true => walk(root, &path, into),
                false => {
                    let content = fs::read(&path).unwrap();
                    into.insert(path.strip_prefix(root).unwrap().to_owned(), content);
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

fn listed(file: &str) -> String {
    let (name, file) = ("\"tablespace_name\":\"db/t\"", serde_json::to_string(file).unwrap());
    format!("{{\"version\":2,\"external_tablespaces\":[{{\"file_name\":{file},{name}}}]}}")
}

/// A whole stream whose file `db/t.ibd` lay at `path`.
fn stream_with(path: &str) -> StreamMaker {
    let mut stream = StreamMaker::new();
    stream.add("backup-my.cnf", CNF.as_bytes());
    stream.add("xtrabackup_tablespaces", listed(path).as_bytes());
    stream.add("db/t.ibd", &tablespace(SpaceId(9), 3));
    stream.add_required();
    stream
}

/// Ways to leave `/ext`, each leading to `planted`, to the canary, or to nothing that can be a file.
fn ways_out(ground: &Path) -> Vec<String> {
    let up = "../".repeat(20);
    let below = ground.to_str().unwrap().trim_start_matches('/');
    let mut paths = Vec::new();
    for file in ["planted", "canary/mysql.ibd", "canary/db/t.ibd"] {
        paths.push(format!("/ext/../{file}"));
        paths.push(format!("/ext/{up}{below}/{file}"));
        paths.push(format!("/ext//{up}{below}/{file}"));
        paths.push(format!("/ext/db/..//{up}{below}/./{file}"));
    }
    paths.extend(
        ["/ext/..", "/ext/db/../..", "/ext", "/ext/.", "ext/t.ibd", "", "/ext/a\0b", "/ext/a\nb"]
            .map(String::from),
    );
    paths
}

#[track_caller]
fn refused(said: Said, what: &str) {
    let code = said.status;
    assert!(code.is_some_and(|code| code != 0), "{what}: exit {code:?}\n{}", said.words);
    assert!(!said.words.contains("panic") && !said.words.contains("[internal]"), "{what}: {}", said.words);
}

#[test]
fn a_stream_names_no_file_outside_the_folder_that_it_is_mapped_to() {
    let ground = Ground::new();
    for path in ways_out(ground.dir.path()) {
        let whole = stream_with(&path).finish();
        let behind_data = *whole.borders.last().unwrap();
        for bytes in [&whole.bytes[..], &whole.bytes[..behind_data]] {
            let mut command = xbrecv_unprepared(&ground.at("target"));
            command.arg(ground.map());
            refused(on_bytes(command, bytes), &path);
            ground.is_untouched(&path);
            assert!(!ground.at("target").exists());
        }
    }
    // What stays inside is taken.
    let mut command = xbrecv_unprepared(&ground.at("target"));
    command.arg(ground.map());
    on_bytes(command, &stream_with("/ext//db/./t.ibd").finish().bytes).ok();
    assert!(ground.at("new/db/t.ibd").is_file());
}

#[test]
fn a_folder_names_no_file_outside_the_folder_that_it_is_mapped_to() {
    let ground = Ground::new();
    let folder = ground.at("folder");
    for path in ways_out(ground.dir.path()) {
        fs::create_dir_all(folder.join("db")).unwrap();
        for (name, content) in &stream_with(&path).contents {
            fs::write(folder.join(name), content).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        command.args(["prepare", "--progress=none", &ground.map()]).arg(&folder).stderr(Stdio::piped());
        refused(said(command.spawn().unwrap()), &path);
        ground.is_untouched(&path);
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn two_files_for_one_place_are_refused_before_any_data() {
    let ground = Ground::new();
    let two = |one: &str, other: &str| {
        format!(
            "{{\"version\":2,\"external_tablespaces\":[{{\"file_name\":\"{one}\",\"tablespace_name\":\"a\"}},\
             {{\"file_name\":\"{other}\",\"tablespace_name\":\"b\"}}]}}"
        )
    };
    for (one, other, maps) in [
        ("/e1/g.ibd", "/e2/g.ibd", ["--map=/e1=.".to_owned(), "--map=/e2=.".to_owned()]),
        ("/e1/g.ibd", "/e2/h.ibd", ["--map=/e1=.".to_owned(), "--map=/e2/h.ibd=g.ibd".to_owned()]),
        (
            "/e1/g.ibd",
            "/e2/g.ibd",
            ["/e1", "/e2"].map(|e| format!("--map={e}={}", ground.at("new").display())),
        ),
    ] {
        let mut stream = StreamMaker::new();
        stream.add("backup-my.cnf", b"[mysqld]\ninnodb_page_size=16384\n");
        stream.add("xtrabackup_tablespaces", two(one, other).as_bytes());
        let mut command = xbrecv_unprepared(&ground.at("target"));
        command.args(maps);
        // The stream ends here: the refusal does not wait for data.
        on_bytes(command, &stream.bytes).failed("usage").says("--map").says(one).says(other);
        ground.is_untouched(one);
    }
}

/// Killed at any moment, a run leaves nothing that keeps the next one from its places.
#[test]
fn a_killed_run_keeps_no_place_outside_the_target() {
    const FILES: usize = 60;
    let seed = crate::support::seed();
    let mut random = crate::support::Random::new(seed);
    let rounds = std::env::var("XBPIPE_ROUNDS").map_or(15, |n| n.parse().unwrap());
    let mut stream = StreamMaker::new();
    let listed: Vec<_> = (0..FILES)
        .map(|n| {
            format!("{{\"file_name\":\"/ext/d{}/t{n}.ibd\",\"tablespace_name\":\"d{}/t{n}\"}}", n % 7, n % 7)
        })
        .collect();
    let list = format!("{{\"version\":2,\"external_tablespaces\":[{}]}}", listed.join(","));
    stream.add("backup-my.cnf", CNF.as_bytes()).add("xtrabackup_tablespaces", list.as_bytes());
    for n in 0..FILES {
        stream.add(&format!("d{}/t{n}.ibd", n % 7), &tablespace(SpaceId(100 + n as u32), 2));
    }
    stream.add_required();
    let whole = stream.finish();
    let ground = Ground::new();
    let command = |n: u64| {
        let mut command = xbrecv_unprepared(&ground.at("target"));
        let new = if n.is_multiple_of(2) { "new" } else { "new/deeper" };
        command.arg(format!("--map=/ext={}", ground.at(new).display()));
        command
    };
    let begun = std::time::Instant::now();
    on_bytes(command(0), &whole.bytes).ok();
    let time = begun.elapsed();
    let clear = || {
        fs::remove_dir_all(ground.at("target")).unwrap();
        fs::remove_dir_all(ground.at("new")).unwrap();
        fs::create_dir(ground.at("new")).unwrap();
    };
    clear();
    let mut killed = 0;
    for round in 0..rounds {
        for _ in 0..=random.below(2) {
            let mut child = command(round).stdin(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            let bytes = whole.bytes.clone();
            let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut input, &bytes)));
            // Most of the time near the end, where files are put in place.
            let after = time.as_micros() as u64 / 4 + random.below(time.as_micros() as u64);
            std::thread::sleep(std::time::Duration::from_micros(after));
            child.kill().unwrap();
            killed += u32::from(child.wait().unwrap().code().is_none());
            writer.join().unwrap();
            if ground.at("target").exists() {
                break;
            }
        }
        if !ground.at("target").exists() {
            on_bytes(command(round), &whole.bytes).ok();
        }
        let found =
            files(&ground.at("new")).keys().filter(|k| k.extension().is_some_and(|e| e == "ibd")).count();
        assert_eq!(found, FILES, "seed {seed}, round {round}");
        clear();
    }
    eprintln!("{killed} kills, each within {:?}", time * 5 / 4);
}
