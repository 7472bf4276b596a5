//! Defines the errors of a stream.

use std::fmt;

use super::frame::EMPTY_MAX;
use super::frame::{EXTENTS_MAX, PAYLOAD_MAX};
use super::name::{MemberName, NameError};
use crate::base::{self, Code, OverBudget, budget};

/// The error of a stream: the reason why it was refused, and the place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DemuxError {
    /// Offset in the stream: the first byte of the affected frame; for a truncated stream its length.
    pub at: u64,
    /// Affected member, if it is known.
    pub member: Option<MemberName>,
    /// Defect.
    pub fault: Fault,
}

/// Defects of a stream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The stream ends inside a frame.
    #[error("the stream ends inside a frame")]
    CutFrame,
    /// The stream ends before some members did.
    #[error("the stream ends with {open} unfinished member(s)")]
    CutMembers {
        /// Number of these members.
        open: usize,
    },
    /// There is no frame where one should begin.
    #[error("no frame begins here (found '{}')", found.escape_ascii())]
    Magic {
        /// Bytes found in its place.
        found: Vec<u8>,
    },
    /// Flags are set; none are defined for the known types.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// The type of a frame is unknown.
    #[error("unknown frame type {0:#04x}")]
    Type(u8),
    /// The name of the member is not acceptable.
    #[error("{error} ('{}')", name.escape_ascii())]
    Name {
        /// Reason.
        error: NameError,
        /// Name, as much of it as fits into a message.
        name: Vec<u8>,
    },
    /// The name is longer than any acceptable name; it was not read.
    #[error("the name is {0} bytes long")]
    NameLength(u32),
    /// The payload is too long.
    #[error("the payload is {0} bytes long, more than {PAYLOAD_MAX}")]
    PayloadLength(u64),
    /// The sparse map is too long.
    #[error("the sparse map has {0} entries, more than {EXTENTS_MAX}")]
    MapLength(u32),
    /// The sparse map and the payload have different lengths.
    #[error("the sparse map describes {mapped} bytes, the payload has {payload_len}")]
    MapSum {
        /// Length according to the map.
        mapped: u64,
        /// Length according to the header.
        payload_len: u64,
    },
    /// A chunk does not begin where the one before it ended.
    #[error("{} at offset {expected}: the chunk begins at {found}", if found > expected { "gap" } else { "overlap" })]
    Offset {
        /// Offset at which the member ended so far.
        expected: u64,
        /// Offset at which the chunk begins.
        found: u64,
    },
    /// A frame belongs to a member that has ended.
    #[error("the member goes on after its end, or comes twice")]
    AfterEnd,
    /// The checksum of a chunk is wrong.
    #[error("checksum mismatch in the chunk at offset {offset}: {found:08x} instead of {expected:08x}")]
    Crc {
        /// Offset in the member.
        offset: u64,
        /// Checksum according to the header.
        expected: u32,
        /// Checksum of the bytes.
        found: u32,
    },
    /// A member grows beyond the limit.
    #[error("the member is larger than {0} bytes")]
    MemberSize(u64),
    /// All members together grow beyond the limit.
    #[error("the members are larger than {0} bytes together")]
    TotalSize(u64),
    /// There are too many members.
    #[error("there are more than {0} members")]
    Members(u64),
    /// There are too many chunks without content.
    #[error("there are more than {EMPTY_MAX} chunks without content")]
    Empty,
    /// The data to be kept takes more memory than there is for a stream.
    #[error("{0}")]
    TooLarge(OverBudget),
    /// The names of all members together take too much memory.
    #[error("the names of the members take more than {0} bytes")]
    Names(u64),
}

impl Fault {
    /// Returns the code that a user sees.
    pub fn code(&self) -> Code {
        match self {
            Fault::CutFrame | Fault::CutMembers { .. } => Code::StreamTruncated,
            Fault::Magic { .. }
            | Fault::Flags(_)
            | Fault::Type(_)
            | Fault::MapSum { .. }
            | Fault::Offset { .. }
            | Fault::Crc { .. } => Code::StreamCorrupt,
            Fault::Name { .. }
            | Fault::NameLength(_)
            | Fault::PayloadLength(_)
            | Fault::MapLength(_)
            | Fault::AfterEnd
            | Fault::MemberSize(_)
            | Fault::TotalSize(_)
            | Fault::Members(_)
            | Fault::Empty
            | Fault::Names(_) => Code::StreamRefused,
            Fault::TooLarge(_) => Code::TooLarge,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self.code() {
            Code::StreamTruncated => Some(
                "the sender failed or the line was cut: look at the sender's messages, then run it again",
            ),
            Code::StreamCorrupt => Some(
                "the stream was damaged on its way, or is not an xbstream: compressed or encrypted ones go through \
                 their own tool first",
            ),
            Code::TooLarge => Some(budget::HINT),
            _ => None,
        }
    }
}

impl fmt::Display for DemuxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream offset {}", self.at)?;
        if let Some(member) = &self.member {
            write!(f, ", member {member}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for DemuxError {}

impl From<DemuxError> for base::Error {
    fn from(e: DemuxError) -> Self {
        let error = base::Error::new(e.fault.code(), e.to_string());
        match e.fault.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
