//! The spill file for records that exceed the memory: runs, each with its page ranges in their order.
//!
//! In a run: page range (8 bytes, little-endian), length (8), records; and again. A run begins at the border of a memory page,
//! and all is written and read from such borders on, where the kernel copies fastest. The file has no name and goes away
//! with us.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use aes::Aes256;
use aes::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use ctr::Ctr64BE;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::buffer::{Arena, RecordBuffer};
use super::run::PageRange;
use crate::base::read::read_up_to;
use crate::base::{PageBuffer, nofollow};

/// The name that the file has for a moment.
const NAME: &str = "#xbrecv-redo-records";
/// Rows of tables are in it: for nobody else.
const PRIVATE_MODE: u32 = 0o600;
/// Bytes written at a time.
const WRITE_LEN: usize = 1 << 20;
const HEAD_LEN: usize = 16;
const SPILL_KEY_LEN: usize = 32;
const MEMORY_PAGE: u64 = 4096;

/// The file.
pub(crate) struct Spill {
    file: Arc<File>,
    /// For records of encrypted tablespaces: a key that nobody else ever has.
    cipher: Option<SpillCipher>,
    /// Bytes that were written, and those that wait to be.
    len: u64,
    buffer: PageBuffer,
    buffered: usize,
    runs: Vec<Range<u64>>,
}

impl Spill {
    /// Makes the file in `dir`. `encrypts`: nothing may stand in it in the clear.
    pub(crate) fn create(dir: &Path, encrypts: bool) -> io::Result<Spill> {
        let cipher = encrypts.then(SpillCipher::new).transpose()?;
        let path = dir.join(NAME);
        match nofollow::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = nofollow::create_new(&path, PRIVATE_MODE)?;
        nofollow::remove_file(&path)?;
        let buffer = PageBuffer::new(WRITE_LEN);
        Ok(Spill { file: Arc::new(file), cipher, len: 0, buffer, buffered: 0, runs: Vec::new() })
    }

    pub(crate) fn begin_run(&mut self) {
        self.len = self.len.next_multiple_of(MEMORY_PAGE);
        self.runs.push(self.len..self.len);
    }

    /// The records of a page range, which lies behind the one before it.
    pub(crate) fn put(&mut self, range: PageRange, records: &RecordBuffer, arena: &Arena) -> io::Result<()> {
        self.append(&range.key().to_le_bytes())?;
        self.append(&(records.len() as u64).to_le_bytes())?;
        records.parts(arena).try_for_each(|part| self.append(part))
    }

    pub(crate) fn end_run(&mut self) -> io::Result<()> {
        self.flush()?;
        if let Some(run) = self.runs.last_mut() {
            run.end = self.len;
        }
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = &mut self.buffer[self.buffered..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.buffered += now.len();
            bytes = later;
            if self.buffered == WRITE_LEN {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(cipher) = &self.cipher {
            cipher.apply(self.len, &mut self.buffer[..self.buffered]);
        }
        self.file.write_all_at(&self.buffer[..self.buffered], self.len)?;
        self.len += self.buffered as u64;
        self.buffered = 0;
        Ok(())
    }

    /// The runs, oldest first; all their buffers together take so many bytes, unless there are very many runs.
    pub(crate) fn into_runs(self, memory: u64) -> Vec<RunReader> {
        const BUFFER_MIN: u64 = MEMORY_PAGE;
        const BUFFER_MAX: u64 = 256 << 10;
        let buffer = (memory / self.runs.len().max(1) as u64).clamp(BUFFER_MIN, BUFFER_MAX);
        let buffer = (buffer - buffer % MEMORY_PAGE) as usize;
        let reader = |run| RunReader {
            file: self.file.clone(),
            cipher: self.cipher.clone(),
            run,
            buffer: PageBuffer::new(buffer),
            given: 0,
            filled: 0,
        };
        self.runs.iter().cloned().map(reader).collect()
    }
}

/// One run, read from its beginning.
pub(crate) struct RunReader {
    file: Arc<File>,
    cipher: Option<SpillCipher>,
    /// What is not in the buffer yet.
    run: Range<u64>,
    buffer: PageBuffer,
    /// How much of the buffer was given out, and how much is filled.
    given: usize,
    filled: usize,
}

impl RunReader {
    /// The next page range, and how long its records are; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<(PageRange, usize)>> {
        if self.given == self.filled && self.run.is_empty() {
            return Ok(None);
        }
        let mut head = Vec::with_capacity(HEAD_LEN);
        self.take(HEAD_LEN, &mut head)?;
        let number = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
        let len = number(8).and_then(|len| usize::try_from(len).ok());
        let (key, len) = number(0).zip(len).ok_or_else(broken)?;
        Ok(Some((PageRange::from_key(key), len)))
    }

    /// Appends the records of the page range at hand.
    pub(crate) fn take(&mut self, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let mut wanted = len;
        while wanted > 0 {
            if self.given == self.filled {
                self.fill()?;
            }
            let now = wanted.min(self.filled - self.given);
            into.extend_from_slice(&self.buffer[self.given..][..now]);
            self.given += now;
            wanted -= now;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        let left = usize::try_from(self.run.end - self.run.start).unwrap_or(usize::MAX);
        let len = left.min(self.buffer.len());
        if len == 0 || read_up_to(&self.file, &mut self.buffer[..len], self.run.start)? < len {
            return Err(broken());
        }
        if let Some(cipher) = &self.cipher {
            cipher.apply(self.run.start, &mut self.buffer[..len]);
        }
        self.run.start += len as u64;
        (self.given, self.filled) = (0, len);
        Ok(())
    }
}

/// Encrypts and decrypts the file with AES-256 in counter mode: each byte of it is written once.
#[derive(Clone)]
struct SpillCipher(Zeroizing<[u8; SPILL_KEY_LEN]>);

impl SpillCipher {
    fn new() -> io::Result<SpillCipher> {
        let mut key = Zeroizing::new([0; SPILL_KEY_LEN]);
        SystemRandom::new()
            .fill(&mut *key)
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        Ok(SpillCipher(key))
    }

    /// Encrypts or decrypts bytes from this offset in the file on.
    fn apply(&self, offset: u64, bytes: &mut [u8]) {
        // The key is used for one file: the counter may begin at zero.
        let mut cipher = Ctr64BE::<Aes256>::new((&*self.0).into(), &Default::default());
        cipher.seek(offset);
        cipher.apply_keystream(bytes);
    }
}

fn broken() -> io::Error {
    io::Error::other("spilled records are not what they were")
}

/// Which page ranges may have records in the file.
#[derive(Default)]
pub(crate) struct Filter(Vec<u64>);

impl Filter {
    /// A mebibit: with a hundred thousand page ranges spilled, one in ten is taken for spilled wrongly.
    const WORDS: usize = 1 << 14;

    pub(crate) fn add(&mut self, range: PageRange) {
        self.0.resize(Self::WORDS, 0);
        let (word, bit) = Self::place(range);
        self.0[word] |= 1 << bit;
    }

    pub(crate) fn may_have(&self, range: PageRange) -> bool {
        let (word, bit) = Self::place(range);
        self.0.get(word).is_some_and(|bits| bits >> bit & 1 == 1)
    }

    fn place(range: PageRange) -> (usize, u32) {
        // Fibonacci hashing.
        let hash = range.key().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ range.key() >> 32;
        let hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((hash >> 50) as usize % Self::WORDS, (hash >> 44 & 63) as u32)
    }
}
