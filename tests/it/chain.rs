//! Chains of backups: what an increment holds, and which chains are refused.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::chains::{Streams, run, xbrecv, xbrecv_on};
use crate::support::folders::{assert_same_files, files};
use crate::support::listening::{Listening, sending};
use crate::support::pages::{RESTFUL, Unlogged, assert_same_pages, rest, settle};
use crate::support::pipe::{Said, has_manifest, into_file, into_nothing, on_file, said, xbsend};
use crate::support::{Kind, Random, Server, assert_same, check_tables, checksums, seed, tool};
use xbpipe::base::Lsn;

#[test]
fn a_chain_is_restored_and_wrong_chains_are_refused() {
    let chain = Streams::take(3);
    let all: Vec<&Path> = chain.streams.iter().map(PathBuf::as_path).collect();
    let [full, one, two, three] = all[..] else { panic!() };
    assert!(one.metadata().unwrap().len() < full.metadata().unwrap().len() / 4);
    chain.verify(&all).ok().says("the chain of 4 streams is whole");
    chain.restore("whole", &all).ok();
    chain.restore("part", &all[..2]).ok();

    chain.verify(&[one]).ok().says("an increment, from LSN");
    chain.restore("refused", &[one]).failed("wrong-base").says("is an increment");
    chain.refused(&[one, two], "wrong-base", "is an increment");
    chain.refused(&[full, full], "wrong-base", "it is a full backup, and not an increment");
    chain.refused(&[full, two], "wrong-base", "stream 2 of 2");
    chain.refused(&[full, one, three], "wrong-base", "builds on backup");
    chain.refused(&[full, two, one], "wrong-base", "stream 2 of 3");
    chain.refused(&[full, one, one], "wrong-base", "stream 3 of 3");

    run(&["--from=tcp://127.0.0.1:0"], &[&chain.path("refused"), full, one])
        .failed("usage")
        .says("all streams are files");
    run(&[], &[&chain.path("refused"), Path::new("-"), Path::new("-")]).failed("usage").says("only one");

    // Cut, and flipped.
    let bytes = std::fs::read(two).unwrap();
    let cut = chain.path("cut.xb");
    std::fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    chain.refused(&[full, one, &cut], "stream-truncated", "stream 3 of 3");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    std::fs::write(&cut, &flipped).unwrap();
    for streams in [&[full, one, &cut][..], &[full, one, &cut, three]] {
        let said = chain.verify(streams);
        assert_ne!(said.status, Some(0), "{}", said.words);
        let said = chain.restore("refused", streams);
        assert_ne!(said.status, Some(0), "{}", said.words);
    }

    for (target, rows) in [("whole", "4"), ("part", "2")] {
        let copy = Server::start_on(Kind::Mysql97, &chain.path(target), &["--log-bin=binlog"]);
        assert_eq!(copy.value("SELECT COUNT(*) FROM d.t"), rows);
        assert_eq!(copy.value("SELECT COUNT(*) FROM d.m"), rows);
    }
    // A server has started on it, and was stopped.
    let on = |base: &str, stream: &Path| {
        let mut receive = xbrecv(&chain.path("refused"));
        receive.arg("--base").arg(chain.path(base));
        on_file(receive, stream)
    };
    on("part", two).failed("wrong-base").says("a server was started on it");
    std::fs::remove_file(chain.path("part").join("auto.cnf")).unwrap();
    on("part", two).failed("wrong-base").says("a server has recovered it");
}

#[test]
fn a_folder_is_a_base_and_stays_as_it_is() {
    let mut chain = Streams::take(0);
    let full = chain.streams[0].clone();
    for prepare in ["native", "none"] {
        let base = chain.path(prepare);
        let mut receive = xbrecv(&base);
        receive.arg("--prepare").arg(prepare);
        on_file(receive, &full).ok();
        chain.back_up(Some(&base));
        let increment = chain.streams.last().unwrap().clone();
        let before = files(&base);
        let target = chain.path(&format!("{prepare}-2"));
        let mut receive = xbrecv(&target);
        receive.arg("--base").arg(&base);
        on_file(receive, &increment).ok();
        assert_eq!(files(&base), before);
        let copy = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
        let rows = chain.streams.len().to_string();
        assert_eq!(copy.value("SELECT COUNT(*) FROM d.t"), rows);
        assert_eq!(copy.value("SELECT COUNT(*) FROM d.m"), rows);
    }
    // Recovered by a server: transactions were rolled back.
    let base = chain.path("server");
    let mut receive = xbrecv(&base);
    receive.args(["--prepare", "server", "--mysqld"]).arg(tool("mysqld"));
    on_file(receive, &full).ok();
    let mut receive = xbrecv(&chain.path("refused"));
    receive.arg("--base").arg(&base);
    on_file(receive, &chain.streams[1]).failed("wrong-base").says("recovered");
    assert!(!chain.path("refused").exists());
}

#[test]
fn an_increment_of_another_server_or_history_is_refused() {
    let chain = Streams::take(1);
    let lsn = chain.path("lsn");
    let other = Server::start(Kind::Mysql97, &[]);
    let mut send = xbsend(&other);
    send.arg("--since").arg(&lsn);
    into_file(send, &chain.path("x")).failed("wrong-base").says("that is a backup of server");
    // Where nothing says which server it was, the receiver finds out.
    let checkpoints = std::fs::read_to_string(lsn.join("xtrabackup_checkpoints")).unwrap();
    let from = checkpoints.lines().find_map(|l| l.strip_prefix("to_lsn = ")).unwrap();
    for _ in 0..200 {
        let now: u64 = other.query("SHOW STATUS LIKE 'Innodb_redo_log_current_lsn'")[0][1].parse().unwrap();
        if now > from.parse().unwrap() {
            break;
        }
        other.execute("CREATE DATABASE e; DROP DATABASE e");
    }
    let theirs = chain.path("theirs.xb");
    let mut send = xbsend(&other);
    send.args(["--since", from]);
    into_file(send, &theirs).ok();
    chain.refused(&[&chain.streams[0], &theirs], "wrong-base", "it is of server");
    let mut send = xbsend(&chain.source);
    send.args(["--since", "99999999999"]);
    into_file(send, &chain.path("x")).failed("wrong-base").says("this server is at LSN");
    for bad in ["", "x", "-5", "/no/such/folder"] {
        let mut send = xbsend(&chain.source);
        send.arg(format!("--since={bad}"));
        into_file(send, &chain.path("x")).failed("usage");
    }
}

/// Both folders hold the same backup; only a merged one remembers what was merged.
fn assert_same_backup(merged: &Path, restored: &Path) {
    let _ = std::fs::remove_file(merged.join("xbpipe_merged"));
    assert_same_files(merged, restored);
}

#[test]
fn a_folder_is_merged_in_place_and_by_hand() {
    let chain = Streams::take_as(2, true);
    let all: Vec<&Path> = chain.streams.iter().map(PathBuf::as_path).collect();
    let [full, one, two] = all[..] else { panic!() };
    chain.restore("whole", &all).ok();
    let whole = chain.path("whole");
    for (how, prepare) in [("in one go", "native"), ("one by one", "none")] {
        let dir = chain.path(how);
        let mut receive = xbrecv(&dir);
        receive.arg("--prepare").arg(prepare);
        on_file(receive, full).ok();
        run(&["merge"], &[&dir, two]).failed("wrong-base");
        std::fs::write(dir.join("notes.txt"), "mine").unwrap();
        match how {
            "in one go" => drop(run(&["merge"], &[&dir, one, two]).ok().says("2 increments")),
            _ => {
                on_file(xbrecv_on(&["merge"], &[&dir, Path::new("-")]), one).ok();
                run(&["merge"], &[&dir, one, two]).ok().says("1 had been merged before");
            }
        }
        run(&["merge"], &[&dir, one, two]).ok().says("2 had been merged before");
        run(&["merge"], &[&dir]).ok();
        run(&["merge"], &[&dir, full]).failed("wrong-base").says("not an increment");
        assert_eq!(std::fs::read(dir.join("notes.txt")).unwrap(), b"mine");
        std::fs::remove_file(dir.join("notes.txt")).unwrap();
        assert_same_backup(&dir, &whole);
    }
    // As XtraBackup's scripts do it, with extracted folders.
    let by_hand = chain.path("by-hand");
    on_file(xbrecv(&by_hand), full).ok();
    run(&["prepare", "--apply-redo-only"], &[&by_hand]).ok();
    let state = || std::fs::read_to_string(by_hand.join("xtrabackup_checkpoints")).unwrap();
    assert!(state().starts_with("backup_type = log-applied\n"), "{}", state());
    for (n, stream) in [one, two].into_iter().enumerate() {
        let extracted = chain.path(&format!("extracted{n}"));
        std::fs::create_dir(&extracted).unwrap();
        let mut extract = Command::new(tool("mbstream"));
        extract.args(["-x", "-C"]).arg(&extracted).stderr(Stdio::piped());
        on_file(extract, stream).ok();
        let before = files(&extracted);
        let increment = format!("--increment={}", extracted.display());
        let words =
            if n == 0 { &["prepare", "--apply-redo-only", &increment][..] } else { &["prepare", &increment] };
        run(words, &[&by_hand]).ok();
        assert_eq!(files(&extracted), before);
    }
    assert!(state().starts_with("backup_type = full-prepared\n"), "{}", state());
    assert_same_backup(&by_hand, &whole);
    // A damaged page in an extracted folder.
    let extracted = chain.path("extracted0");
    let mut bytes = std::fs::read(extracted.join("ibdata1.delta")).unwrap();
    let at = bytes.len() - 5000;
    bytes[at] ^= 1;
    std::fs::write(extracted.join("ibdata1.delta"), bytes).unwrap();
    let fresh = chain.path("fresh");
    on_file(xbrecv(&fresh), full).ok();
    let before = files(&fresh);
    let increment = format!("--increment={}", extracted.display());
    run(&["prepare", &increment], &[&fresh]).failed("manifest-mismatch");
    assert_eq!(files(&fresh), before);
}

#[test]
fn a_merge_is_killed_and_goes_on() {
    let seed = seed();
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    let mut chain = Streams::take(1);
    chain
        .source
        .execute("CREATE TABLE d.big (id INT PRIMARY KEY AUTO_INCREMENT, v VARBINARY(2000)); DROP TABLE d.m");
    chain.source.execute("CREATE TABLE d.m (id INT PRIMARY KEY) ENGINE = MyISAM; RENAME TABLE d.t TO d.u; CREATE TABLE d.t LIKE d.u");
    chain.source.execute("INSERT INTO d.big (v) VALUES (RANDOM_BYTES(900))");
    for _ in 0..12 {
        chain.source.execute("INSERT INTO d.big (v) SELECT RANDOM_BYTES(900) FROM d.big");
    }
    let lsn = chain.path("lsn");
    chain.back_up(Some(&lsn));
    let all: Vec<&Path> = chain.streams.iter().map(PathBuf::as_path).collect();
    chain.restore("whole", &all).ok();
    let (mut kills, mut round) = (0, 0);
    while kills < 25 {
        round += 1;
        let dir = chain.path(&format!("merged{round}"));
        on_file(xbrecv(&dir), all[0]).ok();
        loop {
            let words: &[&Path] = if random.one_in(3) { &[&dir] } else { &[&dir, all[1], all[2]] };
            let mut merge = xbrecv_on(&["merge"], words).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(random.below(400)));
            let over = merge.try_wait().unwrap().is_some();
            if !over {
                merge.kill().unwrap();
                kills += 1;
            }
            let said = said(merge);
            if over {
                assert_eq!(said.status, Some(0), "{}", said.words);
                if words.len() == 3 {
                    break;
                }
            }
        }
        assert_same_backup(&dir, &chain.path("whole"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn the_server_says_which_pages_have_changed() {
    let mut chain = Streams::take(0);
    let full = chain.streams[0].clone();
    let send = |chain: &Streams, how: &str, n: u32| {
        chain.source.execute(&format!("INSERT INTO d.t VALUES ({}, 'tracked')", 1000 + n));
        if n > 2 {
            chain.source.execute("DO innodb_redo_log_sharp_checkpoint()");
        }
        let mut send = xbsend(&chain.source);
        send.arg(format!("--page-tracking={how}")).arg("--since").arg(chain.path("lsn"));
        send.arg("--extra-lsndir").arg(chain.path("lsn"));
        let stream = chain.path(&format!("tracked{n}.xb"));
        (into_file(send, &stream), stream)
    };
    send(&chain, "on", 0).0.failed("unsupported-server").says("INSTALL COMPONENT");
    chain.source.execute("INSTALL COMPONENT 'file://component_mysqlbackup'");
    let mut all = vec![full];
    let mut next = |chain: &Streams, how: &str, words: &str| {
        let (said, stream) = send(chain, how, all.len() as u32);
        said.ok().says(words);
        all.push(stream);
    };
    next(&chain, "auto", "the server does not track pages");
    next(&chain, "on", "too late for pages from LSN");
    next(&chain, "auto", "found by page tracking");
    next(&chain, "off", "page tracking is not wanted");
    next(&chain, "auto", "found by page tracking");
    chain.source.kill();
    chain.source.restart();
    next(&chain, "auto", "the server was restarted since the base was taken");
    next(&chain, "auto", "found by page tracking");
    cut_tracking(&chain.source);
    next(&chain, "auto", "the server has recovered from a crash while it tracked pages");
    next(&chain, "on", "too late for pages from LSN");
    next(&chain, "auto", "found by page tracking");
    let all: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
    chain.restore("tracked", &all).ok();
    let left = chain.source.datadir().join("#meb");
    assert_eq!(left.read_dir().unwrap().count(), 0);
    let copy = Server::start_on(Kind::Mysql97, &chain.path("tracked"), &["--log-bin=binlog"]);
    assert_eq!(copy.value("SELECT COUNT(*) FROM d.t"), "12");
}

/// Puts a block without a stop LSN into the server's archive of page tracking, as crash recovery does now and then.
fn cut_tracking(server: &Server) {
    let mut groups =
        server.datadir().join("#ib_archive").read_dir().unwrap().map(|group| group.unwrap().path());
    let group = groups.find(|group| group.join("active").exists()).unwrap();
    let mut block = vec![0; 16 << 10];
    block[..2].copy_from_slice(&[1, 1]);
    block[8..16].copy_from_slice(&(u64::MAX >> 1).to_be_bytes());
    std::fs::write(group.join("ib_page_9"), block).unwrap();
}

#[test]
fn a_backup_says_what_it_is() {
    let mut chain = Streams::take(1);
    let info = |path: &Path| {
        let output = xbrecv_on(&["info", "--json"], &[path]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let (full, one) = (info(&chain.streams[0]), info(&chain.streams[1]));
    assert_eq!((full["kind"].as_str(), one["kind"].as_str()), (Some("full"), Some("incremental")));
    assert_eq!(one["increment"]["base"], full["identity"]);
    assert_eq!(one["increment"]["from_lsn"], full["to_lsn"]);
    let all: Vec<&Path> = chain.streams.iter().map(PathBuf::as_path).collect();
    chain.restore("whole", &all).ok();
    let folder = info(&chain.path("whole"));
    assert_eq!((folder["kind"].as_str(), folder["state"].as_str()), (Some("full"), Some("full-prepared")));
    assert_eq!(folder["identity"], one["identity"]);
    assert!(run(&["info"], &[&chain.path("whole")]).ok().words.is_empty());
    run(&["info"], &[chain.dir.path()]).failed("target");
    // What it says is a base.
    let base = chain.path("base.json");
    std::fs::write(&base, folder.to_string()).unwrap();
    chain.back_up(Some(&base));
    let all: Vec<&Path> = chain.streams.iter().map(PathBuf::as_path).collect();
    chain.restore("longer", &all).ok();
}

#[test]
fn a_waiting_sender_sends_the_increment_that_the_receiver_wants() {
    let chain = Streams::take(0);
    let base = chain.path("base");
    on_file(xbrecv(&base), &chain.streams[0]).ok();
    for (n, carrier) in ["tcp", "quic"].into_iter().enumerate() {
        chain.source.execute(&format!("INSERT INTO d.t VALUES ({}, 'over the network')", 100 + n));
        let target = chain.path(carrier);
        let mut receive = xbrecv(&target);
        let before = if n == 0 { base.clone() } else { chain.path("tcp") };
        receive.arg("--base").arg(&before);
        let listening = Listening::start(receive, carrier);
        let sent = into_nothing(sending(&chain.source, &listening.to)).ok();
        sent.says("the whole increment was sent, and the receiver says OK");
        listening.said().ok();
        let copy = Server::start_on(Kind::Mysql97, &copied(&target), &["--log-bin=binlog"]);
        assert_eq!(copy.value("SELECT COUNT(*) FROM d.t"), (2 + n).to_string());
    }
    // Another server has nothing that fits.
    let other = Server::start(Kind::Mysql97, &[]);
    let mut receive = xbrecv(&chain.path("refused"));
    receive.arg("--base").arg(&base);
    let listening = Listening::start(receive, "quic");
    into_nothing(sending(&other, &listening.to)).failed("wrong-base").says("that is a backup of server");
    listening.said().failed("sender");
    assert!(!chain.path("refused").exists());
}

/// A copy of a folder, so that a server may start on it and the folder stays a base.
fn copied(dir: &Path) -> PathBuf {
    let copy = dir.with_extension("copy");
    assert!(Command::new("cp").arg("-a").args([dir, &copy]).status().unwrap().success());
    copy
}

/// Files of two folders that may differ: what says which streams they came from.
fn assert_same_data(ours: &Path, theirs: &Path) {
    let without = |dir: &Path| {
        let mut found = files(dir);
        found.retain(|name, _| name != "xbpipe_manifest" && name != "xtrabackup_info");
        found
    };
    let (ours, theirs) = (without(ours), without(theirs));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let differing: Vec<_> = ours.iter().filter(|(name, digest)| theirs[*name] != **digest).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

fn merged_stream(streams: &[&Path], into: &Path) -> Said {
    let mut merge = xbrecv_on(&["merge", "--stream"], streams);
    merge.arg("--tmpdir").arg(into.parent().unwrap());
    into_file(merge, into)
}

#[test]
fn stored_streams_become_one() {
    let mut chain = Streams::take(1);
    chain.source.execute("CREATE TABLE d.new (id INT PRIMARY KEY, v LONGBLOB); INSERT INTO d.new VALUES (1, REPEAT('x', 3000000))");
    chain.source.execute("RENAME TABLE d.t TO d.u; CREATE TABLE d.t LIKE d.u; CREATE DATABASE hollow");
    let lsn = chain.path("lsn");
    chain.back_up(Some(&lsn));
    let all: Vec<PathBuf> = chain.streams.clone();
    let [full, one, two] = &all[..] else { panic!() };
    chain.restore("chain", &[full, one, two]).ok();
    let merged = chain.path("merged.xb");
    merged_stream(&[full, one, two], &merged).ok().says("3 streams");
    run(&["info"], &[&merged]).ok();
    chain.restore("merged", &[&merged]).ok();
    assert_same_data(&chain.path("merged"), &chain.path("chain"));
    // It stands for the last increment: the next one fits, and so does one more merge.
    chain.back_up(Some(&lsn));
    let three = chain.streams[3].clone();
    chain.restore("longer", &[full, one, two, &three]).ok();
    chain.restore("longer-merged", &[&merged, &three]).ok();
    assert_same_data(&chain.path("longer-merged"), &chain.path("longer"));
    let again = chain.path("again.xb");
    merged_stream(&[&merged, &three], &again).ok();
    chain.restore("again", &[&again]).ok();
    assert_same_data(&chain.path("again"), &chain.path("longer"));
    let copy = Server::start_on(Kind::Mysql97, &chain.path("again"), &["--log-bin=binlog"]);
    assert_eq!(copy.value("SELECT LENGTH(v) FROM d.new"), "3000000");
    // What is no chain gives no backup.
    for (streams, words) in [
        (&[full, two][..], "ends at"),
        (&[full, one, one], "builds on"),
        (&[one, two], "increment"),
        (&[full, full], "not an increment"),
        (&[full], "nothing to merge"),
    ] {
        let streams: Vec<&Path> = streams.iter().map(|path| path.as_path()).collect();
        let bad = chain.path("bad.xb");
        let said = merged_stream(&streams, &bad);
        assert_ne!(said.status, Some(0), "{streams:?}: {words}");
        assert!(!has_manifest(&bad), "{streams:?}");
    }
    let cut = chain.path("cut.xb");
    std::fs::write(&cut, &std::fs::read(full).unwrap()[..1_000_000]).unwrap();
    assert_ne!(merged_stream(&[&cut, one], &chain.path("bad.xb")).status, Some(0));
    assert!(!has_manifest(&chain.path("bad.xb")));
    let left = std::fs::read_dir(chain.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with(".xbrecv-")));
}

/// `IMPORT TABLESPACE` brings another file under the same tablespace id: shorter, and with pages without content where the base
/// has some. Partitions are exchanged, a general tablespace moves.
#[test]
fn an_imported_tablespace_comes_out_right() {
    let source = Server::start(Kind::Mysql97, &RESTFUL);
    source.execute("INSTALL COMPONENT 'file://component_mysqlbackup'");
    source.execute(
        "CREATE DATABASE d; CREATE TABLE d.i (id INT PRIMARY KEY AUTO_INCREMENT, v VARBINARY(3000), KEY (v(100)));
         CREATE TABLE d.small LIKE d.i; INSERT INTO d.small (v) VALUES (RANDOM_BYTES(1000));
         CREATE TABLE d.p (id INT PRIMARY KEY, v VARBINARY(500)) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN (1000));
         CREATE TABLE d.x (id INT PRIMARY KEY, v VARBINARY(500)); INSERT INTO d.x VALUES (50, RANDOM_BYTES(500)); INSERT INTO d.p VALUES (60, RANDOM_BYTES(500)), (700, RANDOM_BYTES(500));
         CREATE TABLESPACE g ADD DATAFILE 'g.ibd'; CREATE TABLE d.g (id INT PRIMARY KEY) TABLESPACE g; INSERT INTO d.g VALUES (1);
         INSERT INTO d.i (v) VALUES (RANDOM_BYTES(1000))",
    );
    for _ in 0..11 {
        source.execute("INSERT INTO d.i (v) SELECT RANDOM_BYTES(1000) FROM d.i");
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let send = |stream: &str, words: &[&str]| {
        let mut send = xbsend(&source);
        send.args(words);
        into_file(send, &at(stream)).ok()
    };
    let lsn = format!("--extra-lsndir={}", at("lsn").display());
    send("full.xb", &[&lsn, "--page-tracking=on"]);
    let space = "SELECT space FROM information_schema.innodb_tables WHERE name = 'd/i'";
    let (before, schema) = (source.value(space), source.datadir().join("d"));
    let long = schema.join("i.ibd").metadata().unwrap().len();
    source.execute("ALTER TABLE d.i DISCARD TABLESPACE");
    source.execute("FLUSH TABLES d.small FOR EXPORT");
    for suffix in ["ibd", "cfg"] {
        std::fs::copy(schema.join(format!("small.{suffix}")), schema.join(format!("i.{suffix}"))).unwrap();
    }
    source.execute("UNLOCK TABLES");
    source.execute("ALTER TABLE d.i IMPORT TABLESPACE; INSERT INTO d.i (v) VALUES (RANDOM_BYTES(900))");
    source.execute("ALTER TABLE d.p EXCHANGE PARTITION p0 WITH TABLE d.x; ALTER TABLESPACE g RENAME TO h; ALTER TABLE d.g TABLESPACE innodb_file_per_table");
    assert_eq!(source.value(space), before);
    assert!(schema.join("i.ibd").metadata().unwrap().len() < long / 4);
    rest(&source);
    let since = format!("--since={}", at("lsn").display());
    send("scan.xb", &[&since, "--page-tracking=off"]);
    send("tracked.xb", &[&since, "--page-tracking=on"]).says("found by page tracking");
    settle(&source);
    for increment in ["scan", "tracked"] {
        let (target, stream) = (at(increment), at(&format!("{increment}.xb")));
        let mut receive = xbrecv(&target);
        receive.args([at("full.xb"), stream.clone()]);
        let received = said(receive.spawn().unwrap()).ok();
        let end = received.value("redo").unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        let mut left = xbrecv(&at(&format!("{increment}-left")));
        left.arg("--prepare=none").args([at("full.xb"), stream.clone()]);
        said(left.spawn().unwrap()).ok();
        let unlogged = || Unlogged::of(&source, &at(&format!("{increment}-left")));
        assert_same_pages(&[source.datadir()], &[&target], Lsn(end), unlogged);
        let merged = at(&format!("{increment}-merged.xb"));
        merged_stream(&[&at("full.xb"), &stream], &merged).ok();
        let again = at(&format!("{increment}-again"));
        on_file(xbrecv(&again), &merged).ok();
        assert_same_data(&again, &target);
        let copy = Server::start_on(Kind::Mysql97, &target, &["--log-bin=binlog"]);
        assert_same(&checksums(&copy), &checksums(&source));
        check_tables(&copy);
    }
}
