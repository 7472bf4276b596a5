//! The sending end of a line.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;

use crate::base::progress::{Phase, Progress};
use crate::base::{Code, Error, Result, Stop};
use crate::session::frame::{DATA_MAX, Frame, Frames, control, data_head};
use crate::session::message::{Doing, Message};
use crate::session::sender::{Outcome, Sender};
use crate::session::{SECRET_LEN, Ticket};
use crate::transport::address::{Carrier, LineAddress};
use crate::transport::outlet::Sink;

use super::changes::{Changes, Shared, requested};
use super::connection::{Connection, LAST_WORDS, Reading, Writing, next_frame};
use super::window::{Window, gather};
use super::{Clock, LineFacts, LineOptions, ending, quic, random, runtime, tcp, tls};

/// Room for the receiver's messages, which are short.
const READ: usize = 4 << 10;

/// The sending end of a line: it stands, or is being mended, until this is dropped.
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
    /// Why there is no use in trying.
    hopeless: Option<String>,
    /// What was wrong with the last connection.
    problem: String,
    /// The stream will not be finished.
    quit: bool,
    /// Nothing happens on the line any more.
    over: bool,
}

enum Dialer {
    Tcp { host: String, port: u16, config: Arc<rustls::ClientConfig>, name: ServerName<'static> },
    Quic { host: String, port: u16, config: quinn::ClientConfig, name: String },
}

impl Outgoing {
    /// Connects to a receiver that waits at `address`.
    ///
    /// # Errors
    /// [`Code::Usage`], [`Code::LineLost`] where nobody can be reached, [`Code::LineRefused`] where it is not who it
    /// should be or wants nothing of this sender.
    pub fn connect(
        address: &LineAddress,
        options: &LineOptions,
        progress: Arc<Progress>,
        stop: Arc<Stop>,
    ) -> Result<Outgoing> {
        let ticket = ticket(address, options)?;
        let config = match (&ticket, &options.certificates) {
            (_, Some(certificates)) => tls::client_with(certificates)?,
            (Some(ticket), None) => tls::client_for(ticket.fingerprint)?,
            (None, None) => return Err(no_ticket()),
        };
        let pinned = options.certificates.is_none();
        let name = tls::server_name(&address.host, pinned)?;
        let (host, port) = (address.host.clone(), address.port);
        let (dialer, threads) = match address.carrier {
            Carrier::Tcp => (Dialer::Tcp { host, port, config: Arc::new(config), name }, 1),
            Carrier::Quic => {
                let config = quic::client(config, options.patience.keepalive)?;
                (Dialer::Quic { host, port, config, name: name.to_str().into_owned() }, 2)
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

    /// Where the stream is written to.
    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(LineSink { line: self.line.clone(), quit: self.quit.clone() })
    }

    /// Tells the receiver why there will be no end of the stream, if it can be told soon. After a stream that was finished
    /// this does nothing.
    pub fn abandon(&self, why: &Error) {
        let mut state = self.line.shared.lock();
        state.session.abort(ending::failure(why));
        self.line.shared.wake_tasks();
        let until = self.line.clock.now() + LAST_WORDS;
        while !state.over && self.line.clock.now() < until {
            state = self.line.shared.wait_for(state, LAST_WORDS);
        }
    }

    /// How it went.
    pub fn facts(&self) -> LineFacts {
        let state = self.line.shared.lock();
        LineFacts { reconnects: state.session.reconnects(), resent: state.session.resent() }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn ticket(address: &LineAddress, options: &LineOptions) -> Result<Option<Ticket>> {
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

/// Writes into the window.
struct LineSink {
    line: Arc<Line>,
    quit: Arc<Stop>,
}

impl Sink for LineSink {
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
        // There is only one who writes: the room stays.
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
    /// Fails once there is no use in waiting.
    fn check(&self, state: &State) -> Result<()> {
        if let Some(cause) = &state.hopeless {
            return Err(ending::stranger(&self.address, cause, self.pinned));
        }
        if let Some(e) =
            state.session.outcome().and_then(|o| ending::of_sender(o, state.session.was_up(), &state.problem))
        {
            return Err(e);
        }
        self.stop.check()?;
        if state.quit {
            return Err(Error::new(Code::Interrupted, "the stream was closed"));
        }
        Ok(())
    }

    /// Frees whoever waits once a stop is asked for.
    async fn watch(self: Arc<Line>, stop: Arc<Stop>, quit: Arc<Stop>) {
        tokio::select! {
            () = requested(stop) => {}
            () = requested(quit) => self.shared.lock().quit = true,
        }
        self.shared.wake_threads();
    }

    /// Connects, talks, and connects again.
    async fn drive(self: Arc<Line>) {
        while let Some(at) = { self.shared.lock().session.connect_at() } {
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.at(at)) => {}
                () = self.ended() => break,
            }
            tokio::select! {
                dialed = tokio::time::timeout(self.handshake, self.dial()) => match dialed {
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

    async fn dial(&self) -> io::Result<Connection> {
        match &self.dialer {
            Dialer::Tcp { host, port, config, name } => {
                tcp::dial(host, *port, config.clone(), name.clone()).await
            }
            Dialer::Quic { host, port, config, name } => quic::dial(host, *port, config.clone(), name).await,
        }
    }

    /// Returns once the session has an outcome.
    async fn ended(&self) {
        let mut changes = self.shared.changes();
        while self.shared.lock().session.outcome().is_none() {
            changes.next().await;
        }
    }

    /// A connection could not be made, or is gone.
    fn lost(&self, problem: &io::Error) {
        let mut bytes = [0; 8];
        // Without it, everybody tries again at the same moment: a pity, no more.
        let _ = random(&mut bytes);
        let mut state = self.shared.lock();
        state.problem = words(problem);
        let (was_up, is_up) = (state.session.was_up(), state.session.is_up());
        match is_refusal(problem) && !was_up {
            true => {
                state.hopeless = Some(state.problem.clone());
                state.session.abort(Default::default());
            }
            false => state.session.lost(self.clock.now(), u64::from_le_bytes(bytes)),
        }
        if is_up {
            tracing::warn!("the line to {} is cut ({}); it is being mended", self.address, state.problem);
        } else {
            tracing::debug!("no line to {}: {}", self.address, state.problem);
        }
        drop(state);
        self.shared.wake();
    }

    /// All that happens on one connection.
    async fn talk(&self, mut connection: Connection) {
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
            // First: whoever is told must not meet what is left of it.
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

    /// Says what is to be said; where there are no lanes, the stream's bytes too.
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

    async fn wait(&self, changes: &mut Changes, deadline: Duration) {
        tokio::select! {
            () = changes.next() => {}
            () = tokio::time::sleep_until(self.clock.at(deadline)) => {}
        }
    }

    /// The stream's bytes over several streams side by side.
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

/// The receiver's progress where this side has nothing more to do.
fn show(progress: &Progress, doing: &Doing) {
    if doing.phase == Phase::Preparing.as_str() {
        progress.enter(Phase::Preparing);
        Progress::set(&progress.records_done, doing.done);
        Progress::set(&progress.records_total, doing.total);
    }
}

/// What lies at the ground of an error, in one line.
fn words(e: &io::Error) -> String {
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// Whether the other side is not who it should be, or does not take this side for who it should be.
fn is_refusal(e: &io::Error) -> bool {
    let mut cause = e.get_ref().map(|e| e as &(dyn std::error::Error + 'static));
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<rustls::Error>() {
            return matches!(e, rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_));
        }
        if let Some(e) = e.downcast_ref::<quinn::ConnectionError>() {
            return crypto_error(e);
        }
        cause = match e.downcast_ref::<io::Error>() {
            Some(inner) => inner.get_ref().map(|e| e as &(dyn std::error::Error + 'static)),
            None => e.source(),
        };
    }
    false
}

/// QUIC carries TLS alerts as errors 0x100 to 0x1ff (RFC 9001, 4.8).
fn crypto_error(e: &quinn::ConnectionError) -> bool {
    let code = match e {
        quinn::ConnectionError::TransportError(e) => u64::from(e.code),
        quinn::ConnectionError::ConnectionClosed(e) => u64::from(e.error_code),
        _ => return false,
    };
    (0x100..0x200).contains(&code)
}
