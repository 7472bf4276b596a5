//! `xbrecv --from`, and `xbsend --to` what it prints.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::Server;
use super::pipe::{Said, xbsend};

/// A receiver that listens, and what it prints behind `--to`.
pub struct Listening {
    pub child: Child,
    /// The address, with the ticket if there is one.
    pub to: String,
    words: mpsc::Receiver<String>,
}

impl Listening {
    /// Adds `--from` to the command and runs it until it listens.
    pub fn start(mut command: Command, carrier: &str) -> Listening {
        command.arg(format!("--from={carrier}://127.0.0.1:0"));
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (put, words) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(put.send(line))));
        let line = std::iter::from_fn(|| words.recv_timeout(Duration::from_secs(30)).ok());
        let printed = line.take(5).find(|line| line.contains("xbsend --to '")).expect("the line to paste");
        let to = printed.split('\'').nth(1).unwrap().to_owned();
        Listening { child, to, words }
    }

    /// Waits for it.
    pub fn said(mut self) -> Said {
        let status = self.child.wait().unwrap();
        Said { status: status.code(), words: self.words.iter().map(|line| line + "\n").collect() }
    }
}

/// `xbsend` to it.
pub fn sending(server: &Server, to: &str) -> Command {
    let mut command = xbsend(server);
    command.args(["--to", to]).stdout(Stdio::null());
    command
}
