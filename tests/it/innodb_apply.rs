//! The exact judge of page apply: a copy of a server's pages, brought up to date by redo, equals what the server
//! itself flushed, byte for byte.
//!
//! Left out of the comparison: the page LSN and the checksum that follows from it, since the server raises the LSN of
//! pages that it latched and did not change, and the flush LSN in the header of the system tablespace. Tablespaces
//! in which an index was built without redo are left out as a whole.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::{Kind, Server, WriteLoad, Zoo, innodb, seed};
use xbpipe::base::{Lsn, PageNo, SpaceId};
use xbpipe::innodb::apply::{Applier, Page};
use xbpipe::innodb::page::{FilHeader, Page0, PageLayout, Scratch, SpaceFlags};
use xbpipe::innodb::redo::{self, FileChange, Record, file_events};

type Spaces = BTreeMap<SpaceId, (PathBuf, Page0, Vec<u8>)>;

/// A record, kept.
struct Kept {
    start_lsn: Lsn,
    end_lsn: Lsn,
    kind: redo::Kind,
    bytes: Vec<u8>,
}

/// What the redo says, by page and by space.
#[derive(Default)]
struct Redo {
    pages: BTreeMap<(SpaceId, PageNo), Vec<Kept>>,
    kinds: BTreeMap<redo::Kind, usize>,
    created: BTreeMap<SpaceId, SpaceFlags>,
    dropped: BTreeSet<SpaceId>,
    unlogged: BTreeSet<SpaceId>,
}

/// What redo says from one LSN to the other.
fn gather(datadir: &Path, start: Lsn, end: Lsn) -> Redo {
    let mut all = Redo::default();
    innodb::read_redo(datadir, start, |group| {
        // The server may have gone on after its files were read.
        if group.records().next().is_some_and(|first| first.start_lsn >= end) {
            return;
        }
        for event in file_events(group) {
            match event.what {
                FileChange::Create { flags, .. } => {
                    all.created.insert(event.space, SpaceFlags(flags));
                }
                FileChange::Delete { .. } => {
                    all.dropped.insert(event.space);
                }
                FileChange::IndexLoad { .. } => {
                    all.unlogged.insert(event.space);
                }
                FileChange::Rename { .. } | FileChange::Extend { .. } => {}
            }
        }
        for record in group.records() {
            *all.kinds.entry(record.kind).or_default() += 1;
            if record.kind.is_page_change() {
                let Record { start_lsn, end_lsn, kind, bytes, .. } = record;
                let kept = Kept { start_lsn, end_lsn, kind, bytes: bytes.to_vec() };
                all.pages.entry((record.space, record.page)).or_default().push(kept);
            }
        }
    });
    all
}

/// The page as it was copied, with all its redo applied.
fn bring_up_to_date(
    applier: &mut Applier,
    base: Option<(&[u8], PageLayout)>,
    layout: PageLayout,
    (space, number): (SpaceId, PageNo),
    records: &[Kept],
) -> Result<Vec<u8>, String> {
    let size = layout.physical();
    let at = number.0 as usize * size;
    let bytes = base.and_then(|(b, _)| b.get(at..at + size)).map(<[u8]>::to_vec);
    let mut page = match bytes {
        Some(bytes) => {
            Page::load(space, number, layout, bytes, &mut Scratch::new()).map_err(|e| e.to_string())?
        }
        None => Page::blank(space, number, layout),
    };
    let had = page.lsn();
    for kept in records.iter().filter(|r| r.start_lsn >= had) {
        let body = redo::parse_body(kept.kind, space, &kept.bytes).unwrap();
        let (start_lsn, end_lsn) = (kept.start_lsn, kept.end_lsn);
        let record =
            Record { start_lsn, end_lsn, space, page: number, kind: kept.kind, bytes: &kept.bytes, body };
        applier.apply(&mut page, &record).map_err(|e| e.to_string())?;
    }
    let end = records.last().map_or(had, |r| r.end_lsn.max(had));
    page.finish(end).map(<[u8]>::to_vec).map_err(|e| e.to_string())
}

/// Bytes in which the pages differ, those left out that may.
fn differences(ours: &[u8], theirs: &[u8], layout: PageLayout, page: PageNo) -> Vec<usize> {
    let len = ours.len();
    let may_differ = |at: usize| {
        at < 4
            || (16..24).contains(&at)
            || (page == PageNo(0) && (26..34).contains(&at))
            || (!layout.is_zip() && at >= len - 8)
    };
    (0..len).filter(|at| ours[*at] != theirs[*at] && !may_differ(*at)).collect()
}

#[derive(Default, Debug)]
struct Outcome {
    pages: usize,
    records: usize,
    skipped_unlogged: usize,
    wrong: Vec<String>,
}

fn judge(before: &Spaces, after: &Spaces, redo: &Redo) -> Outcome {
    let mut outcome = Outcome::default();
    let mut applier = Applier::new();
    for (&(space, number), records) in &redo.pages {
        let Some((path, page0, theirs)) = after.get(&space) else {
            assert!(
                redo.dropped.contains(&space),
                "redo for space {space}, which has no file and was not dropped"
            );
            continue;
        };
        if redo.unlogged.contains(&space) {
            outcome.skipped_unlogged += 1;
            continue;
        }
        let base = before.get(&space).map(|(_, page0, bytes)| (&bytes[..], page0.layout));
        // An undo tablespace made by CREATE comes without an event (one that is truncated does not).
        let layout = match (base, redo.created.get(&space)) {
            (Some((_, layout)), _) => layout,
            (None, Some(flags)) => flags.layout().unwrap(),
            (None, None) if space.is_undo() => page0.layout,
            (None, None) => panic!("no event says that space {space} ({}) was made", path.display()),
        };
        assert_eq!(layout, page0.layout);
        let name = format!("{} page {number}", path.file_name().unwrap().to_string_lossy());
        let at = number.0 as usize * layout.physical();
        let Some(theirs) = theirs.get(at..at + layout.physical()) else {
            outcome.wrong.push(format!("{name}: beyond the end of the file"));
            continue;
        };
        outcome.pages += 1;
        outcome.records += records.len();
        match bring_up_to_date(&mut applier, base, layout, (space, number), records) {
            Err(e) => outcome.wrong.push(format!("{name}: {e}")),
            Ok(ours) => {
                let theirs = Page::load(space, number, layout, theirs.to_vec(), &mut Scratch::new()).unwrap();
                let differing = differences(&ours, theirs.bytes(), layout, number);
                if !differing.is_empty() {
                    let page_type = FilHeader::of(theirs.bytes()).unwrap().page_type();
                    let lsns = (theirs.lsn(), records.last().unwrap().end_lsn);
                    outcome.wrong.push(format!(
                        "{name} ({page_type}), LSN {lsns:?}: {} bytes differ, first {:?}",
                        differing.len(),
                        &differing[..differing.len().min(12)]
                    ));
                }
            }
        }
    }
    outcome
}

fn status(server: &Server, name: &str) -> u64 {
    server.query(&format!("SHOW STATUS LIKE 'Innodb_redo_log_{name}'"))[0][1].parse().unwrap()
}

/// Lets purge finish and everything be flushed, until nothing happens any more; then reads all files. Also returns the LSN of which
/// they are.
fn settle(server: &Server, dirs: &[&Path]) -> (Spaces, Lsn) {
    for _ in 0..200 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let history =
            "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'";
        if server.value(history) != "0" {
            continue;
        }
        server.execute("DO innodb_redo_log_sharp_checkpoint()");
        let flushed = status(server, "checkpoint_lsn");
        let spaces = innodb::tablespaces(dirs);
        if status(server, "current_lsn") == flushed {
            return (spaces, Lsn(flushed));
        }
    }
    panic!("the server does not come to rest");
}

/// Runs `work` on a server between a copy and a complete flush, and compares.
fn run(
    options: &[&str],
    outside: &Path,
    before: impl FnOnce(&Server),
    work: impl FnOnce(&Server),
) -> (Outcome, Redo) {
    let mut all = options.to_vec();
    all.extend([
        "--innodb-redo-log-capacity=4G",
        "--innodb-undo-log-truncate=OFF",
        "--innodb-purge-rseg-truncate-frequency=1",
    ]);
    let server = Server::start(Kind::Mysql97, &all);
    before(&server);
    assert_eq!(server.value("SELECT innodb_redo_log_consumer_register()"), "0");
    let start = Lsn(status(&server, "checkpoint_lsn"));
    let dirs = [server.datadir(), outside];
    let base = innodb::tablespaces(&dirs);
    work(&server);
    let (after, end) = settle(&server, &dirs);
    let redo = gather(server.datadir(), start, end);
    (judge(&base, &after, &redo), redo)
}

fn assert_right((outcome, redo): (Outcome, Redo), pages_min: usize) -> BTreeMap<redo::Kind, usize> {
    eprintln!(
        "{} pages with {} records; {} pages of tablespaces with an index built without redo left out",
        outcome.pages, outcome.records, outcome.skipped_unlogged
    );
    let first: Vec<_> = outcome.wrong.iter().take(20).collect();
    assert!(
        outcome.wrong.is_empty(),
        "{} of {} pages differ: {first:#?}",
        outcome.wrong.len(),
        outcome.pages
    );
    assert!(outcome.pages >= pages_min, "only {} pages", outcome.pages);
    redo.kinds
}

/// All of the zoo is made between copy and flush, at this page size.
fn zoo_is_built(page_size: u32, options: &[&str]) -> BTreeMap<redo::Kind, usize> {
    let outside = tempfile::tempdir().unwrap();
    let mut zoo = Zoo::with_page_size(outside.path(), page_size);
    zoo.rows = 1000;
    let all = [&zoo.options()[..], options].concat();
    assert_right(run(&all, outside.path(), |_| {}, |server| zoo.load(server)), 2000)
}

#[test]
fn the_zoo_is_built_by_redo() {
    let kinds = zoo_is_built(16384, &["--innodb-change-buffering=all"]);
    for kind in [redo::Kind::ZipPageCompress, redo::Kind::ZipWriteBlobPtr, redo::Kind::CompPageCreateRtree] {
        assert!(kinds.contains_key(&kind), "{kinds:?}");
    }
}

#[test]
fn compressed_pages_are_made_again_as_the_server_made_them() {
    let kinds = zoo_is_built(16384, &["--innodb-log-compressed-pages=OFF", "--innodb-compression-level=4"]);
    for kind in [redo::Kind::ZipPageCompressNoData, redo::Kind::ZipPageReorganize] {
        assert!(kinds.contains_key(&kind), "{kinds:?}");
    }
    zoo_is_built(8192, &["--innodb-log-compressed-pages=OFF", "--innodb-compression-level=9"]);
    zoo_is_built(4096, &["--innodb-log-compressed-pages=OFF", "--innodb-compression-level=0"]);
}

#[test]
fn other_page_sizes() {
    for page_size in [4096, 8192, 32768, 65536] {
        zoo_is_built(page_size, &[]);
    }
}

/// Changes to every table of the zoo: what was there before the copy is updated, deleted, added to, altered.
const CHANGES: &str = "
    UPDATE shape SET v = CONCAT(LEFT(v, 100), 'again'), i = i + 1 WHERE i % 5 = 0;
    UPDATE row_redundant SET v = NULL, d = NULL WHERE i % 3 = 0;
    UPDATE row_redundant SET v = 'x', d = 5, t = NOW() WHERE i % 6 = 0;
    UPDATE row_compact SET b = noise('c', i, 9000) WHERE i % 40 = 0;
    DELETE FROM row_dynamic WHERE i % 4 = 1;
    INSERT INTO row_dynamic SELECT CONCAT('n', n), n, NULL, n, 'c', 'v', noise('d', n, n), n, 1, 1 FROM numbers;
    UPDATE deep SET n = n + 100000 WHERE n % 9 = 0;
    DELETE FROM deep WHERE n % 4 = 0;
    DELETE FROM keyless WHERE a % 3 = 0;
    UPDATE in_system SET v = REVERSE(v) WHERE id % 2 = 0;
    DELETE FROM in_system WHERE id % 5 = 0;
    UPDATE part_range SET v = CONCAT('u', v) WHERE id % 7 = 0;
    UPDATE part_sub SET v = LEFT(v, 20);
    UPDATE general_1 SET v = REVERSE(v); DELETE FROM general_2 WHERE id % 3 = 1;
    DELETE FROM words WHERE id % 3 = 0; UPDATE words SET body = CONCAT(body, ' tapir') WHERE id % 4 = 0;
    DELETE FROM places WHERE id % 3 = 0; UPDATE places SET at = ST_SRID(POINT(id % 90, id % 45), 4326);
    UPDATE documents SET doc = JSON_SET(doc, '$.name', LEFT(hex64('again', id), 12)) WHERE id % 3 = 0;
    UPDATE large SET story = CONCAT(story, 'end'), content = LEFT(content, LENGTH(content) DIV 2);
    DELETE FROM large WHERE id % 5 = 0;
    UPDATE computed SET a = a + 1; DELETE FROM animals WHERE id % 3 = 0;
    UPDATE instant SET b = b + 1, renamed = renamed + 1, first_one = 'other' WHERE id % 4 = 0;
    ALTER TABLE instant ADD COLUMN late VARCHAR(30) DEFAULT 'late', ALGORITHM = INSTANT;
    INSERT INTO instant (b, renamed, late) SELECT n, n, 'now' FROM numbers;
    ALTER TABLE instant DROP COLUMN first_one, ALGORITHM = INSTANT;
    UPDATE instant SET d = 'short' WHERE id % 3 = 0; DELETE FROM instant WHERE id % 5 = 0;
    UPDATE instant_redundant SET b = 'changed' WHERE id % 2 = 0;
    ALTER TABLE instant_redundant ADD COLUMN y VARCHAR(9) DEFAULT 'y' AFTER id, ALGORITHM = INSTANT;
    UPDATE instant_redundant SET y = 'yy', z = NULL WHERE id % 3 = 0;
    DELETE FROM instant_redundant WHERE id % 7 = 0;
    UPDATE instant_parted SET z = 'changed' WHERE id % 2 = 0;
    TRUNCATE numbers;
    START TRANSACTION; DELETE FROM shape; ROLLBACK;
    START TRANSACTION; UPDATE row_compact SET v = 'rolled back', b = NULL; ROLLBACK;
";

/// The same for compressed tables.
const CHANGES_ZIP: &str = "
    UPDATE row_compressed_1 SET v = CONCAT(LEFT(v, 50), 'z'), i = i + 1 WHERE i % 3 = 0;
    DELETE FROM row_compressed_2 WHERE i % 3 = 1;
    INSERT INTO row_compressed_2 SELECT * FROM shape WHERE i % 2 = 0 ON DUPLICATE KEY UPDATE v = 'dup';
    UPDATE row_compressed_4 SET b = noise('z', i, 5000) WHERE i % 9 = 0;
    UPDATE row_compressed_4 SET b = 'small' WHERE i % 18 = 0;
    DELETE FROM row_compressed_8 WHERE i % 2 = 0; UPDATE row_compressed_8 SET i = -i;
    START TRANSACTION; DELETE FROM row_compressed_16 WHERE i > 10; ROLLBACK;
    UPDATE row_compressed_16 SET c = CONCAT(LEFT(c, 30), i);
    UPDATE general_zip SET v = REVERSE(v) WHERE id % 2 = 0; DELETE FROM general_zip WHERE id % 3 = 0;
    DELETE FROM large_zip WHERE id % 2 = 0; UPDATE large_zip SET story = CONCAT('start', story);
";

/// The zoo stands when the copy is taken; writers are at work, and its tables change.
fn zoo_is_changed(options: &[&str], seed: u64) {
    let outside = tempfile::tempdir().unwrap();
    let mut zoo = Zoo::new(outside.path());
    zoo.rows = 1500;
    let all = [&zoo.options()[..], options].concat();
    let work = |server: &Server| {
        let load = WriteLoad::start(server, seed, 2);
        server.run_script(&format!("USE zoo; {CHANGES}{CHANGES_ZIP}"));
        load.wait_for(300);
        load.stop();
    };
    assert_right(run(&all, outside.path(), |server| zoo.load(server), work), 2000);
}

#[test]
fn the_zoo_is_changed_by_redo() {
    zoo_is_changed(&["--innodb-change-buffering=all"], seed());
}

#[test]
fn the_zoo_is_changed_by_redo_without_compressed_images() {
    zoo_is_changed(&["--innodb-log-compressed-pages=OFF"], seed());
}

/// Layouts as the fuzz target `apply` numbers them.
fn fuzz_layout(layout: PageLayout) -> Option<u8> {
    let all = [
        PageLayout::plain(4096),
        PageLayout::plain(65536),
        PageLayout::zip(16384, 1024),
        PageLayout::zip(4096, 4096),
        PageLayout::plain(16384),
        PageLayout::zip(16384, 8192),
    ];
    all.into_iter().position(|one| one.unwrap() == layout).map(|n| n as u8)
}

/// A page before its records, and as many of them as the target takes: their number of bytes, a multiple of eight, stands
/// in front. In between, what fills up: records that do nothing, and the end of the group.
fn fuzz_seed(choice: u8, records: &[Kept], page: &[u8]) -> Vec<u8> {
    const LOG_MAX: usize = 8 * 255;
    const HEAD: [u8; 2] = [5, 3];
    let mut log = Vec::new();
    for kept in records {
        if log.len() + 1 + HEAD.len() + kept.bytes.len() >= LOG_MAX {
            break;
        }
        log.push(kept.kind as u8);
        log.extend(HEAD);
        log.extend(&kept.bytes);
    }
    while log.len() % 8 != 7 {
        log.push(redo::Kind::Dummy as u8);
    }
    log.push(redo::Kind::MultiRecEnd as u8);
    let len = (log.len() / 8) as u8;
    [&[choice, len], &log[..], page].concat()
}

/// Real pages with their records, a few of each type, in `fuzz/corpus/apply`.
#[test]
#[ignore = "makes seeds for the fuzzer: scripts/fuzz"]
fn seeds_for_fuzzing() {
    const EACH: usize = 12;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/apply");
    std::fs::create_dir_all(&corpus).unwrap();
    for (page_size, images) in [(4096, "ON"), (16384, "ON"), (16384, "OFF"), (65536, "ON")] {
        let outside = tempfile::tempdir().unwrap();
        let zoo = Zoo::with_page_size(outside.path(), page_size);
        let server = Server::start(
            Kind::Mysql97,
            &[&zoo.options()[..], &["--innodb-redo-log-capacity=4G", "--innodb-change-buffering=all"]]
                .concat(),
        );
        server.execute(&format!("SET GLOBAL innodb_log_compressed_pages = {images}"));
        assert_eq!(server.value("SELECT innodb_redo_log_consumer_register()"), "0");
        let start = Lsn(status(&server, "checkpoint_lsn"));
        zoo.load(&server);
        let base = innodb::tablespaces(&[server.datadir(), outside.path()]);
        let (mut written, mut applier) = (BTreeMap::<redo::Kind, usize>::new(), Applier::new());
        for ((space, page), records) in gather(server.datadir(), start, Lsn(u64::MAX)).pages {
            let Some((_, page0, bytes)) = base.get(&space) else { continue };
            let Some(choice) = fuzz_layout(page0.layout) else { continue };
            // From the first record of a type that there are few of: the page as that one finds it.
            let rare = |one: &Kept| written.get(&one.kind).is_none_or(|n| *n < EACH);
            let Some(from) = records.iter().position(rare) else { continue };
            let (earlier, records) = records.split_at(from);
            let base = Some((&bytes[..], page0.layout));
            let Ok(before) = bring_up_to_date(&mut applier, base, page0.layout, (space, page), earlier)
            else {
                continue;
            };
            *written.entry(records[0].kind).or_default() += 1;
            let name = format!("{page_size}-{images}-{space}-{page}");
            std::fs::write(corpus.join(name), fuzz_seed(choice, records, &before)).unwrap();
        }
        eprintln!("pages of {page_size}: {written:?}");
    }
}
