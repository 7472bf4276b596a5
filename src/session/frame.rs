//! Frames on a connection: control messages, and the stream's bytes.
//!
//! ```text
//! kind u8 | length u32 | body of that length                         (integers little-endian)
//!   1  control: a message in protobuf, at most 16 KiB
//!   2  data: offset u64 | bytes of the stream from there, 1 to 65,536
//! ```

use bytes::{Buf, Bytes, BytesMut};

use super::message::Message;

/// Bytes before a frame's body.
pub const HEAD_LEN: usize = 5;
/// Most bytes of the stream in one frame.
pub const DATA_MAX: usize = 64 << 10;
/// Longest control message.
pub const CONTROL_MAX: usize = 16 << 10;
/// Longest message of somebody who is not known yet.
pub const HELLO_MAX: usize = 256;

const CONTROL: u8 = 1;
const DATA: u8 = 2;
const OFFSET_LEN: usize = 8;

/// Bytes before the stream's bytes in a frame of data.
pub const DATA_HEAD_LEN: usize = HEAD_LEN + OFFSET_LEN;

/// One frame.
#[derive(Clone, PartialEq, Debug)]
pub enum Frame {
    /// A control message.
    Control(Message),
    /// Bytes of the stream.
    Data {
        /// Offset in the stream.
        offset: u64,
        /// At least one.
        bytes: Bytes,
    },
}

/// Bytes are no frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// No such kind.
    #[error("no frame is of kind {0}")]
    Kind(u8),
    /// A length that frames of the kind can't have, or not here.
    #[error("a frame of kind {kind} can't be {length} bytes long here")]
    Length {
        /// Its kind.
        kind: u8,
        /// The length it gives.
        length: u32,
    },
    /// Bytes at an offset that no stream has.
    #[error("bytes at offset {0} are beyond any stream")]
    Offset(u64),
    /// The body is no message.
    #[error("a control message can't be read: {0}")]
    Message(String),
}

/// A control message as a frame.
pub fn control(message: Message) -> Vec<u8> {
    let body = message.to_body();
    let mut frame = Vec::with_capacity(HEAD_LEN + body.len());
    frame.push(CONTROL);
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// What goes before `len` bytes of the stream from `offset` on; at most [`DATA_MAX`].
pub fn data_head(offset: u64, len: usize) -> [u8; DATA_HEAD_LEN] {
    debug_assert!((1..=DATA_MAX).contains(&len));
    let mut head = [0; DATA_HEAD_LEN];
    head[0] = DATA;
    head[1..HEAD_LEN].copy_from_slice(&((OFFSET_LEN + len) as u32).to_le_bytes());
    head[HEAD_LEN..].copy_from_slice(&offset.to_le_bytes());
    head
}

/// Takes bytes, gives frames. No more than one frame is ever kept.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    control_max: usize,
    data: bool,
}

impl Frames {
    /// Of a connection of which nothing is known: short control messages only.
    pub fn of_stranger() -> Frames {
        Frames { buffer: BytesMut::new(), control_max: HELLO_MAX, data: false }
    }

    /// Of a connection that brings control messages only.
    pub fn of_control() -> Frames {
        Frames { control_max: CONTROL_MAX, ..Frames::of_stranger() }
    }

    /// Of a stream that brings bytes only.
    pub fn of_data() -> Frames {
        Frames { buffer: BytesMut::new(), control_max: 0, data: true }
    }

    /// From here on the other side is known.
    pub fn trust(&mut self, data: bool) {
        self.control_max = CONTROL_MAX;
        self.data = data;
    }

    /// The buffer for the next bytes.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether it stands in the middle of a frame.
    pub fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole frame; `None` when more bytes are needed. A message that is not known is left out.
    ///
    /// # Errors
    /// If the bytes are no frame; nothing more comes then.
    pub fn poll(&mut self) -> Result<Option<Frame>, FrameError> {
        while let Some((kind, length)) = self.head()? {
            if self.buffer.len() < HEAD_LEN + length {
                self.buffer.reserve(HEAD_LEN + length - self.buffer.len());
                return Ok(None);
            }
            let mut body = self.buffer.split_to(HEAD_LEN + length).freeze();
            body.advance(HEAD_LEN);
            if kind == CONTROL {
                let message = Message::from_body(&body).map_err(|e| FrameError::Message(e.to_string()))?;
                match message {
                    Some(message) => return Ok(Some(Frame::Control(message))),
                    None => continue,
                }
            }
            let offset = body.get_u64_le();
            if offset.checked_add(body.len() as u64).is_none_or(|end| end > u64::MAX / 2) {
                return Err(FrameError::Offset(offset));
            }
            return Ok(Some(Frame::Data { offset, bytes: body }));
        }
        Ok(None)
    }

    fn head(&self) -> Result<Option<(u8, usize)>, FrameError> {
        let Some((&kind, rest)) = self.buffer.split_first() else { return Ok(None) };
        if kind != CONTROL && !(kind == DATA && self.data) {
            return Err(FrameError::Kind(kind));
        }
        let Some(length) = rest.first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        let allowed = match kind {
            CONTROL => 1..=self.control_max,
            _ => OFFSET_LEN + 1..=OFFSET_LEN + DATA_MAX,
        };
        match allowed.contains(&(length as usize)) {
            true => Ok(Some((kind, length as usize))),
            false => Err(FrameError::Length { kind, length }),
        }
    }
}
