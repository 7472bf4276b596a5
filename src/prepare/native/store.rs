//! All records of the log, the ones of neighbouring pages together, within bounds of memory.
//!
//! Pages are dealt out to parts, a stretch of each tablespace to one part. A part's records are a list of chunks in the
//! order of the log. Chunks that don't fit into the memory go to a file without a name, so each record is written and read
//! back at most once however small the memory is, and each page is still read and written once.
//!
//! A chunk ends with a group of the log (mini-transaction), so that chunks may be applied one after the other: what a page
//! has is decided by comparing its LSN, the end of the last group applied, with the start of a record, and a group that is
//! applied in part would look as if it were applied as a whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::records::{self, Kept, PageId};
use crate::base::{Lsn, PageNo, SpaceId};

/// Pages of a tablespace that go to the same part: 4 MiB of it with pages of 16 KiB.
const STRETCH_SHIFT: u32 = 8;
/// Parts at least, to keep threads busy to the end.
const PARTS_MIN: u64 = 64;
/// Parts at most.
const PARTS_MAX: u64 = 4096;
/// Length of chunks.
const CHUNK_MIN: u64 = 8 << 10;
const CHUNK_MAX: u64 = 1 << 20;
/// The name that the file for what exceeds the memory has for a moment.
const SPILL: &str = "#xbrecv-redo-records";

/// The records of the log by page.
pub(super) struct Store {
    base: Lsn,
    parts: Vec<Part>,
    /// Parts whose chunk is full since the last end of a group.
    full: Vec<usize>,
    chunk_len: usize,
    /// Memory for records, and how much of it is left.
    memory_left: u64,
    spill: Option<Spill>,
    spill_dir: std::path::PathBuf,
}

/// The records of some pages.
#[derive(Default)]
pub(super) struct Part {
    /// The chunk that is being filled, and the page of its last record.
    open: Vec<u8>,
    last: Option<PageId>,
    chunks: Vec<Chunk>,
}

/// Whole groups of records in the order of the log.
enum Chunk {
    Memory(Vec<u8>),
    Spilled { at: u64, len: usize },
}

/// The file for what exceeds the memory.
pub(super) struct Spill {
    file: File,
    len: u64,
}

impl Store {
    /// An empty one for a log of `log_len` bytes from `base` on: records take `memory` bytes at most, and a part, as a rule,
    /// not more than `part_len`. `dir` is where a file may be made.
    pub(super) fn new(base: Lsn, log_len: u64, memory: u64, part_len: u64, dir: &Path) -> Store {
        // Kept records are a little longer than the log, and parts are not all of one size.
        let parts = (log_len * 2 / part_len.max(1)).clamp(PARTS_MIN, PARTS_MAX);
        Store {
            base,
            parts: (0..parts).map(|_| Part::default()).collect(),
            full: Vec::new(),
            chunk_len: (memory / 2 / parts).clamp(CHUNK_MIN, CHUNK_MAX) as usize,
            // The chunks that are being filled may take the other half.
            memory_left: memory / 2,
            spill: None,
            spill_dir: dir.to_owned(),
        }
    }

    /// Adds a record.
    pub(super) fn push(&mut self, page: PageId, record: &Kept<'_>) {
        let number = part_of(page, self.parts.len());
        let part = &mut self.parts[number];
        if part.open.capacity() == 0 {
            part.open.reserve_exact(self.chunk_len);
        }
        let before = part.open.len();
        records::put(&mut part.open, self.base, part.last, page, record);
        part.last = Some(page);
        // Some room is left for the rest of the group.
        let mark = self.chunk_len - self.chunk_len / 8;
        if before < mark && part.open.len() >= mark {
            self.full.push(number);
        }
    }

    /// The group of records that was added is whole.
    pub(super) fn end_group(&mut self) -> io::Result<()> {
        while let Some(number) = self.full.pop() {
            self.seal(number)?;
        }
        Ok(())
    }

    fn seal(&mut self, number: usize) -> io::Result<()> {
        let part = &mut self.parts[number];
        part.last = None;
        let cost = part.open.capacity() as u64;
        if cost <= self.memory_left {
            self.memory_left -= cost;
            part.chunks.push(Chunk::Memory(std::mem::take(&mut part.open)));
            return Ok(());
        }
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::create(&self.spill_dir)?),
        };
        part.chunks.push(Chunk::Spilled { at: spill.append(&part.open)?, len: part.open.len() });
        part.open.clear();
        // One long group must not keep its memory for good.
        part.open.shrink_to(self.chunk_len);
        Ok(())
    }

    /// The parts that have records, and the file that some of their chunks are in.
    pub(super) fn into_parts(self) -> (Vec<Part>, Option<Spill>) {
        let mut parts = self.parts;
        for part in &mut parts {
            if !part.open.is_empty() {
                let mut rest = std::mem::take(&mut part.open);
                rest.shrink_to_fit();
                part.chunks.push(Chunk::Memory(rest));
            }
        }
        parts.retain(|part| !part.chunks.is_empty());
        (parts, self.spill)
    }
}

fn part_of((SpaceId(space), PageNo(page)): PageId, parts: usize) -> usize {
    // Fibonacci hashing: stretches of one tablespace go to parts far from each other.
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let stretch = u64::from(space) << 32 | u64::from(page >> STRETCH_SHIFT);
    let hash = stretch.wrapping_mul(GOLDEN) ^ (stretch >> 32).wrapping_mul(GOLDEN).rotate_left(32);
    (((hash >> 32) * parts as u64) >> 32) as usize
}

impl Part {
    /// Takes chunks off its front, together not longer than `len_max` unless one alone is; `false` at the end.
    pub(super) fn next_run(
        &mut self,
        spill: Option<&Spill>,
        len_max: usize,
        into: &mut Vec<Vec<u8>>,
    ) -> io::Result<bool> {
        into.clear();
        let mut len = 0;
        let mut taken = 0;
        for chunk in &mut self.chunks {
            if taken > 0 && len + chunk.len() > len_max {
                break;
            }
            len += chunk.len();
            taken += 1;
            into.push(match chunk {
                Chunk::Memory(bytes) => std::mem::take(bytes),
                Chunk::Spilled { at, len } => {
                    let mut bytes = vec![0; *len];
                    let spill = spill.ok_or_else(|| io::Error::other("spilled without a file"))?;
                    spill.file.read_exact_at(&mut bytes, *at)?;
                    bytes
                }
            });
        }
        self.chunks.drain(..taken);
        Ok(taken > 0)
    }
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Chunk::Memory(bytes) => bytes.len(),
            Chunk::Spilled { len, .. } => *len,
        }
    }
}

impl Spill {
    fn create(dir: &Path) -> io::Result<Spill> {
        let path = dir.join(SPILL);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Spill { file, len: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.len;
        self.file.write_all_at(bytes, at)?;
        self.len += bytes.len() as u64;
        Ok(at)
    }
}
