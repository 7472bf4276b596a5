//! Sends the datafiles whole: each thread reads, verifies and writes block after block.

use std::io::IoSlice;
use std::sync::{Mutex, PoisonError};

use crate::base::progress::Progress;
use crate::base::{PageBuffer, Result};
use crate::source::inventory::Datafile;
use crate::source::pages::{OpenDatafile, PageReader, Reading};
use crate::stream::digest::{BLOCK, BlockDigest, leaf};
use crate::stream::{MemberName, frame};
use crate::transport::Lane;

use super::member_writer::{MemberWriter, member_name};
use super::parts::{Divided, Part, Parts};
use super::rate_limiter::RateLimiter;

/// The datafiles, whole, and how far they are shared out.
pub(super) struct Work<'a> {
    parts: Parts<'a, Current>,
}

/// A datafile that is being sent.
struct Current {
    member: MemberName,
    file: OpenDatafile,
    digest: Mutex<BlockDigest>,
}

impl Divided for Current {
    fn parts(&self) -> u64 {
        self.file.blocks()
    }
}

impl<'a> Work<'a> {
    /// The datafiles, none of which is read yet.
    pub(super) fn new(files: &'a [Datafile], reading: Reading<'a>) -> Self {
        Work { parts: Parts::new(files, reading) }
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
        let mut reader = PageReader::new(&progress.torn_retries, self.parts.reading());
        let mut lane = member_writer.stream_writer.lane()?;
        while let Some(part) = self.next()? {
            if part.of.file.blocks() > 0 {
                pacer.wait()?;
            }
            part.send(&mut buffer, &mut reader, &mut lane, member_writer, progress)?;
        }
        Ok(())
    }

    fn next(&self) -> Result<Option<Part<Current>>> {
        self.parts.next(|datafile, file, _| {
            Ok(Current {
                member: member_name(&datafile.member)?,
                file,
                digest: Mutex::new(BlockDigest::new()),
            })
        })
    }
}

impl Part<Current> {
    fn send(
        &self,
        buffer: &mut [u8],
        reader: &mut PageReader<'_>,
        lane: &mut Lane<'_>,
        member_writer: &MemberWriter<'_>,
        progress: &Progress,
    ) -> Result<()> {
        let current = &self.of;
        let end = if self.last { frame::end_frame(&current.member) } else { Vec::new() };
        if current.file.blocks() == 0 {
            lane.write_in_turn(self.ticket, &mut [IoSlice::new(&end)])?;
        } else {
            let block = current.file.read_block(self.index, buffer, reader)?;
            let digest = leaf(&buffer[..block.len]);
            current.digest.lock().unwrap_or_else(PoisonError::into_inner).put_leaf(self.index, digest);
            let offset = self.index * BLOCK as u64;
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
