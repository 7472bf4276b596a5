//! Defines the control messages. `proto/session.proto` is their schema; `tests` compare the two.

use prost::{Message as _, Oneof};

use super::Violation;
use super::ranges::{Ranges, TOLD_MAX};

/// Maximum length in bytes of a failure's text that is sent to the other side, or of one from there that is
/// shown.
const TEXT_MAX: usize = 2000;
/// Maximum length in bytes of the description of a base.
pub const BASE_MAX: usize = 4096;
/// Maximum length in bytes of a failure's code.
const CODE_MAX: usize = 64;

/// The encoded form of a control message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    /// Content of the message.
    #[prost(oneof = "Message", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub message: Option<Message>,
}

/// A control message.
#[derive(Clone, PartialEq, Oneof)]
pub enum Message {
    /// Sent by the sender, first on every connection: says who it is.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Sent by the receiver: the connection belongs to the session; says which bytes are safe already.
    #[prost(message, tag = "2")]
    Welcome(Welcome),
    /// Sent by the receiver: the connection does not belong to the session, and never will.
    #[prost(message, tag = "3")]
    Refused(Refused),
    /// Sent by the receiver: acknowledges the bytes that are safe.
    #[prost(message, tag = "4")]
    Ack(Held),
    /// Sent by the sender: the length of the stream.
    #[prost(message, tag = "5")]
    Finish(Finish),
    /// Sent by the receiver: the result of the stream.
    #[prost(message, tag = "6")]
    Verdict(Verdict),
    /// Sent by the sender: it has received the verdict.
    #[prost(message, tag = "7")]
    Seen(Seen),
    /// Sent by the sender: the stream will not be finished.
    #[prost(message, tag = "8")]
    Abort(Failure),
    /// Sent by either side to show that it is alive.
    #[prost(message, tag = "9")]
    Ping(Ping),
    /// Sent by the receiver: its progress after the last byte.
    #[prost(message, tag = "10")]
    Doing(Doing),
}

/// The sender's greeting.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Version of the protocol.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Token from the ticket; empty if both sides use certificates instead.
    #[prost(bytes = "vec", tag = "2")]
    pub token: Vec<u8>,
    /// Secret of the session: the same on all its connections, and known to nobody else.
    #[prost(bytes = "vec", tag = "3")]
    pub secret: Vec<u8>,
}

/// Tells the sender that the connection belongs to the session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// Bytes that are safe already.
    #[prost(message, optional, tag = "1")]
    pub held: Option<Held>,
    /// JSON text of what the receiver wants an increment of, as `stream::chain` defines it; empty if it wants a full backup.
    #[prost(string, tag = "2")]
    pub base: String,
}

/// The reason why a connection does not belong to the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    /// The reason is not told.
    Unspecified = 0,
    /// The token is not the ticket's.
    Token = 1,
    /// Another session has used the ticket.
    Used = 2,
    /// The other side speaks another version.
    Version = 3,
    /// The session is over.
    Over = 4,
}

/// Tells the other side that the connection does not belong to the session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// Reason of the refusal.
    #[prost(enumeration = "Reason", tag = "1")]
    pub reason: i32,
}

/// The bytes that are safe at the receiver.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Held {
    /// All bytes below this offset are safe.
    #[prost(uint64, tag = "1")]
    pub upto: u64,
    /// Safe ranges beyond that, in order, of which no two touch.
    #[prost(message, repeated, tag = "2")]
    pub ahead: Vec<Span>,
}

/// A range of bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// Offset of its first byte.
    #[prost(uint64, tag = "1")]
    pub start: u64,
    /// Offset of the byte behind it.
    #[prost(uint64, tag = "2")]
    pub end: u64,
}

/// Tells the receiver that the whole stream was written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Finish {
    /// Length of the stream in bytes.
    #[prost(uint64, tag = "1")]
    pub total: u64,
}

/// An error of one side, for the user of the other.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Failure {
    /// Stable code of the error.
    #[prost(string, tag = "1")]
    pub code: String,
    /// Message: what happened, and where.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Hint on what the user can do; empty if there is none.
    #[prost(string, tag = "3")]
    pub hint: String,
}

/// The verdict on the stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Verdict {
    /// The error if there was one; without it, the stream was complete, verified, prepared, and put in place.
    #[prost(message, optional, tag = "1")]
    pub failure: Option<Failure>,
}

/// Tells the receiver that its verdict has arrived.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Seen {}

/// Shows that this side is alive.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ping {}

/// The receiver's progress after the last byte.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Doing {
    /// Name of the phase, one word.
    #[prost(string, tag = "1")]
    pub phase: String,
    /// Amount of the phase's work that is done.
    #[prost(uint64, tag = "2")]
    pub done: u64,
    /// Total amount of work; 0 if it is unknown.
    #[prost(uint64, tag = "3")]
    pub total: u64,
}

impl Message {
    /// Encodes the message as the body of a control frame.
    pub fn to_body(self) -> Vec<u8> {
        Control { message: Some(self) }.encode_to_vec()
    }

    /// Reads the body of a control frame; a message that only a later version knows is `None`.
    ///
    /// # Errors
    /// If the bytes are not a message.
    pub fn from_body(body: &[u8]) -> Result<Option<Message>, prost::DecodeError> {
        Ok(Control::decode(body)?.message)
    }

    /// Returns the message's name, for error texts.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Hello(_) => "hello",
            Message::Welcome(_) => "welcome",
            Message::Refused(_) => "refusal",
            Message::Ack(_) => "acknowledgement",
            Message::Finish(_) => "finish",
            Message::Verdict(_) => "verdict",
            Message::Seen(_) => "receipt",
            Message::Abort(_) => "abort",
            Message::Ping(_) => "ping",
            Message::Doing(_) => "word on the receiver's doing",
        }
    }
}

impl Failure {
    /// Creates a failure whose texts are cut to fit into a message.
    pub fn new(code: &str, message: &str, hint: &str) -> Failure {
        Failure {
            code: short(code, CODE_MAX),
            message: short(message, TEXT_MAX),
            hint: short(hint, TEXT_MAX),
        }
    }

    /// Returns a failure from the other side made fit to be shown: characters that a terminal would obey are
    /// escaped, and the texts are cut to their maximum length.
    pub fn sanitized(&self) -> Failure {
        Failure {
            code: shown(&self.code, CODE_MAX),
            message: shown(&self.message, TEXT_MAX),
            hint: shown(&self.hint, TEXT_MAX),
        }
    }
}

fn short(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}

fn shown(text: &str, max: usize) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let len = shown.len();
        match c {
            '\n' | '\t' => shown.push(' '),
            c if steers(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
        if shown.len() > max {
            shown.truncate(len);
            break;
        }
    }
    shown
}

/// Returns whether a character changes how those around it are shown: control characters, line separators,
/// marks of direction, and characters without width.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl Held {
    /// Returns `ranges` as a message, as far as they fit.
    pub fn tell(ranges: &Ranges) -> Held {
        let ahead = ranges.ahead().take(TOLD_MAX).map(|r| Span { start: r.start, end: r.end });
        Held { upto: ranges.upto(), ahead: ahead.collect() }
    }

    /// Returns the ranges of the message, after checking them for a stream of which `sent` bytes were sent.
    ///
    /// # Errors
    /// [`Violation::Range`], [`Violation::Disorder`], [`Violation::Ranges`].
    pub fn ranges(&self, sent: u64) -> Result<Ranges, Violation> {
        if self.ahead.len() > TOLD_MAX {
            return Err(Violation::Ranges(self.ahead.len()));
        }
        let mut ranges = Ranges::default();
        let mut last = 0;
        let all = [Span { start: 0, end: self.upto }];
        for Span { start, end } in all.iter().chain(&self.ahead) {
            let (start, end) = (*start, *end);
            if end > sent || start > end {
                return Err(Violation::Range { start, end });
            }
            if last > 0 && start <= last || !ranges.insert(start..end) {
                return Err(Violation::Disorder);
            }
            last = end;
        }
        Ok(ranges)
    }
}
