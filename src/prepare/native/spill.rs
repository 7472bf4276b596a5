//! The file for records that exceed the memory: runs, each with its stretches in their order.
//!
//! In a run: stretch (8 bytes, little-endian), length (8), records; and again. The file has no name and goes away with us.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::records::Stretch;

/// The name that the file has for a moment.
const NAME: &str = "#xbrecv-redo-records";
/// Bytes written at a time.
const WRITE_LEN: usize = 1 << 20;
const HEAD_LEN: usize = 16;

/// The file.
pub(super) struct Spill {
    file: Arc<File>,
    len: u64,
    /// Where runs begin; the next one begins where the one before ends.
    runs: Vec<u64>,
    buffer: Vec<u8>,
}

impl Spill {
    pub(super) fn create(dir: &Path) -> io::Result<Spill> {
        let path = dir.join(NAME);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Spill { file: Arc::new(file), len: 0, runs: Vec::new(), buffer: Vec::new() })
    }

    pub(super) fn begin_run(&mut self) {
        self.runs.push(self.len);
    }

    /// The records of a stretch, which lies behind the one before it.
    pub(super) fn put(&mut self, stretch: Stretch, records: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(&stretch.key().to_le_bytes());
        self.buffer.extend_from_slice(&(records.len() as u64).to_le_bytes());
        if records.len() < WRITE_LEN {
            self.buffer.extend_from_slice(records);
        } else {
            self.flush()?;
            self.file.write_all_at(records, self.len)?;
            self.len += records.len() as u64;
        }
        if self.buffer.len() >= WRITE_LEN { self.flush() } else { Ok(()) }
    }

    pub(super) fn end_run(&mut self) -> io::Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.len)?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The runs, oldest first; all their buffers together take so many bytes, unless there are very many runs.
    pub(super) fn into_runs(self, memory: u64) -> Vec<RunReader> {
        const BUFFER_MIN: u64 = 4 << 10;
        const BUFFER_MAX: u64 = 256 << 10;
        let buffer = (memory / self.runs.len().max(1) as u64).clamp(BUFFER_MIN, BUFFER_MAX) as usize;
        let ends = self.runs.iter().skip(1).copied().chain([self.len]);
        self.runs
            .iter()
            .zip(ends)
            .map(|(&at, end)| {
                let section = Section { file: self.file.clone(), at, end };
                RunReader { from: BufReader::with_capacity(buffer, section) }
            })
            .collect()
    }
}

/// One run, read from its beginning.
pub(super) struct RunReader {
    from: BufReader<Section>,
}

struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut into[..len], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl RunReader {
    /// The next stretch, and how long its records are; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(Stretch, usize)>> {
        let inside = self.from.get_ref();
        if self.from.buffer().is_empty() && inside.at == inside.end {
            return Ok(None);
        }
        let mut head = [0; HEAD_LEN];
        self.from.read_exact(&mut head)?;
        let (&key, rest) = head.split_first_chunk::<8>().expect("longer than a number");
        let len = u64::from_le_bytes(*rest.first_chunk().expect("two numbers"));
        let len =
            usize::try_from(len).map_err(|_| io::Error::other("spilled records are not what they were"))?;
        Ok(Some((Stretch::from_key(u64::from_le_bytes(key)), len)))
    }

    /// Appends the records of the stretch at hand.
    pub(super) fn take(&mut self, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let at = into.len();
        into.resize(at + len, 0);
        self.from.read_exact(&mut into[at..])
    }
}

/// Which stretches may have records in the file.
#[derive(Default)]
pub(super) struct Filter(Vec<u64>);

impl Filter {
    /// A mebibit: with a hundred thousand stretches spilled, one in ten is taken for spilled wrongly.
    const WORDS: usize = 1 << 14;

    pub(super) fn add(&mut self, stretch: Stretch) {
        self.0.resize(Self::WORDS, 0);
        let (word, bit) = Self::place(stretch);
        self.0[word] |= 1 << bit;
    }

    pub(super) fn may_have(&self, stretch: Stretch) -> bool {
        let (word, bit) = Self::place(stretch);
        self.0.get(word).is_some_and(|bits| bits >> bit & 1 == 1)
    }

    fn place(stretch: Stretch) -> (usize, u32) {
        // Fibonacci hashing.
        let hash = stretch.key().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stretch.key() >> 32;
        let hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((hash >> 50) as usize % Self::WORDS, (hash >> 44 & 63) as u32)
    }
}
