//! Page 0 of a tablespace's first file: the tablespace header (fsp0fsp.cc, `Datafile::validate_first_page`).
//!
//! After the FIL header: space id (4 bytes at 38), unused (42), size in pages (46), pages that were initialised
//! (50), flags (54), list bases, and from 150 the extent descriptors. Behind these lies the encryption
//! information (111 bytes, starting with `lCA`, `lCB` or `lCC`): see [`Page0::encryption_offset`]. In the FIL
//! header, "previous page" holds the version of the server that created the space.

use super::header::{PAGE_NO, SPACE_ID, TYPE};
use super::{FilHeader, FlagsError, PageLayout, PageType, SpaceFlags, checksum, is_all_zero};
use crate::base::version::ServerVersion;
use crate::base::{PageNo, SpaceId};
use crate::innodb::bytes::{be32, put16, put32};

/// Pages of a freshly created file-per-table or general tablespace (`FIL_IBD_FILE_INITIAL_SIZE`): the server
/// does not log this first size.
pub const MIN_USER_PAGES: u32 = 7;
/// Bytes of a freshly created undo tablespace (`UNDO_INITIAL_SIZE`); not logged either.
pub const MIN_UNDO_BYTES: u64 = 16 << 20;

const FSP_SPACE_ID: usize = 38;
/// Offset of the number of pages of the tablespace in page 0 (`FSP_HEADER_OFFSET` + `FSP_SIZE`), 4 bytes.
pub const FSP_SIZE: usize = 46;
const FSP_FREE_LIMIT: usize = 50;
const FSP_FLAGS: usize = 54;
const XDES_ARRAY: usize = 150;
/// Bytes of the encryption information: magic, master key id, server uuid, key and iv, crc.
const ENCRYPTION_INFO: usize = 111;
const ENCRYPTION_MAGICS: [&[u8]; 3] = [b"lCA", b"lCB", b"lCC"];

/// Page 0 of a tablespace, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page0 {
    /// The space id.
    pub space: SpaceId,
    /// The flags.
    pub flags: SpaceFlags,
    /// The page sizes that follow from the flags.
    pub layout: PageLayout,
    /// Size of the space in pages. The file may be longer.
    pub size: u32,
    /// Pages below this were initialised.
    pub free_limit: u32,
    /// The server version that created or upgraded the space; `None` where nothing sensible stands.
    pub server_version: Option<ServerVersion>,
    /// The encryption information, if there is any.
    pub encryption: Option<Box<[u8; ENCRYPTION_INFO]>>,
}

/// Why the first bytes of a file are no page 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Page0Error {
    /// The file is too short.
    #[error("{found} bytes are too few for a tablespace header, {needed} are needed")]
    Short {
        /// Bytes at hand.
        found: usize,
        /// Bytes of page 0.
        needed: usize,
    },
    /// Nothing was written yet: the file is being created, or was only extended.
    #[error("the tablespace header is all zeros")]
    AllZero,
    /// The flags are not valid.
    #[error(transparent)]
    Flags(#[from] FlagsError),
    /// The page number in it is not 0.
    #[error("the tablespace header says that it is page {0}")]
    PageNo(PageNo),
    /// The FIL header and the tablespace header name different spaces.
    #[error("the tablespace header names two space ids, {fil} and {fsp}")]
    SpaceIds {
        /// In the FIL header.
        fil: SpaceId,
        /// In the tablespace header.
        fsp: SpaceId,
    },
}

impl Page0 {
    /// Reads the head of a tablespace's first file. `bytes` holds page 0 and may go on after it (the page size
    /// is not known before the flags were read: 64 KiB are always enough). No checksum is looked at.
    pub fn read(bytes: &[u8]) -> Result<Self, Page0Error> {
        Self::read_as(bytes, SpaceFlags::layout)
    }

    /// Reads the head of a tablespace's first file, with `layout_of` to tell what its flags mean.
    ///
    /// # Errors
    /// As [`Page0::read`].
    pub fn read_as(
        bytes: &[u8],
        layout_of: impl FnOnce(SpaceFlags) -> Result<PageLayout, FlagsError>,
    ) -> Result<Self, Page0Error> {
        let short = |needed| Page0Error::Short { found: bytes.len(), needed };
        if bytes.len() < super::PHYSICAL_MIN {
            return Err(short(super::PHYSICAL_MIN));
        }
        if is_all_zero(&bytes[..super::PHYSICAL_MIN]) {
            return Err(Page0Error::AllZero);
        }
        let flags = SpaceFlags(be32(bytes, FSP_FLAGS));
        let layout = layout_of(flags)?;
        let page = bytes.get(..layout.physical()).ok_or_else(|| short(layout.physical()))?;
        let header = FilHeader::of(page).ok_or_else(|| short(layout.physical()))?;
        if header.page_no() != PageNo(0) {
            return Err(Page0Error::PageNo(header.page_no()));
        }
        let space = SpaceId(be32(page, FSP_SPACE_ID));
        if header.space_id() != space {
            return Err(Page0Error::SpaceIds { fil: header.space_id(), fsp: space });
        }
        Ok(Page0 {
            space,
            flags,
            layout,
            size: be32(page, FSP_SIZE),
            free_limit: be32(page, FSP_FREE_LIMIT),
            server_version: version(header.prev()),
            encryption: encryption(page, layout),
        })
    }

    /// Offset of the encryption information in page 0: behind the descriptors of as many extents as one
    /// descriptor page serves (`fsp_header_get_encryption_offset`).
    pub fn encryption_offset(layout: PageLayout) -> usize {
        XDES_ARRAY + layout.xdes_size() * (layout.physical() / layout.extent_pages())
    }
}

/// 90704 is 9.7.4.
fn version(number: u32) -> Option<ServerVersion> {
    let (major, minor, patch) = (number / 10_000, number / 100 % 100, number % 100);
    ((5..100).contains(&major)).then(|| ServerVersion::new(major as u16, minor as u16, patch as u16))
}

fn encryption(page: &[u8], layout: PageLayout) -> Option<Box<[u8; ENCRYPTION_INFO]>> {
    let info = page.get(Page0::encryption_offset(layout)..)?.first_chunk()?;
    ENCRYPTION_MAGICS.iter().any(|magic| info.starts_with(magic)).then(|| Box::new(*info))
}

/// The least page 0 that a server accepts for a space of `pages` pages, all of whose content is still to come
/// from redo: number 0, type, space id, size, flags, LSN 0 and a checksum.
pub fn build_page0(space: SpaceId, flags: SpaceFlags, pages: u32) -> Result<Vec<u8>, FlagsError> {
    let layout = flags.layout()?;
    let mut page = vec![0; layout.physical()];
    put32(&mut page, PAGE_NO, 0);
    put16(&mut page, TYPE, PageType::FSP_HDR.0);
    put32(&mut page, SPACE_ID, space.0);
    put32(&mut page, FSP_SPACE_ID, space.0);
    put32(&mut page, FSP_SIZE, pages);
    put32(&mut page, FSP_FLAGS, flags.0);
    checksum::stamp(&mut page, layout.is_zip());
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::{Expected, Scratch, Verdict, verify};
    use super::*;

    #[test]
    fn built_pages_are_read_and_verify() {
        for flags in [0x21, 0x4021, 0x27, 0x23, 0x40e1, 0x41e1, 0x800, 0] {
            let flags = SpaceFlags(flags);
            let page = build_page0(SpaceId(77), flags, 7).unwrap();
            let read = Page0::read(&page).unwrap();
            assert_eq!((read.space, read.flags, read.size), (SpaceId(77), flags, 7));
            assert_eq!((read.server_version, read.encryption), (None, None));
            let expected = Expected { space: SpaceId(77), page: PageNo(0) };
            assert_eq!(verify(&page, &read.layout, expected, &mut Scratch::new()), Ok(Verdict::Ok));
        }
        assert!(build_page0(SpaceId(1), SpaceFlags(1), 7).is_err());
    }

    #[test]
    fn encryption_lies_where_it_was_seen() {
        assert_eq!(Page0::encryption_offset(PageLayout::plain(16384).unwrap()), 10390);
        assert_eq!(Page0::encryption_offset(PageLayout::zip(16384, 8192).unwrap()), 5270);
        let mut page = build_page0(SpaceId(5), SpaceFlags(0x6021), 7).unwrap();
        page[10390..10393].copy_from_slice(b"lCC");
        put32(&mut page, 8, 90704);
        let read = Page0::read(&page).unwrap();
        assert!(read.encryption.is_some());
        assert_eq!(read.server_version, Some(ServerVersion::new(9, 7, 4)));
    }

    #[test]
    fn what_is_no_page_0() {
        let good = build_page0(SpaceId(5), SpaceFlags(0x4021), 7).unwrap();
        assert_eq!(Page0::read(&good[..100]), Err(Page0Error::Short { found: 100, needed: 1024 }));
        assert_eq!(Page0::read(&good[..8192]), Err(Page0Error::Short { found: 8192, needed: 16384 }));
        assert_eq!(Page0::read(&[0; 65536]), Err(Page0Error::AllZero));
        let with = |at: usize, byte: u8| {
            let mut page = good.clone();
            page[at] = byte;
            Page0::read(&page)
        };
        assert_eq!(with(7, 3), Err(Page0Error::PageNo(PageNo(3))));
        assert_eq!(with(37, 6), Err(Page0Error::SpaceIds { fil: SpaceId(6), fsp: SpaceId(5) }));
        assert_eq!(with(54, 0xFF), Err(Page0Error::Flags(FlagsError(0xFF00_4021))));
    }
}
