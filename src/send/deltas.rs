//! Sends an increment: of each datafile the pages that changed, as a `.delta` member with a `.meta` before it.
//!
//! Several threads read and verify blocks, or single pages where the server says which ones changed. What they select is
//! gathered in the order of the files, a cluster at a time, because the list of a cluster's pages goes before the pages
//! ([`crate::stream::delta`]).

use std::sync::atomic::{AtomicU64, Ordering};

use std::io::IoSlice;

use crate::base::progress::Progress;
use crate::base::ticket_lock::TicketLock;
use crate::base::{Code, Error, PageBuffer, Result};
use crate::source::changed_pages::ListedPages;
use crate::source::extents::{Block, ExtentBuilder};
use crate::source::inventory::Datafile;
use crate::source::pages::{ChangedPage, OpenDatafile, PageReader, Reading};
use crate::stream::MemberName;
use crate::stream::delta::{ClusterHeader, DELTA, META, cluster_pages};
use crate::stream::digest::{BLOCK, BlockDigest};
use crate::stream::metadata::DeltaMeta;

use super::member_writer::{MemberWriter, member_name};
use super::parts::{Divided, Part, Parts};
use super::rate_limiter::RateLimiter;

/// Maximum number of bytes of a cluster that are kept in memory: a whole one of pages of up to 16 KiB. Of larger pages, those
/// beyond it are read again when the cluster is sent.
const KEPT_MAX: usize = 64 << 20;

/// The datafiles of an increment, and how far they are shared out to the reading threads.
pub(super) struct DeltaWork<'a> {
    parts: Parts<'a, Current>,
    /// `None`: all pages are read.
    listed: Option<&'a ListedPages>,
    order: TicketLock<DeltaWriter>,
    /// Pages sent, and pages that the datafiles have.
    pub(super) sent: AtomicU64,
    pub(super) pages: AtomicU64,
}

/// A datafile that is being read.
struct Current {
    member: String,
    file: OpenDatafile,
    /// Numbers of the pages that are read; `None`: all.
    listed: Option<Vec<u32>>,
}

impl Current {
    /// Number of listed pages that are read as one part.
    fn pages_each(&self) -> usize {
        BLOCK / self.file.layout().physical()
    }

    /// Number of reads that a part takes: one for a block, one for each run of neighbouring listed pages.
    fn reads(&self, part: u64) -> usize {
        match &self.listed {
            None => 1,
            Some(listed) => {
                let numbers = listed.chunks(self.pages_each()).nth(part as usize).unwrap_or_default();
                numbers.chunk_by(|one, next| one.checked_add(1) == Some(*next)).count()
            }
        }
    }

    /// Reads a part into `buffer`; lists the pages that changed.
    fn read(&self, part: u64, buffer: &mut [u8], reader: &mut PageReader<'_>) -> Result<Vec<ChangedPage>> {
        let Some(listed) = &self.listed else { return self.file.read_changed(part, buffer, reader) };
        let numbers = listed.chunks(self.pages_each()).nth(part as usize).unwrap_or_default();
        self.file.read_listed(numbers, buffer, reader)
    }
}

/// A part is a block, or as many listed pages as a block has.
impl Divided for Current {
    fn parts(&self) -> u64 {
        match &self.listed {
            None => self.file.blocks(),
            Some(listed) => listed.len().div_ceil(self.pages_each()) as u64,
        }
    }
}

impl<'a> DeltaWork<'a> {
    /// Creates the work; no file is opened yet.
    pub(super) fn new(
        files: &'a [Datafile],
        reading: Reading<'a>,
        listed: Option<&'a ListedPages>,
    ) -> DeltaWork<'a> {
        DeltaWork {
            parts: Parts::new(files, reading),
            listed,
            order: TicketLock::new(DeltaWriter::new()),
            sent: AtomicU64::new(0),
            pages: AtomicU64::new(0),
        }
    }

    /// Does the share of one thread.
    pub(super) fn run(
        &self,
        member_writer: &MemberWriter<'_>,
        pacer: &RateLimiter<'_>,
        progress: &Progress,
    ) -> Result<()> {
        pacer.enter();
        let mut buffer = PageBuffer::new(BLOCK);
        let mut reader = PageReader::new(&progress.torn_retries, self.parts.reading());
        let done = (|| {
            while let Some(part) = self.next()? {
                self.send(&part, &mut buffer, &mut reader, member_writer, pacer, progress)?;
            }
            Ok(())
        })();
        if done.is_err() {
            // The others must not wait for the turn of this thread.
            self.order.close();
        }
        done
    }

    fn next(&self) -> Result<Option<Part<Current>>> {
        self.parts.next(|datafile, file, first_page| Ok(self.divide(datafile, file, first_page)))
    }

    fn divide(&self, datafile: &Datafile, file: OpenDatafile, first_page: u64) -> Current {
        let pages = file.pages();
        self.pages.fetch_add(pages, Ordering::Relaxed);
        let listed = self.listed.map(|listed| {
            let numbers = listed.get(&file.space()).map(|numbers| &numbers[..]).unwrap_or_default();
            let own = numbers.iter().map(|n| u64::from(*n)).filter_map(|n| n.checked_sub(first_page));
            // Page 0 travels always; pages behind the end belong to an earlier life of the tablespace.
            let mut own: Vec<u32> =
                std::iter::once(0).chain(own).filter(|n| *n < pages).map(|n| n as u32).collect();
            own.dedup();
            own
        });
        Current { member: datafile.member.clone(), file, listed }
    }

    fn send(
        &self,
        part: &Part<Current>,
        buffer: &mut [u8],
        reader: &mut PageReader<'_>,
        member_writer: &MemberWriter<'_>,
        pacer: &RateLimiter<'_>,
        progress: &Progress,
    ) -> Result<()> {
        let current = &part.of;
        let changed = match part.index < current.parts() {
            true => {
                for _ in 0..current.reads(part.index) {
                    pacer.wait()?;
                }
                current.read(part.index, buffer, reader)?
            }
            false => Vec::new(),
        };
        let size = current.file.layout().physical();
        self.sent.fetch_add(changed.iter().filter(|page| !page.is_zero).count() as u64, Ordering::Relaxed);
        self.order.pass(Some(part.ticket), |writer| {
            if part.index == 0 {
                writer.begin(current, member_writer)?;
            }
            for page in &changed {
                writer.push(current, *page, &buffer[page.at..page.at + size], reader, member_writer)?;
            }
            if part.last { writer.end(current, reader, member_writer) } else { Ok(()) }
        })?;
        let total = current.file.bytes;
        let done = |part: u64| (total as u128 * u128::from(part) / u128::from(current.parts().max(1))) as u64;
        Progress::add(&progress.bytes_done, done(part.index + 1) - done(part.index));
        if part.last {
            Progress::add(&progress.files_done, 1);
        }
        Ok(())
    }
}

/// The bytes of a page of a cluster.
#[derive(Clone, Copy)]
enum Content {
    /// Zeros.
    Zero,
    /// Kept, from this offset on.
    Kept(usize),
    /// To be read again.
    OnDisk,
}

/// Writes one `.delta` member after the other; its memory is used for all of them.
struct DeltaWriter {
    numbers: Vec<u32>,
    contents: Vec<Content>,
    kept: Vec<u8>,
    out: PieceWriter,
}

impl DeltaWriter {
    fn new() -> DeltaWriter {
        let (numbers, contents, kept) = Default::default();
        DeltaWriter { numbers, contents, kept, out: PieceWriter::new() }
    }

    /// Sends the `.meta` member, and begins the `.delta`.
    fn begin(&mut self, current: &Current, member_writer: &MemberWriter<'_>) -> Result<()> {
        let file = &current.file;
        let meta = DeltaMeta {
            page_size: file.layout().physical() as u32,
            is_zip: file.layout().is_zip(),
            space: file.space(),
            flags: file.flags().map(|flags| flags.0),
            file_size: Some(file.bytes),
        };
        member_writer.send_bytes(&format!("{}{META}", current.member), meta.render().as_bytes())?;
        self.out.begin(member_name(&format!("{}{DELTA}", current.member))?);
        Ok(())
    }

    fn push(
        &mut self,
        current: &Current,
        page: ChangedPage,
        bytes: &[u8],
        reader: &mut PageReader<'_>,
        member_writer: &MemberWriter<'_>,
    ) -> Result<()> {
        // A full cluster is sent only when there is more: only then is it known not to be the last.
        if self.numbers.len() == cluster_pages(bytes.len()) {
            self.send_cluster(current, false, reader, member_writer)?;
        }
        self.numbers.push(page.number);
        self.contents.push(match page.is_zero {
            true => Content::Zero,
            false if self.kept.len() + bytes.len() > KEPT_MAX => Content::OnDisk,
            false => {
                self.kept.extend_from_slice(bytes);
                Content::Kept(self.kept.len() - bytes.len())
            }
        });
        Ok(())
    }

    fn send_cluster(
        &mut self,
        current: &Current,
        last: bool,
        reader: &mut PageReader<'_>,
        member_writer: &MemberWriter<'_>,
    ) -> Result<()> {
        let size = current.file.layout().physical();
        let header = ClusterHeader { pages: std::mem::take(&mut self.numbers), last };
        self.out.data(&header.encode(size), member_writer)?;
        let mut again = vec![0; size];
        for (number, content) in header.pages.iter().zip(std::mem::take(&mut self.contents)) {
            match content {
                Content::Zero => self.out.hole(size, member_writer)?,
                Content::Kept(at) => self.out.data(&self.kept[at..at + size], member_writer)?,
                Content::OnDisk => {
                    current.file.read_page(u64::from(*number), &mut again, reader)?;
                    self.out.data(&again, member_writer)?;
                }
            }
        }
        self.kept.clear();
        Ok(())
    }

    fn end(
        &mut self,
        current: &Current,
        reader: &mut PageReader<'_>,
        member_writer: &MemberWriter<'_>,
    ) -> Result<()> {
        self.send_cluster(current, true, reader, member_writer)?;
        self.out.end(member_writer)
    }
}

/// Cuts the content of one member after the other into chunks of [`BLOCK`] bytes.
struct PieceWriter {
    member: Option<MemberName>,
    /// Bytes of the member that were sent.
    offset: u64,
    buffer: PageBuffer,
    filled: usize,
    shape: ExtentBuilder,
    digest: BlockDigest,
}

impl PieceWriter {
    fn new() -> PieceWriter {
        PieceWriter {
            member: None,
            offset: 0,
            buffer: PageBuffer::new(BLOCK),
            filled: 0,
            shape: ExtentBuilder::default(),
            digest: BlockDigest::new(),
        }
    }

    fn begin(&mut self, member: MemberName) {
        (self.member, self.offset, self.filled) = (Some(member), 0, 0);
    }

    fn data(&mut self, mut bytes: &[u8], member_writer: &MemberWriter<'_>) -> Result<()> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.buffer[self.filled..][..now.len()].copy_from_slice(now);
            self.shape.data(now.len());
            self.filled += now.len();
            bytes = rest;
            self.send_full(member_writer)?;
        }
        Ok(())
    }

    fn hole(&mut self, mut len: usize, member_writer: &MemberWriter<'_>) -> Result<()> {
        while len > 0 {
            let now = len.min(BLOCK - self.filled);
            self.buffer[self.filled..][..now].fill(0);
            self.shape.hole(now);
            self.filled += now;
            len -= now;
            self.send_full(member_writer)?;
        }
        Ok(())
    }

    fn send_full(&mut self, member_writer: &MemberWriter<'_>) -> Result<()> {
        if self.filled == BLOCK { self.send(member_writer) } else { Ok(()) }
    }

    fn send(&mut self, member_writer: &MemberWriter<'_>) -> Result<()> {
        let block = Block { len: self.filled, map: std::mem::take(&mut self.shape).into_map() };
        self.digest.update(&self.buffer[..self.filled]);
        let member = self.member.as_ref().ok_or_else(no_member)?;
        let (head, data) = member_writer.chunk(member, self.offset, &block, &self.buffer);
        let mut parts: Vec<_> =
            std::iter::once(IoSlice::new(&head)).chain(data.into_iter().map(IoSlice::new)).collect();
        member_writer.write_now(&mut parts)?;
        self.offset += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    fn end(&mut self, member_writer: &MemberWriter<'_>) -> Result<()> {
        if self.filled > 0 {
            self.send(member_writer)?;
        }
        let member = self.member.take().ok_or_else(no_member)?;
        member_writer.end(&member, self.offset, std::mem::take(&mut self.digest))
    }
}

fn no_member() -> Error {
    Error::new(Code::Internal, "pages of a member that was not begun")
}
