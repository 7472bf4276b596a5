//! Decrypts and encrypts pages and redo blocks with AES-256-CBC, as the server does (`Encryption::encrypt`, `Encryption::decrypt`,
//! `Encryption::encrypt_log_block` of `os0enc.cc`).
//!
//! The initialisation vector, the first 16 of 32 bytes, is the same for all pages of a tablespace: what is encrypted again has
//! the server's bytes. Where the length is no multiple of a block of 16 bytes, all whole blocks are encrypted, and then the last
//! 32 bytes once more.
//!
//! | what | encrypted | mark |
//! |---|---|---|
//! | page | from 38 to its end | type 15, the type before at 28 |
//! | R-tree page | the same | type 17 |
//! | compressed page (`COMPRESSION=`) | from 38 on, as many bytes as its header says (at 32), at least 32 | type 16 |
//! | redo block | from 12 to its end, checksum included | bit 15 of its length at 4 |

use std::fmt;

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};

use super::key_info::SpaceKey;
use super::{Cipher, Unit};
use crate::base::PageNo;
use crate::innodb::bytes::{be16, put16};
use crate::innodb::page::header::TYPE;
use crate::innodb::page::{PageType, is_all_zero};

const BLOCK: usize = 16;
/// The tail that is encrypted twice.
const TAIL: usize = 2 * BLOCK;
/// Where the data of a page begins (`FIL_PAGE_DATA`).
const PAGE_DATA: usize = 38;
/// The type that an encrypted page had before (`FIL_PAGE_ORIGINAL_TYPE_V1`).
const ORIGINAL_TYPE: usize = 28;
/// Bytes that a compressed page has from [`PAGE_DATA`] on (`FIL_PAGE_COMPRESS_SIZE_V1`).
const COMPRESSED_LEN: usize = 32;
/// Fewest bytes of a compressed page that are encrypted (`Encryption::encrypt`: 64 with the header, which is 38 here).
const COMPRESSED_MIN: usize = TAIL;
const REDO_LEN: usize = 4;
const REDO_DATA: usize = 12;
const REDO_ENCRYPTED: u16 = 0x8000;

/// The cipher of one tablespace, or of the redo log.
#[derive(Clone)]
pub(super) struct CbcCipher(pub(super) SpaceKey);

impl fmt::Debug for CbcCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CbcCipher")
    }
}

impl CbcCipher {
    fn decrypt_bytes(&self, bytes: &mut [u8]) {
        let whole = bytes.len() / BLOCK * BLOCK;
        if whole < bytes.len() && bytes.len() >= TAIL {
            let tail = bytes.len() - TAIL;
            self.decrypt_blocks(&mut bytes[tail..]);
        }
        self.decrypt_blocks(&mut bytes[..whole]);
    }

    fn encrypt_bytes(&self, bytes: &mut [u8]) {
        let whole = bytes.len() / BLOCK * BLOCK;
        self.encrypt_blocks(&mut bytes[..whole]);
        if whole < bytes.len() && bytes.len() >= TAIL {
            let tail = bytes.len() - TAIL;
            self.encrypt_blocks(&mut bytes[tail..]);
        }
    }

    fn decrypt_blocks(&self, bytes: &mut [u8]) {
        let cbc = cbc::Decryptor::<Aes256>::new((&self.0.key).into(), self.0.iv[..BLOCK].into());
        let done = cbc.decrypt_padded_mut::<NoPadding>(bytes).is_ok();
        debug_assert!(done, "whole blocks are given");
    }

    fn encrypt_blocks(&self, bytes: &mut [u8]) {
        let cbc = cbc::Encryptor::<Aes256>::new((&self.0.key).into(), self.0.iv[..BLOCK].into());
        let len = bytes.len();
        let done = cbc.encrypt_padded_mut::<NoPadding>(bytes, len).is_ok();
        debug_assert!(done, "whole blocks are given");
    }

    /// The encrypted part of a compressed page; `None` if its header can't be one.
    fn compressed(page: &mut [u8]) -> Option<&mut [u8]> {
        let len = usize::from(be16(page, COMPRESSED_LEN)).max(COMPRESSED_MIN);
        page.get_mut(PAGE_DATA..PAGE_DATA + len)
    }
}

impl Cipher for CbcCipher {
    fn decrypt(&self, unit: Unit, bytes: &mut [u8]) {
        match unit {
            Unit::Page(_) if bytes.len() > PAGE_DATA + TAIL => match PageType(be16(bytes, TYPE)) {
                PageType::ENCRYPTED => {
                    bytes.copy_within(ORIGINAL_TYPE..ORIGINAL_TYPE + 2, TYPE);
                    put16(bytes, ORIGINAL_TYPE, 0);
                    self.decrypt_bytes(&mut bytes[PAGE_DATA..]);
                }
                PageType::ENCRYPTED_RTREE => {
                    put16(bytes, TYPE, PageType::RTREE.0);
                    self.decrypt_bytes(&mut bytes[PAGE_DATA..]);
                }
                PageType::COMPRESSED_AND_ENCRYPTED => {
                    put16(bytes, TYPE, PageType::COMPRESSED.0);
                    if let Some(part) = Self::compressed(bytes) {
                        self.decrypt_bytes(part);
                    }
                }
                _ => {}
            },
            Unit::RedoBlock(_) if bytes.len() > REDO_DATA && be16(bytes, REDO_LEN) & REDO_ENCRYPTED != 0 => {
                let len = be16(bytes, REDO_LEN) & !REDO_ENCRYPTED;
                put16(bytes, REDO_LEN, len);
                self.decrypt_bytes(&mut bytes[REDO_DATA..]);
            }
            _ => {}
        }
    }

    fn encrypt(&self, unit: Unit, bytes: &mut [u8]) {
        let Unit::Page(number) = unit else { return };
        if number == PageNo(0) || bytes.len() <= PAGE_DATA + TAIL || is_all_zero(bytes) {
            return;
        }
        match PageType(be16(bytes, TYPE)) {
            PageType::COMPRESSED => {
                put16(bytes, TYPE, PageType::COMPRESSED_AND_ENCRYPTED.0);
                if let Some(part) = Self::compressed(bytes) {
                    self.encrypt_bytes(part);
                }
            }
            page_type => {
                // Bytes 26 to 33 of an R-tree page are its split sequence number.
                if page_type == PageType::RTREE {
                    put16(bytes, TYPE, PageType::ENCRYPTED_RTREE.0);
                } else {
                    put16(bytes, ORIGINAL_TYPE, page_type.0);
                    put16(bytes, TYPE, PageType::ENCRYPTED.0);
                }
                self.encrypt_bytes(&mut bytes[PAGE_DATA..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Lsn;
    use crate::innodb::encryption::key_info::KEY_LEN;
    use proptest::prelude::*;

    fn cipher() -> CbcCipher {
        CbcCipher(SpaceKey { key: [3; KEY_LEN], iv: [5; KEY_LEN] })
    }

    proptest! {
        #[test]
        fn what_is_encrypted_is_decrypted(
            size in prop::sample::select(vec![1024usize, 2048, 4096, 8192, 16384, 65536]),
            page_type in prop::sample::select(vec![0u16, 2, 14, 17853, 17854, 17855]),
            fill in any::<u8>(),
            compressed in 0..900u16,
        ) {
            let mut page: Vec<u8> = (0..size).map(|n| (n as u8).wrapping_mul(fill | 1)).collect();
            put16(&mut page, TYPE, page_type);
            put16(&mut page, COMPRESSED_LEN, compressed);
            if page_type != PageType::RTREE.0 && page_type != PageType::COMPRESSED.0 {
                put16(&mut page, ORIGINAL_TYPE, 0);
            }
            let clear = page.clone();
            cipher().encrypt(Unit::Page(PageNo(3)), &mut page);
            prop_assert!(PageType(be16(&page, TYPE)).is_encrypted());
            prop_assert_ne!(&page[PAGE_DATA..], &clear[PAGE_DATA..]);
            cipher().decrypt(Unit::Page(PageNo(3)), &mut page);
            prop_assert!(page == clear);
            // Clear pages stay as they are, and page 0 always does.
            cipher().decrypt(Unit::Page(PageNo(3)), &mut page);
            cipher().encrypt(Unit::Page(PageNo(0)), &mut page);
            prop_assert!(page == clear);
        }

        #[test]
        fn noise_is_taken(mut bytes in prop::collection::vec(any::<u8>(), 0..600), page_type in 13..18u16) {
            if bytes.len() > TYPE + 2 {
                put16(&mut bytes, TYPE, page_type);
            }
            cipher().decrypt(Unit::Page(PageNo(1)), &mut bytes);
            cipher().encrypt(Unit::Page(PageNo(1)), &mut bytes);
            cipher().decrypt(Unit::RedoBlock(Lsn(512)), &mut bytes);
        }
    }

    #[test]
    fn a_redo_block_is_decrypted_with_its_checksum() {
        let mut block: Vec<u8> = (0..512).map(|n| n as u8).collect();
        put16(&mut block, REDO_LEN, 512);
        let clear = block.clone();
        cipher().encrypt_bytes(&mut block[REDO_DATA..]);
        put16(&mut block, REDO_LEN, 512 | REDO_ENCRYPTED);
        cipher().decrypt(Unit::RedoBlock(Lsn(512)), &mut block);
        assert_eq!(block, clear);
    }
}
