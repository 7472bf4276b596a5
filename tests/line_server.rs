//! A live server's backup over the network: the copy has its rows, and each side's words and exit status tell what became of it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::pipe::{Said, said, xbrecv, xbsend};
use support::{Kind, Server, WriteLoad, check_load, seed};

/// A receiver that listens, and what it prints behind `--to`.
struct Listening {
    child: Child,
    to: String,
    words: mpsc::Receiver<String>,
}

impl Listening {
    fn start(mut command: Command, carrier: &str) -> Listening {
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

    fn said(mut self) -> Said {
        let status = self.child.wait().unwrap();
        Said { status: status.code(), words: self.words.iter().map(|line| line + "\n").collect() }
    }
}

fn sending(server: &Server, to: &str) -> Command {
    let mut command = xbsend(server);
    command.args(["--to", to]).stdout(Stdio::null());
    command
}

#[test]
fn a_live_server_becomes_a_copy_over_the_network() {
    let seed = seed();
    let source = Server::start(Kind::Mysql97, &[]);
    let dir = tempfile::tempdir().unwrap();
    for (n, carrier) in ["tcp", "quic"].into_iter().enumerate() {
        let target = dir.path().join(carrier);
        let load = WriteLoad::start(&source, seed.wrapping_add(n as u64), 4);
        load.wait_for(30);
        let mut receive = xbrecv(&target);
        receive.args(["--prepare", "native"]);
        let listening = Listening::start(receive, carrier);
        assert!(listening.to.starts_with(&format!("{carrier}://127.0.0.1:")), "{}", listening.to);
        let ticket = listening.to.split_once('#').unwrap().1.to_owned();
        let sent = said(sending(&source, &listening.to).spawn().unwrap()).ok().says("the receiver says OK");
        let received = listening.said().ok();
        load.wait_for(20);
        load.stop();
        assert_eq!(sent.value("gtid"), received.value("gtid"));
        assert!(!sent.words.contains(&ticket) && !received.words.contains(&ticket));
        let info = std::fs::read_to_string(target.join("xtrabackup_info")).unwrap();
        assert!(info.contains(&format!("--to {carrier}://127.0.0.1:")) && !info.contains(&ticket), "{info}");
        let copy = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
        check_load(&copy);
    }
}

#[test]
fn the_exit_status_of_each_side_tells_of_the_other() {
    let source = Server::start(Kind::Mysql97, &[]);
    let dir = tempfile::tempdir().unwrap();
    let nothing_left = |dir: &Path| std::fs::read_dir(dir).unwrap().next().is_none();

    // A private server that does not start is a prepare that fails, long after the last byte.
    let target = dir.path().join("copy");
    let mut receive = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    receive.args(["--progress=none", "--prepare=server"]).arg(&target).stderr(Stdio::piped());
    let broken = dir.path().join("mysqld");
    let script = "#!/bin/sh\ncase \"$*\" in *--version*) echo \"mysqld  Ver 9.7.4 for Linux on x86_64\"; exit 0;; esac\nexit 1\n";
    std::fs::write(&broken, script).unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    receive.arg("--mysqld").arg(&broken);
    let listening = Listening::start(receive, "tcp");
    let sent = said(sending(&source, &listening.to).spawn().unwrap());
    listening.said().failed("prepare");
    sent.failed("receiver").says("the receiver failed [prepare]");
    std::fs::remove_file(&broken).unwrap();
    assert!(nothing_left(dir.path()));

    // Who is killed can tell nothing: the other gives up after its patience, and leaves nothing.
    for carrier in ["tcp", "quic"] {
        for kill_sender in [true, false] {
            let patience = ["--reconnect-timeout=1", "--keepalive=0.3"];
            let mut receive = xbrecv(&target);
            receive.args(patience).arg("--prepare=none");
            let mut listening = Listening::start(receive, carrier);
            let mut send = sending(&source, &listening.to);
            send.args(patience);
            let mut sender = send.spawn().unwrap();
            // The hidden folder stands once the first bytes have come.
            let begun = Instant::now();
            while nothing_left(dir.path()) && begun.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(2));
            }
            let killed = if kill_sender { &mut sender } else { &mut listening.child };
            killed.kill().unwrap();
            let begun = Instant::now();
            let (sent, received) = (said(sender), listening.said());
            let survivor = if kill_sender { received } else { sent };
            survivor.failed("line-lost");
            assert!(begun.elapsed() < Duration::from_secs(40));
            if kill_sender {
                assert!(nothing_left(dir.path()));
            } else {
                // A killed receiver leaves its hidden folder, as over a pipe.
                std::fs::read_dir(dir.path())
                    .unwrap()
                    .for_each(|e| std::fs::remove_dir_all(e.unwrap().path()).unwrap());
            }
        }
    }
}
