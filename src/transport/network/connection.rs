//! Wraps one connection, whatever protocol it runs over: sends and reads frames, and closes it in an orderly
//! way.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::session::frame::{self, Frame, Frames};
use crate::session::message::Message;

/// Time that the other side is given to receive the last messages.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);
/// Number of bytes that one read has room for.
const READ: usize = 128 << 10;

pub(super) type Reading = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection whose other side is who it should be, as far as certificates tell.
pub(super) struct Connection {
    /// Reading half for control messages, and for the stream's bytes too if there are no lanes.
    pub(super) read: Reading,
    pub(super) write: Writing,
    /// QUIC connection whose additional streams (lanes) carry the stream's bytes.
    pub(super) lanes: Option<quinn::Connection>,
    /// QUIC endpoint that must live as long as the connection.
    pub(super) endpoint: Option<quinn::Endpoint>,
    /// Address of the other side.
    pub(super) peer: String,
}

/// Reads the next frame; `None` if the other side ended the connection between two frames.
pub(super) async fn next_frame<R: AsyncRead + Unpin>(
    read: &mut R,
    frames: &mut Frames,
    room: usize,
) -> io::Result<Option<Frame>> {
    loop {
        if let Some(frame) = frames.poll().map_err(io::Error::other)? {
            return Ok(Some(frame));
        }
        let buffer = frames.buffer();
        buffer.reserve(room);
        if read.read_buf(buffer).await? == 0 {
            return match frames.is_inside() {
                true => Err(io::ErrorKind::UnexpectedEof.into()),
                false => Ok(None),
            };
        }
    }
}

/// Reads the next frame, with large reads.
pub(super) async fn next_large<R: AsyncRead + Unpin>(
    read: &mut R,
    frames: &mut Frames,
) -> io::Result<Option<Frame>> {
    next_frame(read, frames, READ).await
}

/// Sends a control message.
pub(super) async fn say(write: &mut Writing, message: Message) -> io::Result<()> {
    write.write_all(&frame::control(message)).await?;
    write.flush().await
}

impl Connection {
    /// Closes the connection so that the last messages arrive: data that the other side still sends is read
    /// and thrown away until it ends its half too. Over QUIC, the side that accepted the connection leaves
    /// closing it to the other side: a close discards data that is still under way, for instance the end of
    /// this side's own half.
    pub(super) async fn close(mut self) {
        let gently = async {
            if self.write.shutdown().await.is_err() {
                return;
            }
            let mut scrap = [0; 4096];
            while let Ok(1..) = self.read.read(&mut scrap).await {}
            if let (Some(lanes), None) = (&self.lanes, &self.endpoint) {
                lanes.closed().await;
            }
        };
        // After this time, nobody is expected to listen any more.
        let _ = tokio::time::timeout(LAST_WORDS, gently).await;
        if let Some(lanes) = &self.lanes {
            lanes.close(0u32.into(), b"");
        }
        if let Some(endpoint) = &self.endpoint {
            let _ = tokio::time::timeout(LAST_WORDS, endpoint.wait_idle()).await;
        }
    }
}
