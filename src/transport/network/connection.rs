//! One connection, whatever it runs over.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::session::frame::{self, Frame, Frames};
use crate::session::message::Message;

/// Time that the other side is given to take in the last words.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);
/// Room that is made for one read.
const READ: usize = 128 << 10;

pub(super) type Reading = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection whose other side is who it should be, as far as certificates tell.
pub(super) struct Connection {
    /// Control messages; the stream's bytes too where there are no lanes.
    pub(super) read: Reading,
    pub(super) write: Writing,
    /// The streams beside, for the stream's bytes.
    pub(super) lanes: Option<quinn::Connection>,
    /// Keeps what the connection needs.
    pub(super) endpoint: Option<quinn::Endpoint>,
    /// The address of the other side.
    pub(super) peer: String,
}

/// The next frame; `None` where the other side ended the connection between two frames.
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

/// The next frame, read in large pieces.
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
    /// Ends it in a way that lets the last words arrive: what the other side still sends is taken and thrown away until it
    /// ends its half too. Over QUIC the side that accepted the connection leaves its close to the other one: a close
    /// takes what is still under way with it, the end of its own half for instance.
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
        // Where it takes too long, nobody listens.
        let _ = tokio::time::timeout(LAST_WORDS, gently).await;
        if let Some(lanes) = &self.lanes {
            lanes.close(0u32.into(), b"");
        }
        if let Some(endpoint) = &self.endpoint {
            let _ = tokio::time::timeout(LAST_WORDS, endpoint.wait_idle()).await;
        }
    }
}
