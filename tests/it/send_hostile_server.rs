//! A server whose answers are not what they should be, against `xbsend`: a proxy before a real one changes one packet of a run.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::measured::on;
use crate::support::pipe::on_file;
use crate::support::{Kind, Random, Server, seed};
use xbpipe::stream::{Demux, Event, Limits};

const PEAK_MAX: u64 = 512 << 20;
/// Two statements that are not answered, and as much again for a machine that is busy.
const TIME_MAX: Duration = Duration::from_secs(40);

/// What is done to a packet.
const DAMAGE: &[&str] = &[
    "flip", "cut", "noise", "drop", "twice", "error", "huge", "close", "silence", "digits", "empty", "end",
    "text", "ok",
];

/// One packet of one connection of a run is changed.
#[derive(Clone, Debug)]
struct Trick {
    connection: usize,
    packet: usize,
    damage: &'static str,
    seed: u64,
}

/// How many packets each connection of a run had.
type Counts = Arc<Mutex<BTreeMap<usize, usize>>>;

/// Listens at `path` for the connections of one run.
fn proxy(path: &Path, server: PathBuf, trick: Option<Trick>) -> Counts {
    let counts = Counts::default();
    let listener = UnixListener::bind(path).unwrap();
    let all = counts.clone();
    // It ends with the test.
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (Ok(client), Ok(server)) = (client, UnixStream::connect(&server)) else { return };
            let (counts, trick) = (all.clone(), trick.clone().filter(|t| t.connection == number));
            std::thread::spawn({
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                }
            });
            std::thread::spawn(move || {
                let _ = answers(number, &server, &client, trick, &counts);
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    counts
}

/// Packets from the server to its client. A packet is a length of 3 bytes, a number, and that many bytes.
fn answers(
    number: usize,
    mut server: &UnixStream,
    mut client: &UnixStream,
    trick: Option<Trick>,
    counts: &Counts,
) -> std::io::Result<()> {
    // Packets that follow a lost or doubled one have other numbers, as if the server had meant it.
    let mut shift = 0u8;
    for n in 0.. {
        let mut head = [0; 4];
        server.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        server.read_exact(&mut payload)?;
        *counts.lock().unwrap().entry(number).or_default() = n + 1;
        if head[3] <= 1 {
            shift = 0;
        }
        let mut send = |payload: &[u8], number: u8| {
            let len = (payload.len() as u32).to_le_bytes();
            client.write_all(&[&[len[0], len[1], len[2], number][..], payload].concat())
        };
        let Some(trick) = trick.as_ref().filter(|t| t.packet == n) else {
            send(&payload, head[3].wrapping_add(shift))?;
            continue;
        };
        let mut random = Random::new(trick.seed);
        let place = random.below(payload.len().max(1) as u64) as usize;
        match trick.damage {
            "drop" => shift = shift.wrapping_sub(1),
            "twice" => {
                send(&payload, head[3].wrapping_add(shift))?;
                shift = shift.wrapping_add(1);
                send(&payload, head[3].wrapping_add(shift))?;
            }
            "close" => return Ok(()),
            "silence" => std::thread::sleep(Duration::from_secs(120)),
            "huge" => {
                client.write_all(&[0xFF, 0xFF, 0xFF, head[3]])?;
                client.write_all(&payload)?;
                return Ok(());
            }
            damage => {
                match damage {
                    "flip" => payload.iter_mut().skip(place).take(1).for_each(|b| *b ^= 1 << random.below(8)),
                    "cut" => payload.truncate(place),
                    "noise" => payload.iter_mut().for_each(|b| *b = random.next() as u8),
                    "digits" => payload
                        .iter_mut()
                        .filter(|b| b.is_ascii_digit())
                        .for_each(|b| *b = b'0' + random.below(10) as u8),
                    "text" => {
                        payload.iter_mut().filter(|b| b.is_ascii_alphabetic() || **b == b'/').for_each(|b| {
                            *b = *[b'.', b'/', b'\0', b'a', 0xFF].get(random.below(5) as usize).unwrap()
                        })
                    }
                    "error" => {
                        let code = [1045u16, 1205, 1213, 3024, 1317, 1053, 1227, 1100, 9999, 0]
                            [random.below(10) as usize];
                        payload = [&[0xFF][..], &code.to_le_bytes(), b"#HY000what it says"].concat();
                    }
                    "empty" => payload.clear(),
                    "end" => payload = vec![0xFE, 0, 0, 2, 0],
                    "ok" => payload = vec![0, 0, 0, 2, 0, 0, 0],
                    other => panic!("{other}"),
                }
                send(&payload, head[3].wrapping_add(shift))?;
            }
        }
    }
    Ok(())
}

fn xbsend(socket: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbsend"));
    command.args([
        "--no-defaults",
        "--user=root",
        "--progress=none",
        "--statement-timeout=2",
        "--connect-timeout=2",
    ]);
    command.args(["--lock-timeout=2", "--socket"]).arg(socket);
    command.stdout(std::fs::File::create(out).unwrap()).stderr(Stdio::piped());
    command
}

/// Names of the members of a stream.
fn members(file: &Path) -> BTreeSet<String> {
    let stream = std::fs::read(file).unwrap();
    let (mut demux, mut names) = (Demux::new(Limits::default()), BTreeSet::new());
    let mut rest = &stream[..];
    while !rest.is_empty() {
        rest = &rest[demux.feed(rest)..];
        while let Some(event) = demux.poll().unwrap() {
            if let Event::End { member, .. } = event {
                // Its name grows with each restart.
                names.insert(member.as_str().to_owned());
            }
        }
    }
    names
}

#[test]
fn whatever_a_server_answers_the_backup_is_whole_or_refused() {
    let seed = seed();
    let rounds: u64 = std::env::var("XBPIPE_ROUNDS").map_or(15, |n| n.parse().unwrap());
    let server = Server::start(Kind::Mysql97, &["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
    server.execute(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2);
         CREATE TABLE d.m (a INT) ENGINE=MyISAM; CREATE TABLESPACE g ADD DATAFILE 'g.ibd'; CREATE TABLE d.u (a INT) TABLESPACE g",
    );
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("stream");
    let socket = |n: u64| dir.path().join(format!("s{n}"));
    let honest = proxy(&socket(u64::MAX), server.socket().to_owned(), None);
    on(xbsend(&socket(u64::MAX), &out), |_| Ok(())).said.ok();
    let expected = members(&out);
    let honest = honest.lock().unwrap().clone();
    eprintln!("connections and their packets: {honest:?}");
    let (mut failed, mut accepted, mut peak, mut longest) = (Vec::new(), 0, 0, Duration::ZERO);
    for n in 0..rounds {
        let mut random = Random::new(seed.wrapping_add(n));
        let connection = *honest.keys().nth(random.below(honest.len() as u64) as usize).unwrap();
        let trick = Trick {
            connection,
            packet: random.below(honest[&connection] as u64) as usize,
            damage: DAMAGE[random.below(DAMAGE.len() as u64) as usize],
            seed: random.next(),
        };
        let _counts = proxy(&socket(n), server.socket().to_owned(), Some(trick.clone()));
        let begun = Instant::now();
        let measured = on(xbsend(&socket(n), &out), |_| Ok(()));
        let (said, time) = (measured.said, begun.elapsed());
        peak = peak.max(measured.peak);
        longest = longest.max(time);
        let mut faults = Vec::new();
        if said.status == Some(0) {
            accepted += 1;
            let mut verify = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
            verify.args(["--verify-only", "--progress=none"]).stderr(Stdio::piped());
            let verified = on_file(verify, &out);
            if members(&out) != expected || verified.status != Some(0) {
                faults.push(format!("wrong exit 0: {}", verified.words));
            }
        }
        if said.status.is_none_or(|s| s > 2) || said.words.contains("panicked") {
            faults.push("panic".into());
        }
        if said.words.contains("error[internal]") || said.words.len() > 20_000 {
            faults.push("words that help nobody".into());
        }
        if measured.peak > PEAK_MAX || time > TIME_MAX {
            faults.push(format!("{} MiB, {time:?}", measured.peak >> 20));
        }
        if !faults.is_empty() {
            failed.push(format!(
                "XBPIPE_SEED={} {trick:?}: {faults:?}\n{:.1500}",
                seed.wrapping_add(n),
                said.words
            ));
        }
    }
    eprintln!("{rounds} runs, {accepted} accepted, most memory {} MiB, longest {longest:?}", peak >> 20);
    // The server is as it was: nothing of a failed run stays.
    assert_eq!(
        server.value(
            "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_TYPE = 'BACKUP LOCK'"
        ),
        "0"
    );
    assert!(failed.is_empty(), "{} of {rounds} failed:\n{}", failed.len(), failed.join("\n"));
}
