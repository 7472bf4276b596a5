//! Pages written twice, so that a kill or a power cut in the middle of a page leaves one whole image of it.
//!
//! Each thread has a file in the copy's folder. Pages that are done go there first. When so many have gathered (a round), what
//! they are is written at the head of the file, which is synced; then they are written to their places, which are synced in
//! their turn; then the file is used again from its beginning. A page that is found damaged by a later run is put back from
//! the journal, if that has a sound image of it. A head that is older than the images behind it, or not whole, belongs to
//! pages that are sound in their places.
//!
//! Images begin at [`HEAD_LEN`], one behind the other, so that they lie at the borders of memory pages, where copying is
//! fastest. Before them (numbers of 4 bytes, little-endian): `xbrecvJ3`, CRC-32C of what follows, number of entries; each is
//! space id, page length, first page, number of pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::records::run::RANGE_PAGES;
use super::space_keys::SpaceKeys;
use super::tablespaces::{OpenTablespace, TablespaceFiles};
use crate::base::crc32c::crc32c;
use crate::base::nofollow;
use crate::base::read::read_up_to;
use crate::base::{Code, Error, PageBuffer, PageNo, Result, SpaceId};
use crate::innodb::page::{LOGICAL_MAX, Scratch, Verdict};
use crate::prepare::Datadir;

const MAGIC: &[u8; 8] = b"xbrecvJ3";
const CRC_AT: usize = 8;
const COUNT_AT: usize = 12;
const ENTRIES_AT: usize = 16;
const ENTRY_LEN: usize = 16;
const HEAD_LEN: usize = 64 << 10;
const ENTRIES_MAX: usize = (HEAD_LEN - ENTRIES_AT) / ENTRY_LEN;
const NAME: &str = "#xbrecv-journal-";
/// Rows of tables are in it: for nobody else.
const PRIVATE_MODE: u32 = 0o600;
/// Bytes of the first round. So few are still in the processor's cache when they are read back.
const ROUND_MIN: u64 = 4 << 20;
/// Bytes of the longest one.
const ROUND_MAX: u64 = 64 << 20;
/// Each round costs two syncs. They may take so much of its time; if they take more, the next is twice as long.
const SYNCS_SHARE: u32 = 8;

/// Whether pages are written so that a kill in the middle of a page can be mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// The folder is thrown away if we are killed.
    Disposable,
    /// The folder is the user's own: pages go through a journal first.
    InPlace,
}

/// The journal of one thread. Its file goes away with it.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of images of this round, how many it has at least, and when it began.
    len: u64,
    round_len: u64,
    begun: Instant,
    /// What waits for its place, in the order of the images.
    waiting: Vec<(Arc<OpenTablespace>, Entry)>,
    buffer: PageBuffer,
}

/// Pages that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    space: SpaceId,
    page_len: usize,
    first: PageNo,
    count: usize,
}

impl Journal {
    /// A new one for the thread with this number.
    pub(crate) fn create(root: &Path, thread: usize) -> Result<Journal> {
        let path = root.join(format!("{NAME}{thread}"));
        let file = nofollow::create_new(&path, PRIVATE_MODE);
        let file = file.and_then(|file| nofollow::sync_dir(root).map(|()| file));
        let file = file.map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
        Ok(Journal {
            path,
            file,
            len: 0,
            round_len: ROUND_MIN,
            begun: Instant::now(),
            waiting: Vec::new(),
            buffer: PageBuffer::new(0),
        })
    }

    /// Takes pages that follow each other.
    pub(crate) fn write(&mut self, space: &Arc<OpenTablespace>, first: PageNo, images: &[u8]) -> Result<()> {
        let page_len = space.layout.physical();
        let entry = Entry { space: space.id, page_len, first, count: images.len() / page_len };
        let at = HEAD_LEN as u64 + self.len;
        // As they will be in their file: nothing is left in the clear.
        let sealed = space.encrypted(first, images);
        let images = sealed.as_deref().unwrap_or(images);
        self.file.write_all_at(images, at).map_err(|e| failed(&self.path, e))?;
        self.waiting.push((space.clone(), entry));
        self.len += images.len() as u64;
        if self.len >= self.round_len || self.waiting.len() == ENTRIES_MAX { self.flush() } else { Ok(()) }
    }

    /// Brings to their places what waits.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let head = head(self.waiting.iter().map(|(_, entry)| entry));
        self.file.write_all_at(&head, 0).map_err(|e| failed(&self.path, e))?;
        let mut syncing = Duration::ZERO;
        let mut timed = |sync: &dyn Fn() -> Result<()>| {
            let begun = Instant::now();
            sync().inspect(|()| syncing += begun.elapsed())
        };
        timed(&|| self.file.sync_data().map_err(|e| failed(&self.path, e)))?;
        let mut synced: Option<Arc<OpenTablespace>> = None;
        let mut at = HEAD_LEN as u64;
        for (space, entry) in std::mem::take(&mut self.waiting) {
            if let Some(before) = synced.take_if(|before| before.id != space.id) {
                timed(&|| before.sync())?;
            }
            self.buffer.resize(entry.len());
            self.file.read_exact_at(&mut self.buffer, at).map_err(|e| failed(&self.path, e))?;
            space.write_as_they_are(entry.first, &self.buffer)?;
            synced = Some(space);
            at += entry.len() as u64;
        }
        synced.map_or(Ok(()), |space| timed(&|| space.sync()))?;
        self.round_len = next_round(self.round_len, syncing, self.begun.elapsed());
        self.len = 0;
        self.begun = Instant::now();
        Ok(())
    }
}

/// Bytes of a round behind one of `len`, which took so long, and of which so much was syncs.
fn next_round(len: u64, syncing: Duration, took: Duration) -> u64 {
    if syncing > took / SYNCS_SHARE { (2 * len).min(ROUND_MAX) } else { len }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // What waits was not written: the next run does it. If the file stays, it finds that pages are whole.
        let _ = nofollow::remove_file(&self.path);
    }
}

/// Puts back pages that a killed run left half-written, and removes its journals.
pub(crate) fn recover(datadir: &Datadir<'_>) -> Result<()> {
    let unreadable = |e| failed(datadir.root, e);
    let mut journals = Vec::new();
    for (entry, _) in nofollow::entries(datadir.root).map_err(unreadable)? {
        if entry.to_string_lossy().starts_with(NAME) {
            journals.push(datadir.root.join(&entry));
        }
    }
    if journals.is_empty() {
        return Ok(());
    }
    // A page 0 that is damaged keeps its tablespace from being found by its id, so these come first, by place.
    let spaces = TablespaceFiles::find(datadir, Default::default(), &SpaceKeys::default())?;
    let mut mended = 0;
    for path in &journals {
        mended += restore(path, &spaces)?;
    }
    tracing::info!("{mended} half-written pages put back");
    // Durable before the journals go.
    rustix::fs::syncfs(nofollow::open_dir(datadir.root).map_err(unreadable)?)
        .map_err(|e| unreadable(e.into()))?;
    journals.iter().try_for_each(|path| nofollow::remove_file(path).map_err(|e| failed(path, e)))
}

fn restore(path: &Path, spaces: &TablespaceFiles) -> Result<usize> {
    let unreadable = |e| failed(path, e);
    let journal = nofollow::open(path).map_err(unreadable)?;
    let mut head = vec![0; HEAD_LEN];
    let filled = read_up_to(&journal, &mut head, 0).map_err(unreadable)?;
    let (mut scratch, mut now, mut image) = (Scratch::new(), Vec::new(), Vec::new());
    let (mut mended, mut at) = (0, HEAD_LEN as u64);
    for entry in entries(&head[..filled]) {
        let images_at = at;
        at += entry.len() as u64;
        let Some(space) = spaces.get(entry.space) else { continue };
        let open = space.open(entry.space)?;
        if entry.page_len != open.layout.physical() {
            continue;
        }
        now.resize(entry.page_len, 0);
        image.resize(entry.page_len, 0);
        for n in 0..entry.count {
            let page = PageNo(entry.first.0.wrapping_add(n as u32));
            let filled = open.read(page, &mut now)?;
            if filled == now.len() && open.verify(page, &now, &mut scratch).is_ok() {
                continue;
            }
            let image_at = images_at + (n * entry.page_len) as u64;
            let filled = read_up_to(&journal, &mut image, image_at).map_err(unreadable)?;
            open.decrypt(page, &mut image);
            let is_sound = open.verify(page, &image, &mut scratch) == Ok(Verdict::Ok);
            if filled == image.len() && is_sound {
                open.write(page, &image)?;
                mended += 1;
            }
        }
        open.sync()?;
    }
    Ok(mended)
}

impl Entry {
    fn len(&self) -> usize {
        self.page_len * self.count
    }

    fn is_possible(&self) -> bool {
        (1..=LOGICAL_MAX).contains(&self.page_len) && (1..=RANGE_PAGES).contains(&self.count)
    }
}

fn head<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    let mut bytes = [MAGIC, &[0; ENTRIES_AT - MAGIC.len()][..]].concat();
    for Entry { space, page_len, first, count } in entries {
        for number in [space.0, *page_len as u32, first.0, *count as u32] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    let count = (bytes.len() - ENTRIES_AT) / ENTRY_LEN;
    bytes[COUNT_AT..ENTRIES_AT].copy_from_slice(&(count as u32).to_le_bytes());
    let crc = crc32c(&bytes[COUNT_AT..]);
    bytes[CRC_AT..COUNT_AT].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The entries of a head; none where it is not whole.
fn entries(head: &[u8]) -> Vec<Entry> {
    let number = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let read = || {
        let count = number(COUNT_AT)? as usize;
        let end = ENTRIES_AT.checked_add(count.checked_mul(ENTRY_LEN)?)?;
        let is_whole = head.starts_with(MAGIC) && number(CRC_AT)? == crc32c(head.get(COUNT_AT..end)?);
        let entry = |at: usize| {
            let entry = Entry {
                space: SpaceId(number(at)?),
                page_len: number(at + 4)? as usize,
                first: PageNo(number(at + 8)?),
                count: number(at + 12)? as usize,
            };
            entry.is_possible().then_some(entry)
        };
        is_whole.then(|| (ENTRIES_AT..end).step_by(ENTRY_LEN).map(entry).collect::<Option<Vec<_>>>())?
    };
    read().unwrap_or_default()
}

fn failed(path: &Path, e: io::Error) -> Error {
    Error::io(Code::TargetIo, path.display(), e)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::innodb::page::checksum;
    use crate::prepare::native::testing::{Around, PAGE_LEN, SYSTEM, TABLE, write_space};

    /// What a power cut may leave behind: the journal has two pages, which were on their way to their places.
    #[test]
    fn torn_pages_are_put_back_and_others_left_alone() {
        for journal_is_damaged in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            write_space(root, TABLE, b"what was there before");
            write_space(root, SYSTEM, b"0");
            let around = Around::of(root);
            let datadir = around.datadir(root);
            let spaces = TablespaceFiles::find(&datadir, Default::default(), &SpaceKeys::default()).unwrap();
            let space = Arc::new(spaces.get(TABLE.1).unwrap().open(TABLE.1).unwrap());

            let mut images = vec![0; 2 * PAGE_LEN];
            space.read(PageNo(3), &mut images).unwrap();
            let before = images.clone();
            for image in images.chunks_mut(PAGE_LEN) {
                image[200..PAGE_LEN - 200].fill(9);
                checksum::stamp(image, false);
            }
            let mut journal = Journal::create(root, 0).unwrap();
            journal.write(&space, PageNo(3), &images).unwrap();
            journal.flush().unwrap();
            let left = root.join(format!("{NAME}1"));
            std::fs::copy(&journal.path, &left).unwrap();
            drop(journal);

            // The first was written by half; the second not at all, or was changed once more since.
            let torn = [&images[..PAGE_LEN / 2], &before[PAGE_LEN / 2..]].concat();
            space.write(PageNo(3), &torn).unwrap();
            if journal_is_damaged {
                let file = OpenOptions::new().write(true).open(&left).unwrap();
                file.write_all_at(b"damage", (HEAD_LEN + 5000) as u64).unwrap();
            }
            recover(&datadir).unwrap();

            let mut now = vec![0; 2 * PAGE_LEN];
            space.read(PageNo(3), &mut now).unwrap();
            let first = if journal_is_damaged { &torn[..PAGE_LEN] } else { &images[..PAGE_LEN] };
            assert!(now[..PAGE_LEN] == *first, "{journal_is_damaged}");
            assert!(now[PAGE_LEN..] == before[PAGE_LEN..], "{journal_is_damaged}");
            assert!(!left.exists());
        }
    }

    #[test]
    fn rounds_grow_where_syncs_cost() {
        let took = Duration::from_millis(80);
        assert_eq!(next_round(ROUND_MIN, took / 8, took), ROUND_MIN);
        assert_eq!(next_round(ROUND_MIN, took / 7, took), 2 * ROUND_MIN);
        assert_eq!(next_round(ROUND_MAX, took, took), ROUND_MAX);
    }

    #[test]
    fn what_is_no_whole_head_has_no_entries() {
        let entry = |first| Entry { space: SpaceId(5), page_len: 1024, first: PageNo(first), count: 2 };
        let wanted = [entry(3), entry(70)];
        let bytes = head(wanted.iter());
        let longer = [&bytes[..], &[9; 100]].concat();
        assert_eq!((entries(&bytes), entries(&longer)), (wanted.to_vec(), wanted.to_vec()));
        for cut in [0, 7, ENTRIES_AT, bytes.len() - 1] {
            assert_eq!(entries(&bytes[..cut]), [], "{cut}");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x80;
            assert_eq!(entries(&other), [], "{at}");
        }
        assert_eq!(entries(&head([Entry { count: RANGE_PAGES + 1, ..entry(1) }].iter())), []);
    }
}
