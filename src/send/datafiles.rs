//! Sends the datafiles: several threads share them out by blocks, not by files, so that the largest table does not set the time.

use std::io::IoSlice;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::progress::Progress;
use crate::base::{PageBuffer, Result, SpaceId};
use crate::source::inventory::Datafile;
use crate::source::pages::{OpenDatafile, PageReader, Reading};
use crate::stream::digest::{BLOCK, BlockDigest, leaf};
use crate::stream::{MemberName, frame};
use crate::transport::Lane;

use super::member_writer::{MemberWriter, member_name};
use super::rate_limiter::RateLimiter;

/// The datafiles and how far they are shared out.
pub(super) struct Work<'a> {
    cursor: Mutex<Cursor<'a>>,
    reading: Reading<'a>,
}

struct Cursor<'a> {
    files: std::slice::Iter<'a, Datafile>,
    current: Option<Arc<Current>>,
    next_block: u64,
    next_ticket: u64,
    /// Pages of the system tablespace in the files shared out so far.
    system_pages: u64,
}

/// A datafile that is being sent.
struct Current {
    member: MemberName,
    file: OpenDatafile,
    digest: Mutex<BlockDigest>,
}

/// One block to send, and when.
struct Task {
    current: Arc<Current>,
    block: u64,
    ticket: u64,
    last: bool,
}

impl<'a> Work<'a> {
    /// The datafiles, none of which is read yet.
    pub(super) fn new(files: &'a [Datafile], reading: Reading<'a>) -> Self {
        let cursor =
            Cursor { files: files.iter(), current: None, next_block: 0, next_ticket: 0, system_pages: 0 };
        Work { cursor: Mutex::new(cursor), reading }
    }

    /// One thread's share.
    pub(super) fn run(
        &self,
        member_writer: &MemberWriter<'_>,
        pacer: &RateLimiter<'_>,
        progress: &Progress,
    ) -> Result<()> {
        pacer.enter();
        let mut buffer = PageBuffer::new(BLOCK);
        let mut reader = PageReader::new(&progress.torn_retries, &self.reading);
        let mut lane = member_writer.stream_writer.lane()?;
        while let Some(task) = self.next()? {
            if task.current.file.blocks() > 0 {
                pacer.wait()?;
            }
            task.send(&mut buffer, &mut reader, &mut lane, member_writer, progress)?;
        }
        Ok(())
    }

    fn next(&self) -> Result<Option<Task>> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match &cursor.current {
            Some(current) => current.clone(),
            None => {
                let Some(datafile) = cursor.files.next() else { return Ok(None) };
                let current = Arc::new(self.open(datafile, &mut cursor)?);
                cursor.current = Some(current.clone());
                cursor.next_block = 0;
                current
            }
        };
        let block = cursor.next_block;
        let last = block + 1 >= current.file.blocks();
        cursor.next_block += 1;
        if last {
            cursor.current = None;
        }
        let ticket = cursor.next_ticket;
        cursor.next_ticket += 1;
        Ok(Some(Task { current, block, ticket, last }))
    }

    fn open(&self, datafile: &Datafile, cursor: &mut Cursor<'_>) -> Result<Current> {
        let system = datafile.space == SpaceId::SYSTEM;
        let first_page = if system { cursor.system_pages } else { 0 };
        let file = OpenDatafile::open(datafile, first_page, &self.reading)?;
        if system {
            cursor.system_pages += file.bytes / self.reading.plain.physical() as u64;
        }
        Ok(Current { member: member_name(&datafile.member)?, file, digest: Mutex::new(BlockDigest::new()) })
    }
}

impl Task {
    fn send(
        &self,
        buffer: &mut [u8],
        reader: &mut PageReader<'_>,
        lane: &mut Lane<'_>,
        member_writer: &MemberWriter<'_>,
        progress: &Progress,
    ) -> Result<()> {
        let current = &self.current;
        let end = if self.last { frame::end_frame(&current.member) } else { Vec::new() };
        if current.file.blocks() == 0 {
            lane.write_in_turn(self.ticket, &mut [IoSlice::new(&end)])?;
        } else {
            let block = current.file.read_block(self.block, buffer, reader)?;
            let digest = leaf(&buffer[..block.len]);
            current.digest.lock().unwrap_or_else(PoisonError::into_inner).put_leaf(self.block, digest);
            let offset = self.block * BLOCK as u64;
            let (head, data) = member_writer.chunk(&current.member, offset, &block, buffer);
            let mut parts: Vec<_> = std::iter::once(IoSlice::new(&head))
                .chain(data.into_iter().map(IoSlice::new))
                .chain([IoSlice::new(&end)])
                .collect();
            lane.write_in_turn(self.ticket, &mut parts)?;
            Progress::add(&progress.bytes_done, block.len as u64);
        }
        if self.last {
            // Every earlier block of the file was written in an earlier turn, so its leaf is there.
            let digest = std::mem::take(&mut *current.digest.lock().unwrap_or_else(PoisonError::into_inner));
            member_writer.note(&current.member, current.file.bytes, digest)?;
            Progress::add(&progress.files_done, 1);
        }
        Ok(())
    }
}
