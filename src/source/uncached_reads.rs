//! Uncached reads: they leave the page cache as they found it.
//!
//! A server with `O_DIRECT` has its datafiles nowhere in the page cache, and a backup that fills it pushes out what
//! other programs keep there. What was cached is taken from there and stays; what was not is dropped after the read.
//! Linux 6.14 and later do that themselves (`RWF_DONTCACHE`), where the file system can. Elsewhere a read that must not
//! wait (`RWF_NOWAIT`) tells what is cached; the rest is read and dropped (`POSIX_FADV_DONTNEED`). Then the kernel must not
//! read ahead, or the next block would look as if it had been there before.
//!
//! Reads that give way to the server's ([`LowPriorityReads`]) go past the page cache where the server's own do.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::files::reopen;
use super::low_priority_reads::{LowPriorityReads, SMALL};

/// `RWF_DONTCACHE` of `linux/fs.h`.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// What is cached is found out for so many bytes at a time.
const PIECE: usize = 64 << 10;
/// What memory, place and length of a read past the page cache are multiples of, whatever the disk.
const ALIGNMENT: usize = 4096;

/// A file that is read without a trace.
#[derive(Debug)]
pub struct Uncached {
    file: File,
    way: AtomicU8,
    gives_way: Option<Arc<LowPriorityReads>>,
    /// The same file, past the page cache (`O_DIRECT`).
    direct: Option<File>,
    direct_is_refused: AtomicBool,
}

/// Ways of reading; each is tried until the kernel refuses it.
const BY_KERNEL: u8 = 0;
const BY_LOOKING: u8 = 1;
const PLAIN: u8 = 2;

impl Uncached {
    /// Takes a file. `in_order`: it will be read from its start to its end.
    pub fn new(file: File, in_order: bool, gives_way: Option<Arc<LowPriorityReads>>) -> Uncached {
        // Only a hint to the kernel.
        let advice = if in_order && gives_way.is_none() { Advice::Sequential } else { Advice::Random };
        let _ = fadvise(&file, 0, None, advice);
        let direct = match &gives_way {
            Some(gives_way) if gives_way.past_cache() => {
                // Some file systems have no such way.
                reopen(&file, OFlags::DIRECT).ok()
            }
            _ => None,
        };
        let (way, direct_is_refused) = (AtomicU8::new(BY_KERNEL), AtomicBool::new(false));
        Uncached { file, way, gives_way, direct, direct_is_refused }
    }

    /// Returns the present length of the file in bytes.
    ///
    /// # Errors
    /// As `fstat`.
    pub fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// As `pread`; `UnexpectedEof` where the file is shorter.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Some(gives_way) = &self.gives_way else { return self.read(buffer, offset) };
        for (n, piece) in buffer.chunks_mut(SMALL).enumerate() {
            gives_way.read(|| self.read_past_cache(piece, offset + (n * SMALL) as u64))?;
        }
        Ok(())
    }

    /// Past the page cache, as far as that goes, and the rest as ever: what is not aligned, or all of it.
    fn read_past_cache(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(file) = &self.direct
            && !self.direct_is_refused.load(Ordering::Relaxed)
            && is_aligned(&buffer[done..], offset + done as u64)
        {
            match file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_refusal(&e) => self.direct_is_refused.store(true, Ordering::Relaxed),
                Err(e) => return Err(e),
            }
        }
        self.read(&mut buffer[done..], offset + done as u64)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        if self.way.load(Ordering::Relaxed) == BY_KERNEL {
            match self.read_by_kernel(buffer, offset) {
                Err(e) if is_refusal(&e) => self.give_up(BY_LOOKING),
                done => return done,
            }
        }
        if self.way.load(Ordering::Relaxed) == BY_LOOKING {
            return self.read_looking(buffer, offset);
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn give_up(&self, next: u8) {
        self.way.store(next, Ordering::Relaxed);
        if next == BY_LOOKING {
            let _ = fadvise(&self.file, 0, None, Advice::Random);
        }
    }

    fn read_by_kernel(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match read_flagged(&self.file, &mut buffer[done..], offset + done as u64, DONTCACHE) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn read_looking(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut absent: Vec<Range<usize>> = Vec::new();
        for begin in (0..buffer.len()).step_by(PIECE) {
            let end = buffer.len().min(begin + PIECE);
            let cached = read_flagged(
                &self.file,
                &mut buffer[begin..end],
                offset + begin as u64,
                ReadWriteFlags::NOWAIT,
            );
            match cached {
                Ok(n) if n == end - begin => continue,
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) if is_refusal(&e) => {
                    self.give_up(PLAIN);
                    return self.file.read_exact_at(buffer, offset);
                }
                Err(e) => return Err(e),
            }
            match absent.last_mut() {
                Some(last) if last.end == begin => last.end = end,
                _ => absent.push(begin..end),
            }
        }
        for range in absent {
            let at = offset + range.start as u64;
            self.file.read_exact_at(&mut buffer[range.clone()], at)?;
            // What the server has changed meanwhile stays: only clean pages are dropped.
            let _ = fadvise(&self.file, at, std::num::NonZeroU64::new(range.len() as u64), Advice::DontNeed);
        }
        Ok(())
    }
}

/// Whether there is something to be read past the page cache.
fn is_aligned(buffer: &[u8], offset: u64) -> bool {
    let all = [buffer.as_ptr().addr(), buffer.len(), offset as usize % ALIGNMENT];
    !buffer.is_empty() && all.iter().all(|n| n % ALIGNMENT == 0)
}

/// As much as one call reads.
fn read_flagged(file: &File, buffer: &mut [u8], offset: u64, flags: ReadWriteFlags) -> io::Result<usize> {
    Ok(preadv2(file, &mut [IoSliceMut::new(buffer)], offset, flags)?)
}

/// Whether kernel or file system don't know the flag.
fn is_refusal(e: &io::Error) -> bool {
    [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS]
        .iter()
        .any(|no| e.raw_os_error() == Some(no.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PageBuffer;
    use std::io::Write;

    const LEN: usize = 3 << 20;

    /// A file beside this program, so on a real disk where there is one, written through, and its bytes.
    fn file() -> (tempfile::TempPath, File, Vec<u8>) {
        let bytes: Vec<u8> = (0..LEN as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let program = std::env::current_exe().unwrap();
        let mut named = tempfile::NamedTempFile::new_in(program.parent().unwrap()).unwrap();
        named.write_all(&bytes).unwrap();
        named.as_file().sync_all().unwrap();
        let path = named.into_temp_path();
        let file = File::open(&path).unwrap();
        // What is asked for is read, and nothing ahead of it.
        fadvise(&file, 0, None, Advice::Random).unwrap();
        (path, file, bytes)
    }

    /// Which pieces have memory page number `page` in the cache. Asking brings that page in, so that it is asked for once.
    fn cached(file: &File, page: usize) -> Option<Vec<bool>> {
        let ask = |at: usize| match read_flagged(file, &mut [0], at as u64, ReadWriteFlags::NOWAIT) {
            Ok(n) => Some(n == 1),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Some(false),
            Err(e) if is_refusal(&e) => None,
            Err(e) => panic!("{e}"),
        };
        (0..LEN).step_by(PIECE).map(|piece| ask(piece + page * 4096)).collect()
    }

    /// Whether anything can be dropped from the cache: not so on file systems in memory.
    fn drops(file: &File) -> bool {
        fadvise(file, 0, None, Advice::DontNeed).unwrap();
        let empty = cached(file, 0).is_some_and(|c| !c.contains(&true));
        std::thread::sleep(std::time::Duration::from_millis(50));
        fadvise(file, 0, None, Advice::DontNeed).unwrap();
        empty
    }

    /// The cache has its own mind on a busy machine: pages are held by others for a moment, or read ahead where one was asked
    /// for. So what leaves the cache as it should be one time in so many is right.
    const TRIES: u32 = 8;

    fn is_right_once(mut attempt: impl FnMut() -> Result<(), String>) {
        let wrong: Vec<_> = (0..TRIES).map_while(|_| attempt().err()).collect();
        assert!(wrong.len() < TRIES as usize, "{wrong:#?}");
    }

    /// Which pieces are in the cache, in short; an error where it is others than should be.
    fn expect_cached(file: &File, should_be: impl Fn(usize) -> bool) -> Result<(), String> {
        let pieces = cached(file, 5).unwrap();
        match pieces.iter().enumerate().all(|(i, c)| *c == should_be(i)) {
            true => Ok(()),
            false => Err(pieces.iter().map(|c| if *c { '#' } else { '.' }).collect()),
        }
    }

    #[test]
    fn the_cache_is_as_it_was() {
        const MIB: usize = 1 << 20;
        for way in [BY_KERNEL, BY_LOOKING] {
            is_right_once(|| {
                let (path, plain, bytes) = file();
                if !drops(&plain) {
                    return Ok(());
                }
                // The second MiB is somebody's.
                plain.read_exact_at(&mut vec![0; MIB], MIB as u64).unwrap();
                let uncached = Uncached::new(File::open(&path).unwrap(), true, None);
                uncached.give_up(way);
                let mut buffer = vec![0; MIB];
                for block in 0..3 {
                    uncached.read_exact_at(&mut buffer, (block * MIB) as u64).unwrap();
                    assert_eq!(buffer, bytes[block * MIB..][..MIB]);
                }
                if uncached.way.load(Ordering::Relaxed) != way {
                    return Ok(());
                }
                // Pages are dropped a moment later where something else holds them just then.
                std::thread::sleep(std::time::Duration::from_millis(20));
                expect_cached(&plain, |piece| (16..32).contains(&piece))
            });
        }
    }

    #[test]
    fn every_way_reads_the_same_and_sees_the_end() {
        let (path, _, bytes) = file();
        for way in [BY_KERNEL, BY_LOOKING, PLAIN] {
            let uncached = Uncached::new(File::open(&path).unwrap(), true, None);
            uncached.give_up(way);
            let mut buffer = vec![0; 100_000];
            uncached.read_exact_at(&mut buffer, 70_001).unwrap();
            assert_eq!(buffer, bytes[70_001..][..100_000]);
            let e = uncached.read_exact_at(&mut buffer, LEN as u64 - 99_999).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn reads_that_give_way_are_the_same() {
        let (path, _, bytes) = file();
        for past_cache in [true, false] {
            let uncached = Uncached::new(
                File::open(&path).unwrap(),
                true,
                Some(Arc::new(LowPriorityReads::new(past_cache))),
            );
            let mut buffer = PageBuffer::new(1 << 20);
            for at in (0..LEN).step_by(1 << 20) {
                uncached.read_exact_at(&mut buffer, at as u64).unwrap();
                assert_eq!(buffer[..], bytes[at..][..1 << 20]);
            }
            // Neither memory nor place nor length are whole pages.
            let mut odd = vec![0; 700_001];
            uncached.read_exact_at(&mut odd[1..], 70_001).unwrap();
            assert_eq!(odd[1..], bytes[70_001..][..700_000]);
            let e = uncached.read_exact_at(&mut buffer, LEN as u64 - (1 << 19)).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn reads_past_the_cache_leave_nothing_in_it() {
        is_right_once(|| {
            let (path, plain, _) = file();
            if !drops(&plain) {
                return Ok(());
            }
            let uncached =
                Uncached::new(File::open(&path).unwrap(), true, Some(Arc::new(LowPriorityReads::new(true))));
            let mut buffer = PageBuffer::new(LEN);
            uncached.read_exact_at(&mut buffer, 0).unwrap();
            if uncached.direct.is_none() || uncached.direct_is_refused.load(Ordering::Relaxed) {
                return Ok(());
            }
            expect_cached(&plain, |_| false)
        });
    }
}
