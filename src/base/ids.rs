//! Defines types for ids, so that a bare integer never crosses a module border.

use std::fmt;

/// Log sequence number: a byte position in the redo stream, block headers and trailers included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Returns the LSN of the start of the 512-byte log block that holds this LSN.
    pub fn block_start(self) -> Lsn {
        Lsn(self.0 & !511)
    }

    /// Returns the number of bytes from `earlier` to this LSN, or 0 if `earlier` is not earlier.
    pub fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns this LSN moved on by `bytes`; saturates.
    pub fn plus(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({})", self.0)
    }
}

/// Tablespace id (`space_id_t` in the server).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// The system tablespace.
    pub const SYSTEM: SpaceId = SpaceId(0);
    /// `mysql.ibd`, the data dictionary.
    pub const DICTIONARY: SpaceId = SpaceId(0xFFFF_FFFE);
    /// The global temporary tablespace.
    pub const TEMPORARY: SpaceId = SpaceId(0xFFFF_FFFD);
    /// The reserved id of the redo log; ids of undo tablespaces lie below it (include/dict0dict.h).
    pub const LOG: SpaceId = SpaceId(0xFFFF_FFF0);
    /// Number of undo tablespaces that a server can have at most.
    const UNDO_NUMBERS: u32 = 127;
    /// Number of ids that each undo tablespace may use up by truncation.
    const UNDO_IDS_EACH: u32 = 400_000;

    /// Returns whether this is an id of an undo tablespace, before or after any number of truncations.
    pub fn is_undo(self) -> bool {
        let lowest = Self::LOG.0 - Self::UNDO_NUMBERS * Self::UNDO_IDS_EACH;
        (lowest..Self::LOG.0).contains(&self.0)
    }

    /// Returns the number (1 to 127) of the undo tablespace that this id belongs to.
    pub fn undo_number(self) -> Option<u32> {
        self.is_undo().then(|| (Self::LOG.0 - 1 - self.0) % Self::UNDO_NUMBERS + 1)
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Page number inside a tablespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageNo(pub u32);

impl fmt::Display for PageNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_numbers_survive_truncation() {
        // Seen on a server: undo_001 is 0xFFFFFFEF, after one truncation 0xFFFFFF70; undo_002 is 0xFFFFFFEE.
        assert_eq!(SpaceId(0xFFFF_FFEF).undo_number(), Some(1));
        assert_eq!(SpaceId(0xFFFF_FF70).undo_number(), Some(1));
        assert_eq!(SpaceId(0xFFFF_FFEE).undo_number(), Some(2));
        assert_eq!(SpaceId::LOG.undo_number(), None);
        assert_eq!(SpaceId(7).undo_number(), None);
    }
}
