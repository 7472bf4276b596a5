//! Chains of backups of a real server, in files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::pipe::{Said, into_file, said, xbsend};
use super::{Kind, Server};

/// `xbrecv`, which prepares natively.
pub fn xbrecv(target: &Path) -> Command {
    let mut command = xbrecv_on(&[], &[target]);
    command.stdout(Stdio::null());
    command
}

/// A full backup of a server in a file, then so many increments, each with one more row.
pub struct Streams {
    pub source: Server,
    pub dir: tempfile::TempDir,
    pub streams: Vec<PathBuf>,
    /// Holes are sent as zeros, for extractors that don't know them.
    dense: bool,
}

impl Streams {
    pub fn take(increments: usize) -> Streams {
        Streams::take_as(increments, false)
    }

    pub fn take_as(increments: usize, dense: bool) -> Streams {
        let source = Server::start(Kind::Mysql97, &[]);
        source.execute("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(100))");
        source.execute("CREATE TABLE d.m (id INT PRIMARY KEY) ENGINE = MyISAM");
        let mut all = Streams { source, dir: tempfile::tempdir().unwrap(), streams: Vec::new(), dense };
        all.back_up(None);
        for _ in 0..increments {
            let lsndir = all.path("lsn");
            all.back_up(Some(&lsndir));
        }
        all
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn back_up(&mut self, since: Option<&Path>) {
        let n = self.streams.len();
        self.source.execute(&format!("INSERT INTO d.t VALUES ({n}, 'row'); INSERT INTO d.m VALUES ({n})"));
        let stream = self.path(&format!("{n}.xb"));
        let mut send = xbsend(&self.source);
        send.arg("--extra-lsndir").arg(self.path("lsn"));
        if let Some(since) = since {
            send.arg("--since").arg(since);
        }
        if self.dense {
            send.arg("--dense");
        }
        into_file(send, &stream).ok();
        self.streams.push(stream);
    }

    pub fn restore(&self, target: &str, streams: &[&Path]) -> Said {
        let mut receive = xbrecv(&self.path(target));
        receive.args(streams);
        let said = said(receive.spawn().unwrap());
        if said.status != Some(0) {
            assert!(!self.path(target).exists());
        }
        said
    }

    pub fn verify(&self, streams: &[&Path]) -> Said {
        let mut receive = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
        receive.args(["--progress=none", "--verify-only"]).args(streams);
        said(receive.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Both ways of giving this chain are refused with this code.
    #[track_caller]
    pub fn refused(&self, streams: &[&Path], code: &str, words: &str) {
        self.verify(streams).failed(code).says(words);
        self.restore("refused", streams).failed(code).says(words);
    }
}

/// `xbrecv` with these words and paths.
pub fn xbrecv_on(words: &[&str], paths: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(words).arg("--progress=none").args(paths);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn run(words: &[&str], paths: &[&Path]) -> Said {
    said(xbrecv_on(words, paths).spawn().unwrap())
}
