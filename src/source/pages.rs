//! Datafiles, read a block at a time: every page is verified, and read again while a write of the server tears it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::progress::Progress;
use crate::base::{Code, Error, PageNo, Result, SpaceId};
use crate::innodb::encryption::key_info::INFO_LEN;
use crate::innodb::encryption::{Cipher, Keyring, Sealed, Unit};
use crate::innodb::page::{
    self, Expected, FilHeader, Page0Error, PageDefect, PageFormat, PageLayout, Scratch, SpaceFlags, Verdict,
};
use crate::stream::digest::BLOCK;

use super::corrupt::{CORRUPT_HINT, too_short};
use super::extents::{Block, ExtentBuilder};
use super::files;
use super::inventory::Datafile;
use super::low_priority_reads::LowPriorityReads;
use super::page_filter::PageFilter;
use super::uncached_reads::Uncached;
use super::zero_pages::{EmptyPage, EmptyPages};

/// How often a page is read again before it is called corrupt, and the longest pause between two reads: about
/// three seconds in all, far longer than a server takes to write one page.
const READS_MAX: u32 = 40;
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Page number of the transaction system header in the system tablespace (`TRX_SYS_PAGE_NO`).
const TRX_SYS_PAGE: u64 = 5;

/// Pages of the smallest tablespace that a server makes: header, bitmap, inodes and one more.
const PAGES_LEAST: u32 = 4;

/// Settings for reading a server's datafiles, the same for all of them.
pub struct Reading<'a> {
    /// The format of pages.
    pub format: &'static dyn PageFormat,
    /// The layout of tablespaces without a page 0 of their own.
    pub plain: PageLayout,
    /// The server's user.
    pub owner: u32,
    /// Whether files are read from their start to their end, so that the kernel may read ahead.
    pub in_order: bool,
    /// For reads that disturb the server's as little as can be.
    pub gives_way: Option<Arc<LowPriorityReads>>,
    /// Collects pages that are in use and empty.
    pub suspects: &'a EmptyPages,
    /// Selects the pages that travel.
    pub filter: &'a dyn PageFilter,
    /// Keys of encrypted tablespaces.
    pub keyring: &'a dyn Keyring,
    /// Counts encrypted tablespaces.
    pub encrypted: &'a EncryptedFiles,
}

/// Numbers of files of encrypted tablespaces.
#[derive(Debug, Default)]
pub struct EncryptedFiles {
    /// Those whose pages are verified in the clear.
    pub opened: AtomicU64,
    /// Those without a key: checksums of their pages can't be verified.
    pub sealed: AtomicU64,
}

impl EncryptedFiles {
    /// Returns both numbers.
    pub fn counts(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.sealed.load(Ordering::Relaxed))
    }
}

/// A datafile that is being read.
pub struct OpenDatafile {
    path: PathBuf,
    file: Uncached,
    format: &'static dyn PageFormat,
    layout: PageLayout,
    space: SpaceId,
    flags: Option<SpaceFlags>,
    first_page: u64,
    /// Bytes that are copied: whole pages, as many as there were when the file was opened.
    pub bytes: u64,
    /// Pages of a doublewrite buffer that an upgraded server left in the system tablespace: copies of pages of
    /// other tablespaces, used by nobody.
    foreign: Vec<Range<u64>>,
    /// Pages that page 0 says the tablespace has; 0 where it says nothing.
    pages: u32,
    /// The last page of extent descriptors that was wanted, by its number; `None` for one that tells nothing.
    descriptors: Mutex<Option<(u64, Option<Vec<u8>>)>>,
    /// The encryption information of its page 0.
    encryption: Option<Box<[u8; INFO_LEN]>>,
    /// The cipher, if it is encrypted and the key is known.
    cipher: Option<Arc<dyn Cipher>>,
}

/// A page that an increment has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangedPage {
    /// Its number in the datafile.
    pub number: u32,
    /// Offset in the buffer of the block, in bytes.
    pub at: usize,
    /// True if all its bytes are zero.
    pub is_zero: bool,
}

/// State of one reading thread between blocks.
pub struct PageReader<'a> {
    scratch: Scratch,
    torn_retries: &'a AtomicU64,
    suspects: &'a EmptyPages,
    filter: &'a dyn PageFilter,
}

impl<'a> PageReader<'a> {
    /// A reader that counts pages read again in `torn_retries`.
    pub fn new(torn_retries: &'a AtomicU64, reading: &Reading<'a>) -> Self {
        let Reading { suspects, filter, .. } = *reading;
        PageReader { scratch: Scratch::new(), torn_retries, suspects, filter }
    }
}

impl OpenDatafile {
    /// Opens `datafile`; `first_page` is not 0 for the later files of the system tablespace.
    ///
    /// # Errors
    /// [`Code::CorruptPage`] for a page 0 that is none, [`Code::SourceIncomplete`] for a file that is shorter than its
    /// tablespace, [`Code::SourceIo`].
    pub fn open(datafile: &Datafile, first_page: u64, reading: &Reading<'_>) -> Result<OpenDatafile> {
        let mut read = 0;
        loop {
            let mut open = Self::take(datafile, first_page, reading)?;
            match open.check_length(datafile) {
                Ok(()) => {
                    let counts = reading.encrypted;
                    match (&open.cipher, open.encryption.is_some()) {
                        (Some(_), _) => counts.opened.fetch_add(1, Ordering::Relaxed),
                        (None, true) => counts.sealed.fetch_add(1, Ordering::Relaxed),
                        (None, false) => 0,
                    };
                    open.bytes -= open.bytes % open.layout.physical() as u64;
                    if datafile.space == SpaceId::SYSTEM && datafile.part == 0 {
                        open.foreign = open.legacy_doublewrite()?;
                    }
                    return Ok(open);
                }
                // The server makes the file of an undo tablespace that it truncates new, and it grows from nothing.
                Err(_) if datafile.space.is_undo() && read < READS_MAX => read += 1,
                Err(e) => return Err(e),
            }
            pause(read);
        }
    }

    fn take(datafile: &Datafile, first_page: u64, reading: &Reading<'_>) -> Result<OpenDatafile> {
        let path = datafile.path.clone();
        let failed = |e| files::failed(&path, e);
        let file = files::open(&path, reading.owner).map_err(failed)?;
        let file = Uncached::new(file, reading.in_order, reading.gives_way.clone());
        let bytes = file.bytes().map_err(failed)?;
        let mut open = OpenDatafile {
            file,
            format: reading.format,
            layout: reading.plain,
            space: datafile.space,
            flags: None,
            first_page,
            bytes,
            foreign: Vec::new(),
            pages: 0,
            descriptors: Mutex::default(),
            encryption: None,
            cipher: None,
            path: path.clone(),
        };
        if datafile.part == 0 && bytes >= page::PHYSICAL_MIN as u64 {
            open.read_page0(datafile, reading.keyring)?;
            // A file grows before its page 0 says so.
            open.bytes = open.file.bytes().map_err(failed)?;
        }
        Ok(open)
    }

    /// Whether the file is as long as its page 0, or its kind, demands. (The files of the system tablespace are measured
    /// together when they are discovered.)
    fn check_length(&self, datafile: &Datafile) -> Result<()> {
        let pages = if datafile.space == SpaceId::SYSTEM { 1 } else { self.pages.max(PAGES_LEAST) };
        let needed = u64::from(pages) * self.layout.physical() as u64;
        if self.bytes >= needed {
            return Ok(());
        }
        Err(too_short(&self.path, self.bytes, needed))
    }

    /// The tablespace's own word about page size and id.
    fn read_page0(&mut self, datafile: &Datafile, keyring: &dyn Keyring) -> Result<()> {
        let mut head = vec![0; self.bytes.min(64 << 10) as usize];
        let (mut last, mut lacking) = (None, None);
        for read in 0..READS_MAX {
            self.read_at(&mut head, 0)?;
            match self.format.page0(&head) {
                Ok(page0) if page0.space == datafile.space || datafile.space.is_undo() => {
                    self.layout = page0.layout;
                    self.space = page0.space;
                    self.flags = Some(page0.flags);
                    self.pages = page0.size;
                    let info = page0.encryption.as_deref();
                    self.encryption = page0.encryption.clone();
                    match info.map(|info| keyring.cipher(Sealed::Tablespace(self.space, info))).transpose() {
                        // The page may have been torn.
                        Err(e) if keyring.has_keys() => lacking = Some(e),
                        cipher => {
                            self.cipher = cipher.ok().flatten();
                            return Ok(());
                        }
                    }
                }
                Ok(page0) => last = Some(format!("it says it is tablespace {}", page0.space)),
                // The server made the file of an undo tablespace new and has not written to it yet: redo fills it.
                Err(Page0Error::AllZero) if datafile.space.is_undo() => return Ok(()),
                Err(e) => last = Some(e.to_string()),
            }
            pause(read);
        }
        if let Some(lacking) = lacking {
            return Err(Error::new(
                Code::Encrypted,
                format!("{} is encrypted: it {lacking}", self.path.display()),
            )
            .hint(
                "give the server's own keyring file, or no --keyring: then encrypted pages travel unverified",
            ));
        }
        Err(Error::new(
            Code::CorruptPage,
            format!("page 0 of {} (tablespace {}) is corrupt", self.path.display(), datafile.space),
        )
        .hint(CORRUPT_HINT)
        .cause(last.unwrap_or_default()))
    }

    fn legacy_doublewrite(&self) -> Result<Vec<Range<u64>>> {
        let size = self.layout.physical() as u64;
        if self.bytes < (TRX_SYS_PAGE + 1) * size {
            return Ok(Vec::new());
        }
        let mut trx_sys = vec![0; size as usize];
        self.read_at(&mut trx_sys, TRX_SYS_PAGE * size)?;
        Ok(page::doublewrite::legacy_extents(&trx_sys, self.layout))
    }

    /// Returns whether its flags say that it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.flags.is_some_and(SpaceFlags::is_encrypted)
    }

    /// Returns the encryption information of its page 0, if it is encrypted.
    pub fn encryption_info(&self) -> Option<&[u8; INFO_LEN]> {
        self.encryption.as_deref()
    }

    /// Number of whole pages in the file.
    pub fn pages(&self) -> u64 {
        self.bytes / self.layout.physical() as u64
    }

    /// Number of blocks to read.
    pub fn blocks(&self) -> u64 {
        self.bytes.div_ceil(BLOCK as u64)
    }

    /// Reads block `index` into `buffer` (at least [`BLOCK`] bytes) and verifies its pages.
    ///
    /// # Errors
    /// [`Code::CorruptPage`] names file and page; [`Code::SourceIo`].
    pub fn read_block(&self, index: u64, buffer: &mut [u8], reader: &mut PageReader<'_>) -> Result<Block> {
        let size = self.layout.physical();
        let filter = reader.filter;
        let mut shape = ExtentBuilder::default();
        let len = self.each_page(index, buffer, reader, |page, in_file, is_zero| {
            match !is_zero && self.is_selected(page, in_file, filter) {
                true => shape.page(page),
                false => shape.hole(size),
            }
        })?;
        Ok(Block { len, map: shape.into_map() })
    }

    /// Reads block `index` as [`OpenDatafile::read_block`] does, and lists those of its pages that an increment has: the ones
    /// that the filter selects, and those that are all zero. A page without content has no LSN that would tell whether the base
    /// has content there; it has, if a file was imported under the same tablespace id.
    ///
    /// # Errors
    /// As [`OpenDatafile::read_block`].
    pub fn read_changed(
        &self,
        index: u64,
        buffer: &mut [u8],
        reader: &mut PageReader<'_>,
    ) -> Result<Vec<ChangedPage>> {
        let size = self.layout.physical();
        let filter = reader.filter;
        let first = index * BLOCK as u64 / size as u64;
        let mut changed = Vec::new();
        self.each_page(index, buffer, reader, |page, in_file, is_zero| {
            // The header page has the length of the tablespace, and in the system tablespace an LSN that is not logged.
            if is_zero || in_file == 0 || self.is_selected(page, in_file, filter) {
                changed.push(ChangedPage {
                    number: in_file as u32,
                    at: (in_file - first) as usize * size,
                    is_zero,
                });
            }
        })?;
        Ok(changed)
    }

    /// Reads the pages with these numbers in this file into `buffer`, one behind the other, and lists those that an increment has,
    /// as [`OpenDatafile::read_changed`] does.
    ///
    /// # Errors
    /// As [`OpenDatafile::read_block`].
    pub fn read_listed(
        &self,
        numbers: &[u32],
        buffer: &mut [u8],
        reader: &mut PageReader<'_>,
    ) -> Result<Vec<ChangedPage>> {
        let size = self.layout.physical();
        let mut changed = Vec::new();
        let mut at = 0;
        for run in numbers.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
            let bytes = &mut buffer[at..][..run.len() * size];
            self.read_at(bytes, u64::from(run[0]) * size as u64)?;
            for (page, &number) in bytes.chunks_exact_mut(size).zip(run) {
                let is_zero = self.settle_page(page, u64::from(number), reader)?;
                if is_zero || number == 0 || self.is_selected(page, u64::from(number), reader.filter) {
                    changed.push(ChangedPage { number, at, is_zero });
                }
                at += size;
            }
        }
        Ok(changed)
    }

    /// Reads one page, by its number in this file, into `page`, and verifies it.
    ///
    /// # Errors
    /// As [`OpenDatafile::read_block`].
    pub fn read_page(&self, in_file: u64, page: &mut [u8], reader: &mut PageReader<'_>) -> Result<()> {
        self.read_at(page, in_file * page.len() as u64)?;
        self.settle(page, in_file, reader).map(drop)
    }

    /// Reads and verifies a block, and gives each of its pages with its number in this file, and whether it is all zero. Returns
    /// the block's length in bytes.
    fn each_page(
        &self,
        index: u64,
        buffer: &mut [u8],
        reader: &mut PageReader<'_>,
        mut visit: impl FnMut(&[u8], u64, bool),
    ) -> Result<usize> {
        let offset = index * BLOCK as u64;
        let len = (self.bytes - offset).min(BLOCK as u64) as usize;
        let buffer = &mut buffer[..len];
        self.read_at(buffer, offset)?;
        let size = self.layout.physical();
        for (i, page) in buffer.chunks_exact_mut(size).enumerate() {
            let in_file = offset / size as u64 + i as u64;
            let is_zero = self.settle_page(page, in_file, reader)?;
            visit(page, in_file, is_zero);
        }
        Ok(len)
    }

    /// Verifies one page. Returns whether it is all zero, and notes it as suspect if it should not be.
    fn settle_page(&self, page: &mut [u8], in_file: u64, reader: &mut PageReader<'_>) -> Result<bool> {
        let is_zero = self.settle(page, in_file, reader)? == Verdict::AllZero;
        // The server may just have made an undo tablespace new; then redo fills its page 0.
        if is_zero && (in_file == 0 && self.first_page == 0 || self.is_in_use(in_file, reader)?) {
            reader.suspects.add(self.suspect(in_file));
        }
        Ok(is_zero)
    }

    /// The layout of its pages.
    pub fn layout(&self) -> PageLayout {
        self.layout
    }

    /// Id of its tablespace, as its own page 0 says.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// Flags of its tablespace; `None` where no page 0 says so.
    pub fn flags(&self) -> Option<SpaceFlags> {
        self.flags
    }

    fn is_selected(&self, page: &[u8], in_file: u64, filter: &dyn PageFilter) -> bool {
        let place = Expected { space: self.space, page: PageNo((self.first_page + in_file) as u32) };
        FilHeader::of(page).is_none_or(|header| filter.selects(place, header))
    }

    /// Verifies one page, reading it again while it is torn.
    fn settle(&self, page: &mut [u8], in_file: u64, reader: &mut PageReader<'_>) -> Result<Verdict> {
        if self.foreign.iter().any(|r| r.contains(&in_file)) {
            return Ok(if page::is_all_zero(page) { Verdict::AllZero } else { Verdict::Ok });
        }
        let number = PageNo((self.first_page + in_file) as u32);
        let expected = Expected { space: self.space, page: number };
        let mut read = 0;
        loop {
            let defect = match self.verify(page, expected, &mut reader.scratch) {
                // Without the key only a second look tells whether a page was caught in the middle of a write.
                Ok(Verdict::Encrypted) if !self.is_stable(page, in_file)? => None,
                Ok(verdict) => return Ok(verdict),
                Err(PageDefect::SpaceId { found, .. }) if found.is_undo() && self.space.is_undo() => {
                    return Ok(Verdict::Ok);
                }
                Err(defect) => Some(defect),
            };
            read += 1;
            if read >= READS_MAX {
                return Err(self.corrupt(number, in_file, defect));
            }
            Progress::add(reader.torn_retries, 1);
            pause(read);
            self.read_at(page, in_file * page.len() as u64)?;
        }
    }

    /// Checks a page: with its key, where that is known.
    fn verify(
        &self,
        page: &[u8],
        expected: Expected,
        scratch: &mut Scratch,
    ) -> std::result::Result<Verdict, PageDefect> {
        let verdict = self.format.verify(page, &self.layout, expected, scratch)?;
        match &self.cipher {
            Some(cipher) if verdict == Verdict::Encrypted => {
                let mut clear = page.to_vec();
                cipher.decrypt(Unit::Page(expected.page), &mut clear);
                self.format.verify(&clear, &self.layout, expected, scratch)
            }
            _ => Ok(verdict),
        }
    }

    /// Whether this page was in use before the backup's redo begins, and so must have content: what was allocated until then
    /// has been written until then.
    fn is_in_use(&self, in_file: u64, reader: &mut PageReader<'_>) -> Result<bool> {
        if self.first_page != 0 || self.foreign.iter().any(|r| r.contains(&in_file)) {
            return Ok(false);
        }
        let at = page::descriptor_page(&self.layout, in_file);
        let mut kept = self.descriptors.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(number, _)| *number != at) {
            *kept = Some((at, self.read_descriptors(at, reader)?));
        }
        let Some((_, Some(descriptors))) = &*kept else { return Ok(false) };
        Ok(page::is_used(descriptors, &self.layout, in_file))
    }

    /// A page of extent descriptors that says nothing newer than the backup's redo; `None` for one that does, or is empty.
    fn read_descriptors(&self, at: u64, reader: &mut PageReader<'_>) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; self.layout.physical()];
        self.read_at(&mut bytes, at * self.layout.physical() as u64)?;
        let verdict = self.settle(&mut bytes, at, reader)?;
        let old = page::FilHeader::of(&bytes).is_some_and(|h| reader.suspects.is_settled(h.lsn()));
        Ok((verdict == Verdict::Ok && old).then_some(bytes))
    }

    fn suspect(&self, in_file: u64) -> EmptyPage {
        let bytes = self.layout.physical();
        EmptyPage {
            path: self.path.clone(),
            space: self.space,
            page: PageNo(in_file as u32),
            offset: in_file * bytes as u64,
            bytes,
        }
    }

    fn is_stable(&self, page: &mut [u8], in_file: u64) -> Result<bool> {
        let mut again = vec![0; page.len()];
        self.read_at(&mut again, in_file * page.len() as u64)?;
        let stable = again == page;
        page.copy_from_slice(&again);
        Ok(stable)
    }

    fn corrupt(&self, number: PageNo, in_file: u64, defect: Option<PageDefect>) -> Error {
        let offset = in_file * self.layout.physical() as u64;
        let what = defect.map_or("it never stayed the same".into(), |d| d.to_string());
        Error::new(
            Code::CorruptPage,
            format!(
                "page {number} of {} (tablespace {}, offset {offset}) is corrupt on disk",
                self.path.display(),
                self.space
            ),
        )
        .hint(CORRUPT_HINT)
        .cause(what)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|e| {
            let what = format!("can't read {} bytes at {offset} of {}", buffer.len(), self.path.display());
            if e.kind() == io::ErrorKind::UnexpectedEof {
                Error::new(Code::SourceIo, format!("{what}: the file became shorter"))
            } else {
                Error::io(Code::SourceIo, what, e)
            }
        })
    }
}

fn pause(read: u32) {
    std::thread::sleep(PAUSE_MAX.min(Duration::from_millis(1 << read.min(10))));
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
