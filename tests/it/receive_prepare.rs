//! `--prepare=server` with servers that misbehave: what they say reaches the user, and none outlives xbrecv.

// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::StreamMaker;
use crate::support::pipe::{Said, on_bytes, said};
use xbpipe::stream::manifest::Manifest;

/// A folder with a program in place of mysqld: it says this version, and else runs `script`, in which `$log` is its error
/// log and `$datadir` its datadir.
struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    fn new(version: &str, script: &str) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in *--version*) echo 'mysqld  Ver {version} for Linux on x86_64 (fake)'; exit;; esac\n\
             echo $$ > {pid}\necho \"$@\" > {arguments}\n\
             for a; do case $a in --log-error=*) log=${{a#*=}};; --datadir=*) datadir=${{a#*=}};; esac; done\n{script}\n",
            pid = dir.path().join("pid").display(),
            arguments = dir.path().join("arguments").display(),
        );
        let path = dir.path().join("mysqld");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Fake { dir }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("place/t")
    }

    fn command(&self) -> Command {
        fs::create_dir_all(self.dir.path().join("place")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        command.args(["--progress=none", "--mysqld"]).arg(self.dir.path().join("mysqld")).arg(self.target());
        command.env("TMPDIR", self.dir.path()).stderr(Stdio::piped());
        command
    }

    fn receive(&self) -> Said {
        on_bytes(self.command(), &without_gtids())
    }

    /// xbrecv with the whole stream taken in, and this in mysqld's place running.
    fn receiving(&self) -> (Child, u32) {
        let stream = self.dir.path().join("stream");
        fs::write(&stream, without_gtids()).unwrap();
        let child = self.command().stdin(fs::File::open(stream).unwrap()).spawn().unwrap();
        (child, self.pid())
    }

    /// Of the running program.
    fn pid(&self) -> u32 {
        let begun = Instant::now();
        loop {
            let pid = fs::read_to_string(self.dir.path().join("pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                return pid;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "mysqld was not started");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What was there before the run is all that there is.
    #[track_caller]
    fn left_nothing(&self) {
        assert_eq!(fs::read_dir(self.dir.path().join("place")).unwrap().count(), 0);
    }
}

/// A whole stream of a server without GTIDs: what is in mysqld's place tells none.
fn without_gtids() -> Vec<u8> {
    let (contents, manifest) = StreamMaker::take_apart(&StreamMaker::small().finish().bytes);
    StreamMaker::put_together(&contents, Manifest { gtid_executed: None, ..manifest })
}

#[track_caller]
fn is_gone(pid: u32) {
    let begun = Instant::now();
    while Path::new(&format!("/proc/{pid}/exe")).exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn its_errors_are_shown_and_its_log_is_kept() {
    let fake = Fake::new(
        "9.7.4",
        "echo '2026 1 [Note] [MY-1] [InnoDB] fine' > $log\n\
         echo '2026 1 [ERROR] [MY-012592] [InnoDB] Operating system error, errno: 13' >> $log\nexit 1",
    );
    let said = fake.receive().failed("prepare").says("[MY-012592]").says("AppArmor").says("--prepare=none");
    fake.left_nothing();
    let kept = said.words.split_once("whole log is in ").unwrap().1.split(';').next().unwrap();
    assert!(fs::read_to_string(kept).unwrap().contains("[Note]"), "{kept}");
}

#[test]
fn one_that_can_not_even_begin_is_quoted() {
    let fake = Fake::new("9.7.4", "echo 'error while loading shared libraries: libx.so.1' >&2\nexit 127");
    fake.receive().failed("prepare").says("libx.so.1").says("127");
    fake.left_nothing();
}

#[test]
fn recovery_with_errors_is_no_success() {
    let up = "echo '2026 0 [System] [MY-010931] [Server] ready for connections.' >> $log";
    let run = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let fake = Fake::new("9.7.4", &format!("{up}\n{run}"));
    fake.receive().ok().says("by mysqld 9.7.4");
    assert!(fake.target().join("ibdata1").is_file());

    let fake =
        Fake::new("9.7.4", &format!("echo '2026 1 [ERROR] [MY-1] [InnoDB] bad page' > $log\n{up}\n{run}"));
    fake.receive().failed("prepare").says("bad page");
    fake.left_nothing();

    let fake = Fake::new("9.7.4", &format!("{up}\ntrap 'exit 3' TERM; while :; do sleep 0.05; done"));
    fake.receive().failed("prepare").says("exit status: 3");
    fake.left_nothing();
}

#[test]
fn its_own_files_are_removed() {
    let fake = Fake::new(
        "9.7.4",
        "echo x > $datadir/auto.cnf; mkdir -p \"$datadir/#innodb_temp\"; echo x > \"$datadir/#innodb_temp/temp_1.ibt\"\n\
         echo '2026 0 [System] [MY-010931] [Server] ready' > $log\ntrap 'exit 0' TERM; while :; do sleep 0.05; done",
    );
    fake.receive().ok();
    let names: Vec<_> =
        fs::read_dir(fake.target()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|n| n == "auto.cnf" || n == "#innodb_temp" || n.starts_with('.')), "{names:?}");
    assert_eq!(fs::read_dir(fake.dir.path().join("place")).unwrap().count(), 1);
}

#[test]
fn versions_that_do_not_fit_are_refused_before_the_data() {
    for (version, fits) in
        [("9.7.4", true), ("9.7.9", true), ("9.7.3", false), ("8.4.9", false), ("9.8.0", false)]
    {
        let fake = Fake::new(version, "exit 1");
        let said = fake.receive();
        match fits {
            true => said.failed("prepare"),
            false => said.failed("no-mysqld").says(version).says("9.7.4"),
        };
        assert_eq!(fake.dir.path().join("arguments").exists(), fits);
        fake.left_nothing();
    }
    Fake::new("10.11.6-MariaDB", "exit 1").receive().failed("no-mysqld").says("MariaDB");
}

#[test]
fn options_from_the_stream_are_picked() {
    let fake = Fake::new("9.7.4", "exit 1");
    let with = |cnf: &str| {
        let mut stream = StreamMaker::small_with(cnf);
        stream.add("d/ibdata2", &vec![7; 32768]);
        // With a manifest, what it says would be held against the options first.
        let mut command = fake.command();
        command.arg("--allow-no-manifest");
        on_bytes(command, &stream.bytes)
    };
    with(
        "[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path=ibdata1:48K;d/ibdata2:8M:autoextend\n\
         init_file=/tmp/evil.sql\nplugin-load=evil.so\nserver_id=7\n",
    )
    .failed("prepare");
    let arguments = fs::read_to_string(fake.dir.path().join("arguments")).unwrap();
    assert!(arguments.starts_with("--no-defaults "), "{arguments}");
    for taken in ["--innodb-page-size=16384", "--server-id=7", "-path=ibdata1:48K;d/ibdata2:8M:autoextend"] {
        assert!(arguments.contains(taken), "{taken} in {arguments}");
    }
    assert!(!arguments.contains("evil"), "{arguments}");
    for bad in [
        "innodb_page_size=8192 --init-file=/x",
        "innodb_data_file_path=../ibdata1:12M",
        "innodb_data_file_path=ibdata1",
        "innodb_data_file_path=ibdata1:12M:autoextend\\nx",
        "server_id=",
        "log_bin=../binlog",
    ] {
        let said = with(&format!("[mysqld]\n{bad}\n"));
        assert!(said.words.contains("error[stream-refused]"), "{bad}: {}", said.words);
        fake.left_nothing();
    }
}

#[test]
fn it_never_outlives_xbrecv() {
    let endless = Fake::new("9.7.4", "exec sleep 1000");
    let (mut child, pid) = endless.receiving();
    child.kill().unwrap();
    child.wait().unwrap();
    is_gone(pid);
    assert!(!endless.target().exists());

    let endless = Fake::new("9.7.4", "exec sleep 1000");
    let (child, pid) = endless.receiving();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    said(child).failed("interrupted");
    is_gone(pid);
    endless.left_nothing();

    // One that won't go down.
    let stubborn = Fake::new(
        "9.7.4",
        "trap '' TERM\necho '2026 0 [System] [MY-010931] [Server] ready' > $log\nwhile :; do sleep 0.05; done",
    );
    let (child, pid) = stubborn.receiving();
    std::thread::sleep(Duration::from_millis(200));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    said(child).failed("interrupted");
    is_gone(pid);
    stubborn.left_nothing();
}

#[test]
fn the_internal_argument_does_nothing_for_others() {
    let output = Command::new(env!("CARGO_BIN_EXE_xbrecv"))
        .args(["--become-private-child", "1", "/bin/echo", "x"])
        .output()
        .unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the parent is gone"));
}
