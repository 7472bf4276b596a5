//! Implements the sending end of a network stream: keeps the bytes that may have to be sent again, and
//! reconnects when a connection is lost.

mod dial;
mod talk;

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::base::progress::Progress;
use crate::base::{Code, Error, Result, Stop};
use crate::session::proof::Nonce;
use crate::session::sender::{Outcome, Sender};
use crate::session::{SECRET_LEN, Ticket};
use crate::transport::address::{Carrier, NetworkAddress};
use crate::transport::stream_writer::Sink;
use crate::transport::{ConnectionStatistics, Destination};

use super::connection::LAST_WORDS;
use super::notifier::{Shared, requested};
use super::send_window::{Window, gather};
use super::{Clock, NetworkOptions, close, quic, random, runtime, tls};

use dial::{Dialer, Why, words};

/// The sending end of a network stream. Its connection stays up, or is being restored, until this is dropped.
pub struct Outgoing {
    line: Arc<Line>,
    quit: Arc<Stop>,
    runtime: Option<Runtime>,
}

struct Line {
    shared: Shared<State>,
    clock: Clock,
    dialer: Dialer,
    address: String,
    pinned: bool,
    handshake: Duration,
    progress: Arc<Progress>,
    stop: Arc<Stop>,
}

struct State {
    session: Sender,
    window: Window,
    /// Reason why trying again is useless, if there is one.
    hopeless: Option<String>,
    /// Error of the last connection.
    problem: String,
    /// True once it is known that the stream will not be finished.
    quit: bool,
    /// True once nothing happens on the network any more.
    over: bool,
}

impl Outgoing {
    /// Connects to a receiver that waits at `address`.
    ///
    /// # Errors
    /// [`Code::Usage`], [`Code::LineLost`] if nobody can be reached, [`Code::LineRefused`] if the receiver is
    /// not who it should be or rejects this sender.
    pub fn connect(
        address: &NetworkAddress,
        options: &NetworkOptions,
        progress: Arc<Progress>,
        stop: Arc<Stop>,
    ) -> Result<Outgoing> {
        let ticket = ticket(address, options)?;
        let config = match (&ticket, &options.certificates) {
            (_, Some(certificates)) => tls::client_with(certificates, &address.host)?,
            (Some(ticket), None) => tls::client_for(ticket.fingerprint)?,
            (None, None) => return Err(no_ticket()),
        };
        let pinned = options.certificates.is_none();
        let (host, port) = (address.host.clone(), address.port);
        let (dialer, threads) = match address.carrier {
            Carrier::Tcp => (Dialer::Tcp { host, port, config: Arc::new(config) }, 1),
            Carrier::Quic => {
                let config = quic::client(config, options.patience.keepalive)?;
                (Dialer::Quic { host, port, config }, 2)
            }
        };
        let mut secret = [0; SECRET_LEN];
        random(&mut secret)?;
        let clock = Clock::new();
        let session = Sender::new(ticket.map(|t| t.token), secret, options.patience, clock.now());
        let state = State {
            session,
            window: Window::default(),
            hopeless: None,
            problem: "no answer".to_owned(),
            quit: false,
            over: false,
        };
        let line = Arc::new(Line {
            shared: Shared::new(state),
            clock,
            dialer,
            address: address.to_string(),
            pinned,
            handshake: options.patience.handshake,
            progress,
            stop: stop.clone(),
        });
        let quit = Arc::new(Stop::new()?);
        let runtime = runtime("line", threads)?;
        runtime.spawn(line.clone().watch(stop, quit.clone()));
        runtime.spawn(line.clone().drive());
        let outgoing = Outgoing { line, quit, runtime: Some(runtime) };
        outgoing.wait_until_up()?;
        Ok(outgoing)
    }

    fn wait_until_up(&self) -> Result<()> {
        let mut state = self.line.shared.lock();
        while !state.session.was_up() {
            self.line.check(&state)?;
            state = self.line.shared.wait(state);
        }
        Ok(())
    }

    /// Returns the sink of the stream.
    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(NetworkWriter { line: self.line.clone(), quit: self.quit.clone() })
    }

    /// Tells the receiver why the stream will not be finished, if that can be done soon. After a stream that
    /// was finished this does nothing.
    pub fn abandon(&self, why: &Error) {
        let mut state = self.line.shared.lock();
        state.session.abort(close::failure(why));
        self.line.shared.wake_tasks();
        let until = self.line.clock.now() + LAST_WORDS;
        while !state.over && self.line.clock.now() < until {
            state = self.line.shared.wait_for(state, LAST_WORDS);
        }
    }

    /// Returns the description of the backup that the receiver wants an increment of; `None` for a full backup.
    pub fn base(&self) -> Option<String> {
        let base = self.line.shared.lock().session.base().to_owned();
        (!base.is_empty()).then_some(base)
    }

    /// Returns statistics for the summary.
    pub fn facts(&self) -> ConnectionStatistics {
        let state = self.line.shared.lock();
        ConnectionStatistics { reconnects: state.session.reconnects(), resent: state.session.resent() }
    }
}

impl Destination for Outgoing {
    fn sink(&mut self) -> Result<Box<dyn Sink>> {
        Ok(Outgoing::sink(self))
    }

    fn abandon(&self, why: &Error) {
        Outgoing::abandon(self, why);
    }

    fn base(&self) -> Option<String> {
        Outgoing::base(self)
    }

    fn facts(&self) -> Option<ConnectionStatistics> {
        Some(Outgoing::facts(self))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn ticket(address: &NetworkAddress, options: &NetworkOptions) -> Result<Option<Ticket>> {
    let Some(text) = &address.secret else { return Ok(None) };
    if options.certificates.is_some() {
        return Err(Error::new(Code::Usage, "a ticket and certificates of one's own exclude each other")
            .hint("leave out what stands behind #, or --tls-cert, --tls-key and --tls-ca"));
    }
    text.parse().map(Some).map_err(|e| {
        Error::new(Code::Usage, "the ticket is not understood")
            .cause(e)
            .hint("use the whole line that xbrecv prints, in quotes")
    })
}

fn no_ticket() -> Error {
    Error::new(Code::Usage, "the address has no ticket")
        .hint("use the line that xbrecv --from prints, or --tls-cert, --tls-key and --tls-ca on both sides")
}

/// Writes the stream into the send window.
struct NetworkWriter {
    line: Arc<Line>,
    quit: Arc<Stop>,
}

impl Sink for NetworkWriter {
    fn write_some(&mut self, parts: &[IoSlice<'_>]) -> Result<usize> {
        let shared = &self.line.shared;
        let mut state = shared.lock();
        let room = loop {
            self.line.check(&state)?;
            match state.window.room() {
                0 => state = shared.wait(state),
                room => break room,
            }
        };
        drop(state);
        // There is only one writer, so the room can't have become less.
        let piece = gather(parts, room);
        let written = piece.len();
        let mut state = shared.lock();
        state.session.write(written as u64);
        state.window.push(piece);
        drop(state);
        shared.wake_tasks();
        Ok(written)
    }

    /// Waits for the receiver's verdict.
    fn finish(&mut self) -> Result<()> {
        let shared = &self.line.shared;
        let mut state = shared.lock();
        state.session.finish();
        shared.wake_tasks();
        loop {
            if state.session.outcome() == Some(&Outcome::Done) {
                break;
            }
            self.line.check(&state)?;
            state = shared.wait(state);
        }
        let until = self.line.clock.now() + LAST_WORDS;
        while !state.over && self.line.clock.now() < until {
            state = shared.wait_for(state, LAST_WORDS);
        }
        Ok(())
    }

    fn quit(&self) -> Option<Arc<Stop>> {
        Some(self.quit.clone())
    }
}

impl Line {
    /// Fails once waiting is useless.
    fn check(&self, state: &State) -> Result<()> {
        if let Some(cause) = &state.hopeless {
            return Err(close::stranger(&self.address, cause, self.pinned));
        }
        if let Some(e) =
            state.session.outcome().and_then(|o| close::of_sender(o, state.session.was_up(), &state.problem))
        {
            return Err(e);
        }
        self.stop.check()?;
        if state.quit {
            return Err(Error::new(Code::GivenUp, "the stream was closed"));
        }
        Ok(())
    }

    /// Wakes all waiting threads once a stop is requested.
    async fn watch(self: Arc<Line>, stop: Arc<Stop>, quit: Arc<Stop>) {
        tokio::select! {
            () = requested(stop) => {}
            () = requested(quit) => self.shared.lock().quit = true,
        }
        self.shared.wake_threads();
    }

    /// Connects, runs the session on the connection, and connects again when it is lost.
    async fn drive(self: Arc<Line>) {
        while let Some(at) = { self.shared.lock().session.connect_at() } {
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.at(at)) => {}
                () = self.ended() => break,
            }
            let name = self.proof();
            tokio::select! {
                dialed = tokio::time::timeout(self.handshake, self.dialer.dial(&name)) => match dialed {
                    Ok(Ok(connection)) => self.talk(connection).await,
                    Ok(Err(e)) => self.lost(&e),
                    Err(_) => self.lost(&io::Error::other("no answer")),
                },
                () = self.ended() => break,
            }
        }
        self.shared.lock().over = true;
        self.shared.wake();
    }

    /// Returns the server name (SNI) to ask for on the next connection; it proves to the receiver who asks.
    fn proof(&self) -> String {
        let mut nonce = Nonce::default();
        // If this fails, the receiver treats the connection as unauthenticated until the greeting; nothing
        // worse happens.
        let _ = random(&mut nonce);
        self.shared.lock().session.proof(nonce)
    }

    /// Returns once the session has an outcome.
    async fn ended(&self) {
        let mut changes = self.shared.changes();
        while self.shared.lock().session.outcome().is_none() {
            changes.next().await;
        }
    }

    /// Handles a connection that could not be made, or was lost.
    fn lost(&self, problem: &io::Error) {
        let mut bytes = [0; 8];
        // If this fails, all senders try again at the same moment, which does no further harm.
        let _ = random(&mut bytes);
        let mut state = self.shared.lock();
        state.problem = words(problem);
        let (was_up, is_up) = (state.session.was_up(), state.session.is_up());
        let (now, random) = (self.clock.now(), u64::from_le_bytes(bytes));
        match dial::why(problem) {
            Why::UnauthenticatedPeer if !was_up => {
                state.hopeless = Some(state.problem.clone());
                state.session.abort(Default::default());
            }
            Why::UnauthenticatedPeer | Why::Nobody if !is_up => state.session.refused(now, random),
            _ => state.session.lost(now, random),
        }
        if is_up {
            tracing::warn!("the line to {} is cut ({}); it is being mended", self.address, state.problem);
        } else {
            tracing::debug!("no line to {}: {}", self.address, state.problem);
        }
        drop(state);
        self.shared.wake();
    }
}
