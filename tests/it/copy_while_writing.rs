//! Backups of a server that is being written to: each copy holds exactly the transactions of the recorded GTID set,
//! shown by letting it replicate the rest and comparing it with the source.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::chains::xbrecv;
use crate::support::pipe::{copy, into_file, on_file, said, xbsend};
use crate::support::{
    Kind, Server, WriteLoad, assert_same, check_load, check_tables, checksums, gtid_executed, seed,
};

/// How many backups in a row; `scripts/soak` asks for more.
fn rounds() -> u64 {
    std::env::var("XBPIPE_ROUNDS").map_or(4, |n| n.parse().expect("XBPIPE_ROUNDS is a number"))
}

/// Makes `replica` a replica of `source` and waits until it has everything.
fn catch_up(replica: &Server, source: &Server) {
    let wanted = gtid_executed(source);
    replica.execute(&format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='repl', \
         SOURCE_PASSWORD='repl', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA",
        source.port()
    ));
    let begun = Instant::now();
    while replica.value(&format!("SELECT GTID_SUBSET('{wanted}', @@GLOBAL.gtid_executed)")) != "1" {
        let errors = replica.query(
            "SELECT LAST_ERROR_MESSAGE FROM performance_schema.replication_applier_status_by_worker \
             WHERE LAST_ERROR_NUMBER <> 0",
        );
        assert!(errors.is_empty(), "the copy does not hold what its GTID set says: {errors:?}");
        assert!(begun.elapsed() < Duration::from_secs(300), "the copy does not catch up");
        std::thread::sleep(Duration::from_millis(50));
    }
    replica.execute("STOP REPLICA; RESET REPLICA ALL");
}

/// The copy has exactly this GTID set, and becomes what its source is with the rest.
fn assert_holds(target: &Path, recorded: &str, source: &Server, what: &str) {
    let restored = Server::start_on(Kind::Mysql97, target, &["--log-bin=binlog", "--relay-log=relay"]);
    assert_eq!(gtid_executed(&restored), recorded, "{what}");
    check_load(&restored);
    catch_up(&restored, source);
    check_load(&restored);
    assert_same(&checksums(&restored), &checksums(source));
    check_tables(&restored);
}

#[test]
fn chains_taken_under_load_hold_exactly_their_gtid_set() {
    let seed = seed();
    let source = Server::start(Kind::Mysql97, &["--innodb-redo-log-capacity=64M"]);
    source.execute("CREATE USER repl@'%' IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl@'%'");
    source.execute("INSTALL COMPONENT 'file://component_mysqlbackup'");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (lsn, mut streams) = (at("lsn"), Vec::new());
    let load = WriteLoad::start(&source, seed, 6);
    let mut recorded = String::new();
    for (n, words) in [
        &["--page-tracking=on"][..],
        &["--page-tracking=on", "--throttle=200"],
        &["--page-tracking=off", "--throttle=auto"],
    ]
    .into_iter()
    .enumerate()
    {
        load.wait_for(20);
        let stream = at(&format!("{n}.xb"));
        let mut send = xbsend(&source);
        send.arg("--extra-lsndir").arg(&lsn).args(words);
        if n > 0 {
            send.arg("--since").arg(&lsn);
        }
        recorded = into_file(send, &stream).ok().value("gtid").expect("the GTID set is in the summary");
        streams.push(stream);
    }
    load.wait_for(20);
    load.stop();
    let mut whole = xbrecv(&at("whole"));
    whole.args(&streams);
    said(whole.spawn().unwrap()).ok();
    let mut before: Option<PathBuf> = None;
    for (n, stream) in streams.iter().enumerate() {
        let target = at(&format!("step{n}"));
        let mut step = xbrecv(&target);
        if let Some(before) = &before {
            step.arg("--base").arg(before);
        }
        on_file(step, stream).ok();
        before = Some(target);
    }
    for target in [at("whole"), before.unwrap()] {
        assert_holds(&target, &recorded, &source, &format!("{}, seed {seed}", target.display()));
    }
}

#[test]
fn backups_in_a_row_hold_exactly_their_gtid_set() {
    let seed = seed();
    let source = Server::start(Kind::Mysql97, &["--innodb-redo-log-capacity=64M"]);
    source.execute("CREATE USER repl@'%' IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl@'%'");
    let dir = tempfile::tempdir().unwrap();
    for round in 0..rounds() {
        let target = dir.path().join(format!("copy{round}"));
        let prepare = ["native", "server", "none"][round as usize % 3];
        let load = WriteLoad::start(&source, seed.wrapping_add(round), 6);
        load.wait_for(20 + round * 13 % 50);
        let (sent, received) = copy(&source, &target, &["--prepare", prepare]);
        load.wait_for(20);
        load.stop();

        let recorded = sent.value("gtid").expect("the GTID set is in the summary");
        assert_eq!(received.value("gtid").as_ref(), Some(&recorded));
        assert_holds(
            &target,
            &recorded,
            &source,
            &format!("round {round}, seed {seed}, --prepare={prepare}"),
        );
        std::fs::remove_dir_all(&target).unwrap();
    }
}
