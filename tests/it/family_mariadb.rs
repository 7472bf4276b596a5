//! What stands of the MariaDB family, on a real server: it is recognised, its tablespaces are found, and every page of
//! theirs is checked in the format that it has.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::support::{Kind, Server};
use xbpipe::base::{Code, Lsn, Result, Stop};
use xbpipe::family::{self, Family, Recognition};
use xbpipe::innodb::encryption::NoKeyring;
use xbpipe::innodb::page::PageLayout;
use xbpipe::source::inventory::{Datafile, Inventory};
use xbpipe::source::page_filter::EveryPage;
use xbpipe::source::pages::{OpenDatafile, PageReader, Reading};
use xbpipe::source::server_facts::{ServerFacts, ServerVariables};
use xbpipe::source::session::{ConnectOptions, Session};
use xbpipe::source::zero_pages::EmptyPages;
use xbpipe::stream::digest::BLOCK;

fn maria() -> &'static dyn Family {
    *family::FAMILIES.iter().find(|family| family.name() == "MariaDB").unwrap()
}

/// Tables of every format that MariaDB 10.11 makes pages in, all of it on disk.
fn filled(outside: &Path) -> Server {
    let options = ["--innodb-undo-tablespaces=3", "--innodb-file-per-table=ON"];
    let mut server = Server::start(Kind::Mariadb1011, &options);
    server.execute(&format!(
        "CREATE DATABASE w; \
         CREATE TABLE w.dynamic (a INT PRIMARY KEY, b VARCHAR(200), KEY (b)) ENGINE=InnoDB; \
         CREATE TABLE w.redundant (a INT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB ROW_FORMAT=REDUNDANT; \
         CREATE TABLE w.zip8 (a INT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8; \
         CREATE TABLE w.zip4 (a INT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4; \
         CREATE TABLE w.punched (a INT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB PAGE_COMPRESSED=1; \
         CREATE TABLE w.outside (a INT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB DATA DIRECTORY='{}'; \
         CREATE TABLE w.parts (a INT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB PARTITION BY HASH (a) PARTITIONS 3; \
         CREATE TABLE w.`odd name-ü` (a INT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB",
        outside.display()
    ));
    for table in ["dynamic", "redundant", "zip8", "zip4", "punched", "outside", "parts", "odd name-ü"] {
        server.execute(&format!(
            "INSERT INTO w.`{table}` SELECT seq, REPEAT(CHAR(65 + seq % 26), 1 + seq % 190) FROM w.seq_1_to_3000"
        ));
    }
    server.stop();
    server.restart();
    server
}

fn examined(server: &Server) -> (Arc<ServerFacts>, Inventory) {
    let options = ConnectOptions {
        socket: Some(server.socket().to_owned()),
        user: Some("root".into()),
        ..ConnectOptions::default()
    };
    let mut session = Session::connect(&options).unwrap();
    let variables = ServerVariables::ask(&mut session).unwrap();
    let (version, comment) =
        (variables.get("version").to_owned(), variables.get("version_comment").to_owned());
    assert!(matches!(maria().recognise(&version, &comment), Recognition::Unsupported(_)), "{version}");
    assert_eq!(family::of_server(&version, &comment).unwrap_err().code, Code::Unsupported);
    let others = family::FAMILIES.iter().filter(|family| family.name() != "MariaDB");
    for other in others {
        assert_eq!(other.recognise(&version, &comment), Recognition::Other, "{}", other.name());
    }
    let facts = Arc::new(ServerFacts::gather(variables, None).unwrap());
    let stop = Stop::new().unwrap();
    let examined = maria().examine(&mut session, facts.clone(), &options, &stop).unwrap();
    let lsns = examined.redo_lsns(&mut session).unwrap();
    assert!(
        lsns.checkpoint.is_some() && lsns.checkpoint <= lsns.flushed && lsns.flushed <= lsns.current,
        "{lsns:?}"
    );
    (facts, examined.inventory(&mut session).unwrap())
}

/// Reads all of a datafile as a backup does; how many bytes of it are not holes.
fn read_all(facts: &ServerFacts, file: &Datafile) -> Result<u64> {
    let suspects = EmptyPages::new(Lsn(0));
    let reading = Reading {
        format: maria().pages(),
        plain: PageLayout::full_crc32(facts.page_size()? as usize).unwrap(),
        owner: facts.owner,
        in_order: true,
        gives_way: None,
        suspects: &suspects,
        filter: &EveryPage,
        keyring: &NoKeyring,
        encrypted: &Default::default(),
    };
    let torn = AtomicU64::new(0);
    let mut reader = PageReader::new(&torn, &reading);
    let open = OpenDatafile::open(file, 0, &reading)?;
    let (mut buffer, mut bytes) = (vec![0; BLOCK], 0);
    for block in 0..open.blocks() {
        let read = open.read_block(block, &mut buffer, &mut reader)?;
        bytes += read.data(&buffer).iter().map(|part| part.len() as u64).sum::<u64>();
    }
    Ok(bytes)
}

#[test]
fn tablespaces_are_found_and_their_pages_checked() {
    let outside = tempfile::tempdir().unwrap();
    let server = filled(outside.path());
    let (facts, inventory) = examined(&server);

    // Whatever the server has opened since its start has the id that was found.
    for table in ["dynamic", "redundant", "zip8", "zip4", "punched", "outside", "parts", "odd name-ü"] {
        assert_eq!(server.value(&format!("SELECT COUNT(*) FROM w.`{table}`")), "3000");
    }
    let found: BTreeMap<u32, &Datafile> = inventory.datafiles.iter().map(|f| (f.space.0, f)).collect();
    assert_eq!(found.len(), inventory.datafiles.len(), "an id was found twice");
    let known = server.query(
        "SELECT SPACE, NAME FROM information_schema.INNODB_SYS_TABLESPACES WHERE NAME NOT LIKE 'innodb\\_temporary'",
    );
    assert!(known.len() >= 10 + 3, "{known:?}");
    for row in &known {
        let id: u32 = row[0].parse().unwrap();
        let file = found.get(&id).unwrap_or_else(|| panic!("{row:?} was not found"));
        if let Some((schema, table)) = row[1].split_once('/') {
            assert!(file.member.ends_with(&format!("{schema}/{table}.ibd")), "{row:?} {}", file.member);
        }
    }
    let of_kind = |kind| inventory.datafiles.iter().filter(|f| f.kind == kind).count();
    assert_eq!((of_kind("system"), of_kind("undo")), (1, 3));
    assert_eq!(inventory.external.len(), 1);
    assert!(inventory.external[0].path.starts_with(outside.path().canonicalize().unwrap()));

    for file in &inventory.datafiles {
        let bytes = read_all(&facts, file).unwrap_or_else(|e| panic!("{}: {e}", file.member));
        assert!(bytes > 0, "{}", file.member);
    }

    // A flipped bit is seen wherever it is: in a page of each format.
    for member in ["w/dynamic.ibd", "w/zip8.ibd", "w/punched.ibd", "undo001"] {
        let datafile = inventory.datafiles.iter().find(|f| f.member == member).unwrap();
        let copy = outside.path().join("damaged");
        std::fs::copy(&datafile.path, &copy).unwrap();
        let damaged = Datafile { path: copy.clone(), ..datafile.clone() };
        read_all(&facts, &damaged).unwrap();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&copy).unwrap();
        // Inside the stored part of a page whatever its size is, of one that is in use.
        let at = 3 * 16384 + 300;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        assert_eq!(read_all(&facts, &damaged).unwrap_err().code, Code::CorruptPage, "{member}");
    }
}
