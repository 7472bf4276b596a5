//! Tablespace flags: four bytes at offset 54 of page 0 (fsp0types.h, checked by `fsp_flags_is_valid`).
//!
//! | bit | field |
//! |---|---|
//! | 0 | POST_ANTELOPE: row format COMPRESSED or DYNAMIC |
//! | 1–4 | ZIP_SSIZE: page size on disk is 512 << v; 0: not ROW_FORMAT=COMPRESSED |
//! | 5 | ATOMIC_BLOBS |
//! | 6–9 | PAGE_SSIZE: logical page size is 512 << v; 0 means 16 KiB |
//! | 10 | DATA_DIR: a file-per-table space outside the datadir |
//! | 11 | SHARED: a general tablespace |
//! | 12 | TEMPORARY |
//! | 13 | ENCRYPTION |
//! | 14 | SDI |

use super::{LOGICAL_MAX, LOGICAL_MIN, PHYSICAL_MIN, ZIP_MAX};

/// The sizes of a tablespace's pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageLayout {
    logical: u32,
    physical: u32,
    /// 16 KiB pages can be stored "compressed" in 16 KiB, so the sizes alone don't tell.
    kind: PageKind,
}

/// The kinds of page layouts: where checksums are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum PageKind {
    /// Checksums at the head and in the trailer.
    Plain,
    /// ROW_FORMAT=COMPRESSED: a checksum at the head.
    Zip,
    /// MariaDB's `full_crc32`: a checksum at the very end.
    FullCrc32,
}

impl PageLayout {
    /// Pages of `bytes` that are the same in memory and on disk; `None` if that is no `innodb_page_size`.
    pub fn plain(bytes: usize) -> Option<Self> {
        let valid = bytes.is_power_of_two() && (LOGICAL_MIN..=LOGICAL_MAX).contains(&bytes);
        valid.then_some(PageLayout { logical: bytes as u32, physical: bytes as u32, kind: PageKind::Plain })
    }

    /// ROW_FORMAT=COMPRESSED: pages of `logical` bytes in memory and `physical` bytes on disk.
    pub fn zip(logical: usize, physical: usize) -> Option<Self> {
        let valid = Self::plain(logical).is_some()
            && physical.is_power_of_two()
            && (PHYSICAL_MIN..=logical.min(ZIP_MAX)).contains(&physical);
        valid.then_some(PageLayout {
            logical: logical as u32,
            physical: physical as u32,
            kind: PageKind::Zip,
        })
    }

    /// Pages of `bytes` in MariaDB's format `full_crc32`; `None` if that is no `innodb_page_size`.
    pub fn full_crc32(bytes: usize) -> Option<Self> {
        Self::plain(bytes).map(|plain| PageLayout { kind: PageKind::FullCrc32, ..plain })
    }

    /// Bytes of a page in memory: `innodb_page_size`.
    pub fn logical(self) -> usize {
        self.logical as usize
    }

    /// Bytes of a page on disk.
    pub fn physical(self) -> usize {
        self.physical as usize
    }

    /// Whether this is ROW_FORMAT=COMPRESSED.
    pub fn is_zip(self) -> bool {
        self.kind == PageKind::Zip
    }

    /// Whether this is MariaDB's format `full_crc32`.
    pub fn has_full_crc32(self) -> bool {
        self.kind == PageKind::FullCrc32
    }

    /// Pages of an extent (`FSP_EXTENT_SIZE`); follows the logical size.
    pub fn extent_pages(self) -> usize {
        match self.logical() {
            s @ ..=16384 => (1 << 20) / s,
            32768 => 64,
            s => (4 << 20) / s,
        }
    }

    /// Bytes of an extent descriptor (`XDES_SIZE`): two bits a page after 24 fixed bytes.
    pub fn xdes_size(self) -> usize {
        24 + (2 * self.extent_pages()).div_ceil(8)
    }
}

/// The flags of a tablespace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SpaceFlags(pub u32);

/// Flags that no server writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("tablespace flags {0:#x} are not valid")]
pub struct FlagsError(pub u32);

impl SpaceFlags {
    const KNOWN_BITS: u32 = (1 << 15) - 1;
    const DEFAULT_LOGICAL: usize = 16384;

    fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    fn zip_ssize(self) -> u32 {
        self.0 >> 1 & 0xF
    }

    fn page_ssize(self) -> u32 {
        self.0 >> 6 & 0xF
    }

    /// The page sizes; an error if no server writes such flags.
    pub fn layout(self) -> Result<PageLayout, FlagsError> {
        let logical = match self.page_ssize() {
            0 => Self::DEFAULT_LOGICAL,
            v => 512 << v,
        };
        let layout = match self.zip_ssize() {
            0 => PageLayout::plain(logical),
            v => PageLayout::zip(logical, 512 << v),
        };
        // COMPRESSED implies the Barracuda features, and these come together.
        let features =
            self.bit(0) == self.has_atomic_blobs() && (self.zip_ssize() == 0 || self.has_atomic_blobs());
        match layout {
            Some(layout) if features && self.0 & !Self::KNOWN_BITS == 0 => Ok(layout),
            _ => Err(FlagsError(self.0)),
        }
    }

    /// Row format DYNAMIC or COMPRESSED.
    pub fn has_atomic_blobs(self) -> bool {
        self.bit(5)
    }

    /// Whether several tables may lie in the tablespace: a general one, or the server's own (`FSP_FLAGS_MASK_SHARED`).
    pub fn is_shared(self) -> bool {
        self.0 >> 11 & 1 != 0
    }

    /// Encrypted, or its pages are being encrypted or decrypted just now.
    pub fn is_encrypted(self) -> bool {
        self.bit(13)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_seen_on_servers() {
        for (flags, logical, physical, zip) in [
            (0x4021, 16384, 16384, false),
            (0x6021, 16384, 16384, false),
            (0x4029, 16384, 8192, true),
            (0x4027, 16384, 4096, true),
            (0x4025, 16384, 2048, true),
            (0x4023, 16384, 1024, true),
            (0x402b, 16384, 16384, true),
            (0x4000, 16384, 16384, false),
            (0x0000, 16384, 16384, false),
            (0x4800, 16384, 16384, false),
            (0x40e1, 4096, 4096, false),
            (0x41e1, 65536, 65536, false),
        ] {
            let layout = SpaceFlags(flags).layout().unwrap();
            assert_eq!((layout.logical(), layout.physical(), layout.is_zip()), (logical, physical, zip));
        }
        assert!(SpaceFlags(0x6021).is_encrypted() && !SpaceFlags(0x4021).is_encrypted());
    }

    #[test]
    fn flags_that_no_server_writes() {
        for flags in [0x8021, 0x4001, 0x4020, 0x4009, 0x402d, 0x4040, 0x4221, 0xffff_ffff] {
            assert_eq!(SpaceFlags(flags).layout(), Err(FlagsError(flags)));
        }
        // 8 KiB in memory, 16 KiB on disk.
        assert!(SpaceFlags(0x412b).layout().is_err());
    }

    #[test]
    fn extents_and_descriptors() {
        for (page, pages, xdes) in
            [(4096, 256, 88), (8192, 128, 56), (16384, 64, 40), (32768, 64, 40), (65536, 64, 40)]
        {
            let layout = PageLayout::plain(page).unwrap();
            assert_eq!((layout.extent_pages(), layout.xdes_size()), (pages, xdes));
        }
        assert_eq!(PageLayout::zip(16384, 1024).unwrap().extent_pages(), 64);
    }
}
