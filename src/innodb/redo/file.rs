//! Redo files: names, and the four header blocks (log0files_io.cc, `log_file_header_deserialize`).
//!
//! Block 0, the file header: format (4 bytes at 0), uuid of the log (4 at 4), LSN of the first block (8 at 8),
//! creator (32 at 16, padded with NUL), flags (4 at 48). Blocks 1 and 3, the checkpoints: LSN (8 at 8). Each of
//! these ends with a CRC-32C (at 508). Block 2: encryption information (111 bytes at 48), zeros if redo was
//! never encrypted, without a checksum.
//!
//! File N covers the LSNs from its start to start + size − 2048, and file N+1 goes on from there. Checkpoints
//! carry no number: the newest is the largest LSN of all that are valid, in whichever file. Old files keep old
//! checkpoints; a checkpoint lies inside the file that holds it.

use std::fmt;

use super::BLOCK_LEN;
use crate::base::Lsn;
use crate::base::crc32c::crc32c;
use crate::innodb::bytes::{be32, be64, put32, put64};

/// Name of the folder that holds the redo files, inside `innodb_log_group_home_dir`.
pub const DIRECTORY: &str = "#innodb_redo";
/// Smallest redo file that a server accepts (`LOG_FILE_MIN_SIZE`).
pub const FILE_MIN: u64 = 64 << 10;
/// Largest redo file that a server accepts (`LOG_FILE_MAX_SIZE`).
pub const FILE_MAX: u64 = 16 << 30;
/// Bytes of the four header blocks (`LOG_FILE_HDR_SIZE`).
pub const HEAD_LEN: usize = 4 * BLOCK_LEN;
/// Offsets of the two checkpoint blocks.
pub const CHECKPOINT_BLOCKS: [usize; 2] = [BLOCK_LEN, 3 * BLOCK_LEN];

/// The number in the header of a redo file (`Log_format` in log0constants.h): that of MySQL 8.0.30 to 9.7.
const LOG_FORMAT: u32 = 6;
const PREFIX: &str = "#ib_redo";
const SPARE_SUFFIX: &str = "_tmp";

const FORMAT: usize = 0;
const UUID: usize = 4;
const START_LSN: usize = 8;
const CREATOR: usize = 16;
const CREATOR_LEN: usize = 32;
const FLAGS: usize = 48;
/// XtraBackup as creator; the time follows.
const XTRABACKUP: &[u8] = b"xtrabkup ";
const CHECKPOINT_LSN: usize = 8;
const CHECKSUM: usize = BLOCK_LEN - 4;
const ENCRYPTION_INFO: usize = 2 * BLOCK_LEN + 48;
const ENCRYPTION_INFO_LEN: usize = 111;

/// The name of a redo file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileName {
    /// The N of `#ib_redoN`.
    pub id: u64,
    /// `#ib_redoN_tmp`: allocated ahead; its content means nothing.
    pub spare: bool,
}

impl FileName {
    /// Understands a name as a server makes it; `None` for any other file.
    pub fn parse(name: &str) -> Option<Self> {
        let number = name.strip_prefix(PREFIX)?;
        let (number, spare) = match number.strip_suffix(SPARE_SUFFIX) {
            Some(number) => (number, true),
            None => (number, false),
        };
        // No sign and no leading zeros, which `str::parse` would let pass.
        let id: u64 = number.parse().ok()?;
        (id.to_string() == number).then_some(FileName { id, spare })
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}{}", self.id, if self.spare { SPARE_SUFFIX } else { "" })
    }
}

/// Flags of a redo file.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RedoFlags(pub u32);

impl RedoFlags {
    const FILE_FULL: u32 = 1 << 3;

    /// `ALTER INSTANCE DISABLE INNODB REDO_LOG` is in force: pages change without redo.
    pub fn is_logging_disabled(self) -> bool {
        self.0 & 1 != 0
    }

    /// A crash now can't be recovered from.
    pub fn is_crash_unsafe(self) -> bool {
        self.0 & 2 != 0
    }

    /// The datadir is still being initialised.
    pub fn is_uninitialized(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether the file is full: the log goes on in the next one.
    pub fn is_full(self) -> bool {
        self.0 & Self::FILE_FULL != 0
    }

    /// These flags with "full" set, as every file but the newest has it.
    pub fn full(self) -> Self {
        RedoFlags(self.0 | Self::FILE_FULL)
    }
}

/// The header blocks of a redo file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedoHead {
    /// Random number that all files of a log share; not 0.
    pub uuid: u32,
    /// LSN of the block at offset 2048.
    pub start_lsn: Lsn,
    /// "MySQL 9.7.4" or who else made the file.
    pub creator: String,
    /// Flags.
    pub flags: RedoFlags,
    /// The checkpoints in the two checkpoint blocks, where they are valid and used.
    pub checkpoints: [Option<Lsn>; 2],
    /// Encryption information: redo is or was encrypted.
    pub encryption: Option<Box<[u8; ENCRYPTION_INFO_LEN]>>,
}

/// Why a file's first blocks are no header.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    /// The file is too short.
    #[error("{0} bytes are too few for a redo file's header")]
    Short(usize),
    /// The header block's checksum is wrong: it is being written just now, or corrupt.
    #[error("redo file header: checksum {stored:#010x} stored, {computed:#010x} computed")]
    Checksum {
        /// In the file.
        stored: u32,
        /// What it should be.
        computed: u32,
    },
    /// Another redo format.
    #[error("redo format {found} instead of {expected}")]
    Format {
        /// In the file.
        found: u32,
        /// That of the server family in hand.
        expected: u32,
    },
    /// The start LSN can't be.
    #[error("redo file starts at LSN {0}, which is not the start of a block")]
    StartLsn(Lsn),
}

impl RedoHead {
    /// Reads the first 2048 bytes of a redo file (or of more of it).
    pub fn read(bytes: &[u8]) -> Result<Self, HeadError> {
        let head: &[u8; HEAD_LEN] = bytes.first_chunk().ok_or(HeadError::Short(bytes.len()))?;
        let (stored, computed) = (be32(head, CHECKSUM), crc32c(&head[..CHECKSUM]));
        if stored != computed {
            return Err(HeadError::Checksum { stored, computed });
        }
        Self::fields(head)
    }

    /// Reads the header of a member `xtrabackup_logfile`, also of one that XtraBackup made (its `redo_log.cc`): it takes
    /// the header of the server's file that has the checkpoint, puts the checkpoint in both its places, seals the blocks,
    /// and only then writes its own name over the creator. So the first block's checksum is none. The start LSN is still
    /// that of the server's file, while the blocks that follow begin with the checkpoint's.
    pub fn read_logfile(bytes: &[u8]) -> Result<Self, HeadError> {
        let head: &[u8; HEAD_LEN] = bytes.first_chunk().ok_or(HeadError::Short(bytes.len()))?;
        if !head[CREATOR..].starts_with(XTRABACKUP) {
            return Self::read(bytes);
        }
        let mut head = Self::fields(head)?;
        if let Some(checkpoint) = head.checkpoints.into_iter().flatten().max() {
            head.start_lsn = checkpoint.block_start();
        }
        Ok(head)
    }

    fn fields(head: &[u8; HEAD_LEN]) -> Result<Self, HeadError> {
        if be32(head, FORMAT) != LOG_FORMAT {
            return Err(HeadError::Format { found: be32(head, FORMAT), expected: LOG_FORMAT });
        }
        let start_lsn = Lsn(be64(head, START_LSN));
        if start_lsn.block_start() != start_lsn {
            return Err(HeadError::StartLsn(start_lsn));
        }
        let creator = head[CREATOR..CREATOR + CREATOR_LEN].split(|b| *b == 0).next().unwrap_or_default();
        Ok(RedoHead {
            uuid: be32(head, UUID),
            start_lsn,
            creator: String::from_utf8_lossy(creator).into_owned(),
            flags: RedoFlags(be32(head, FLAGS)),
            checkpoints: CHECKPOINT_BLOCKS.map(|at| checkpoint(&head[at..at + BLOCK_LEN])),
            encryption: head[ENCRYPTION_INFO..].first_chunk().filter(|i| i[0] != 0).map(|i| Box::new(*i)),
        })
    }

    /// The header blocks as a server writes them. A creator of more than 31 bytes is cut.
    pub fn build(&self) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        put32(&mut head, FORMAT, LOG_FORMAT);
        put32(&mut head, UUID, self.uuid);
        put64(&mut head, START_LSN, self.start_lsn.0);
        let creator = self.creator.as_bytes();
        let len = creator.len().min(CREATOR_LEN - 1);
        head[CREATOR..CREATOR + len].copy_from_slice(&creator[..len]);
        put32(&mut head, FLAGS, self.flags.0);
        seal(&mut head[..BLOCK_LEN]);
        for (at, lsn) in CHECKPOINT_BLOCKS.into_iter().zip(self.checkpoints) {
            let block = &mut head[at..at + BLOCK_LEN];
            put64(block, CHECKPOINT_LSN, lsn.unwrap_or_default().0);
            seal(block);
        }
        if let Some(info) = &self.encryption {
            head[ENCRYPTION_INFO..ENCRYPTION_INFO + ENCRYPTION_INFO_LEN].copy_from_slice(&info[..]);
        }
        head
    }
}

fn seal(block: &mut [u8]) {
    let crc = crc32c(&block[..CHECKSUM]);
    put32(block, CHECKSUM, crc);
}

fn checkpoint(block: &[u8]) -> Option<Lsn> {
    let valid = be32(block, CHECKSUM) == crc32c(&block[..CHECKSUM]);
    Some(Lsn(be64(block, CHECKPOINT_LSN))).filter(|lsn| valid && lsn.0 != 0)
}

/// A redo file: its header and its size, which together tell what it covers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedoFile {
    /// The header blocks.
    pub head: RedoHead,
    /// Bytes of the file.
    pub len: u64,
}

impl RedoFile {
    /// The LSN at which the next file starts.
    pub fn end_lsn(&self) -> Lsn {
        self.head.start_lsn.plus(self.len.saturating_sub(HEAD_LEN as u64))
    }

    /// Offset of `lsn` in the file; `None` if it lies in another one.
    pub fn offset_of(&self, lsn: Lsn) -> Option<u64> {
        let inside = lsn >= self.head.start_lsn && lsn < self.end_lsn();
        inside.then(|| HEAD_LEN as u64 + lsn.since(self.head.start_lsn))
    }

    /// The newest checkpoint of this file; one outside of the file is not one.
    pub fn checkpoint(&self) -> Option<Lsn> {
        let inside = |lsn: &Lsn| self.offset_of(*lsn).is_some();
        self.head.checkpoints.into_iter().flatten().filter(inside).max()
    }
}

/// The newest checkpoint of a set of files (`recv_find_max_checkpoint`).
pub fn newest_checkpoint<'a>(files: impl IntoIterator<Item = &'a RedoFile>) -> Option<Lsn> {
    files.into_iter().filter_map(RedoFile::checkpoint).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> RedoHead {
        RedoHead {
            uuid: 0x1234_5678,
            start_lsn: Lsn(1 << 20),
            creator: "MySQL 9.7.4".into(),
            flags: RedoFlags(0),
            checkpoints: [Some(Lsn((1 << 20) + 700)), None],
            encryption: None,
        }
    }

    fn file(start: u64, checkpoints: [Option<u64>; 2]) -> RedoFile {
        let checkpoints = checkpoints.map(|c| c.map(Lsn));
        RedoFile { head: RedoHead { start_lsn: Lsn(start), checkpoints, ..head() }, len: 65536 }
    }

    #[test]
    fn heads_are_read_as_they_were_built() {
        let info = Box::new([b'l'; 111]);
        for head in [head(), RedoHead { flags: RedoFlags(0).full(), encryption: Some(info), ..head() }] {
            let bytes = head.build();
            assert_eq!(RedoHead::read(&bytes).unwrap(), head);
        }
    }

    #[test]
    fn a_logfile_of_xtrabackup_begins_at_its_checkpoint() {
        let of_server = RedoHead { checkpoints: [Some(Lsn((1 << 20) + 9000)); 2], ..head() };
        let mut bytes = of_server.build();
        assert_eq!(RedoHead::read_logfile(&bytes).unwrap(), of_server);
        bytes[CREATOR..CREATOR + 24].copy_from_slice(b"xtrabkup 261124 10:11:12");
        let read = RedoHead::read_logfile(&bytes).unwrap();
        assert_eq!((read.start_lsn, read.uuid), (Lsn((1 << 20) + 8704), of_server.uuid));
        assert_eq!(
            (read.creator.as_str(), read.checkpoints),
            ("xtrabkup 261124 10:11:12", of_server.checkpoints)
        );
        assert!(matches!(RedoHead::read(&bytes), Err(HeadError::Checksum { .. })));
        bytes[FORMAT + 3] = 5;
        assert!(matches!(RedoHead::read_logfile(&bytes), Err(HeadError::Format { found: 5, .. })));
    }

    #[test]
    fn damage_is_seen() {
        let good = head().build();
        let read = |bytes: &[u8]| RedoHead::read(bytes);
        for at in 0..512 {
            let mut bad = good;
            bad[at] ^= 2;
            assert!(matches!(read(&bad), Err(HeadError::Checksum { .. })), "byte {at}");
        }
        for at in 512..1024 {
            let mut bad = good;
            bad[at] ^= 2;
            assert_eq!(read(&bad).unwrap().checkpoints, [None, None], "byte {at}");
        }
        assert_eq!(read(&good[..2047]), Err(HeadError::Short(2047)));
        assert!(matches!(read(&[0; 2048]), Err(HeadError::Checksum { stored: 0, .. })));
        let odd = RedoHead { start_lsn: Lsn(1000), ..head() }.build();
        assert_eq!(read(&odd), Err(HeadError::StartLsn(Lsn(1000))));
        let mut old = good;
        put32(&mut old, FORMAT, 5);
        seal(&mut old[..512]);
        let e = read(&old).unwrap_err();
        assert_eq!(e, HeadError::Format { found: 5, expected: 6 });
        assert_eq!(e.to_string(), "redo format 5 instead of 6");
    }

    #[test]
    fn newest_checkpoint_is_the_largest_that_lies_in_its_file() {
        let span = 65536 - 2048;
        let old = file(1 << 20, [Some((1 << 20) + 600), Some((1 << 20) + 900)]);
        let new = file((1 << 20) + span, [None, Some((1 << 20) + span + 12)]);
        assert_eq!(old.end_lsn(), new.head.start_lsn);
        assert_eq!(newest_checkpoint([&old, &new]), Some(Lsn((1 << 20) + span + 12)));
        assert_eq!(newest_checkpoint([&old]), Some(Lsn((1 << 20) + 900)));
        let stray = file(1 << 20, [Some((1 << 20) - 1), Some((1 << 20) + span)]);
        assert_eq!(newest_checkpoint([&stray]), None);
    }

    #[test]
    fn offsets() {
        let f = file(1 << 20, [None, None]);
        assert_eq!(f.offset_of(Lsn(1 << 20)), Some(2048));
        assert_eq!(f.offset_of(Lsn((1 << 20) + 63487)), Some(65535));
        assert_eq!(f.offset_of(f.end_lsn()), None);
        assert_eq!(f.offset_of(Lsn((1 << 20) - 1)), None);
    }

    #[test]
    fn names() {
        let name = |id, spare| Some(FileName { id, spare });
        assert_eq!(FileName::parse("#ib_redo0"), name(0, false));
        assert_eq!(FileName::parse("#ib_redo105_tmp"), name(105, true));
        for other in ["#ib_redo", "#ib_redo01", "#ib_redo+1", "#ib_redo1_tm", "ib_logfile0", "#ib_redo_tmp"] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
        assert_eq!(name(7, true).unwrap().to_string(), "#ib_redo7_tmp");
    }
}
