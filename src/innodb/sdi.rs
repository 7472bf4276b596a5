//! Serialized dictionary information (SDI): what the data dictionary says of the tables in a tablespace, kept in the tablespace
//! itself.
//!
//! A B-tree of its own holds one record for each object. Page 0 has the number of its root behind the encryption information
//! (`fsp_sdi_get_root_page_num`). The records are COMPACT (`dict_sdi_create_idx_in_mem`):
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | type of the object: 1 a table, 2 a tablespace |
//! | 4 | 8 | its id |
//! | 12 | 6 + 7 | DB_TRX_ID, DB_ROLL_PTR |
//! | 25 | 4 | length of its text |
//! | 29 | 4 | length of the compressed text |
//! | 33 | variable | the text, JSON, as a zlib stream; what is long lies on a chain of pages |

use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::bytes::{be16, be32, be64};
use super::page::{FIL_HEADER, FilHeader, Page0, PageLayout, PageType};
use crate::base::PageNo;

/// Bytes that page 0 has for encryption information (`Encryption::INFO_MAX_SIZE`).
const ENCRYPTION_MAX: usize = 115;
/// Maximum number of bytes of one object's text, and of all compressed texts of a tablespace.
const TEXT_MAX: usize = 64 << 20;
/// Maximum number of levels of a tree (`BTR_MAX_LEVELS`).
const LEVELS_MAX: usize = 100;

const LEVEL: usize = 64;
const INFIMUM: usize = 99;
const SUPREMUM: usize = 112;
const RECORD_HEADER: usize = 5;
const DELETED: u8 = 0x20;
const CHILD: usize = 12;
const TEXT_LEN: usize = 25;
const COMPRESSED_LEN: usize = 29;
const TEXT: usize = 33;
const EXTERN_REF: usize = 20;

/// Type of the object that describes a table.
pub const TABLE: u32 = 1;

/// One object of the dictionary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SdiObject {
    /// Its type: [`TABLE`], or 2, a tablespace.
    pub kind: u32,
    /// Its id.
    pub id: u64,
    /// Its text, JSON.
    pub json: Vec<u8>,
}

/// Error: dictionary information can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SdiError<E> {
    /// A page could not be read.
    #[error(transparent)]
    Page(E),
    /// The pages contradict each other or themselves.
    #[error("the dictionary information of the tablespace is broken: {0}")]
    Broken(&'static str),
}

/// Returns the root of the tree; `None` in a tablespace without dictionary information.
pub fn root(page0: &[u8], layout: PageLayout) -> Option<PageNo> {
    let at = Page0::encryption_offset(layout) + ENCRYPTION_MAX;
    let root = page0.get(at..at + 8).map(|bytes| be32(bytes, 4));
    root.filter(|root| *root != 0 && *root != u32::MAX).map(PageNo)
}

/// Reads all objects of a tablespace. `page` gives a page as the server has it in memory: decrypted, decompressed; pages of an
/// index of a ROW_FORMAT=COMPRESSED tablespace as their uncompressed frames.
///
/// # Errors
/// [`SdiError`].
pub fn read<E>(
    page0: &[u8],
    layout: PageLayout,
    page: &mut dyn FnMut(PageNo) -> Result<Vec<u8>, E>,
) -> Result<Vec<SdiObject>, SdiError<E>> {
    let root = root(page0, layout).ok_or(SdiError::Broken("there is none"))?;
    let mut reader = Reader { layout, page, seen: BTreeSet::new(), bytes: 0 };
    let mut next = Some(reader.first_leaf(root)?);
    let mut objects = Vec::new();
    while let Some(number) = next {
        next = reader.leaf(number, &mut objects)?;
    }
    Ok(objects)
}

struct Reader<'a, E> {
    layout: PageLayout,
    page: &'a mut dyn FnMut(PageNo) -> Result<Vec<u8>, E>,
    /// Pages that were read: none is read twice, so hostile chains end.
    seen: BTreeSet<PageNo>,
    bytes: usize,
}

impl<E> Reader<'_, E> {
    fn index_page(&mut self, number: PageNo) -> Result<Vec<u8>, SdiError<E>> {
        let page = self.any_page(number)?;
        let is_index = FilHeader::of(&page).is_some_and(|header| header.page_type() == PageType::SDI);
        match is_index && page.len() == self.layout.logical() {
            true => Ok(page),
            false => Err(SdiError::Broken("a page of its tree is of another kind")),
        }
    }

    fn any_page(&mut self, number: PageNo) -> Result<Vec<u8>, SdiError<E>> {
        if !self.seen.insert(number) {
            return Err(SdiError::Broken("a page is met twice"));
        }
        (self.page)(number).map_err(SdiError::Page)
    }

    fn first_leaf(&mut self, root: PageNo) -> Result<PageNo, SdiError<E>> {
        let mut number = root;
        for _ in 0..LEVELS_MAX {
            let page = self.index_page(number)?;
            if be16(&page, LEVEL) == 0 {
                self.seen.remove(&number);
                return Ok(number);
            }
            let first = next_record(&page, INFIMUM).ok_or(SdiError::Broken("a page without records"))?;
            let child = page.get(first + CHILD..first + CHILD + 4).ok_or(SdiError::Broken("a cut record"))?;
            number = PageNo(be32(child, 0));
        }
        Err(SdiError::Broken("its tree is too deep"))
    }

    /// Reads the records of a leaf; returns the next one.
    fn leaf(&mut self, number: PageNo, objects: &mut Vec<SdiObject>) -> Result<Option<PageNo>, SdiError<E>> {
        let page = self.index_page(number)?;
        if be16(&page, LEVEL) != 0 {
            return Err(SdiError::Broken("a leaf is none"));
        }
        let mut at = INFIMUM;
        for _ in 0..page.len() / RECORD_HEADER {
            let Some(next) = next_record(&page, at) else {
                return Err(SdiError::Broken("a record lies outside its page"));
            };
            if next == SUPREMUM {
                let following = FilHeader::of(&page).map(FilHeader::next);
                return Ok(following.filter(|next| *next != u32::MAX).map(PageNo));
            }
            at = next;
            if page[at - RECORD_HEADER] & DELETED == 0 {
                objects.push(self.object(&page, at)?);
            }
        }
        Err(SdiError::Broken("its records form a ring"))
    }

    fn object(&mut self, page: &[u8], at: usize) -> Result<SdiObject, SdiError<E>> {
        const CUT: &str = "a cut record";
        let record = page.get(at..).filter(|record| record.len() > TEXT).ok_or(SdiError::Broken(CUT))?;
        let text_len = be32(record, TEXT_LEN) as usize;
        let compressed_len = be32(record, COMPRESSED_LEN) as usize;
        self.bytes = self.bytes.saturating_add(compressed_len);
        if text_len > TEXT_MAX || self.bytes > TEXT_MAX {
            return Err(SdiError::Broken("a text is too long"));
        }
        let (local, is_extern) = text_len_of(page, at).ok_or(SdiError::Broken(CUT))?;
        let stored = record.get(TEXT..TEXT + local).ok_or(SdiError::Broken(CUT))?;
        let mut compressed = Vec::new();
        if is_extern {
            let (prefix, reference) =
                stored.split_at_checked(local.wrapping_sub(EXTERN_REF)).ok_or(SdiError::Broken(CUT))?;
            compressed.extend_from_slice(prefix);
            self.chain(reference, compressed_len, &mut compressed)?;
        } else {
            compressed.extend_from_slice(stored);
        }
        if compressed.len() != compressed_len {
            return Err(SdiError::Broken("a text has another length than its record says"));
        }
        let mut json = Vec::new();
        let read = ZlibDecoder::new(&compressed[..]).take(text_len as u64 + 1).read_to_end(&mut json);
        if read.is_err() || json.len() != text_len {
            return Err(SdiError::Broken("a text can't be decompressed"));
        }
        Ok(SdiObject { kind: be32(record, 0), id: be64(record, 4), json })
    }

    /// Appends what lies on the pages that a reference leads to (lob0lob.h, `btr_rec_copy_externally_stored_field`).
    fn chain(&mut self, reference: &[u8], len: usize, into: &mut Vec<u8>) -> Result<(), SdiError<E>> {
        let mut number = PageNo(be32(reference, 4));
        if self.layout.is_zip() {
            return self.zip_chain(number, len, into);
        }
        while into.len() < len {
            let page = self.any_page(number)?;
            let is_blob = FilHeader::of(&page).is_some_and(|header| header.page_type() == PageType::SDI_BLOB);
            if !is_blob || page.len() < FIL_HEADER + 8 {
                return Err(SdiError::Broken("a page of a text is of another kind"));
            }
            let part = be32(&page, FIL_HEADER) as usize;
            let part = page.get(FIL_HEADER + 8..).and_then(|rest| rest.get(..part));
            into.extend_from_slice(part.ok_or(SdiError::Broken("a part of a text is too long"))?);
            number = PageNo(be32(&page, FIL_HEADER + 4));
        }
        Ok(())
    }

    /// In a ROW_FORMAT=COMPRESSED tablespace the chain holds one more zlib stream (`btr_copy_zblob_prefix`).
    fn zip_chain(&mut self, first: PageNo, len: usize, into: &mut Vec<u8>) -> Result<(), SdiError<E>> {
        let (mut stream, mut next) = (Vec::new(), first);
        while next.0 != u32::MAX {
            let page = self.any_page(next)?;
            let header = FilHeader::of(&page).filter(|header| header.page_type() == PageType::SDI_ZBLOB);
            let header = header.ok_or(SdiError::Broken("a page of a text is of another kind"))?;
            stream.extend_from_slice(&page[FIL_HEADER..]);
            if stream.len() > 2 * TEXT_MAX {
                return Err(SdiError::Broken("a text is too long"));
            }
            next = PageNo(header.next());
        }
        let rest = len.saturating_sub(into.len()) as u64;
        ZlibDecoder::new(&stream[..])
            .take(rest)
            .read_to_end(into)
            .map_err(|_| SdiError::Broken("a text can't be decompressed"))?;
        Ok(())
    }
}

/// Offset of the record behind the one at `at`; `None` if it lies outside the page.
fn next_record(page: &[u8], at: usize) -> Option<usize> {
    let relative = be16(page.get(at.checked_sub(2)?..at)?, 0);
    let next = at.wrapping_add(usize::from(relative)) & (page.len().min(1 << 16) - 1);
    (next > INFIMUM + RECORD_HEADER && next < page.len()).then_some(next)
}

/// Number of bytes of the text in the record at `at`, and whether the last of them refer to pages.
fn text_len_of(page: &[u8], at: usize) -> Option<(usize, bool)> {
    let first = *page.get(at.checked_sub(RECORD_HEADER + 1)?)?;
    if first & 0x80 == 0 {
        return Some((usize::from(first), false));
    }
    let second = *page.get(at.checked_sub(RECORD_HEADER + 2)?)?;
    Some((usize::from(first & 0x3F) << 8 | usize::from(second), first & 0x40 != 0))
}
