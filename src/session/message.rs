//! The control messages. `proto/session.proto` is their schema; `tests` hold one against the other.

use prost::{Message as _, Oneof};

use super::Violation;
use super::ranges::{Ranges, TOLD_MAX};

/// Longest text of a failure that is told to the other side, or shown of what it says, in bytes.
const TEXT_MAX: usize = 2000;
/// Longest code of one.
const CODE_MAX: usize = 64;

/// One control message as it is sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    /// Its content.
    #[prost(oneof = "Message", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub message: Option<Message>,
}

/// A control message.
#[derive(Clone, PartialEq, Oneof)]
pub enum Message {
    /// Sender, first on every connection: who it is.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Receiver: the connection is the session's; what is safe already.
    #[prost(message, tag = "2")]
    Welcome(Welcome),
    /// Receiver: the connection is not the session's, and never will be.
    #[prost(message, tag = "3")]
    Refused(Refused),
    /// Receiver: what is safe.
    #[prost(message, tag = "4")]
    Ack(Held),
    /// Sender: how long the stream is.
    #[prost(message, tag = "5")]
    Finish(Finish),
    /// Receiver: what became of it.
    #[prost(message, tag = "6")]
    Verdict(Verdict),
    /// Sender: the verdict has come.
    #[prost(message, tag = "7")]
    Seen(Seen),
    /// Sender: there will be no more.
    #[prost(message, tag = "8")]
    Abort(Failure),
    /// Either: a sign of life.
    #[prost(message, tag = "9")]
    Ping(Ping),
    /// Receiver: how far it is with what it does after the last byte.
    #[prost(message, tag = "10")]
    Doing(Doing),
}

/// The sender's greeting.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Version of the conversation.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// From the ticket; empty where certificates of both sides stand for it.
    #[prost(bytes = "vec", tag = "2")]
    pub token: Vec<u8>,
    /// The same on every connection of a session, and known to nobody else.
    #[prost(bytes = "vec", tag = "3")]
    pub secret: Vec<u8>,
}

/// The connection is the session's.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// The bytes that are safe already.
    #[prost(message, optional, tag = "1")]
    pub held: Option<Held>,
}

/// Why a connection is not the session's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    /// Not told.
    Unspecified = 0,
    /// The token is not the ticket's.
    Token = 1,
    /// Another session used the ticket.
    Used = 2,
    /// The other side speaks another version.
    Version = 3,
    /// The session is over.
    Over = 4,
}

/// The connection is not the session's.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// Why.
    #[prost(enumeration = "Reason", tag = "1")]
    pub reason: i32,
}

/// Bytes that are safe with the receiver.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Held {
    /// All bytes below this.
    #[prost(uint64, tag = "1")]
    pub upto: u64,
    /// Ranges ahead of it, in order, none touching another.
    #[prost(message, repeated, tag = "2")]
    pub ahead: Vec<Span>,
}

/// A range of bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// Its first byte.
    #[prost(uint64, tag = "1")]
    pub start: u64,
    /// The byte behind it.
    #[prost(uint64, tag = "2")]
    pub end: u64,
}

/// All bytes were written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Finish {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub total: u64,
}

/// An error of one side for the other's user.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Failure {
    /// Its stable code.
    #[prost(string, tag = "1")]
    pub code: String,
    /// The message: what happened, and where.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The way out; empty where none is known.
    #[prost(string, tag = "3")]
    pub hint: String,
}

/// The verdict on the stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Verdict {
    /// Nothing: whole, verified, prepared, in its place.
    #[prost(message, optional, tag = "1")]
    pub failure: Option<Failure>,
}

/// The verdict has come.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Seen {}

/// A sign of life.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ping {}

/// The receiver's progress after the last byte.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Doing {
    /// One word.
    #[prost(string, tag = "1")]
    pub phase: String,
    /// Bytes of it that are done.
    #[prost(uint64, tag = "2")]
    pub done: u64,
    /// Bytes in all; 0 where that is not known.
    #[prost(uint64, tag = "3")]
    pub total: u64,
}

impl Message {
    /// The bytes of a control frame's body.
    pub fn to_body(self) -> Vec<u8> {
        Control { message: Some(self) }.encode_to_vec()
    }

    /// Reads the body of a control frame; a message that a later version may know is `None`.
    ///
    /// # Errors
    /// If the bytes are no message.
    pub fn from_body(body: &[u8]) -> Result<Option<Message>, prost::DecodeError> {
        Ok(Control::decode(body)?.message)
    }

    /// Its name, for words.
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
    /// A failure whose texts fit into a message.
    pub fn new(code: &str, message: &str, hint: &str) -> Failure {
        Failure {
            code: short(code, CODE_MAX),
            message: short(message, TEXT_MAX),
            hint: short(hint, TEXT_MAX),
        }
    }

    /// What came from the other side, fit to be shown: what a terminal would obey is escaped, and no more than fits is left.
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

/// Whether a character changes how those around it are shown: control characters, separators of lines, marks of direction,
/// and those without any width.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl Held {
    /// Tells `ranges`, as far as a message takes them.
    pub fn tell(ranges: &Ranges) -> Held {
        let ahead = ranges.ahead().take(TOLD_MAX).map(|r| Span { start: r.start, end: r.end });
        Held { upto: ranges.upto(), ahead: ahead.collect() }
    }

    /// What is told, of a stream of which `sent` bytes were sent.
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
