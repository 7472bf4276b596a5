//! The table of what a stream can go to and come from, by scheme.

use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Code, Error, Result, Stop};
use crate::transport::address::NetworkAddress;
use crate::transport::network::{Incoming, NetworkOptions, Outgoing};
use crate::transport::stdin::StandardInput;
use crate::transport::stdout::StandardOutput;
use crate::transport::{Address, Destination, Origin};

/// The things that opening an end may need.
pub(super) struct Opening<'a> {
    pub(super) address: &'a Address,
    pub(super) network: &'a NetworkOptions,
    pub(super) progress: &'a Arc<Progress>,
    pub(super) stop: &'a Arc<Stop>,
}

/// One scheme.
struct Scheme {
    /// The part before `://`, or all of an address that has no such.
    name: &'static str,
    destination: fn(&Opening<'_>) -> Result<Box<dyn Destination>>,
    origin: fn(&Opening<'_>) -> Result<Box<dyn Origin>>,
}

/// All schemes. A new one is a row here, and a module in [`crate::transport`].
const SCHEMES: &[Scheme] = &[
    Scheme {
        name: "-",
        destination: |o| Ok(Box::new(StandardOutput { stop: o.stop.clone() })),
        origin: |o| Ok(Box::new(StandardInput { stop: o.stop.clone() })),
    },
    Scheme { name: "tcp", destination: connect, origin: listen },
    Scheme { name: "quic", destination: connect, origin: listen },
];

/// Opens what a stream is sent to.
///
/// # Errors
/// As of the scheme: where nobody answers, for instance.
pub(super) fn destination(opening: &Opening<'_>) -> Result<Box<dyn Destination>> {
    (scheme(opening)?.destination)(opening)
}

/// Opens what a stream is received from.
///
/// # Errors
/// As of the scheme: where the address can't be listened on, for instance.
pub(super) fn origin(opening: &Opening<'_>) -> Result<Box<dyn Origin>> {
    (scheme(opening)?.origin)(opening)
}

fn scheme(opening: &Opening<'_>) -> Result<&'static Scheme> {
    let name = opening.address.scheme();
    let found = SCHEMES.iter().find(|scheme| scheme.name == name);
    found.ok_or_else(|| Error::new(Code::Usage, format!("nothing is known of the scheme {name}")))
}

fn connect(opening: &Opening<'_>) -> Result<Box<dyn Destination>> {
    let Opening { network, progress, stop, .. } = *opening;
    Ok(Box::new(Outgoing::connect(host(opening)?, network, progress.clone(), stop.clone())?))
}

fn listen(opening: &Opening<'_>) -> Result<Box<dyn Origin>> {
    let Opening { network, progress, stop, .. } = *opening;
    Ok(Box::new(Incoming::listen(host(opening)?, network, progress.clone(), stop.clone())?))
}

fn host<'a>(opening: &Opening<'a>) -> Result<&'a NetworkAddress> {
    match opening.address {
        Address::Network(address) => Ok(address),
        Address::Pipe => Err(Error::new(Code::Internal, "a pipe has no host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_a_row() {
        for text in ["-", "tcp://host:1", "quic://[::1]:65535/#ticket"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(SCHEMES.iter().filter(|scheme| scheme.name == address.scheme()).count(), 1, "{text}");
        }
    }
}
