//! Speaks the session's protocol on one connection of the sending end.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;

use crate::base::progress::{Phase, Progress};
use crate::session::frame::{DATA_MAX, Frame, Frames, control, data_head};
use crate::session::message::{Doing, Message};
use crate::transport::network::connection::{Connection, Reading, Writing, next_frame};
use crate::transport::network::notifier::Notifier;
use crate::transport::network::quic;

use super::{Line, State};

/// Number of bytes that one read has room for; the receiver's messages are short.
const READ: usize = 4 << 10;

impl Line {
    /// Runs the session on one connection until that ends.
    pub(super) async fn talk(&self, mut connection: Connection) {
        tracing::debug!("connected to {}", connection.peer);
        self.shared.lock().session.connected(self.clock.now());
        let Connection { read, write, lanes, .. } = &mut connection;
        let problem = tokio::select! {
            e = self.hear(read) => e,
            e = self.speak(write, lanes.is_none()) => e,
            e = self.lanes(lanes.as_ref()) => e,
            e = self.tick() => e,
        };
        if self.shared.lock().session.outcome().is_some() {
            connection.close().await;
        } else {
            // The connection must be gone before `lost` wakes those who wait: they must not find remains of
            // it.
            drop(connection);
            self.lost(&problem.err().unwrap_or_else(|| io::Error::other("it was closed")));
        }
    }

    async fn hear(&self, read: &mut Reading) -> io::Result<()> {
        let mut frames = Frames::of_control();
        while let Some(frame) = next_frame(read, &mut frames, READ).await? {
            let Frame::Control(message) = frame else { continue };
            let mut state = self.shared.lock();
            let was_up = state.session.is_up();
            let doing = matches!(message, Message::Doing(_));
            state.session.receive(self.clock.now(), message).map_err(io::Error::other)?;
            let released = state.session.released();
            state.window.release(released);
            if doing && let Some(doing) = state.session.doing() {
                show(&self.progress, doing);
            }
            if !was_up && state.session.is_up() && state.session.reconnects() > 0 {
                tracing::warn!("the line to {} is mended", self.address);
            }
            drop(state);
            self.shared.wake();
        }
        Err(io::Error::other("the receiver closed it"))
    }

    /// Sends all pending control messages, and the stream's bytes too if there are no lanes.
    async fn speak(&self, write: &mut Writing, inline: bool) -> io::Result<()> {
        let mut changes = self.shared.changes();
        loop {
            match self.next(inline) {
                Next::Message(message) => write.write_all(&control(message)).await?,
                Next::Bytes(start, bytes) => {
                    let head = data_head(start, bytes.len());
                    write.write_all_buf(&mut (&head[..]).chain(bytes)).await?;
                }
                Next::Wait(deadline) => {
                    write.flush().await?;
                    self.wait(&mut changes, deadline).await;
                }
                Next::Over => return write.flush().await,
            }
        }
    }

    fn next(&self, inline: bool) -> Next {
        let now = self.clock.now();
        let mut state = self.shared.lock();
        if let Some(message) = state.session.poll_message(now) {
            return Next::Message(message);
        }
        if state.session.is_told() {
            return Next::Over;
        }
        let segment = if inline { state.segment(now) } else { None };
        match segment {
            Some((start, bytes)) => Next::Bytes(start, bytes),
            None => Next::Wait(state.session.deadline().unwrap_or(now)),
        }
    }

    async fn wait(&self, changes: &mut Notifier, deadline: Duration) {
        tokio::select! {
            () = changes.next() => {}
            () = tokio::time::sleep_until(self.clock.at(deadline)) => {}
        }
    }

    /// Sends the stream's bytes over several QUIC streams side by side.
    async fn lanes(&self, lanes: Option<&quinn::Connection>) -> io::Result<()> {
        let Some(lanes) = lanes else { return std::future::pending().await };
        const { assert!(quic::LANES == 4) };
        tokio::try_join!(self.lane(lanes), self.lane(lanes), self.lane(lanes), self.lane(lanes))?;
        Ok(())
    }

    async fn lane(&self, lanes: &quinn::Connection) -> io::Result<()> {
        let mut changes = self.shared.changes();
        let mut write = lanes.open_uni().await?;
        loop {
            let segment = self.shared.lock().segment(self.clock.now());
            match segment {
                Some((start, bytes)) => {
                    let head = Bytes::copy_from_slice(&data_head(start, bytes.len()));
                    write.write_all_chunks(&mut [head, bytes]).await?;
                }
                None => changes.next().await,
            }
        }
    }

    async fn tick(&self) -> io::Result<()> {
        loop {
            let deadline = self.shared.lock().session.deadline();
            let soon = self.clock.now() + Duration::from_secs(1);
            let wake = deadline.map_or(soon, |d| d.clamp(self.clock.now() + Duration::from_millis(20), soon));
            tokio::time::sleep_until(self.clock.at(wake)).await;
            if self.shared.lock().session.tick(self.clock.now()) {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nothing was heard of the receiver any more",
                ));
            }
        }
    }
}

enum Next {
    Message(Message),
    Bytes(u64, Bytes),
    Wait(Duration),
    Over,
}

impl State {
    fn segment(&mut self, now: Duration) -> Option<(u64, Bytes)> {
        let window = &self.window;
        let segment =
            self.session.poll_segment(now, |start| window.contiguous(start).min(DATA_MAX) as u64)?;
        let bytes = self.window.get(segment.start, (segment.end - segment.start) as usize);
        Some((segment.start, bytes))
    }
}

/// Shows the receiver's progress once this side has nothing more to do.
fn show(progress: &Progress, doing: &Doing) {
    if doing.phase == Phase::Preparing.as_str() {
        progress.enter(Phase::Preparing);
        Progress::set(&progress.records_done, doing.done);
        Progress::set(&progress.records_total, doing.total);
    }
}
