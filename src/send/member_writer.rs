//! Writes members as frames, and notes each for the manifest.

use std::io::{IoSlice, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::base::progress::Progress;
use crate::base::{Code, Error, PageBuffer, Result};
use crate::source::extents::Block;
use crate::source::files;
use crate::source::spool::Spool;
use crate::stream::digest::{BLOCK, BlockDigest};
use crate::stream::manifest::ManifestMember;
use crate::stream::{MemberName, frame, metadata};
use crate::transport::{Lane, StreamWriter};

/// Makes frames of members and sends them.
pub(super) struct MemberWriter<'a> {
    pub(super) stream_writer: &'a StreamWriter,
    progress: &'a Progress,
    dense: bool,
    /// The server's user.
    owner: u32,
    sent: Mutex<Vec<ManifestMember>>,
    /// Ways into the stream that are not in use.
    lanes: Mutex<Vec<Lane<'a>>>,
}

/// A name of ours as a member name.
pub(super) fn member_name(name: &str) -> Result<MemberName> {
    MemberName::parse(name)
        .map_err(|e| Error::new(Code::SourceIo, format!("{name} can't be named in a stream")).cause(e))
}

impl<'a> MemberWriter<'a> {
    pub(super) fn new(
        stream_writer: &'a StreamWriter,
        progress: &'a Progress,
        dense: bool,
        owner: u32,
    ) -> Self {
        MemberWriter {
            stream_writer,
            progress,
            dense,
            owner,
            sent: Mutex::default(),
            lanes: Mutex::default(),
        }
    }

    /// Members that were sent so far.
    pub(super) fn take_members(&self) -> Vec<ManifestMember> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a finished member for the manifest.
    pub(super) fn note(&self, member: &MemberName, size: u64, digest: BlockDigest) -> Result<()> {
        let digest = digest
            .finish(size)
            .map_err(|e| Error::new(Code::Internal, format!("{member} was not sent whole")).cause(e))?;
        let noted = ManifestMember { name: member.clone(), size, digest };
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
        Progress::set(&self.progress.bytes_wire, self.stream_writer.written());
        Ok(())
    }

    /// The header of a block's chunk, and the parts of `buffer` that follow it.
    pub(super) fn chunk<'b>(
        &self,
        member: &MemberName,
        offset: u64,
        block: &Block,
        buffer: &'b [u8],
    ) -> (Vec<u8>, Vec<&'b [u8]>) {
        if block.map.is_empty() || self.dense {
            let data = &buffer[..block.len];
            let head = frame::payload_header(member, offset, frame::payload_crc(data), data.len());
            return (head, vec![data]);
        }
        let data = block.data(buffer);
        let crc = frame::sparse_crc(&block.map, data.iter().copied());
        let len = data.iter().map(|d| d.len()).sum();
        (frame::sparse_header(member, offset, crc, &block.map, len), data)
    }

    /// A small member from memory.
    pub(super) fn send_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.send_reader(name, &mut &*bytes, u64::MAX, name)
    }

    /// A whole file, as it is.
    pub(super) fn send_file(&self, name: &str, path: &Path) -> Result<()> {
        let mut file = files::open(path, self.owner).map_err(|e| files::failed(path, e))?;
        self.send_reader(name, &mut file, u64::MAX, &path.display().to_string())?;
        Progress::add(&self.progress.files_done, 1);
        Ok(())
    }

    /// The first `limit` bytes of `reader`; `what` it is, for messages.
    pub(super) fn send_reader(
        &self,
        name: &str,
        reader: &mut dyn Read,
        limit: u64,
        what: &str,
    ) -> Result<()> {
        let member = member_name(name)?;
        let mut digest = BlockDigest::new();
        let mut buffer = PageBuffer::new(BLOCK.min(limit.try_into().unwrap_or(BLOCK)));
        let mut offset = 0;
        loop {
            let wanted = (limit - offset).min(buffer.len() as u64) as usize;
            let n = fill(reader, &mut buffer[..wanted])
                .map_err(|e| Error::io(Code::SourceIo, format!("can't read {what}"), e))?;
            if n == 0 {
                break;
            }
            self.send_piece(&member, offset, &buffer[..n], &mut digest)?;
            offset += n as u64;
        }
        if limit != u64::MAX && offset != limit {
            return Err(Error::new(Code::SourceIo, format!("{what} has {offset} bytes instead of {limit}")));
        }
        self.end(&member, offset, digest)
    }

    /// The redo, piece by piece as it comes, until the spool is closed.
    pub(super) fn send_redo(&self, head: &[u8], spool: &Spool) -> Result<()> {
        let member = member_name(metadata::LOGFILE)?;
        let mut digest = BlockDigest::new();
        self.send_piece(&member, 0, head, &mut digest)?;
        let mut offset = head.len() as u64;
        while let Some(piece) = spool.pop()? {
            self.send_piece(&member, offset, &piece, &mut digest)?;
            offset += piece.len() as u64;
        }
        self.end(&member, offset, digest)
    }

    fn send_piece(
        &self,
        member: &MemberName,
        offset: u64,
        piece: &[u8],
        digest: &mut BlockDigest,
    ) -> Result<()> {
        digest.update(piece);
        let head = frame::payload_header(member, offset, frame::payload_crc(piece), piece.len());
        self.write_now(&mut [IoSlice::new(&head), IoSlice::new(piece)])
    }

    /// Writes these bytes before the next turn.
    pub(super) fn write_now(&self, parts: &mut [IoSlice<'_>]) -> Result<()> {
        let lanes = || self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lanes().pop();
        let mut lane = idle.map_or_else(|| self.stream_writer.lane(), Ok)?;
        let done = lane.write_now(parts);
        lanes().push(lane);
        done
    }

    /// Ends a member that was sent in pieces.
    pub(super) fn end(&self, member: &MemberName, size: u64, digest: BlockDigest) -> Result<()> {
        self.write_now(&mut [IoSlice::new(&frame::end_frame(member))])?;
        self.note(member, size, digest)
    }
}

fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
