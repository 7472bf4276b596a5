//! Handles incoming connections, from the first packet until they belong to the session or are rejected.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Line;
use crate::session::Standing;
use crate::session::frame::{Frame, Frames};
use crate::session::message::{Hello, Message};
use crate::session::receiver::ConnectionId;
use crate::transport::network::connection::{Connection, LAST_WORDS, next_frame, say};
use crate::transport::network::listener::Listener;
use crate::transport::network::rate_limited_log::RateLimitedLog;
use crate::transport::network::{quic, tcp};

/// Number of bytes that a read has room for while the greeting of an unauthenticated peer is awaited.
const GREETING: usize = 512;

/// Log lines about connections, limited in rate.
#[derive(Default)]
pub(super) struct Words {
    /// About connections that were dropped to make room for others.
    crowded: RateLimitedLog,
    /// About connections that do not belong to the session.
    refused: RateLimitedLog,
    /// About the sender, which may reconnect any number of times.
    sender: RateLimitedLog,
    cut: RateLimitedLog,
    /// About connections that did not get as far as a greeting.
    unauthenticated: RateLimitedLog,
}

impl Line {
    pub(super) async fn accept(self: Arc<Line>, door: Listener) {
        match door {
            Listener::Tcp(listener, config) => loop {
                let (socket, from) = tcp::accept(&listener).await;
                let (line, config) = (self.clone(), config.clone());
                self.admit(from, |id| tcp::greet(socket, config, move |name| line.shown(id, name)));
            },
            Listener::Quic(endpoint) => {
                while let Some(incoming) = quic::accept(&endpoint).await {
                    let line = self.clone();
                    let from = incoming.remote_address();
                    self.admit(from, |id| quic::greet(incoming, move |name| line.shown(id, name)));
                }
            }
        }
    }

    fn admit<F>(self: &Arc<Line>, from: SocketAddr, greeting: impl FnOnce(ConnectionId) -> F)
    where
        F: Future<Output = io::Result<Connection>> + Send + 'static,
    {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let greeting = greeting(id);
        let start = || tokio::spawn(self.clone().serve(id, greeting)).abort_handle();
        let crowded = self.unauthenticated.come(id, from, start);
        if crowded && let Some(more) = self.words.crowded.note(self.clock.now()) {
            tracing::warn!(
                "too many unknown connections at once: one was sent away for that of {from}{more}"
            );
        }
    }

    /// Notes that an unauthenticated peer has begun a handshake and asks for this name.
    fn shown(&self, id: ConnectionId, name: Option<&str>) {
        let standing = name.map_or(Standing::Spoke, |name| self.shared.lock().session.standing(name));
        self.unauthenticated.shows(id, standing);
    }

    /// Serves one connection from the handshake to its end.
    async fn serve(
        self: Arc<Line>,
        id: ConnectionId,
        greeting: impl Future<Output = io::Result<Connection>>,
    ) {
        let mut frames = Frames::of_stranger();
        let met = async {
            let mut connection = greeting.await?;
            if self.certificates {
                // Without a certificate of the authority the handshake would have failed.
                self.unauthenticated.shows(id, Standing::Invited);
            }
            let hello = match next_frame(&mut connection.read, &mut frames, GREETING).await? {
                Some(Frame::Control(Message::Hello(hello))) => hello,
                _ => return Err(io::Error::other("it did not greet")),
            };
            Ok((connection, hello))
        };
        let met = match tokio::time::timeout(self.patience.handshake, met).await {
            Ok(met) => met,
            Err(_) => Err(io::Error::other("it took too long")),
        };
        match met {
            Ok((connection, hello)) => self.meet(id, connection, frames, hello).await,
            Err(e) => {
                if let Some(more) = self.words.unauthenticated.note(self.clock.now()) {
                    tracing::debug!("a stranger was sent away: {e}{more}");
                }
            }
        }
    }

    async fn meet(&self, id: ConnectionId, mut connection: Connection, mut frames: Frames, hello: Hello) {
        let now = self.clock.now();
        let admitted = {
            let mut state = self.shared.lock();
            let admitted = state.session.hello(now, id, &hello);
            state.open += usize::from(admitted.is_ok());
            admitted
        };
        if let Err(refused) = admitted {
            if let Some(more) = self.words.refused.note(now) {
                tracing::warn!("{} was refused ({:?}){more}", connection.peer, refused.reason());
            }
            let said = say(&mut connection.write, Message::Refused(refused));
            if let Ok(Ok(())) = tokio::time::timeout(LAST_WORDS, said).await {
                connection.close().await;
            }
            return;
        }
        self.unauthenticated.go(id);
        self.shared.wake();
        frames.trust(connection.lanes.is_none());
        if let Some(more) = self.words.sender.note(now) {
            tracing::info!("{} sends{more}", connection.peer);
        }
        let Connection { read, write, lanes, .. } = &mut connection;
        if let Some(lanes) = lanes {
            quic::trust(lanes);
        }
        let inline = lanes.is_none();
        let problem = tokio::select! {
            e = self.hear(id, read, frames, inline) => e,
            e = self.speak(id, write) => e,
            e = self.lanes(id, lanes.as_ref()) => e,
        };
        self.part(id, connection, problem).await;
    }

    /// Ends a connection that has no more data to give.
    async fn part(&self, id: ConnectionId, connection: Connection, problem: io::Result<()>) {
        if self.leave(id, &connection.peer, problem) {
            connection.close().await;
        }
        self.shared.lock().open -= 1;
        self.shared.wake();
    }

    /// Removes a connection from the session. Returns whether the session is over, so that last messages are
    /// to be sent.
    fn leave(&self, id: ConnectionId, peer: &str, problem: io::Result<()>) -> bool {
        let now = self.clock.now();
        let mut state = self.shared.lock();
        let over = state.session.outcome().is_some();
        if !over {
            if state.session.is_current(id)
                && let Some(more) = self.words.cut.note(now)
            {
                let problem = problem.err().map_or_else(|| "it was closed".to_owned(), |e| e.to_string());
                tracing::warn!("the line from {peer} is cut ({problem}); the sender may come back{more}");
            }
            state.session.lost(now, id);
        }
        drop(state);
        self.shared.wake();
        over
    }

    /// Logs how often something happened that no line was written about.
    pub(super) fn tell_the_rest(&self) {
        let now = self.clock.now();
        if let Some(n) = self.words.crowded.rest(now) {
            tracing::warn!("{n} more unknown connections were sent away to make room for others");
        }
        if let Some(n) = self.words.refused.rest(now) {
            tracing::warn!("{n} more connections were refused");
        }
        if let Some(n) = self.words.cut.rest(now) {
            tracing::warn!("the line was cut {n} more times");
        }
    }
}
