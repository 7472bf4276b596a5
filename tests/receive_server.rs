//! Backups of a real server, prepared either way, judged by servers that start on the copies.

// Tests are all I/O.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::path::Path;

use support::pipe::{into_file, on_file, xbrecv, xbsend};
use support::{Kind, Server, Zoo, assert_same, check_tables, checksums, definitions, gtid_executed};

/// Starts a server on a copy, as its user would: with the source's options that its files depend on.
fn start_on(datadir: &Path, options: &[&str]) -> Server {
    let gtids = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog"];
    Server::start_on(Kind::Mysql97, datadir, &[&gtids[..], options].concat())
}

#[test]
fn everything_of_a_zoo_comes_across_prepared_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let zoo = Zoo::new(outside.path());
    let options =
        [&zoo.options()[..], &["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog"]]
            .concat();
    let mut source = Server::start(Kind::Mysql97, &options);
    zoo.load(&source);
    let stream = dir.path().join("full.xb");
    into_file(xbsend(&source), &stream).ok();
    let (sums, texts, gtids) = (checksums(&source), definitions(&source), gtid_executed(&source));
    source.stop();
    // The source's files outside must not be found by the copies' servers.
    let old = outside.path().canonicalize().unwrap();
    std::fs::rename(&old, dir.path().join("away")).unwrap();

    let elsewhere = dir.path().canonicalize().unwrap().join("elsewhere");
    let system = "--innodb-data-file-path=ibdata1:12M;ibdata2:8M:autoextend";
    for (how, new) in [
        ("server", "."),
        ("server", elsewhere.to_str().unwrap()),
        ("server", "moved"),
        ("none", "moved"),
        ("none", elsewhere.to_str().unwrap()),
    ] {
        let target = dir.path().join("copy");
        let map = format!("--map={}={new}", old.display());
        // A general tablespace may not lie in a folder below the datadir.
        let general = format!("--map {}/zoo outside.ibd=zoo outside.ibd", old.display());
        let general_argument = general.replacen(' ', "=", 1);
        let receive = |more: &[&str]| {
            let mut command = xbrecv(&target);
            command.args(["--prepare", how, &map]).args(more);
            on_file(command, &stream)
        };
        let mut more = Vec::new();
        if new == "moved" {
            receive(&more).failed("usage").says(&general);
            assert!(!target.exists());
            more.push(general_argument.as_str());
        }
        assert_eq!(receive(&more).ok().value("gtid"), Some(gtids.clone()));
        let directories = format!("--innodb-directories={}", elsewhere.display());
        let options = [system, &directories];
        let mut copy = start_on(&target, &options);
        // First: a server logs a statement of its own when a MEMORY table is used for the first time after a restart.
        assert_eq!(gtid_executed(&copy), gtids, "{how} {new}");
        assert_same(&sums, &checksums(&copy));
        assert_same(&texts, &definitions(&copy));
        check_tables(&copy);
        let log = copy.error_log();
        assert!(!log.contains("[ERROR]"), "{log}");
        copy.stop();
        if how == "server" {
            assert!(!log.contains("Starting crash recovery"), "{log}");
        }
        drop(copy);
        std::fs::remove_dir_all(&target).unwrap();
        let _ = std::fs::remove_dir_all(&elsewhere);
    }
}
