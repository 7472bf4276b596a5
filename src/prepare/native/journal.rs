//! Pages written twice, so that a kill in the middle of a page leaves one whole image of it.
//!
//! Each thread has a file in the copy's folder. Before it writes a handful of pages to their places, it writes them there:
//! `xbrecvJ1`, CRC-32C of all that follows, space id, page length, number of pages (4 bytes each, little-endian), page
//! numbers (4 bytes each), images. A page that is found damaged by a later run is put back from the journal; a journal that
//! is not whole was not followed by any write. It is not synced: it guards against a kill, not against a power cut, after
//! which a damaged page is an error as everywhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::spaces::Spaces;
use crate::base::{Code, Error, PageNo, Result, SpaceId};
use crate::innodb::page::{Expected, LOGICAL_MAX, Scratch, verify};
use crate::prepare::Datadir;

const MAGIC: &[u8; 8] = b"xbrecvJ1";
const HEAD_LEN: usize = 24;
const NAME: &str = "#xbrecv-journal-";
/// No journal is longer: a thread's pages, their numbers, and the head.
const LEN_MAX: u64 = 16 << 20;

/// The journal of one thread. Its file goes away with it.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl Journal {
    /// A new one for the thread with this number.
    pub(super) fn create(root: &Path, thread: usize) -> Result<Journal> {
        let path = root.join(format!("{NAME}{thread}"));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
        Ok(Journal { path, file, buffer: Vec::new() })
    }

    /// Keeps these pages until the next call.
    pub(super) fn keep(&mut self, space: SpaceId, numbers: &[PageNo], images: &[u8]) -> Result<()> {
        let page_len = images.len() / numbers.len().max(1);
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&[0; 4]);
        for number in [space.0, page_len as u32, numbers.len() as u32] {
            buffer.extend_from_slice(&number.to_le_bytes());
        }
        numbers.iter().for_each(|page| buffer.extend_from_slice(&page.0.to_le_bytes()));
        buffer.extend_from_slice(images);
        let crc = crc32c::crc32c(&buffer[MAGIC.len() + 4..]);
        buffer[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(buffer, 0).map_err(|e| Error::io(Code::TargetIo, self.path.display(), e))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // If it stays, the next run finds that its pages are whole.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Puts back pages that a killed run left half-written, and removes its journals.
pub(super) fn recover(datadir: &Datadir<'_>) -> Result<()> {
    let failed = |e| Error::io(Code::TargetIo, datadir.root.display(), e);
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(datadir.root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(NAME) {
            journals.push(entry.path());
        }
    }
    if journals.is_empty() {
        return Ok(());
    }
    // A page 0 that is damaged keeps its tablespace from being found by its id, so these come first, by place.
    let spaces = Spaces::find(datadir, Default::default())?;
    for path in journals {
        let mended = restore(&path, &spaces)?;
        tracing::info!("{}: {mended} half-written pages put back", path.display());
        std::fs::remove_file(&path).map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
    }
    Ok(())
}

fn restore(path: &Path, spaces: &Spaces) -> Result<usize> {
    let bytes = read(path).map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
    let Some(batch) = Batch::parse(&bytes) else { return Ok(0) };
    let Some(space) = spaces.get(batch.space) else { return Ok(0) };
    let open = space.open(batch.space)?;
    if batch.page_len != open.layout.physical() {
        return Ok(0);
    }
    let (mut scratch, mut now) = (Scratch::new(), vec![0; batch.page_len]);
    let mut mended = 0;
    for (page, image) in batch.numbers.zip(batch.images.chunks_exact(batch.page_len)) {
        let expected = Expected { space: batch.space, page };
        let filled = open.read(page, &mut now)?;
        if filled < now.len() || verify(&now, &open.layout, expected, &mut scratch).is_err() {
            open.write(page, image)?;
            mended += 1;
        }
    }
    Ok(mended)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, LEN_MAX), &mut bytes)?;
    Ok(bytes)
}

struct Batch<'a, N> {
    space: SpaceId,
    page_len: usize,
    numbers: N,
    images: &'a [u8],
}

impl<'a> Batch<'a, ()> {
    fn parse(bytes: &'a [u8]) -> Option<Batch<'a, impl Iterator<Item = PageNo>>> {
        let head = bytes.get(..HEAD_LEN)?;
        let number = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
        let (crc, space, page_len, count) =
            (number(8)?, number(12)?, number(16)? as usize, number(20)? as usize);
        if !head.starts_with(MAGIC) || page_len > LOGICAL_MAX {
            return None;
        }
        let images_at = HEAD_LEN.checked_add(count.checked_mul(4)?)?;
        let end = images_at.checked_add(count.checked_mul(page_len)?)?;
        // Behind the end lies what an earlier, longer use of the file left.
        let whole = bytes.get(..end)?;
        if crc32c::crc32c(&whole[MAGIC.len() + 4..]) != crc {
            return None;
        }
        let numbers = whole[HEAD_LEN..images_at].as_chunks().0;
        let numbers = numbers.iter().map(|n| PageNo(u32::from_le_bytes(*n)));
        Some(Batch { space: SpaceId(space), page_len, numbers, images: &whole[images_at..] })
    }
}
