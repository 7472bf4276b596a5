//! The exact judge of page apply: a copy of a server's pages, brought up to date by redo, equals what the server
//! itself flushed, byte for byte.
//!
//! Left out of the comparison: the page LSN and the checksum that follows from it, since the server raises the LSN of
//! pages that it latched and did not change, and the flush LSN in the header of the system tablespace. Tablespaces
//! in which an index was built without redo are left out as a whole.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use support::{Kind, Server, Zoo, innodb};
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

fn gather(datadir: &Path, start: Lsn) -> Redo {
    let mut all = Redo::default();
    innodb::read_redo(datadir, start, |group| {
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
    Ok(page.finish(end).to_vec())
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
    skipped_zip: usize,
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
        if page0.layout.is_zip() {
            outcome.skipped_zip += 1;
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

/// Lets purge finish and everything be flushed, until nothing happens any more; then reads all files.
fn settle(server: &Server, dirs: &[&Path]) -> Spaces {
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
            return spaces;
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
    let after = settle(&server, &dirs);
    let redo = gather(server.datadir(), start);
    (judge(&base, &after, &redo), redo)
}

#[test]
fn the_zoo_is_built_by_redo() {
    let outside = tempfile::tempdir().unwrap();
    let mut zoo = Zoo::new(outside.path());
    zoo.rows = 1000;
    let (outcome, redo) = run(&zoo.options(), outside.path(), |_| {}, |server| zoo.load(server));
    eprintln!("{:#?}", redo.kinds);
    eprintln!("{outcome:#?}");
    assert!(outcome.wrong.is_empty(), "{} of {} pages", outcome.wrong.len(), outcome.pages);
}
