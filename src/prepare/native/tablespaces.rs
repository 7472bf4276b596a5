//! The tablespaces of a copy by id: their files, their page size, their length.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::base::nofollow;
use crate::base::read::read_up_to;
use crate::base::{Code, Error, PageNo, Result, SpaceId};
use crate::innodb::encryption::{Cipher, NoKey, Unit};
use crate::innodb::page::{Expected, FilHeader, PageDefect, PageFormat, PageLayout, Scratch, Verdict};
use crate::prepare::datafiles::{self, HeaderSize};
use crate::prepare::lengths::Growth;
use crate::prepare::native::error::corrupt;
use crate::prepare::native::space_keys::{SpaceCiphers, SpaceKeys};
use crate::prepare::{Datadir, lengths, options};

/// The tablespaces of a copy, by id.
pub(crate) struct TablespaceFiles {
    by_id: HashMap<SpaceId, Tablespace>,
    removed: BTreeSet<SpaceId>,
}

/// One tablespace. Only the system's has more than one file.
pub(crate) struct Tablespace {
    format: &'static dyn PageFormat,
    pub(crate) layout: PageLayout,
    /// Whether several tables may lie in it.
    pub(crate) is_shared: bool,
    ciphers: SpaceCiphers,
    header_size: HeaderSize,
    files: Vec<PathBuf>,
}

/// A tablespace whose files are open.
pub(crate) struct OpenTablespace {
    pub(crate) id: SpaceId,
    pub(crate) format: &'static dyn PageFormat,
    pub(crate) layout: PageLayout,
    ciphers: SpaceCiphers,
    files: Vec<OpenFile>,
    pages: u64,
}

struct OpenFile {
    path: PathBuf,
    file: File,
    /// Number of its first page.
    first: u64,
}

impl TablespaceFiles {
    /// Looks into page 0 of every file that is one of a tablespace; `removed` are those that redo deletes,
    /// `keys` what it says of their encryption.
    pub(crate) fn find(
        datadir: &Datadir<'_>,
        removed: BTreeSet<SpaceId>,
        keys: &SpaceKeys,
    ) -> Result<TablespaceFiles> {
        let format = datadir.redo.pages();
        let mut by_id = HashMap::new();
        let mut files: BTreeMap<SpaceId, Vec<PathBuf>> = BTreeMap::new();
        for (id, found) in datafiles::tablespaces(datadir)? {
            if let [first, second, ..] = &found[..] {
                let both = format!("{} and {}", first.display(), second.display());
                return Err(Error::new(Code::Prepare, format!("{both} both stand for tablespace {id}"))
                    .hint("take the backup again, without DDL meanwhile"));
            }
            files.insert(id, found);
        }
        files.insert(SpaceId::SYSTEM, options::system_files(datadir)?);
        for (id, files) in files {
            let first = files.first().ok_or_else(|| corrupt("the system tablespace has no file"))?;
            let (header_size, page0) = datafiles::page0(first, format)?;
            if page0.space != id {
                return Err(Error::new(
                    Code::CorruptPage,
                    format!("{} is of tablespace {}, not {id}", first.display(), page0.space),
                ));
            }
            let info = page0.encryption.as_deref();
            let ciphers = SpaceCiphers::find(id, info, page0.flags.is_encrypted(), keys, &*datadir.keyring);
            by_id.insert(
                id,
                Tablespace {
                    format,
                    layout: page0.layout,
                    is_shared: page0.flags.is_shared(),
                    ciphers,
                    header_size,
                    files,
                },
            );
        }
        Ok(TablespaceFiles { by_id, removed })
    }

    /// Refuses a tablespace that was cut: one that is shorter than its header says, which redo does not explain.
    pub(crate) fn check_lengths(&self, growth: &Growth) -> Result<()> {
        let mut spaces: Vec<_> = self.by_id.values().collect();
        spaces.sort_by_key(|space| space.header_size.space);
        spaces.iter().try_for_each(|space| lengths::check_one(&space.header_size, &space.files, growth))
    }

    /// The tablespace with this id.
    pub(crate) fn get(&self, id: SpaceId) -> Option<&Tablespace> {
        self.by_id.get(&id)
    }

    /// Whether records for this tablespace, which has no file, are of no interest: redo removes it later, or it is an undo
    /// tablespace whose truncation lies before the checkpoint in part (`recv_recover` leaves both out).
    pub(crate) fn is_removed(&self, id: SpaceId) -> bool {
        self.removed.contains(&id) || id.is_undo() || id == SpaceId::TEMPORARY
    }

    /// The undo tablespaces.
    pub(crate) fn undo(&self) -> impl Iterator<Item = (SpaceId, &Tablespace)> {
        self.by_id.iter().filter(|(id, _)| id.is_undo()).map(|(id, space)| (*id, space))
    }

    /// The first file of the system tablespace.
    pub(crate) fn system_file(&self) -> Result<PathBuf> {
        let file = self.by_id.get(&SpaceId::SYSTEM).and_then(|space| space.files.first());
        file.cloned().ok_or_else(|| corrupt("the system tablespace has no file"))
    }

    /// Makes each file as long as its tablespace header and the extensions in redo (`extended`) say; no file is cut.
    pub(crate) fn lengthen(&self, extended: &BTreeMap<SpaceId, u64>) -> Result<()> {
        for (id, space) in &self.by_id {
            let Some(path) = space.files.last() else { continue };
            let first = &space.files[0];
            let mut wanted = datafiles::page0(first, space.format)?.0.bytes;
            if *id != SpaceId::SYSTEM {
                // Extensions of the system tablespace count from the start of its last file; its header knows all.
                wanted = wanted.max(extended.get(id).copied().unwrap_or_default());
            }
            let failed = |e| Error::io(Code::TargetIo, path.display(), e);
            let mut before = 0;
            for path in &space.files[..space.files.len() - 1] {
                before += datafiles::length(path)?;
            }
            let wanted = wanted.saturating_sub(before);
            if datafiles::length(path)? < wanted {
                let file = nofollow::open_rw(path).map_err(failed)?;
                file.set_len(wanted).map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl Tablespace {
    /// Why its pages can't be read, if they are encrypted and nobody here knows the key.
    pub(crate) fn lacking(&self) -> Option<&NoKey> {
        self.ciphers.lacking.as_ref()
    }

    /// Opens its files for reading and writing.
    pub(crate) fn open(&self, id: SpaceId) -> Result<OpenTablespace> {
        self.open_with(id, nofollow::open_rw)
    }

    /// Opens its files for reading.
    pub(crate) fn open_to_read(&self, id: SpaceId) -> Result<OpenTablespace> {
        self.open_with(id, nofollow::open)
    }

    fn open_with(&self, id: SpaceId, how: impl Fn(&Path) -> io::Result<File>) -> Result<OpenTablespace> {
        let page_len = self.layout.physical() as u64;
        let mut first = 0;
        let mut files = Vec::new();
        for path in &self.files {
            let opened = how(path);
            let opened = opened.and_then(|file| Ok((file.metadata()?.len(), file)));
            let (len, file) = opened.map_err(|e| Error::io(Code::TargetIo, path.display(), e))?;
            files.push(OpenFile { path: path.clone(), file, first });
            first += len / page_len;
        }
        Ok(OpenTablespace {
            id,
            format: self.format,
            layout: self.layout,
            ciphers: self.ciphers.clone(),
            files,
            pages: first,
        })
    }
}

impl OpenTablespace {
    /// How many whole pages its files had when it was opened.
    pub(crate) fn pages(&self) -> u32 {
        u32::try_from(self.pages).unwrap_or(u32::MAX)
    }

    /// Checks that these bytes are a sound page `number` of it.
    ///
    /// # Errors
    /// [`PageDefect`] says what is wrong.
    pub(crate) fn verify(
        &self,
        number: PageNo,
        bytes: &[u8],
        scratch: &mut Scratch,
    ) -> std::result::Result<Verdict, PageDefect> {
        self.format.verify(bytes, &self.layout, Expected { space: self.id, page: number }, scratch)
    }

    /// Reads pages from `first` on; gives how many of their bytes the files have.
    pub(crate) fn read(&self, first: PageNo, into: &mut [u8]) -> Result<usize> {
        let page_len = self.layout.physical();
        let mut done = 0;
        while done < into.len() {
            let page = PageNo(first.0 + (done / page_len) as u32);
            let (file, at, len) = self.place(page, into.len() - done);
            let is_last = done + len == into.len();
            let part = &mut into[done..done + len];
            let filled = read_up_to(&file.file, part, at).map_err(|e| self.failed(page, e))?;
            if filled < len && is_last {
                done += filled;
                break;
            }
            part[filled..].fill(0);
            done += len;
        }
        self.decrypt(first, &mut into[..done]);
        Ok(done)
    }

    /// Decrypts pages that follow each other, as far as they are encrypted.
    pub(crate) fn decrypt(&self, first: PageNo, pages: &mut [u8]) {
        if self.ciphers.opens.is_empty() {
            return;
        }
        for (n, page) in pages.chunks_exact_mut(self.layout.physical()).enumerate() {
            let number = PageNo(first.0 + n as u32);
            match &self.ciphers.opens[..] {
                [cipher] => cipher.decrypt(Unit::Page(number), page),
                all => self.try_ciphers(all, number, page),
            }
        }
    }

    /// Decrypts a page with the cipher that makes it sound.
    fn try_ciphers(&self, all: &[Arc<dyn Cipher>], number: PageNo, page: &mut [u8]) {
        if FilHeader::of(page).is_none_or(|header| !header.page_type().is_encrypted()) {
            return;
        }
        let (sealed, mut scratch) = (page.to_vec(), Scratch::new());
        for cipher in all {
            page.copy_from_slice(&sealed);
            cipher.decrypt(Unit::Page(number), page);
            if self.verify(number, page, &mut scratch).is_ok() {
                return;
            }
        }
    }

    /// Encrypts pages that follow each other, as they will be in their files; `None` if they are not encrypted there.
    pub(crate) fn encrypted(&self, first: PageNo, pages: &[u8]) -> Option<Vec<u8>> {
        let cipher = self.ciphers.seals.as_ref()?;
        let mut sealed = pages.to_vec();
        for (n, page) in sealed.chunks_exact_mut(self.layout.physical()).enumerate() {
            cipher.encrypt(Unit::Page(PageNo(first.0 + n as u32)), page);
        }
        Some(sealed)
    }

    /// Writes pages that follow each other.
    pub(crate) fn write(&self, first: PageNo, pages: &[u8]) -> Result<()> {
        match self.encrypted(first, pages) {
            Some(sealed) => self.write_as_they_are(first, &sealed),
            None => self.write_as_they_are(first, pages),
        }
    }

    /// Writes pages that are encrypted where they have to be.
    pub(crate) fn write_as_they_are(&self, first: PageNo, pages: &[u8]) -> Result<()> {
        let page_len = self.layout.physical();
        let mut done = 0;
        while done < pages.len() {
            let page = PageNo(first.0 + (done / page_len) as u32);
            let (file, at, len) = self.place(page, pages.len() - done);
            file.file.write_all_at(&pages[done..done + len], at).map_err(|e| self.failed(page, e))?;
            done += len;
        }
        Ok(())
    }

    /// The first page from `page` on that is not in a hole; behind the last if there is none.
    pub(crate) fn next_data(&self, page: PageNo) -> Result<PageNo> {
        let end = PageNo(self.pages());
        if page >= end {
            return Ok(end);
        }
        let (file, at, _) = self.place(page, 0);
        match rustix::fs::seek(&file.file, SeekFrom::Data(at)) {
            Ok(found) => {
                let skipped = found.saturating_sub(at) / self.layout.physical() as u64;
                Ok(PageNo(page.0.saturating_add(u32::try_from(skipped).unwrap_or(u32::MAX)).min(end.0)))
            }
            // There is only a hole up to the end of the file.
            Err(Errno::NXIO) => {
                let next = self.files.iter().map(|file| file.first).find(|first| *first > u64::from(page.0));
                Ok(PageNo(next.and_then(|first| u32::try_from(first).ok()).unwrap_or(end.0)))
            }
            // A file system that knows of no holes.
            Err(_) => Ok(page),
        }
    }

    /// Makes durable what was written.
    pub(crate) fn sync(&self) -> Result<()> {
        let failed = |file: &OpenFile, e| Error::io(Code::TargetIo, file.path.display(), e);
        self.files.iter().try_for_each(|file| file.file.sync_data().map_err(|e| failed(file, e)))
    }

    /// The file that a page is in, and where.
    pub(crate) fn at(&self, page: PageNo) -> (&File, u64) {
        let (file, at, _) = self.place(page, 0);
        (&file.file, at)
    }

    /// The file that a page is in, for words.
    pub(crate) fn shown(&self, page: PageNo) -> String {
        format!("{} page {page}", self.place(page, 0).0.path.display())
    }

    /// The file that a page is in, where, and how many of `len` bytes from there on are in the same file.
    fn place(&self, page: PageNo, len: usize) -> (&OpenFile, u64, usize) {
        let (number, page_len) = (u64::from(page.0), self.layout.physical() as u64);
        let found = self.files.iter().rposition(|file| file.first <= number).unwrap_or(0);
        let file = &self.files[found];
        let room = self.files.get(found + 1).map_or(u64::MAX, |next| (next.first - number) * page_len);
        (file, (number - file.first) * page_len, len.min(usize::try_from(room).unwrap_or(usize::MAX)))
    }

    fn failed(&self, page: PageNo, e: io::Error) -> Error {
        Error::io(Code::TargetIo, self.shown(page), e)
    }
}
