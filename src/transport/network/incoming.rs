//! Implements the receiving end of a network stream: listens, lets the sender's connections in, and passes on
//! their bytes in order.

mod meet;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;

use crate::base::progress::{Phase, Progress};
use crate::base::{Code, Error, Result, Stop};
use crate::session::frame::{Frame, Frames, control};
use crate::session::message::Doing;
use crate::session::receiver::{ConnectionId, Outcome, Receiver};
use crate::session::ticket::{TOKEN_LEN, Token};
use crate::session::{Ticket, Timeouts};
use crate::transport::address::{Carrier, NetworkAddress};
use crate::transport::{ConnectionStatistics, Invitation, Origin, StreamReader};

use super::connection::{LAST_WORDS, Reading, Writing, next_large};
use super::listener::{self, Listener};
use super::notifier::{Notifier, Shared, requested};
use super::reassembly::ReassemblyBuffer;
use super::unauthenticated_peers::UnauthenticatedPeers;
use super::{Clock, NetworkOptions, close, quic, random, runtime, tls};

use meet::Words;

/// Interval at which the sender is told what the receiver is doing after the last byte.
const DOING: Duration = Duration::from_millis(500);

/// The receiving end of a network stream. It listens until this is dropped.
pub struct Incoming {
    line: Arc<Line>,
    stop: Arc<Stop>,
    quit: Arc<Stop>,
    /// Address to be given to the sender, with the secret that it contains.
    invitation: NetworkAddress,
    /// Address that this side listens on.
    pub local: SocketAddr,
    runtime: Option<Runtime>,
}

struct Line {
    shared: Shared<State>,
    clock: Clock,
    unauthenticated: UnauthenticatedPeers,
    patience: Timeouts,
    progress: Arc<Progress>,
    last_id: AtomicU64,
    /// True if only peers with a certificate of the authority get as far as sending a greeting.
    certificates: bool,
    words: Words,
}

struct State {
    session: Receiver,
    arrivals: ReassemblyBuffer,
    /// True if a connection waits for room in the reassembly buffer.
    full: bool,
    /// Number of the session's connections that are not closed yet.
    open: usize,
}

impl Incoming {
    /// Listens at `address`.
    ///
    /// # Errors
    /// [`Code::Usage`], [`Code::LineLost`] if it is not possible to listen at the address.
    pub fn listen(
        address: &NetworkAddress,
        options: &NetworkOptions,
        progress: Arc<Progress>,
        stop: Arc<Stop>,
    ) -> Result<Incoming> {
        if address.secret.is_some() {
            return Err(Error::new(Code::Usage, "the listening side makes the ticket itself")
                .hint("leave out what stands behind #"));
        }
        let (config, ticket) = match &options.certificates {
            Some(certificates) => (tls::server_with(certificates)?, None),
            None => {
                let (config, fingerprint) = tls::server_for_ticket()?;
                let mut token = [0; TOKEN_LEN];
                random(&mut token)?;
                (config, Some(Ticket { fingerprint, token: Token(token) }))
            }
        };
        let runtime = runtime("line", if address.carrier == Carrier::Tcp { 1 } else { 2 })?;
        let (door, local) = runtime.block_on(Listener::open(address, config, options.patience.keepalive))?;
        let mut session = Receiver::new(ticket.as_ref().map(|t| t.token), options.patience);
        session.ask_for_increment(options.base.clone());
        let state = State { session, arrivals: ReassemblyBuffer::default(), full: false, open: 0 };
        let line = Arc::new(Line {
            shared: Shared::new(state),
            clock: Clock::new(),
            unauthenticated: UnauthenticatedPeers::default(),
            patience: options.patience,
            progress,
            last_id: AtomicU64::new(0),
            certificates: options.certificates.is_some(),
            words: Words::default(),
        });
        let quit = Arc::new(Stop::new()?);
        runtime.spawn(line.clone().watch(stop.clone()));
        runtime.spawn(line.clone().watch(quit.clone()));
        runtime.spawn(line.clone().keep_time());
        runtime.spawn(line.clone().accept(door));
        let invitation = NetworkAddress {
            carrier: address.carrier,
            host: listener::host_name(local),
            port: local.port(),
            secret: ticket.map(|t| t.reveal()),
        };
        Ok(Incoming { line, stop, quit, invitation, local, runtime: Some(runtime) })
    }

    /// Returns the value for `--to` on the sending side, with the ticket: a secret.
    pub fn invitation(&self) -> String {
        match &self.invitation.secret {
            Some(secret) => format!("{}/#{secret}", self.invitation),
            None => self.invitation.to_string(),
        }
    }

    /// Returns the reader of the stream.
    pub fn stream_reader(&self) -> NetworkReader {
        let (line, stop, quit) = (self.line.clone(), self.stop.clone(), self.quit.clone());
        NetworkReader { line, stop, quit, current: Bytes::new() }
    }

    /// Tells the sender the result of the stream, and waits until the sender has received it. Returns whether
    /// it has; if no sender ever came, there is nobody to be told.
    pub fn settle(&self, failed: Option<&Error>) -> bool {
        let shared = &self.line.shared;
        let mut state = shared.lock();
        state.session.verdict(self.line.clock.now(), failed.map(close::failure));
        state.arrivals.discard();
        shared.wake_tasks();
        let begun = self.line.clock.now();
        while state.session.has_begun() && state.session.outcome().is_none() {
            if self.stop.requested() && self.line.clock.now() > begun + LAST_WORDS {
                break;
            }
            state = shared.wait_for(state, Duration::from_millis(200));
        }
        let settled = state.session.outcome() == Some(&Outcome::Settled) || !state.session.has_begun();
        if matches!(state.session.outcome(), Some(Outcome::Lost(_))) {
            return false;
        }
        let until = self.line.clock.now() + LAST_WORDS;
        // A process that ends sooner leaves the sender waiting for the end of the connection.
        while state.open > 0 && self.line.clock.now() < until {
            state = shared.wait_for(state, LAST_WORDS);
        }
        settled
    }

    /// Returns statistics for the summary.
    pub fn facts(&self) -> ConnectionStatistics {
        ConnectionStatistics { reconnects: self.line.shared.lock().session.reconnects(), resent: 0 }
    }
}

impl Origin for Incoming {
    fn stream_reader(&mut self) -> Result<Box<dyn StreamReader>> {
        Ok(Box::new(Incoming::stream_reader(self)))
    }

    fn invitation(&self) -> Option<Invitation> {
        Some(Invitation { local: self.local.to_string(), to: Incoming::invitation(self) })
    }

    fn settle(&self, failed: Option<&Error>) -> bool {
        Incoming::settle(self, failed)
    }

    fn facts(&self) -> Option<ConnectionStatistics> {
        Some(Incoming::facts(self))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reads the bytes that have arrived, in order.
pub struct NetworkReader {
    line: Arc<Line>,
    stop: Arc<Stop>,
    quit: Arc<Stop>,
    current: Bytes,
}

impl StreamReader for NetworkReader {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.stop.check()?;
        self.quit.check()?;
        if self.current.is_empty() && !self.fetch()? {
            return Ok(0);
        }
        let n = self.current.len().min(into.len());
        self.current.copy_to_slice(&mut into[..n]);
        Ok(n)
    }

    fn quit(&self) -> Arc<Stop> {
        self.quit.clone()
    }
}

impl NetworkReader {
    /// Waits for bytes; returns whether there are any.
    fn fetch(&mut self) -> Result<bool> {
        let shared = &self.line.shared;
        let mut state = shared.lock();
        loop {
            if let Some(bytes) = state.arrivals.take() {
                self.current = bytes;
                if std::mem::take(&mut state.full) {
                    shared.wake_tasks();
                }
                return Ok(true);
            }
            if state.session.total() == Some(state.arrivals.read()) {
                return Ok(false);
            }
            if let Some(outcome) = state.session.outcome() {
                return Err(close::of_receiver(outcome));
            }
            self.stop.check()?;
            self.quit.check()?;
            state = shared.wait(state);
        }
    }
}

impl Line {
    /// Wakes all waiting threads once a stop is requested.
    async fn watch(self: Arc<Line>, stop: Arc<Stop>) {
        requested(stop).await;
        // Taking the lock once ensures that a reader that has just checked its condition is waiting by now.
        drop(self.shared.lock());
        self.shared.wake_threads();
    }

    /// Logs when the sender has fallen silent, and tells the sender what the receiver is doing.
    async fn keep_time(self: Arc<Line>) {
        let mut told = Duration::ZERO;
        loop {
            let pause = (self.patience.keepalive / 4).min(DOING);
            tokio::time::sleep(pause).await;
            let now = self.clock.now();
            let mut state = self.shared.lock();
            let silent = state.session.tick(now);
            if now >= told + DOING && self.progress.phase() == Phase::Preparing {
                told = now;
                state.session.doing(Doing {
                    phase: Phase::Preparing.as_str().to_owned(),
                    done: Progress::get(&self.progress.records_done),
                    total: Progress::get(&self.progress.records_total),
                });
            }
            drop(state);
            if silent {
                tracing::warn!("nothing was heard of the sender any more; it may come back");
            }
            self.tell_the_rest();
            self.shared.wake();
        }
    }

    async fn hear(
        &self,
        id: ConnectionId,
        read: &mut Reading,
        mut frames: Frames,
        inline: bool,
    ) -> io::Result<()> {
        let mut changes = self.shared.changes();
        while let Some(frame) = next_large(read, &mut frames).await? {
            match frame {
                Frame::Data { offset, bytes } => self.place(id, &mut changes, inline, offset, bytes).await?,
                Frame::Control(message) => {
                    let mut state = self.shared.lock();
                    self.still(id, &state)?;
                    state.session.receive(self.clock.now(), message).map_err(io::Error::other)?;
                    drop(state);
                    self.shared.wake();
                }
            }
        }
        Err(io::Error::other("the sender closed it"))
    }

    /// Puts bytes into the reassembly buffer as soon as there is room for them.
    async fn place(
        &self,
        id: ConnectionId,
        changes: &mut Notifier,
        inline: bool,
        offset: u64,
        bytes: Bytes,
    ) -> io::Result<()> {
        let range = offset..offset + bytes.len() as u64;
        loop {
            let now = self.clock.now();
            {
                let mut state = self.shared.lock();
                self.still(id, &state)?;
                state.session.check(&range).map_err(io::Error::other)?;
                if state.arrivals.has_room(offset, bytes.len()) {
                    let speak = state.session.took(now, range).map_err(io::Error::other)?;
                    let readable = state.arrivals.put(offset, bytes);
                    drop(state);
                    if speak {
                        self.shared.wake_tasks();
                    }
                    if readable {
                        self.shared.wake_threads();
                    }
                    return Ok(());
                }
                if inline && !state.arrivals.is_next(offset) {
                    // If this connection is the only way for bytes, it brings them in order: a gap before
                    // these could never be filled.
                    return Err(io::Error::other("too many bytes came before those that they follow"));
                }
                state.full = true;
                // The silence is this side's fault, since it does not read.
                state.session.heard(now);
            }
            tokio::select! {
                () = changes.next() => {}
                () = tokio::time::sleep(self.patience.keepalive / 2) => {}
            }
        }
    }

    fn still(&self, id: ConnectionId, state: &State) -> io::Result<()> {
        match state.session.is_current(id) {
            true => Ok(()),
            false => Err(io::Error::other("another connection took its place")),
        }
    }

    async fn speak(&self, id: ConnectionId, write: &mut Writing) -> io::Result<()> {
        let mut changes = self.shared.changes();
        loop {
            let (message, deadline) = {
                let now = self.clock.now();
                let mut state = self.shared.lock();
                self.still(id, &state)?;
                if state.session.outcome().is_some() {
                    return Ok(());
                }
                let message = state.session.poll_message(now);
                (message, state.session.deadline().unwrap_or(now))
            };
            match message {
                Some(message) => write.write_all(&control(message)).await?,
                None => {
                    write.flush().await?;
                    tokio::select! {
                        () = changes.next() => {}
                        () = tokio::time::sleep_until(self.clock.at(deadline)) => {}
                    }
                }
            }
        }
    }

    /// Receives the stream's bytes from several QUIC streams side by side.
    async fn lanes(&self, id: ConnectionId, lanes: Option<&quinn::Connection>) -> io::Result<()> {
        let Some(lanes) = lanes else { return std::future::pending().await };
        let (a, b, c, d) =
            (self.lane(id, lanes), self.lane(id, lanes), self.lane(id, lanes), self.lane(id, lanes));
        const { assert!(quic::LANES == 4) };
        tokio::try_join!(a, b, c, d)?;
        Ok(())
    }

    async fn lane(&self, id: ConnectionId, lanes: &quinn::Connection) -> io::Result<()> {
        let mut read = lanes.accept_uni().await?;
        let mut changes = self.shared.changes();
        let mut frames = Frames::of_data();
        while let Some(frame) = next_large(&mut read, &mut frames).await? {
            if let Frame::Data { offset, bytes } = frame {
                self.place(id, &mut changes, false, offset, bytes).await?;
            }
        }
        // The control stream tells why the lane ended.
        std::future::pending().await
    }
}
