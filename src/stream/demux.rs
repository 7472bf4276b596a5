//! Implements the demuxer, which splits a stream into its members. It works by feed and poll: bytes in,
//! [`Event`]s out.
//!
//! The caller asks for [`space`](Demux::space), reads into it, reports how many bytes came
//! ([`filled`](Demux::filled)), and [`poll`](Demux::poll)s until there is nothing more. While headers are
//! due, the space is a small scratch buffer. While a payload is due, it is the very buffer that the [`Chunk`]
//! will own, so that payload is not copied (except for the bytes that came into the scratch buffer behind a
//! header, at most [`SCRATCH_LEN`] bytes per chunk).
//!
//! The demuxer enforces: magic, known types, no flags, valid names, every length within its limit, chunks of
//! a member in order without gap or overlap, nothing of a member after its end, and the [`Limits`]. Percona
//! XtraBackup and its relatives check the crc, and that the offset is the one expected
//! (`xb_stream_read_chunk` and `extract_worker_thread_func` in xbstream); the rest is needed by a receiver
//! that does not trust its sender. A buffer grows only as its bytes arrive.

use std::collections::HashMap;

use super::chunk::{Chunk, Event};
use super::error::{DemuxError, Fault};
use super::frame::{EMPTY_MAX, EXTENT_LEN, Extent};
use super::header::{self, Body, HEADER_MAX, PayloadFields};
use super::name::MemberName;
use crate::base::{Budget, Charge, PageBuffer};

/// Size of the buffer for headers in bytes. It is small, because payload that comes into it is copied; and
/// large enough that a run of small members takes few reads.
pub const SCRATCH_LEN: usize = 16 << 10;
/// Size in bytes that a payload buffer has before any of its bytes have come.
const PAYLOAD_FIRST: usize = 1 << 20;
/// Smallest and largest capacity of a buffer that is kept for reuse, and maximum number of such buffers.
const SPARE_LEN: std::ops::RangeInclusive<usize> = (64 << 10)..=(16 << 20);
const SPARES_MAX: usize = 16;
/// Maximum number of bytes of all these buffers.
const SPARES_LEN: usize = 16 << 20;
/// Payload size in bytes beyond which a payload is charged; callers hold no more than one such payload at a
/// time.
const PAYLOAD_FREE: usize = 16 << 20;
/// Number of bytes charged for a member beside its name. It covers everything that is known of the member
/// until the manifest was compared with all that came: two tables of members and their places, size and
/// digest, and the manifest's own entry. So a stream with too many members is refused when they come, not at
/// its end.
const MEMBER_LEN: u64 = 480 + MANIFEST_SHARE;
/// Part of `MEMBER_LEN` that is for the manifest.
pub const MANIFEST_SHARE: u64 = 320;
/// Number of times that a member's name is kept: here, in the path of its file, in the manifest.
const NAMES: u64 = 3;

/// Limits of a stream, to guard against one that never ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Maximum number of members.
    pub members: u64,
    /// Maximum number of bytes of all their names together, which are kept in memory.
    pub names: u64,
    /// Maximum size of a member in bytes, holes included.
    pub member_size: u64,
    /// Maximum size of all members together in bytes, holes included.
    pub total_size: u64,
}

impl Default for Limits {
    /// Allows ten million members with 1 GiB of names, 256 TiB each (the largest tablespace with pages of 64
    /// KiB), 8 PiB together.
    fn default() -> Self {
        Limits { members: 10_000_000, names: 1 << 30, member_size: 1 << 48, total_size: 1 << 53 }
    }
}

/// The demuxer: turns the bytes of a stream into chunks of members.
pub struct Demux {
    limits: Limits,
    checking: bool,
    scratch: Box<[u8]>,
    /// Part of `scratch` that is read but not parsed.
    unread: std::ops::Range<usize>,
    state: State,
    members: HashMap<MemberName, Member>,
    /// Number of members that have ended.
    ended: usize,
    names_len: u64,
    total_size: u64,
    /// Stream offset of `scratch[unread.start]`, or of the next byte of the current payload.
    position: u64,
    /// Stream offset of the current frame.
    frame_at: u64,
    spares: Vec<PageBuffer>,
    /// Number of chunks without content.
    empty: u64,
    known: Charge,
    large: Charge,
    failed: Option<DemuxError>,
}

#[derive(Clone, Copy)]
struct Member {
    size: u64,
    ended: bool,
}

enum State {
    Header,
    Map { member: MemberName, fields: PayloadFields, raw: Filling },
    Payload { member: MemberName, fields: PayloadFields, map: Option<Vec<Extent>>, payload: Filling },
}

impl Demux {
    /// Creates a demuxer at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        let budget = Budget::new(u64::MAX);
        Demux {
            empty: 0,
            known: budget.charged(""),
            large: budget.charged(""),
            limits,
            checking: false,
            scratch: vec![0; SCRATCH_LEN].into(),
            unread: 0..0,
            state: State::Header,
            members: HashMap::new(),
            ended: 0,
            names_len: 0,
            total_size: 0,
            position: 0,
            frame_at: 0,
            spares: Vec::new(),
            failed: None,
        }
    }

    /// Makes the demuxer verify the crc of every chunk before giving it out; otherwise the caller must call
    /// [`Chunk::verify`].
    pub fn checking(mut self) -> Self {
        self.checking = true;
        self
    }

    /// Charges large payloads to `budget`, and members, including what other modules keep of them.
    pub fn charging(mut self, budget: &Budget) -> Self {
        self.known = budget.charged("the list of members");
        self.large = budget.charged("the payload of a chunk");
        self
    }

    /// Returns the buffer to read into next. It is empty only if [`poll`](Self::poll) has to be called first,
    /// or has failed.
    pub fn space(&mut self) -> &mut [u8] {
        if self.failed.is_some() {
            return &mut [];
        }
        match &mut self.state {
            State::Header => {
                if self.unread.is_empty() {
                    self.unread = 0..0;
                } else if self.scratch.len() - self.unread.start < HEADER_MAX {
                    self.scratch.copy_within(self.unread.clone(), 0);
                    self.unread = 0..self.unread.len();
                }
                &mut self.scratch[self.unread.end..]
            }
            State::Map { raw: filling, .. } | State::Payload { payload: filling, .. } => filling.space(),
        }
    }

    /// Records that `n` bytes were read into [`space`](Self::space).
    ///
    /// # Panics
    /// If that is more than there was space for.
    pub fn filled(&mut self, n: usize) {
        match &mut self.state {
            State::Header => {
                assert!(n <= self.scratch.len() - self.unread.end, "more bytes than there was space for");
                self.unread.end += n;
            }
            State::Map { raw: filling, .. } | State::Payload { payload: filling, .. } => {
                filling.filled(n);
                self.position += n as u64;
            }
        }
    }

    /// Takes bytes that are already in memory; returns how many. The rest must be given again after
    /// [`poll`](Self::poll).
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let n = space.len().min(bytes.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.filled(n);
        n
    }

    /// Returns the next event, or `None` if more bytes are needed. After an error, every further call returns
    /// the same error.
    pub fn poll(&mut self) -> Result<Option<Event>, DemuxError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.advance();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Checks that the stream may end here: not inside a frame, and with every member ended.
    pub fn finish(&self) -> Result<(), DemuxError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let at = self.position + self.unread.len() as u64;
        match &self.state {
            State::Header if self.unread.is_empty() => {}
            State::Header => {
                let fault = header::cut(&self.scratch[self.unread.clone()]);
                let at = if fault == Fault::CutFrame { at } else { self.position };
                return Err(DemuxError { at, member: None, fault });
            }
            State::Map { member, .. } | State::Payload { member, .. } => {
                return Err(DemuxError { at, member: Some(member.clone()), fault: Fault::CutFrame });
            }
        }
        let open = self.members.len() - self.ended;
        if open == 0 {
            return Ok(());
        }
        let first = self.members.iter().filter(|(_, m)| !m.ended).map(|(name, _)| name).min().cloned();
        Err(DemuxError { at, member: first, fault: Fault::CutMembers { open } })
    }

    /// Takes a payload buffer back, to be used for another chunk.
    pub fn recycle(&mut self, payload: PageBuffer) {
        let kept: usize = self.spares.iter().map(PageBuffer::capacity).sum();
        let is_fit = SPARE_LEN.contains(&payload.capacity()) && kept + payload.capacity() <= SPARES_LEN;
        if self.spares.len() < SPARES_MAX && is_fit {
            self.spares.push(payload);
        }
    }

    fn advance(&mut self) -> Result<Option<Event>, DemuxError> {
        loop {
            match &mut self.state {
                State::Header => match self.header()? {
                    Step::Wait => return Ok(None),
                    Step::Go => {}
                    Step::Give(event) => return Ok(Some(event)),
                },
                State::Map { raw: filling, .. } | State::Payload { payload: filling, .. } => {
                    // Bytes that came behind the header move into the buffer that they belong to.
                    let moved = filling.top_up(&self.scratch[self.unread.clone()]);
                    self.unread.start += moved;
                    self.position += moved as u64;
                    if !filling.is_full() {
                        match moved {
                            0 => return Ok(None),
                            _ => continue,
                        }
                    }
                    match std::mem::replace(&mut self.state, State::Header) {
                        State::Map { member, fields, raw } => self.map(member, fields, &raw.buf)?,
                        State::Payload { member, fields, map, payload } => {
                            return self.chunk(member, fields, map, payload.buf).map(Some);
                        }
                        State::Header => {}
                    }
                }
            }
        }
    }

    /// Reads a header, checks that its frame is allowed, and moves to what follows it.
    fn header(&mut self) -> Result<Step, DemuxError> {
        self.frame_at = self.position;
        let at = self.frame_at;
        let anonymous = |fault| DemuxError { at, member: None, fault };
        let Some(header) = header::parse(&self.scratch[self.unread.clone()]).map_err(anonymous)? else {
            return Ok(Step::Wait);
        };
        let name = match self.members.get_key_value(header.name) {
            Some((known, _)) => known.clone(),
            None => MemberName::of_checked(header.name),
        };
        let body = header.body;
        self.unread.start += header.len;
        self.position += header.len as u64;
        let at_member = |fault| DemuxError { at, member: Some(name.clone()), fault };
        let member = self.admit(&name).map_err(at_member)?;
        if let Body::Payload(fields) | Body::Sparse { fields, .. } = body
            && fields.offset != member.size
        {
            return Err(at_member(Fault::Offset { expected: member.size, found: fields.offset }));
        }
        match body {
            Body::End => return Ok(Step::Give(self.end(name))),
            Body::Payload(fields) => {
                self.grow(&name, fields.len as u64).map_err(at_member)?;
                let payload = self.payload_buffer(fields.len).map_err(at_member)?;
                self.state = State::Payload { member: name, fields, map: None, payload };
            }
            Body::Sparse { extents, fields } => {
                let raw = Filling::new(PageBuffer::default(), extents * EXTENT_LEN);
                self.state = State::Map { member: name, fields, raw };
            }
        }
        Ok(Step::Go)
    }

    /// Checks that a frame of `name` is allowed: of a new member within the limits, or of one that has not
    /// ended.
    fn admit(&mut self, name: &MemberName) -> Result<Member, Fault> {
        if let Some(member) = self.members.get(name) {
            return if member.ended { Err(Fault::AfterEnd) } else { Ok(*member) };
        }
        if self.members.len() as u64 >= self.limits.members {
            return Err(Fault::Members(self.limits.members));
        }
        let name_len = name.as_str().len() as u64;
        self.known.grow(MEMBER_LEN + NAMES * name_len).map_err(Fault::TooLarge)?;
        self.names_len += name_len;
        if self.names_len > self.limits.names {
            return Err(Fault::Names(self.limits.names));
        }
        let member = Member { size: 0, ended: false };
        self.members.insert(name.clone(), member);
        Ok(member)
    }

    /// Adds to the size of a member, within the limits.
    fn grow(&mut self, name: &MemberName, by: u64) -> Result<(), Fault> {
        if by == 0 {
            self.empty += 1;
            if self.empty > EMPTY_MAX {
                return Err(Fault::Empty);
            }
        }
        let Some(member) = self.members.get_mut(name) else { return Ok(()) };
        member.size = member
            .size
            .checked_add(by)
            .filter(|size| *size <= self.limits.member_size)
            .ok_or(Fault::MemberSize(self.limits.member_size))?;
        self.total_size = self
            .total_size
            .checked_add(by)
            .filter(|size| *size <= self.limits.total_size)
            .ok_or(Fault::TotalSize(self.limits.total_size))?;
        Ok(())
    }

    fn end(&mut self, name: MemberName) -> Event {
        let mut size = 0;
        if let Some(member) = self.members.get_mut(&name) {
            member.ended = true;
            size = member.size;
            self.ended += 1;
        }
        Event::End { member: name, size }
    }

    /// Takes a map that has arrived, and moves to its payload.
    fn map(&mut self, member: MemberName, fields: PayloadFields, raw: &[u8]) -> Result<(), DemuxError> {
        let map = header::parse_map(raw);
        let at = self.frame_at;
        let at_member = |fault| DemuxError { at, member: Some(member.clone()), fault };
        // The sum is at most EXTENTS_MAX times 2^33: no overflow.
        let mapped = map.iter().map(|e| u64::from(e.len)).sum();
        if mapped != fields.len as u64 {
            return Err(at_member(Fault::MapSum { mapped, payload_len: fields.len as u64 }));
        }
        self.grow(&member, map.iter().map(|e| e.logical_len()).sum()).map_err(at_member)?;
        let payload = self.payload_buffer(fields.len).map_err(at_member)?;
        self.state = State::Payload { member, fields, map: Some(map), payload };
        Ok(())
    }

    fn chunk(
        &self,
        member: MemberName,
        fields: PayloadFields,
        map: Option<Vec<Extent>>,
        payload: PageBuffer,
    ) -> Result<Event, DemuxError> {
        let sparse = map.is_some();
        let map = map.unwrap_or_default();
        let PayloadFields { offset, crc, .. } = fields;
        let chunk = Chunk { member, offset, map, payload, crc, sparse, at: self.frame_at };
        if self.checking {
            chunk.verify()?;
        }
        Ok(Event::Chunk(chunk))
    }

    fn payload_buffer(&mut self, wanted: usize) -> Result<Filling, Fault> {
        self.large.set(wanted.saturating_sub(PAYLOAD_FREE) as u64).map_err(Fault::TooLarge)?;
        // Small payloads leave the large buffers to large ones.
        let spare = if wanted < *SPARE_LEN.start() { None } else { self.spare(wanted) };
        Ok(Filling::new(spare.unwrap_or_default(), wanted))
    }

    /// Takes a spare buffer that is not much larger than `wanted`, since it is occupied as long as the
    /// payload is.
    fn spare(&mut self, wanted: usize) -> Option<PageBuffer> {
        let enough = (wanted + wanted / 4).max(PAYLOAD_FIRST + PAYLOAD_FIRST / 4);
        let found = self.spares.iter().rposition(|spare| spare.capacity() <= enough)?;
        Some(self.spares.swap_remove(found))
    }
}

enum Step {
    Wait,
    Go,
    Give(Event),
}

/// A buffer that is being filled with `wanted` bytes.
struct Filling {
    /// Grows as bytes arrive; an announced length alone takes no more than [`PAYLOAD_FIRST`] bytes, or what
    /// the buffer had before.
    buf: PageBuffer,
    filled: usize,
    wanted: usize,
}

impl Filling {
    fn new(mut buf: PageBuffer, wanted: usize) -> Self {
        buf.resize(wanted.min(buf.capacity().max(PAYLOAD_FIRST)));
        Filling { buf, filled: 0, wanted }
    }

    fn is_full(&self) -> bool {
        self.filled == self.wanted
    }

    fn space(&mut self) -> &mut [u8] {
        if self.filled == self.buf.len() && self.filled < self.wanted {
            self.buf.resize(self.wanted.min(self.filled * 2));
        }
        &mut self.buf[self.filled..]
    }

    fn filled(&mut self, n: usize) {
        assert!(n <= self.buf.len() - self.filled, "more bytes than there was space for");
        self.filled += n;
    }

    fn top_up(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let n = space.len().min(bytes.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.filled += n;
        n
    }
}

#[cfg(test)]
mod tests;
