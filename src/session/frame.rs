//! Encodes and decodes the frames on a connection: control messages, and the stream's bytes.
//!
//! ```text
//! kind u8 | length u32 | body of that length                         (integers little-endian)
//!   1  control: a message in protobuf, at most 16 KiB
//!   2  data: offset u64 | bytes of the stream from there, 1 to 65,536
//! ```

use bytes::{Buf, Bytes, BytesMut};

use super::message::Message;

/// Number of bytes before a frame's body.
pub const HEAD_LEN: usize = 5;
/// Maximum number of bytes of the stream in one frame.
pub const DATA_MAX: usize = 64 << 10;
/// Maximum length of a control message.
pub const CONTROL_MAX: usize = 16 << 10;
/// Maximum length of a message from an unauthenticated peer.
pub const HELLO_MAX: usize = 256;

const CONTROL: u8 = 1;
const DATA: u8 = 2;
const OFFSET_LEN: usize = 8;

/// Number of bytes before the stream's bytes in a data frame.
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
        /// The bytes; at least one.
        bytes: Bytes,
    },
}

/// Error: the bytes are not a frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The kind does not exist.
    #[error("no frame is of kind {0}")]
    Kind(u8),
    /// The length is one that frames of the kind can't have, or can't have here.
    #[error("a frame of kind {kind} can't be {length} bytes long here")]
    Length {
        /// Kind of the frame.
        kind: u8,
        /// Length that the frame gives.
        length: u32,
    },
    /// The bytes have an offset that no stream reaches.
    #[error("bytes at offset {0} are beyond any stream")]
    Offset(u64),
    /// The body is not a message.
    #[error("a control message can't be read: {0}")]
    Message(String),
}

/// Encodes a control message as a frame.
pub fn control(message: Message) -> Vec<u8> {
    let body = message.to_body();
    let mut frame = Vec::with_capacity(HEAD_LEN + body.len());
    frame.push(CONTROL);
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// Returns the header of a data frame, for `len` bytes of the stream from `offset` on; `len` is at most
/// [`DATA_MAX`].
pub fn data_head(offset: u64, len: usize) -> [u8; DATA_HEAD_LEN] {
    debug_assert!((1..=DATA_MAX).contains(&len));
    let mut head = [0; DATA_HEAD_LEN];
    head[0] = DATA;
    head[1..HEAD_LEN].copy_from_slice(&((OFFSET_LEN + len) as u32).to_le_bytes());
    head[HEAD_LEN..].copy_from_slice(&offset.to_le_bytes());
    head
}

/// Decodes frames from the bytes that are put into its buffer. It never keeps more than one frame.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    control_max: usize,
    data: bool,
}

impl Frames {
    /// Creates the decoder for a connection of an unauthenticated peer: short control messages only.
    pub fn of_stranger() -> Frames {
        Frames { buffer: BytesMut::new(), control_max: HELLO_MAX, data: false }
    }

    /// Creates the decoder for a connection that brings control messages only.
    pub fn of_control() -> Frames {
        Frames { control_max: CONTROL_MAX, ..Frames::of_stranger() }
    }

    /// Creates the decoder for a QUIC stream that brings bytes of the stream only.
    pub fn of_data() -> Frames {
        Frames { buffer: BytesMut::new(), control_max: 0, data: true }
    }

    /// Raises the limits from here on, because the other side is authenticated. With `data`, data frames are
    /// accepted too.
    pub fn trust(&mut self, data: bool) {
        self.control_max = CONTROL_MAX;
        self.data = data;
    }

    /// Returns the buffer to append the next bytes to.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Returns whether the buffer holds the beginning of a frame.
    pub fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns the next whole frame; `None` if more bytes are needed. Messages of unknown types are skipped.
    ///
    /// # Errors
    /// If the bytes are not a frame; the decoder is of no further use then.
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
