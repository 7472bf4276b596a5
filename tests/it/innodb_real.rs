//! What `innodb` says of pages and redo that a real server wrote.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{Kind, Server, Zoo, innodb};
use xbpipe::base::{Lsn, PageNo};
use xbpipe::innodb::page::{
    Expected, FilHeader, PageType, Scratch, Verdict, compressed, is_all_zero, verify,
};
use xbpipe::innodb::redo;

/// What the files of a datadir held.
#[derive(Default, Debug)]
struct Seen {
    pages: usize,
    empty: usize,
    /// Page sizes on disk of ROW_FORMAT=COMPRESSED files.
    zip_sizes: BTreeSet<usize>,
    types: BTreeMap<u16, usize>,
}

/// Verifies every page of every tablespace file under `dirs`.
fn verify_all(dirs: &[&Path]) -> Seen {
    let mut seen = Seen::default();
    let mut scratch = Scratch::new();
    for (path, page0, bytes) in innodb::tablespaces(dirs).into_values() {
        assert!(
            bytes.len() >= page0.size as usize * page0.layout.physical(),
            "{}: {page0:?}",
            path.display()
        );
        assert_eq!(page0.server_version.unwrap().major, 9, "{}", path.display());
        if page0.layout.is_zip() {
            seen.zip_sizes.insert(page0.layout.physical());
        }
        for (i, page) in bytes.chunks_exact(page0.layout.physical()).enumerate() {
            let expected = Expected { space: page0.space, page: PageNo(i as u32) };
            let verdict = verify(page, &page0.layout, expected, &mut scratch)
                .unwrap_or_else(|e| panic!("{} page {i}: {e}", path.display()));
            check_page(page, verdict, &mut seen);
        }
    }
    seen
}

fn check_page(page: &[u8], verdict: Verdict, seen: &mut Seen) {
    seen.pages += 1;
    if verdict == Verdict::AllZero {
        seen.empty += 1;
        return;
    }
    assert_eq!(verdict, Verdict::Ok);
    let page_type = FilHeader::of(page).unwrap().page_type();
    assert!(page_type.name().is_some(), "{page_type}");
    *seen.types.entry(page_type.0).or_default() += 1;
    let stored = compressed::stored_len(page);
    assert_eq!(stored.is_some(), page_type == PageType::COMPRESSED);
    assert!(is_all_zero(&page[stored.unwrap_or(page.len())..]));
}

#[test]
fn every_page_of_the_zoo_is_sound() {
    for page_size in [16384, 4096, 8192, 32768, 65536] {
        let outside = tempfile::tempdir().unwrap();
        let mut zoo = Zoo::with_page_size(outside.path(), page_size);
        zoo.rows = 400;
        let mut server = Server::start(Kind::Mysql97, &zoo.options());
        zoo.load(&server);
        server.stop();
        let seen = verify_all(&[server.datadir(), outside.path()]);
        assert!(seen.pages > 1000 && seen.empty > 0, "{seen:?}");
        let zip_sizes: &[usize] = match page_size {
            4096 => &[1024, 2048, 4096],
            8192 => &[1024, 2048, 4096, 8192],
            16384 => &[1024, 2048, 4096, 8192, 16384],
            _ => &[],
        };
        assert_eq!(seen.zip_sizes, zip_sizes.iter().copied().collect(), "page size {page_size}");
        for t in [PageType::INDEX, PageType::RTREE, PageType::SDI, PageType::LOB_FIRST, PageType::RSEG_ARRAY]
        {
            assert!(seen.types.contains_key(&t.0), "no page of type {t} at page size {page_size}");
        }
        // Page compression needs holes of a file system block.
        let compressed = seen.types.contains_key(&PageType::COMPRESSED.0);
        assert!(compressed || page_size == 4096, "{seen:?}");
    }
}

#[test]
fn pages_under_every_checksum_algorithm_are_sound() {
    for algorithm in ["innodb", "none", "strict_crc32"] {
        let outside = tempfile::tempdir().unwrap();
        let mut zoo = Zoo::new(outside.path());
        zoo.rows = 200;
        let setting = format!("--innodb-checksum-algorithm={algorithm}");
        let mut options = zoo.options();
        options.push(&setting);
        let mut server = Server::start(Kind::Mysql97, &options);
        assert_eq!(server.value("SELECT @@innodb_checksum_algorithm"), algorithm);
        zoo.load(&server);
        server.stop();
        assert!(verify_all(&[server.datadir(), outside.path()]).pages > 1000);
    }
}

#[test]
fn all_redo_of_the_zoo_is_understood() {
    for (page_size, log_images) in [(16384, "ON"), (16384, "OFF"), (4096, "ON"), (65536, "ON")] {
        let outside = tempfile::tempdir().unwrap();
        let mut zoo = Zoo::with_page_size(outside.path(), page_size);
        zoo.rows = 1500;
        let setting = format!("--innodb-log-compressed-pages={log_images}");
        let mut options = zoo.options();
        options.extend([&*setting, "--innodb-redo-log-capacity=2G", "--innodb-change-buffering=all"]);
        let server = Server::start(Kind::Mysql97, &options);
        // Keeps all redo from here on.
        assert_eq!(server.value("SELECT innodb_redo_log_consumer_register()"), "0");
        let start = server.query("SHOW STATUS LIKE 'Innodb_redo_log_checkpoint_lsn'")[0][1].clone();
        zoo.load(&server);
        server
            .execute("DROP TABLE zoo.journal; DROP TABLE zoo.deep; ALTER TABLE zoo.instant ADD KEY (d(20))");
        let end: u64 = server
            .value("SELECT STORAGE_ENGINES->>'$.InnoDB.LSN' FROM performance_schema.log_status")
            .parse()
            .unwrap();
        // Read while the server lives: a consumer that goes away takes its redo with it.
        server.execute("FLUSH ENGINE LOGS");
        let (mut kinds, mut spaces) = (BTreeMap::new(), BTreeSet::new());
        let read_to = innodb::read_redo(server.datadir(), Lsn(start.parse().unwrap()), |group| {
            spaces.extend(redo::file_events(group).map(|e| e.space));
            for record in group.records() {
                assert!(!record.to_string().is_empty());
                assert_eq!(redo::parse_body(record.kind, record.space, record.bytes), Ok(record.body));
                *kinds.entry(record.kind).or_insert(0) += 1;
            }
        });
        assert!(read_to.0 >= end, "read to {read_to}, {end} was promised");
        assert!(kinds.values().sum::<usize>() > 100_000 && spaces.len() > 50, "{kinds:?}");
        for kind in [redo::Kind::IndexLoad, redo::Kind::FileDelete, redo::Kind::RecUpdateInPlace] {
            assert!(kinds.contains_key(&kind), "no {} in the redo", kind.name());
        }
        if page_size == 16384 {
            let images = if log_images == "ON" {
                [redo::Kind::ZipPageCompress, redo::Kind::ZipWriteHeader]
            } else {
                [redo::Kind::ZipPageCompressNoData, redo::Kind::ZipPageReorganize]
            };
            assert!(images.iter().all(|kind| kinds.contains_key(kind)), "{kinds:?}");
        }
    }
}
