//! A live server's backup over the network: the copy has its rows, and each side's words and exit status tell what became of it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::listening::{Listening, sending};
use crate::support::pipe::{said, xbrecv};
use crate::support::{Kind, Server, WriteLoad, assert_same, check_load, checksums, gtid_executed, seed};

const RECIPIENT: &str = "age1nyyjgn2j9plgxztywpq6qj9srcmqdrv07jke04tpzgf24nzt7ctqvy08w3";
const SECRET: &str = "AGE-SECRET-KEY-1H6WCTZG9EDY89493YKQ3LPAJ4578P838Z0890S04NHQFHMU2U2LST0J2FH";

/// A server with something that nobody writes to, beside what the load makes.
fn source() -> Server {
    let source = Server::start(Kind::Mysql97, &["--innodb-redo-log-capacity=64M"]);
    source.execute(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(2000), KEY (v(20)));
         INSERT INTO d.t (v) VALUES (REPEAT('x', 1500)), (UUID()), (REPEAT('yz', 700));
         INSERT INTO d.t (v) SELECT CONCAT(a.v, UUID()) FROM d.t a, d.t b, d.t c, d.t e, d.t f;
         CREATE TABLE d.old (id INT PRIMARY KEY, v CHAR(40)) ENGINE = MyISAM;
         INSERT INTO d.old SELECT id, LEFT(v, 40) FROM d.t",
    );
    source
}

/// What the tables hold that nobody writes to.
fn still_tables(server: &Server) -> BTreeMap<String, String> {
    let mut found = checksums(server);
    found.retain(|name, _| name.starts_with("`d`."));
    found
}

#[test]
fn every_combination_crosses_the_network_from_a_live_server() {
    let seed = seed();
    let source = source();
    let still = still_tables(&source);
    assert_eq!(still.len(), 2);
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, SECRET).unwrap();
    let load = WriteLoad::start_at(&source, seed, 3, 150.0);
    let compressions: [&[&str]; 3] = [&[], &["--compress=zstd"], &["--compress=lz4"]];
    let encryptions: [&[&str]; 2] = [&[], &["--encrypt-to", RECIPIENT]];
    for carrier in ["tcp", "quic"] {
        for compression in compressions {
            for encryption in encryptions {
                let name = format!("{carrier} {compression:?} {encryption:?}, seed {seed}");
                let target = dir.path().join("copy");
                load.wait_for(10);
                let mut receive = xbrecv(&target);
                receive.arg("--identity").arg(&key);
                let listening = Listening::start(receive, carrier);
                assert!(listening.to.starts_with(&format!("{carrier}://127.0.0.1:")), "{}", listening.to);
                let ticket = listening.to.split_once('#').unwrap().1.to_owned();
                let mut send = sending(&source, &listening.to);
                send.args(compression).args(encryption);
                let sent = said(send.spawn().unwrap()).ok().says("the receiver says OK");
                let received = listening.said().ok();
                load.wait_for(10);
                let layers = usize::from(!compression.is_empty()) + usize::from(!encryption.is_empty());
                let found = received.value("layers").map_or(0, |words| words.split(", then ").count());
                assert_eq!(found, layers, "{name}");
                assert!(!sent.words.contains(&ticket) && !received.words.contains(&ticket), "{name}");
                let info = std::fs::read_to_string(target.join("xtrabackup_info")).unwrap();
                assert!(info.contains(&format!("--to {carrier}://127.0.0.1:")) && !info.contains(&ticket));

                let copy = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
                let recorded = sent.value("gtid").expect("the GTID set is in the summary");
                assert_eq!(received.value("gtid").as_ref(), Some(&recorded), "{name}");
                assert_eq!(gtid_executed(&copy), recorded, "{name}");
                check_load(&copy);
                assert_same(&still_tables(&copy), &still);
                drop(copy);
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
    }
    load.stop();
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
