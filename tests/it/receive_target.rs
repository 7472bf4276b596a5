//! The target: how it is filled, and that nothing is left of a receive that was stopped, killed or ran out of room.

// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::pipe::{on_bytes, said, xbrecv_unprepared};
use crate::support::streams::noise;
use crate::support::{Random, StreamMaker, seed};
use xbpipe::stream::digest::BLOCK;

const XBRECV: &str = env!("CARGO_BIN_EXE_xbrecv");

fn root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// `sh -c "<limits>; exec xbrecv …"`, as resource limits are set.
fn limited(limits: &str, target: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\"")).arg(XBRECV);
    command.args(["--progress=none", "--prepare=none"]).arg(target).stderr(Stdio::piped());
    command
}

/// Names in a folder, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn start(target: &Path) -> Child {
    xbrecv_unprepared(target).stdin(Stdio::piped()).spawn().unwrap()
}

/// Waits until something is staged in `dir`.
fn wait_for_staging(dir: &Path) {
    let begun = Instant::now();
    while !names(dir).iter().any(|n| n.contains(".xbrecv-")) {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing was staged");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap().success()
    );
}

/// A tmpfs on `dir` for as long as it lives; `None` where that is not allowed.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(dir: &Path, size: &str) -> Option<Mount> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|s| s.success()).then(|| Mount(dir.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_target_that_holds_something_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stream = StreamMaker::small().finish().bytes;
    let target = dir.path().join("t");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("ibdata1"), b"precious").unwrap();
    on_bytes(xbrecv_unprepared(&target), &stream).failed("target").says("not empty").says("ibdata1");
    assert_eq!(fs::read(target.join("ibdata1")).unwrap(), b"precious");

    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    on_bytes(xbrecv_unprepared(&file), &stream).failed("target").says("not a folder");
    on_bytes(xbrecv_unprepared(&dir.path().join("no/such")), &stream).failed("target");
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    on_bytes(xbrecv_unprepared(&dir.path().join("link")), &stream).failed("target");
    assert_eq!(names(dir.path()), ["file", "link", "t"]);
}

#[test]
fn a_link_to_a_folder_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    on_bytes(xbrecv_unprepared(&dir.path().join("link")), &StreamMaker::small().finish().bytes).ok();
    assert!(fs::symlink_metadata(dir.path().join("link")).unwrap().is_symlink());
    assert!(dir.path().join("real/ibdata1").is_file());
    assert_eq!(names(dir.path()), ["link", "real"]);
}

#[test]
fn modes_are_a_servers_and_the_owner_is_the_targets() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o711)).unwrap();
    if root() {
        std::os::unix::fs::chown(&target, Some(12345), Some(23456)).unwrap();
    }
    on_bytes(xbrecv_unprepared(&target), &StreamMaker::small().finish().bytes).ok();
    let expected = fs::metadata(&dir).unwrap();
    let owner = if root() { (12345, 23456) } else { (expected.uid(), expected.gid()) };
    let mut found = Vec::new();
    walk(&target, &mut found);
    assert!(found.len() > 8);
    for path in found {
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), owner, "{}", path.display());
        let mode = if path == target {
            0o711
        } else if meta.is_dir() {
            0o750
        } else {
            0o640
        };
        assert_eq!(meta.mode() & 0o777, mode, "{}", path.display());
    }
}

fn walk(path: &Path, into: &mut Vec<PathBuf>) {
    into.push(path.to_owned());
    if path.is_dir() {
        names(path).iter().for_each(|n| walk(&path.join(n), into));
    }
}

#[test]
fn the_working_folder_is_filled_from_inside() {
    let dir = tempfile::tempdir().unwrap();
    let before = fs::metadata(&dir).unwrap().ino();
    let receive = |bytes: &[u8]| {
        let mut command = xbrecv_unprepared(Path::new("."));
        command.current_dir(dir.path());
        on_bytes(command, bytes)
    };
    let stream = StreamMaker::small().finish();
    receive(&stream.bytes[..stream.bytes.len() / 2]).failed("stream-truncated");
    assert!(names(dir.path()).is_empty());
    receive(&stream.bytes).ok();
    assert_eq!(fs::metadata(&dir).unwrap().ino(), before);
    assert!(dir.path().join("ibdata1").is_file());
    assert!(!names(dir.path()).iter().any(|n| n.starts_with('.')), "{:?}", names(dir.path()));
}

#[test]
fn a_mount_point_is_filled_from_inside() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    fs::create_dir(&target).unwrap();
    let Some(mount) = Mount::tmpfs(&target, "64m") else {
        eprintln!("not tried: this process may not mount");
        return;
    };
    fs::create_dir(target.join("lost+found")).unwrap();
    let stream = StreamMaker::small().finish();
    on_bytes(xbrecv_unprepared(&target), &stream.bytes[..stream.bytes.len() - 3]).failed("stream-truncated");
    assert_eq!(names(&target), ["lost+found"]);
    on_bytes(xbrecv_unprepared(&target), &stream.bytes).ok();
    assert!(target.join("ibdata1").is_file() && target.join("#innodb_redo/#ib_redo0").is_file());
    assert_eq!(names(dir.path()), ["t"]);
    drop(mount);
}

#[test]
fn a_full_disk_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut stream = StreamMaker::small();
    stream.add("db/large.MYD", &noise(12 * BLOCK, 7));
    let stream = stream.finish();

    // A limit on the size of files is no full disk. 12,000 blocks of 512 or 1024 bytes.
    let target = dir.path().join("t");
    on_bytes(limited("ulimit -f 12000", &target), &stream.bytes)
        .failed("target-io")
        .says("large.MYD would be larger than a file may be");
    assert!(names(dir.path()).is_empty());

    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    if let Some(_mount) = Mount::tmpfs(&small, "8m") {
        on_bytes(xbrecv_unprepared(&small.join("t")), &stream.bytes).failed("disk-full");
        assert!(names(&small).is_empty());
        on_bytes(xbrecv_unprepared(&small), &stream.bytes).failed("disk-full");
        assert!(names(&small).is_empty());
    }
}

#[test]
fn a_signal_leaves_nothing() {
    let stream = StreamMaker::small().finish();
    for name in ["INT", "TERM", "HUP"] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(&dir.path().join("t"));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&stream.bytes[..stream.bytes.len() / 2]).unwrap();
        wait_for_staging(dir.path());
        // The pipe stays open: it is the signal that ends it, not the end of the stream.
        signal(&child, name);
        said(child).failed("interrupted").says(&format!("SIG{name}"));
        assert!(names(dir.path()).is_empty());
        drop(stdin);
    }
}

#[test]
fn a_kill_leaves_the_target_and_the_next_run_cleans_up() {
    let mut stream = StreamMaker::small();
    for n in 0..40 {
        stream.add(&format!("db/t{n}.MYD"), &noise(100_000, n));
    }
    let stream = stream.finish();
    let mut random = Random::new(seed());
    for round in 0..25 {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("t");
        if round % 2 == 0 {
            fs::create_dir(&target).unwrap();
        }
        let mut child = start(&target);
        let mut stdin = child.stdin.take().unwrap();
        let after = random.below(stream.bytes.len() as u64 + 200_000) as usize;
        stdin.write_all(&stream.bytes[..after.min(stream.bytes.len())]).unwrap();
        if after >= stream.bytes.len() {
            drop(stdin);
            std::thread::sleep(Duration::from_micros(random.below(60_000)));
        } else {
            std::thread::sleep(Duration::from_micros(random.below(3_000)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if target.join("ibdata1").exists() {
            // The rename, which is the last step, was done: then all of it is there.
            assert_eq!(names(&target.join("db")).len(), 42);
            continue;
        }
        assert_eq!(target.exists(), round % 2 == 0);
        assert!(!target.exists() || names(&target).is_empty());
        on_bytes(xbrecv_unprepared(&target), &stream.bytes).ok();
        assert_eq!(names(dir.path()), ["t"], "what the killed run left is gone");
    }
}

#[test]
fn a_running_receive_is_not_taken_for_a_leftover() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let stream = StreamMaker::small().finish();
    let mut first = start(&target);
    let mut stdin = first.stdin.take().unwrap();
    stdin.write_all(&stream.bytes[..stream.bytes.len() / 2]).unwrap();
    wait_for_staging(dir.path());
    on_bytes(xbrecv_unprepared(&target), &stream.bytes).ok();
    // It goes on undisturbed, and finds the place taken.
    stdin.write_all(&stream.bytes[stream.bytes.len() / 2..]).unwrap();
    drop(stdin);
    said(first).failed("target").says("can't put the datadir in its place");
    assert_eq!(names(dir.path()), ["t"]);
    assert!(target.join("ibdata1").is_file());
}

#[test]
fn thousands_of_open_members_need_few_open_files() {
    const MEMBERS: usize = 5000;
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let mut stream = StreamMaker::small();
    // All of them are under way at the same time; the second half of each comes when all first halves have.
    let content = noise(BLOCK + 100, 5);
    let (first, second) = ([0; BLOCK], &content[BLOCK..]);
    let whole = [&first[..], second].concat();
    let name = |n: usize| format!("db{}/t{n}.MYD", n % 10);
    for n in 0..MEMBERS {
        let map = [xbpipe::stream::Extent { skip: BLOCK as u32, len: 0 }];
        let crc = xbpipe::stream::frame::sparse_crc(&map, []);
        let head =
            xbpipe::stream::frame::sparse_header(&crate::support::streams::member(&name(n)), 0, crc, &map, 0);
        stream.frame(head);
    }
    for n in 0..MEMBERS {
        stream.chunk(&name(n), BLOCK as u64, second);
    }
    let digest = xbpipe::stream::digest::digest(&whole);
    for n in 0..MEMBERS {
        let member = crate::support::streams::member(&name(n));
        stream.frame(xbpipe::stream::frame::end_frame(&member));
        stream.members.push(xbpipe::stream::ManifestMember {
            name: member,
            size: whole.len() as u64,
            digest,
        });
    }
    let stream = stream.finish();
    on_bytes(limited("ulimit -n 256", &target), &stream.bytes).ok();
    for n in [0, 1, MEMBERS / 2, MEMBERS - 1] {
        assert!(fs::read(target.join(name(n))).unwrap() == whole, "{n}");
    }
    let count: usize = (0..10).map(|n| names(&target.join(format!("db{n}"))).len()).sum();
    assert_eq!(count, MEMBERS);
}

#[test]
fn a_large_stream_takes_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let mut head = StreamMaker::small();
    let block = noise(BLOCK, 11);
    let megabytes = 600;
    let member = crate::support::streams::member("db/large.MYD");
    let mut digest = xbpipe::stream::digest::BlockDigest::new();
    (0..megabytes).for_each(|_| digest.update(&block));
    let size = (megabytes * BLOCK) as u64;
    head.members.push(xbpipe::stream::ManifestMember {
        name: member.clone(),
        size,
        digest: digest.finish(size).unwrap(),
    });
    let whole = head.finish();
    let (before, after) = whole.bytes.split_at(head.bytes.len());

    let mut child = start(&target);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(before).unwrap();
    let mut peak = 0;
    for n in 0..megabytes {
        let header = xbpipe::stream::frame::payload_header(
            &member,
            (n * BLOCK) as u64,
            xbpipe::stream::frame::payload_crc(&block),
            BLOCK,
        );
        stdin.write_all(&header).unwrap();
        stdin.write_all(&block).unwrap();
        peak = peak.max(peak_kib(child.id()));
    }
    stdin.write_all(&xbpipe::stream::frame::end_frame(&member)).unwrap();
    stdin.write_all(after).unwrap();
    drop(stdin);
    said(child).ok();
    assert_eq!(fs::metadata(target.join("db/large.MYD")).unwrap().len(), size);
    assert!((1..128 * 1024).contains(&peak), "{peak} KiB at its peak");
}

/// Peak memory of a process, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_missing_server_binary_is_found_out_before_the_stream_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(XBRECV);
    command.args(["--progress=none", "--mysqld=/nonexistent/mysqld"]).arg(dir.path().join("t"));
    command.stderr(Stdio::piped()).stdin(Stdio::piped());
    // Nothing is ever written to its standard input, which stays open.
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take();
    said(child).failed("no-mysqld").says("--mysqld").says("--prepare=none");
    drop(stdin);
}
