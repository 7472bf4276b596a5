//! A page that redo records are applied to: loaded from its bytes on disk, changed, and finished with LSN and checksum.

use std::ops::{Deref, DerefMut};

use super::index_page::{Frame, IndexPage};
use super::record_layout::RecordLayout;
use super::zip::{self, Inflaters, Unzipped, Zip};
use super::{Applied, Corruption};
use crate::base::{Lsn, PageNo, SpaceId};
use crate::innodb::bytes::{put32, put64};
use crate::innodb::page::compressed::PayloadError;
use crate::innodb::page::{FilHeader, PageLayout, PageType, Scratch, checksum, header, restore_compressed};

/// A page that is being brought up to date: in its place, if it is loaded from bytes that can be changed.
pub struct Page<'b> {
    space: SpaceId,
    number: PageNo,
    layout: PageLayout,
    /// As on disk.
    bytes: Bytes<'b>,
    /// The frame of a compressed index page, once a record needed it.
    unzipped: Option<Box<Unzipped>>,
}

/// The bytes of a page.
pub enum Bytes<'b> {
    /// In their place.
    Borrowed(&'b mut [u8]),
    /// By themselves.
    Owned(Vec<u8>),
}

impl<'b> From<&'b mut [u8]> for Bytes<'b> {
    fn from(bytes: &'b mut [u8]) -> Self {
        Bytes::Borrowed(bytes)
    }
}

impl From<Vec<u8>> for Bytes<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::Owned(bytes)
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl DerefMut for Bytes<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// Error: the log ends between an insert into the uncompressed frame of a compressed page and the record that compresses it, so that
/// the page can't be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the log ends before a compressed page was compressed again")]
pub struct Unfinished;

/// Why redo can't be applied to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// Not as many bytes as a page of the tablespace has.
    #[error("{found} bytes instead of a page of {expected}")]
    Length {
        /// Bytes given.
        found: usize,
        /// Bytes of a page on disk.
        expected: usize,
    },
    /// The page is encrypted.
    #[error("the page is encrypted")]
    Encrypted,
    /// Transparent page compression, and the payload is broken.
    #[error("compressed page: {0}")]
    Compressed(#[from] PayloadError),
}

impl<'b> Page<'b> {
    /// A page as it was read from disk. A transparently compressed one is restored, and stays so.
    pub fn load(
        space: SpaceId,
        number: PageNo,
        layout: PageLayout,
        bytes: impl Into<Bytes<'b>>,
        scratch: &mut Scratch,
    ) -> Result<Self, LoadError> {
        let bytes = bytes.into();
        if bytes.len() != layout.physical() {
            return Err(LoadError::Length { found: bytes.len(), expected: layout.physical() });
        }
        let mut page = Page { space, number, layout, bytes, unzipped: None };
        match FilHeader::of(&page.bytes).map(FilHeader::page_type) {
            Some(t) if t.is_encrypted() => return Err(LoadError::Encrypted),
            Some(PageType::COMPRESSED) if !layout.is_zip() => {
                let mut whole = vec![0; layout.logical()];
                restore_compressed(&page.bytes, &mut whole, scratch)?;
                page.bytes = whole.into();
            }
            _ => {}
        }
        Ok(page)
    }

    /// A page that is not there yet, or whose content does not matter since its first record initialises it.
    pub fn blank(space: SpaceId, number: PageNo, layout: PageLayout) -> Self {
        Page { space, number, layout, bytes: vec![0; layout.physical()].into(), unzipped: None }
    }

    /// The bytes of a page that was not brought up to date in its place.
    pub fn into_owned(self) -> Option<Vec<u8>> {
        match self.bytes {
            Bytes::Borrowed(_) => None,
            Bytes::Owned(bytes) => Some(bytes),
        }
    }

    /// The tablespace.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// The page's place in it.
    pub fn number(&self) -> PageNo {
        self.number
    }

    /// The page sizes of its tablespace.
    pub fn layout(&self) -> PageLayout {
        self.layout
    }

    /// The page LSN that stands in the page now.
    pub fn lsn(&self) -> Lsn {
        FilHeader::of(&self.bytes).map(FilHeader::lsn).unwrap_or_default()
    }

    /// Gives the page its LSN, the end of the last group with a record for it, and its checksum.
    pub fn finish(&mut self, lsn: Lsn) -> Result<&[u8], Unfinished> {
        if self.is_ahead() {
            return Err(Unfinished);
        }
        put64(&mut self.bytes, header::LSN, lsn.0);
        checksum::stamp(&mut self.bytes, self.layout.is_zip());
        Ok(&self.bytes)
    }

    /// The page as it stands. Before [`Page::finish`] its checksum may be the old one.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as they are on disk.
    pub(super) fn raw_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The bytes of a page that is the same in memory and on disk.
    pub(super) fn frame_mut(&mut self) -> Applied<&mut [u8]> {
        if self.layout.is_zip() {
            return Err(Corruption("a record for an uncompressed page"));
        }
        Ok(&mut self.bytes)
    }

    /// The page as an index page of this shape; a compressed one is unzipped first.
    pub(super) fn index_page(
        &mut self,
        shape: &RecordLayout,
        inflaters: &mut Inflaters,
    ) -> Applied<IndexPage<'_>> {
        let mut page = IndexPage::of(self.frame(inflaters)?, shape)?;
        if let Some(zip) = &mut page.zip {
            zip.check(shape.clustered)?;
        }
        Ok(page)
    }

    /// The page as an index page of whichever format it has.
    pub(super) fn any_index_page(&mut self, inflaters: &mut Inflaters) -> Applied<IndexPage<'_>> {
        let mut page = IndexPage::any_of(self.frame(inflaters)?)?;
        if let Some(zip) = &mut page.zip {
            zip.check(false)?;
        }
        Ok(page)
    }

    fn frame(&mut self, inflaters: &mut Inflaters) -> Applied<Frame<'_>> {
        if !self.layout.is_zip() {
            return Ok(Frame { bytes: &mut self.bytes, zip: None });
        }
        if self.unzipped.is_none() {
            self.unzipped = Some(Box::new(zip::unzip(&self.bytes, self.layout.logical(), inflaters)?));
        }
        let unzipped = self.unzipped.as_mut().ok_or(Corruption("no frame"))?;
        let zip = Zip { z: &mut self.bytes, meta: &mut unzipped.meta };
        Ok(Frame { bytes: &mut unzipped.frame, zip: Some(zip) })
    }

    /// Whether this is an index page of a ROW_FORMAT=COMPRESSED tablespace.
    pub(super) fn is_zip_index(&self) -> bool {
        self.layout.is_zip() && FilHeader::of(&self.bytes).is_some_and(|h| h.page_type().is_index())
    }

    /// The bytes of a compressed page.
    pub(super) fn zip_mut(&mut self) -> Applied<&mut [u8]> {
        if !self.layout.is_zip() {
            return Err(Corruption("a record for a compressed page"));
        }
        Ok(&mut self.bytes)
    }

    /// The frame of a compressed page, if there is one.
    pub(super) fn unzipped_mut(&mut self) -> Option<&mut Unzipped> {
        self.unzipped.as_deref_mut()
    }

    /// Whether the frame is ahead of the compressed page.
    pub(super) fn is_ahead(&self) -> bool {
        self.unzipped.as_ref().is_some_and(|u| u.ahead)
    }

    pub(super) fn set_ahead(&mut self, ahead: bool) {
        if let Some(unzipped) = &mut self.unzipped {
            unzipped.ahead = ahead;
        }
    }

    /// The compressed page was replaced: its frame is made again when it is needed.
    pub(super) fn forget_frame(&mut self) {
        self.unzipped = None;
    }

    /// Zeros, but for page number and space id.
    pub(super) fn clear(&mut self) {
        self.forget_frame();
        self.bytes.fill(0);
        put32(&mut self.bytes, header::PAGE_NO, self.number.0);
        put32(&mut self.bytes, header::SPACE_ID, self.space.0);
    }
}
