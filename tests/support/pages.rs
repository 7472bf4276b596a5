//! The exact judge of a native prepare: every page of a copy beside the source's, once the source has come to rest.
//!
//! Not compared are pages that the source changed after the end of the backup: a checkpoint saves auto-increment counters
//! to a table of the dictionary, by a transaction of its own. Left out of the comparison, since the server does not log them:
//! * the page LSN, which it raises on pages that it latched and did not change, and the checksum that follows from it;
//! * the flush LSN in the header of the system tablespace (and the same bytes in page 0 of the others);
//! * the last two of these eight bytes in B-tree pages, where page compression has the length of its payload: what the
//!   server leaves there in pages that did not get smaller has no meaning, and no checksum covers it;
//! * pages that are in no use and have a newer LSN in the source: building an index without redo has taken them and given
//!   them back, so the log has what became of the descriptor, but not of the page.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use xbpipe::base::{Lsn, PageNo, SpaceId};
use xbpipe::innodb::apply::Page;
use xbpipe::innodb::page::{FilHeader, PageLayout, PageType, Scratch};

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

/// Lets purge finish, until nothing is logged any more.
pub fn rest(server: &Server) {
    until_still(server, || ());
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
pub fn differences(ours: &[u8], theirs: &[u8], layout: PageLayout, page: PageNo) -> Vec<usize> {
    let len = ours.len();
    let may_differ = |at: usize| {
        at < 4
            || (16..24).contains(&at)
            || (page == PageNo(0) && (26..34).contains(&at))
            || (!layout.is_zip() && at >= len - 8)
    };
    let compresses = FilHeader::of(theirs).is_some_and(|header| header.page_type() == PageType::INDEX);
    let may_differ = |at: usize| may_differ(at) || compresses && (32..34).contains(&at);
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

/// Pages that a checkpoint after the end of the backup may have changed: of the dictionary, of undo logs, of the system
/// tablespace.
const CHANGED_LATER_MAX: usize = 40;

/// Compares all tablespaces under `copy`, of a backup that ends at `end`, with those under `source`; the number of pages
/// that were compared.
pub fn assert_same_pages(source: &[&Path], copy: &[&Path], end: Lsn) -> usize {
    let (source, copy) = (innodb::tablespaces(source), innodb::tablespaces(copy));
    assert_eq!(
        source.keys().collect::<Vec<_>>(),
        copy.keys().collect::<Vec<_>>(),
        "tablespaces of source and copy"
    );
    let (mut compared, mut wrong, mut changed_later) = (0, Vec::new(), 0);
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
            let differing = differences(ours.bytes(), theirs.bytes(), layout, page);
            let unlogged = theirs.lsn() > ours.lsn() && is_free(theirs_all, layout, number);
            if !differing.is_empty() && !unlogged {
                let page_type = FilHeader::of(theirs.bytes()).unwrap().page_type();
                let some = &differing[..differing.len().min(12)];
                wrong.push(format!(
                    "{name} (space {space}) page {number} ({page_type}), LSN {} here and {} there: {} bytes differ, first {:?}: {:?} here, {:?} there",
                    ours.lsn(),
                    theirs.lsn(),
                    differing.len(),
                    some,
                    some.iter().map(|at| ours.bytes()[*at]).collect::<Vec<_>>(),
                    some.iter().map(|at| theirs.bytes()[*at]).collect::<Vec<_>>(),
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} pages differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(changed_later < CHANGED_LATER_MAX, "{changed_later} pages were changed after the backup");
    compared
}
