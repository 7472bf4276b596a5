//! The exact judge of a native prepare: every page of a copy beside the source's, once the source has come to rest.
//!
//! Not compared are pages that the source changed after the end of the backup: a checkpoint saves auto-increment counters
//! to a table of the dictionary, by a transaction of its own. Left out of the comparison, since the server does not log them:
//! * the page LSN, which it raises on pages that it latched and did not change, and the checksum that follows from it;
//! * the flush LSN in the header of the system tablespace (and the same bytes in page 0 of the others);
//! * what [`Unlogged`] tells: few bytes and few pages, each with its reason.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use xbpipe::base::{Lsn, PageNo, SpaceId};
use xbpipe::innodb::apply::Page;
use xbpipe::innodb::page::{FilHeader, PageLayout, PageType, Scratch};
use xbpipe::innodb::redo::{Kind, Record, newest_checkpoint};

use super::innodb;
use super::pipe::{Said, said};
use super::server::Server;

/// Options of a source that can come to rest, and flushes nothing before it is told to.
pub const RESTFUL: [&str; 8] = [
    "--innodb-redo-log-capacity=4G",
    "--innodb-buffer-pool-size=1G",
    "--innodb-max-dirty-pages-pct=99",
    "--innodb-max-dirty-pages-pct-lwm=0",
    "--innodb-idle-flush-pct=0",
    "--innodb-adaptive-flushing=OFF",
    "--innodb-undo-log-truncate=OFF",
    "--innodb-purge-rseg-truncate-frequency=1",
];

/// Runs `send` and takes so many bytes of its stream; lets `meanwhile` do its work; then takes the rest.
pub fn send_around(mut send: Command, take: u64, into: &Path, meanwhile: impl FnOnce()) -> Said {
    let mut sender = send.stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = sender.stdout.take().unwrap();
    let mut file = std::fs::File::create(into).unwrap();
    std::io::copy(&mut Read::by_ref(&mut stream).take(take), &mut file).unwrap();
    meanwhile();
    std::io::copy(&mut stream, &mut file).unwrap();
    file.flush().unwrap();
    said(sender)
}

/// Pipes `send` into `receive`, and the stream to a file as well; after so many bytes lets `meanwhile` do its work.
pub fn pipe_around(
    mut send: Command,
    mut receive: Command,
    take: u64,
    into: &Path,
    meanwhile: impl FnOnce(),
) -> (Said, Said) {
    let mut sender = send.stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = sender.stdout.take().unwrap();
    let mut receiver = receive.stdin(Stdio::piped()).spawn().unwrap();
    let mut both = Both(receiver.stdin.take().unwrap(), std::fs::File::create(into).unwrap());
    // A receiver that failed says why.
    let mut copied = std::io::copy(&mut Read::by_ref(&mut stream).take(take), &mut both);
    if copied.is_ok() {
        meanwhile();
        copied = std::io::copy(&mut stream, &mut both);
    }
    drop((both, stream));
    let (sent, received) = (said(sender), said(receiver));
    assert!(copied.is_ok(), "{copied:?}\n{}{}", sent.words, received.words);
    (sent, received)
}

struct Both<A, B>(A, B);

impl<A: Write, B: Write> Write for Both<A, B> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()?;
        self.1.flush()
    }
}

fn status(server: &Server, name: &str) -> u64 {
    server.query(&format!("SHOW STATUS LIKE 'Innodb_redo_log_{name}'"))[0][1].parse().unwrap()
}

/// Lets purge finish, until nothing is logged any more; the LSN then.
pub fn rest(server: &Server) -> Lsn {
    until_still(server, || ());
    Lsn(status(server, "current_lsn"))
}

/// The same, and everything is flushed.
pub fn settle(server: &Server) {
    until_still(server, || server.execute("DO innodb_redo_log_sharp_checkpoint()"));
    assert_eq!(status(server, "checkpoint_lsn"), status(server, "current_lsn"));
}

fn until_still(server: &Server, each_time: impl Fn()) {
    let history = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'";
    let (mut last, mut still) = (0, 0);
    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(250));
        each_time();
        let now = status(server, "current_lsn");
        still = if now == last && server.value(history) == "0" { still + 1 } else { 0 };
        last = now;
        if still == 4 {
            return;
        }
    }
    panic!("the server does not come to rest");
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

/// Whether a page of the tablespace is in no use, by its extent's descriptor (XDES in fsp0fsp.h): after 24 fixed bytes two
/// bits a page, of which the lower is set if it is free. Descriptors are on every page whose number is a multiple of the
/// physical page size, from byte 150 on.
fn is_free(tablespace: &[u8], layout: PageLayout, number: u32) -> bool {
    let (number, page_len, extent) = (number as usize, layout.physical(), layout.extent_pages());
    let of = number / page_len * page_len;
    let descriptor = of * page_len + 150 + (number - of) / extent * layout.xdes_size();
    let bit = 2 * (number % extent);
    tablespace[descriptor + 24 + bit / 8] >> (bit % 8) & 1 == 1
}

/// Whether an index build made this page (`Page_load::finish`) as the only one of its level: no neighbours, no free records
/// or garbage, direction right, no insert since.
fn is_built_alone(page: &[u8]) -> bool {
    let header = FilHeader::of(page).unwrap();
    let is_alone = (header.prev(), header.next()) == (u32::MAX, u32::MAX);
    header.page_type() == PageType::INDEX
        && is_alone
        && page[44..48] == [0; 4]
        && page[50..54] == [0, 2, 0, 0]
}

/// Whether the page says how it was compressed once (`FIL_PAGE_VERSION` and what follows it): version, algorithm, and its own
/// type as the one it had before.
fn was_compressed(page: &[u8]) -> bool {
    // The type before is gone where the page was encrypted as well.
    matches!(page[26..28], [1..=2, 1..=2]) && (page[28..30] == page[24..26] || page[28..30] == [0; 2])
}

/// Whether one of the two says how it was compressed once, and the other says nothing of it: the server leaves that in a page that
/// it reads back, and so does a copy; in the memory of the server that wrote it there are zeros. If it does not get smaller any
/// more, it is stored as it is.
fn one_was_compressed(ours: &[u8], theirs: &[u8]) -> bool {
    let (nothing, rest) = ([0; 8], 26..34);
    ours[rest.clone()] == nothing && was_compressed(theirs) || theirs[rest] == nothing && was_compressed(ours)
}

/// Pages that a checkpoint after the end of the backup may have changed: of the dictionary, of undo logs, of the system
/// tablespace.
const CHANGED_LATER_MAX: usize = 40;

/// A page that is not its source's.
struct Differing {
    space: SpaceId,
    page: PageNo,
    page_type: PageType,
    our_lsn: Lsn,
    /// The source's is newer, in no use, and as an index build leaves it.
    left_by_build: bool,
    /// What a page was compressed by stands in one of the two, and nothing in the other.
    was_compressed: bool,
    bytes: Vec<usize>,
    words: String,
}

impl Differing {
    /// What differs between our page and theirs, which may be in no use; `None` if nothing does.
    fn of(file: &str, ours: &Page, theirs: &Page, free: bool) -> Option<Differing> {
        let (space, page) = (ours.space(), ours.number());
        let bytes = differences(ours.bytes(), theirs.bytes(), ours.layout(), page);
        let some = &bytes[..bytes.len().min(12)];
        let page_type = FilHeader::of(theirs.bytes()).unwrap().page_type();
        let words = format!(
            "{file} (space {space}) page {page} ({page_type}), LSN {} here and {} there: {} bytes differ, first {some:?}: {:?} here, {:?} there",
            ours.lsn(),
            theirs.lsn(),
            bytes.len(),
            some.iter().map(|at| ours.bytes()[*at]).collect::<Vec<_>>(),
            some.iter().map(|at| theirs.bytes()[*at]).collect::<Vec<_>>(),
        );
        let left_by_build = theirs.lsn() > ours.lsn() && free && is_built_alone(theirs.bytes());
        (!bytes.is_empty()).then_some(Differing {
            space,
            page,
            page_type,
            our_lsn: ours.lsn(),
            left_by_build,
            was_compressed: one_was_compressed(ours.bytes(), theirs.bytes()),
            bytes,
            words,
        })
    }
}

/// Compares all tablespaces under `copy`, of a backup that ends at `end`, with those under `source`; the number of pages
/// that were compared. What the log can't know is asked for only if something differs.
pub fn assert_same_pages(
    source: &[&Path],
    copy: &[&Path],
    end: Lsn,
    unlogged: impl FnOnce() -> Unlogged,
) -> usize {
    let (source, copy) = (innodb::tablespaces(source), innodb::tablespaces(copy));
    assert_eq!(
        source.keys().collect::<Vec<_>>(),
        copy.keys().collect::<Vec<_>>(),
        "tablespaces of source and copy"
    );
    let (mut compared, mut differing, mut changed_later) = (0, Vec::new(), 0);
    for (space, (path, page0, theirs_all)) in &source {
        let (_, our_page0, ours_all) = &copy[space];
        let (layout, name) = (page0.layout, path.file_name().unwrap().to_string_lossy());
        let lsn_of = |bytes: &[u8]| FilHeader::of(bytes).map(FilHeader::lsn);
        let lsns = (lsn_of(theirs_all), lsn_of(ours_all));
        let context = format!("{name}, page 0 at LSN {lsns:?}, backup's end {end}");
        assert_eq!((layout, page0.size), (our_page0.layout, our_page0.size), "{context}");
        let page_len = layout.physical();
        assert!(ours_all.len() >= page0.size as usize * page_len, "{name} is shorter than its header says");
        for number in 0..page0.size {
            let page = PageNo(number);
            let at = number as usize * page_len;
            let whole = |bytes: &[u8]| {
                let bytes = bytes.get(at..at + page_len).map_or_else(|| vec![0; page_len], <[u8]>::to_vec);
                Page::load(*space, page, layout, bytes, &mut Scratch::new()).unwrap()
            };
            let (ours, theirs) = (whole(ours_all), whole(theirs_all));
            if theirs.lsn() > end
                && (*space == SpaceId::DICTIONARY || *space == SpaceId::SYSTEM || space.is_undo())
            {
                changed_later += 1;
                continue;
            }
            compared += 1;
            let free = is_free(theirs_all, layout, number);
            differing.extend(Differing::of(&name, &ours, &theirs, free));
        }
    }
    if !differing.is_empty() {
        let unlogged = unlogged();
        differing.retain(|one| !unlogged.explains(one));
        for one in differing.iter_mut().take(10) {
            one.words += &unlogged.history(one.space, one.page);
        }
    }
    let words: Vec<_> = differing.into_iter().map(|one| one.words).collect();
    assert!(words.is_empty(), "{} of {compared} pages differ:\n{}", words.len(), words.join("\n"));
    assert!(changed_later < CHANGED_LATER_MAX, "{changed_later} pages were changed after the backup");
    compared
}

/// What the server changes in pages without a word in the redo log.
#[derive(Debug)]
pub struct Unlogged {
    /// Tablespaces whose pages it compresses (COMPRESSION = ...).
    compressed: BTreeSet<SpaceId>,
    /// The last record for each page.
    last_records: HashMap<(SpaceId, PageNo), Lsn>,
    /// Where the redo is.
    left: PathBuf,
}

impl Unlogged {
    /// Of a server, and of a backup of it that was received and not prepared.
    pub fn of(server: &Server, left: &Path) -> Unlogged {
        let compressed = server.query(
            "SELECT i.space FROM information_schema.innodb_tables i JOIN information_schema.tables t \
             ON i.name = CONCAT(t.table_schema, '/', t.table_name) WHERE t.create_options LIKE '%COMPRESSION=%'",
        );
        let mut last_records = HashMap::new();
        each_record(left, |record| {
            last_records.insert((record.space, record.page), record.start_lsn);
        });
        Unlogged {
            compressed: compressed.iter().map(|row| SpaceId(row[0].parse().unwrap())).collect(),
            last_records,
            left: left.to_owned(),
        }
    }

    /// The last records for a page and its tablespace's index builds, for whoever looks for a cause.
    fn history(&self, space: SpaceId, page: PageNo) -> String {
        let mut records = Vec::new();
        each_record(&self.left, |one| {
            if one.space == space && (one.page == page || one.kind == Kind::IndexLoad) {
                records.push(format!("{} {}", one.start_lsn, one.kind.name()));
            }
        });
        let skipped = records.len().saturating_sub(30);
        format!("; redo: {}", records[skipped..].join(", "))
    }

    /// Whether that is why a page differs.
    ///
    /// * Page compression keeps the length of its payload in bytes 32 and 33, also in the page in memory
    ///   (`os_file_compress_page`). Once the page does not get smaller any more, it is written as it is, with the last
    ///   length. When pages are written is not logged. Not in R-tree pages, which are never compressed, nor in page 0.
    /// * An index build copies the topmost page of its tree to the root, frees it, and takes it out of those that are
    ///   flushed before the build is over (`Btree_load::load_root_page`): the log has what became of its descriptor, and
    ///   nothing of what was written to the page, which may reach the file at any later time. INDEX_LOAD does not tell of
    ///   all builds: there is none with LOCK=SHARED (`Builder::finish`), nor for the auxiliary tables of a full-text index.
    ///   So the log itself must have nothing for the page that our copy lacks.
    fn explains(&self, one: &Differing) -> bool {
        let within = |range: std::ops::Range<usize>| one.bytes.iter().all(|at| range.contains(at));
        if (within(32..34) || within(26..34) && one.was_compressed) && self.compressed.contains(&one.space) {
            return one.page != PageNo(0) && one.page_type != PageType::RTREE;
        }
        let last = self.last_records.get(&(one.space, one.page));
        one.left_by_build && last.is_none_or(|lsn| *lsn < one.our_lsn)
    }
}

fn each_record(dir: &Path, mut each: impl FnMut(&Record<'_>)) {
    let start = newest_checkpoint(innodb::redo_files(dir).iter().map(|(_, file)| file)).unwrap();
    innodb::read_redo(dir, start, |group| group.all_records().for_each(|record| each(&record)));
}
