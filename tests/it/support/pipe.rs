//! The two programs, run as a user runs them.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Server, tool};

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// Exit status; `None` after a signal.
    pub status: Option<i32>,
    /// Standard error.
    pub words: String,
}

impl Said {
    /// Panics unless the program said OK.
    #[track_caller]
    pub fn ok(self) -> Said {
        assert_eq!(self.status, Some(0), "{}", self.words);
        self
    }

    /// Panics unless the program failed with this error code.
    #[track_caller]
    pub fn failed(self, code: &str) -> Said {
        assert_eq!(self.status.map(|s| s != 0), Some(true), "{}", self.words);
        assert!(self.words.contains(&format!("error[{code}]")), "expected {code}:\n{}", self.words);
        self
    }

    /// Panics unless the words contain `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Said {
        assert!(self.words.contains(text), "expected {text:?}:\n{}", self.words);
        self
    }

    /// The value of a line of the summary.
    pub fn value(&self, label: &str) -> Option<String> {
        self.words.lines().find_map(|line| {
            let rest = line.split_once(": ")?.1.trim_start();
            rest.strip_prefix(label).filter(|v| v.starts_with(' ')).map(|v| v.trim().to_owned())
        })
    }
}

/// `xbsend` on a server, as root over its socket.
pub fn xbsend(server: &Server) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbsend"));
    command.arg("--no-defaults").arg("--socket").arg(server.socket()).args([
        "--user",
        "root",
        "--progress",
        "none",
    ]);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// `xbrecv --prepare=none` into `target`: no server is needed.
pub fn xbrecv_unprepared(target: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["--progress=none", "--prepare=none"]).arg(target).stderr(Stdio::piped());
    command
}

/// Runs a command on a stream in memory.
pub fn on_bytes(mut command: Command, stream: &[u8]) -> Said {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It may stop reading where it finds something wrong.
        scope.spawn(move || drop(stdin.write_all(stream)));
        said(child)
    })
}

/// Runs a command on a stream in a file.
pub fn on_file(mut command: Command, stream: &Path) -> Said {
    said(command.stdin(std::fs::File::open(stream).unwrap()).spawn().unwrap())
}

/// Waits for a program whose standard error is piped.
pub fn said(child: Child) -> Said {
    let output = child.wait_with_output().unwrap();
    Said { status: output.status.code(), words: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Runs a command whose stream goes to `file`.
pub fn into_file(mut command: Command, file: &Path) -> Said {
    said(command.stdout(std::fs::File::create(file).unwrap()).spawn().unwrap())
}

/// Runs a command whose stream goes nowhere.
pub fn into_nothing(mut command: Command) -> Said {
    said(command.stdout(Stdio::null()).spawn().unwrap())
}

/// Whether a stream holds a manifest: without one it is no backup to anybody.
pub fn has_manifest(file: &Path) -> bool {
    let name = b"xbpipe_manifest";
    std::fs::read(file).unwrap().windows(name.len()).any(|w| w == name)
}

/// `xbrecv`, which may prepare with the tests' MySQL 9.7.
pub fn xbrecv(target: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["--progress", "none", "--use-memory", "64M", "--mysqld"]).arg(tool("mysqld")).arg(target);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// `send | receive`: what both said.
pub fn pipe(mut send: Command, mut receive: Command) -> (Said, Said) {
    let mut sender = send.stdout(Stdio::piped()).spawn().unwrap();
    let receiver = receive.stdin(sender.stdout.take().unwrap()).spawn().unwrap();
    // The command holds the pipe's reading end too, and the sender must see when the receiver lets go of it.
    drop(receive);
    // Neither writes more words than its pipe holds before the other ends.
    let received = said(receiver);
    (said(sender), received)
}

/// A whole copy of `server` in `target`, which both programs call OK.
#[track_caller]
pub fn copy(server: &Server, target: &Path, receive_options: &[&str]) -> (Said, Said) {
    let mut receive = xbrecv(target);
    receive.args(receive_options);
    let (sent, received) = pipe(xbsend(server), receive);
    assert!(
        sent.status == Some(0) && received.status == Some(0),
        "xbsend {:?}:\n{}xbrecv {:?}:\n{}",
        sent.status,
        sent.words,
        received.status,
        received.words
    );
    (sent, received)
}
