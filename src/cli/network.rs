//! Options for connections over the network, the same on both sides.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::{Code, Error, Result};
use crate::session::Timeouts;
use crate::transport::ConnectionStatistics;
use crate::transport::network::{Certificates, NetworkOptions};

use super::{report, secrets};

/// Shortest and longest keep-alive time.
const KEEPALIVE: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// The network options as typed.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct NetworkArgs {
    /// Seconds that a cut line may take to be mended before both sides give up
    #[arg(long, value_name = "SECONDS", default_value_t = 300, help_heading = "Network")]
    reconnect_timeout: u64,
    /// Seconds of silence after which a sign of life is sent; a side that is silent three times as long is gone
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, help_heading = "Network")]
    keepalive: f64,
    /// This side's certificate (PEM), instead of a ticket
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"], help_heading = "Network")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Network")]
    tls_key: Option<PathBuf>,
    /// Authority that the other side's certificate must come from (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Network")]
    tls_ca: Option<PathBuf>,
    /// Name that the other side's certificate must hold, of a host or an IP address [default: xbsend asks for the host of
    /// --to, xbrecv takes any sender of the authority]
    #[arg(long, value_name = "NAME", requires = "tls_cert", help_heading = "Network")]
    tls_peer_name: Option<String>,
}

impl NetworkArgs {
    /// Turns them into options.
    pub(super) fn options(&self) -> Result<NetworkOptions> {
        if !KEEPALIVE.contains(&self.keepalive) {
            return Err(Error::new(Code::Usage, "--keepalive must be from 0.1 to 3600 seconds"));
        }
        let certificates = match (&self.tls_cert, &self.tls_key, &self.tls_ca) {
            (Some(cert), Some(key), Some(ca)) => {
                secrets::warn_of_path(key);
                let (cert, key, ca) = (cert.clone(), key.clone(), ca.clone());
                Some(Certificates { cert, key, ca, peer_name: self.tls_peer_name.clone() })
            }
            _ => None,
        };
        let patience = Timeouts {
            keepalive: Duration::from_secs_f64(self.keepalive),
            reconnect: Duration::from_secs(self.reconnect_timeout),
            ..Timeouts::default()
        };
        Ok(NetworkOptions { patience, certificates, base: String::new() })
    }
}

/// The line of a summary; nothing where nothing happened.
pub(super) fn summary(facts: Option<ConnectionStatistics>) -> String {
    match facts {
        Some(ConnectionStatistics { reconnects, resent }) if reconnects > 0 => match resent {
            0 => format!("cut and mended {reconnects} times"),
            _ => format!("cut and mended {reconnects} times, {} sent again", report::bytes(resent)),
        },
        _ => String::new(),
    }
}
