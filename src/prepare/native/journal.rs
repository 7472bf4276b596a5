//! Pages written twice, so that a kill or a power cut in the middle of a page leaves one whole image of it.
//!
//! Each thread has a file in the copy's folder. Pages that are done go there first. When so many have gathered, the file is
//! synced; then they are written to their places, which are synced in their turn; then the file is used again from its
//! beginning. An entry has up to a stretch of neighbouring pages: `xbrecvJ2`, CRC-32C of all that follows, number of the
//! round, space id, page length, first page, number of pages (4 bytes each, little-endian), images. A page that is
//! found damaged by a later run is put back from the journal; entries that are not whole, or of another round than the
//! first, were not followed by any write, or all that followed is durable.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::records::STRETCH_PAGES;
use super::spaces::{OpenSpace, Spaces};
use crate::base::{Code, Error, PageNo, Result, SpaceId};
use crate::innodb::page::{Expected, LOGICAL_MAX, Scratch, verify};
use crate::prepare::Datadir;

const MAGIC: &[u8; 8] = b"xbrecvJ2";
const CRC_AT: usize = 8;
const HEAD_LEN: usize = 32;
const NAME: &str = "#xbrecv-journal-";
/// Pages of a round: each costs two syncs.
const ROUND_LEN: u64 = 64 << 20;

/// The journal of one thread. Its file goes away with it.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    round: u32,
    len: u64,
    /// What waits for its place: where it begins in the journal, its first page, and how long it is.
    waiting: Vec<(u64, Arc<OpenSpace>, PageNo, usize)>,
    buffer: Vec<u8>,
}

impl Journal {
    /// A new one for the thread with this number.
    pub(super) fn create(root: &Path, thread: usize) -> Result<Journal> {
        let path = root.join(format!("{NAME}{thread}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.and_then(|file| File::open(root)?.sync_all().map(|()| file));
        let file = file.map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
        Ok(Journal { path, file, round: 1, len: 0, waiting: Vec::new(), buffer: Vec::new() })
    }

    /// Takes pages that follow each other.
    pub(super) fn write(&mut self, space: &Arc<OpenSpace>, first: PageNo, images: &[u8]) -> Result<()> {
        let page_len = space.layout.physical();
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&[0; 4]);
        for number in [self.round, space.id.0, page_len as u32, first.0, (images.len() / page_len) as u32] {
            buffer.extend_from_slice(&number.to_le_bytes());
        }
        buffer.extend_from_slice(images);
        let crc = crc32c::crc32c(&buffer[CRC_AT + 4..]);
        buffer[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(buffer, self.len).map_err(|e| failed(&self.path, e))?;
        self.waiting.push((self.len + HEAD_LEN as u64, space.clone(), first, images.len()));
        self.len += self.buffer.len() as u64;
        if self.len >= ROUND_LEN { self.flush() } else { Ok(()) }
    }

    /// Brings to their places what waits.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.file.sync_data().map_err(|e| failed(&self.path, e))?;
        let mut synced: Option<Arc<OpenSpace>> = None;
        for (at, space, first, len) in std::mem::take(&mut self.waiting) {
            if let Some(before) = synced.take_if(|before| before.id != space.id) {
                before.sync()?;
            }
            self.buffer.resize(len, 0);
            self.file.read_exact_at(&mut self.buffer, at).map_err(|e| failed(&self.path, e))?;
            space.write(first, &self.buffer)?;
            synced = Some(space);
        }
        synced.map_or(Ok(()), |space| space.sync())?;
        self.round = self.round.wrapping_add(1);
        self.len = 0;
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // What waits was not written: the next run does it. If the file stays, it finds that pages are whole.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Puts back pages that a killed run left half-written, and removes its journals.
pub(super) fn recover(datadir: &Datadir<'_>) -> Result<()> {
    let unreadable = |e| failed(datadir.root, e);
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(datadir.root).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_string_lossy().starts_with(NAME) {
            journals.push(entry.path());
        }
    }
    if journals.is_empty() {
        return Ok(());
    }
    // A page 0 that is damaged keeps its tablespace from being found by its id, so these come first, by place.
    let spaces = Spaces::find(datadir, Default::default())?;
    let mut mended = 0;
    for path in &journals {
        mended += restore(path, &spaces)?;
    }
    tracing::info!("{mended} half-written pages put back");
    // Durable before the journals go.
    rustix::fs::syncfs(File::open(datadir.root).map_err(unreadable)?).map_err(|e| unreadable(e.into()))?;
    journals.iter().try_for_each(|path| std::fs::remove_file(path).map_err(|e| failed(path, e)))
}

fn restore(path: &Path, spaces: &Spaces) -> Result<usize> {
    let mut journal = BufReader::new(File::open(path).map_err(|e| failed(path, e))?);
    let (mut scratch, mut now) = (Scratch::new(), Vec::new());
    let (mut mended, mut round) = (0, None);
    while let Some(entry) = Entry::read(&mut journal).map_err(|e| failed(path, e))? {
        if *round.get_or_insert(entry.round) != entry.round {
            break;
        }
        let Some(space) = spaces.get(entry.space) else { continue };
        let open = space.open(entry.space)?;
        if entry.page_len != open.layout.physical() {
            continue;
        }
        now.resize(entry.page_len, 0);
        for (number, image) in (entry.first.0..).zip(entry.images.chunks_exact(entry.page_len)) {
            let expected = Expected { space: entry.space, page: PageNo(number) };
            let filled = open.read(expected.page, &mut now)?;
            if filled < now.len() || verify(&now, &open.layout, expected, &mut scratch).is_err() {
                open.write(expected.page, image)?;
                mended += 1;
            }
        }
        open.sync()?;
    }
    Ok(mended)
}

struct Entry {
    round: u32,
    space: SpaceId,
    page_len: usize,
    first: PageNo,
    images: Vec<u8>,
}

impl Entry {
    /// The next one, if it is whole.
    fn read(from: &mut impl Read) -> io::Result<Option<Entry>> {
        let mut bytes = vec![0; HEAD_LEN];
        if !filled(from, &mut bytes)? || !bytes.starts_with(MAGIC) {
            return Ok(None);
        }
        let numbers: Vec<u32> =
            bytes[CRC_AT..].as_chunks().0.iter().map(|n| u32::from_le_bytes(*n)).collect();
        let &[crc, round, space, page_len, first, count] = &numbers[..] else { return Ok(None) };
        if page_len as usize > LOGICAL_MAX || count as usize > STRETCH_PAGES || page_len == 0 {
            return Ok(None);
        }
        bytes.resize(HEAD_LEN + (page_len * count) as usize, 0);
        if !filled(from, &mut bytes[HEAD_LEN..])? || crc32c::crc32c(&bytes[CRC_AT + 4..]) != crc {
            return Ok(None);
        }
        let images = bytes.split_off(HEAD_LEN);
        let (space, first, page_len) = (SpaceId(space), PageNo(first), page_len as usize);
        Ok(Some(Entry { round, space, page_len, first, images }))
    }
}

/// Whether there were bytes for all of `into`.
fn filled(from: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(into) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

fn failed(path: &Path, e: io::Error) -> Error {
    Error::io(Code::TargetIo, path.display(), e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_whole_entry_ends_a_journal() {
        let mut bytes = [MAGIC, &[0; 4][..]].concat();
        for number in [9u32, 5, 1024, 3, 2] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&[7; 2048]);
        let crc = crc32c::crc32c(&bytes[CRC_AT + 4..]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        let entry = Entry::read(&mut &bytes[..]).unwrap().unwrap();
        assert_eq!((entry.round, entry.space, entry.first), (9, SpaceId(5), PageNo(3)));
        assert_eq!((entry.page_len, entry.images), (1024, vec![7; 2048]));
        for cut in [0, 7, HEAD_LEN, bytes.len() - 1] {
            assert!(Entry::read(&mut &bytes[..cut]).unwrap().is_none(), "{cut}");
        }
        for at in [0, CRC_AT, 12, 20, 24, 28, 31, HEAD_LEN, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 0x80;
            assert!(Entry::read(&mut &other[..]).unwrap().is_none(), "{at}");
        }
    }
}
