//! The FIL header of every page (fil0types.h).
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | checksum |
//! | 4 | 4 | page number |
//! | 8 | 4 | previous page of the level; on page 0 the version of the server that created the space |
//! | 12 | 4 | next page of the level; on page 0 the version of the space |
//! | 16 | 8 | page LSN: the end of the newest mini-transaction that changed the page |
//! | 24 | 2 | page type |
//! | 26 | 8 | by type: flush LSN (page 0 of the system tablespace), split sequence number (R-tree), the control information of compressed and encrypted pages |
//! | 34 | 4 | space id |

use std::fmt;

use super::FIL_HEADER;
use crate::base::{Lsn, PageNo, SpaceId};
use crate::innodb::bytes::{be16, be32, be64};

/// Offset of the checksum.
pub const CHECKSUM: usize = 0;
/// Offset of the page number.
pub const PAGE_NO: usize = 4;
/// Offset of the previous page.
pub const PREV: usize = 8;
/// Offset of the next page.
pub const NEXT: usize = 12;
/// Offset of the page LSN.
pub const LSN: usize = 16;
/// Offset of the page type.
pub const TYPE: usize = 24;
/// Offset of the eight bytes whose meaning depends on the type (`FIL_PAGE_FILE_FLUSH_LSN`).
pub const FLUSH_LSN: usize = 26;
/// Offset of the space id.
pub const SPACE_ID: usize = 34;

/// The fields of a FIL header, read in place.
#[derive(Clone, Copy)]
pub struct FilHeader<'a>(&'a [u8; FIL_HEADER]);

impl<'a> FilHeader<'a> {
    /// The header of `page`; `None` if there are fewer than 38 bytes.
    pub fn of(page: &'a [u8]) -> Option<Self> {
        page.first_chunk().map(FilHeader)
    }

    /// The stored checksum.
    pub fn checksum(self) -> u32 {
        be32(self.0, CHECKSUM)
    }

    /// The page number.
    pub fn page_no(self) -> PageNo {
        PageNo(be32(self.0, PAGE_NO))
    }

    /// The left neighbour, `0xFFFFFFFF` if there is none (on page 0: the server version).
    pub fn prev(self) -> u32 {
        be32(self.0, PREV)
    }

    /// The right neighbour, `0xFFFFFFFF` if there is none (on page 0: the space version).
    pub fn next(self) -> u32 {
        be32(self.0, NEXT)
    }

    /// The page LSN.
    pub fn lsn(self) -> Lsn {
        Lsn(be64(self.0, LSN))
    }

    /// The page type.
    pub fn page_type(self) -> PageType {
        PageType(be16(self.0, TYPE))
    }

    /// The space id.
    pub fn space_id(self) -> SpaceId {
        SpaceId(be32(self.0, SPACE_ID))
    }
}

/// The type of a page: any value, since files hold types of old and new servers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageType(pub u16);

macro_rules! page_types {
    ($($name:ident = $value:literal, $text:literal;)+) => {
        #[allow(missing_docs, reason = "the text beside each constant is its description")]
        impl PageType {
            $(pub const $name: PageType = PageType($value);)+

            /// The server's word for the type.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)+ _ => None }
            }
        }
    };
}

page_types! {
    ALLOCATED = 0, "allocated";
    UNUSED = 1, "unused";
    UNDO_LOG = 2, "undo log";
    INODE = 3, "segment inodes";
    IBUF_FREE_LIST = 4, "change buffer free list";
    IBUF_BITMAP = 5, "change buffer bitmap";
    SYS = 6, "system";
    TRX_SYS = 7, "transaction system";
    FSP_HDR = 8, "tablespace header";
    XDES = 9, "extent descriptors";
    BLOB = 10, "blob";
    ZBLOB = 11, "first compressed blob";
    ZBLOB2 = 12, "compressed blob";
    UNKNOWN = 13, "unknown";
    COMPRESSED = 14, "compressed";
    ENCRYPTED = 15, "encrypted";
    COMPRESSED_AND_ENCRYPTED = 16, "compressed and encrypted";
    ENCRYPTED_RTREE = 17, "encrypted r-tree";
    SDI_BLOB = 18, "sdi blob";
    SDI_ZBLOB = 19, "compressed sdi blob";
    LEGACY_DBLWR = 20, "legacy doublewrite";
    RSEG_ARRAY = 21, "rollback segment array";
    LOB_INDEX = 22, "lob index";
    LOB_DATA = 23, "lob data";
    LOB_FIRST = 24, "lob first page";
    ZLOB_FIRST = 25, "compressed lob first page";
    ZLOB_DATA = 26, "compressed lob data";
    ZLOB_INDEX = 27, "compressed lob index";
    ZLOB_FRAG = 28, "compressed lob fragments";
    ZLOB_FRAG_ENTRY = 29, "compressed lob fragment entries";
    SDI = 17853, "sdi index";
    RTREE = 17854, "r-tree index";
    INDEX = 17855, "index";
}

impl PageType {
    /// Whether the page's body is ciphertext.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::ENCRYPTED | Self::COMPRESSED_AND_ENCRYPTED | Self::ENCRYPTED_RTREE)
    }

    /// Whether the page is a node of an index tree (B-tree, R-tree or SDI).
    pub fn is_index(self) -> bool {
        matches!(self, Self::INDEX | Self::RTREE | Self::SDI)
    }
}

impl fmt::Display for PageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_table_says() {
        let mut page = [0u8; 38];
        for (i, b) in page.iter_mut().enumerate() {
            *b = i as u8;
        }
        let h = FilHeader::of(&page).unwrap();
        assert_eq!(h.checksum(), 0x00010203);
        assert_eq!(h.page_no(), PageNo(0x04050607));
        assert_eq!(h.prev(), 0x08090a0b);
        assert_eq!(h.next(), 0x0c0d0e0f);
        assert_eq!(h.lsn(), Lsn(0x1011121314151617));
        assert_eq!(h.page_type(), PageType(0x1819));
        assert_eq!(h.space_id(), SpaceId(0x22232425));
        assert!(FilHeader::of(&page[..37]).is_none());
    }

    #[test]
    fn types_have_names() {
        assert_eq!(PageType::RTREE.to_string(), "r-tree index");
        assert_eq!(PageType(999).to_string(), "type 999");
    }
}
