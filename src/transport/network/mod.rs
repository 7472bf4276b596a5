//! Carries streams over the network, with TLS over TCP or with QUIC. Both carry the same session
//! ([`crate::session`]).
//!
//! The rest of the program is threads that write into a [`Sink`](super::stream_writer::Sink) and read from a
//! [`StreamReader`](super::StreamReader); behind these a small asynchronous runtime maintains the
//! connections. Between them lie a bounded window of bytes that the other side has not acknowledged as safe
//! (`send_window`) and a bounded queue of bytes that nobody has read yet (`reassembly`). When a connection is
//! lost, it is replaced without the threads noticing; they merely wait.

mod close;
mod connection;
mod crypto;
pub mod incoming;
mod listener;
mod notifier;
pub mod outgoing;
mod quic;
mod rate_limited_log;
mod reassembly;
mod send_window;
mod tcp;
pub mod tls;
mod unauthenticated_peers;
mod verifiers;

pub use incoming::Incoming;
pub use outgoing::Outgoing;
pub use tls::Certificates;

use std::time::{Duration, Instant};

use rustls::crypto::SecureRandom;

use crate::base::{Code, Error, Result};
use crate::session::Timeouts;

/// Options of a connection, the same on both ends.
#[derive(Clone, Debug, Default)]
pub struct NetworkOptions {
    /// Timeouts.
    pub patience: Timeouts,
    /// Certificates of the user, by which both sides verify each other.
    pub certificates: Option<Certificates>,
    /// Of a receiver: the description of the backup that it wants an increment of; empty for a full backup.
    pub base: String,
}

/// The session's clock: time since this end was created.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn new() -> Clock {
        Clock(Instant::now())
    }

    fn now(self) -> Duration {
        self.0.elapsed()
    }

    /// Converts a time of the session to an instant of the runtime.
    fn at(self, moment: Duration) -> tokio::time::Instant {
        (self.0 + moment).into()
    }
}

fn runtime(name: &str, threads: usize) -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(|e| Error::new(Code::Internal, "can't start the threads of the line").cause(e))
}

fn random(into: &mut [u8]) -> Result<()> {
    random_source().fill(into).map_err(|_| Error::new(Code::Internal, "the system gives no random bytes"))
}

fn random_source() -> &'static dyn SecureRandom {
    crypto::provider().secure_random
}
