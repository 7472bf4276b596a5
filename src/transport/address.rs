//! Parses the address that a stream is sent to or received from, as the user types it: `-`,
//! `tcp://HOST:PORT`, `quic://HOST:PORT/#TICKET`.

use std::fmt;
use std::str::FromStr;

use crate::base::{Code, Error};

/// Maximum length of a secret that is accepted, far beyond the length of a ticket.
const SECRET_MAX: usize = 512;

/// The address of one end of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Address {
    /// Standard output or input.
    #[default]
    Pipe,
    /// A host and a port.
    Network(NetworkAddress),
}

/// The protocol below a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// TLS over TCP.
    Tcp,
    /// QUIC over UDP.
    Quic,
}

impl Carrier {
    /// Returns the protocol's name as the scheme of an address.
    pub fn as_str(self) -> &'static str {
        match self {
            Carrier::Tcp => "tcp",
            Carrier::Quic => "quic",
        }
    }
}

/// The network address of the listening end of a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkAddress {
    /// Protocol.
    pub carrier: Carrier,
    /// Name or number of the host, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Ticket of the listening end: the text behind `#`. It is never shown.
    pub secret: Option<String>,
}

impl Address {
    /// Returns the scheme: the part before `://`, or `-` for a pipe.
    pub fn scheme(&self) -> &'static str {
        match self {
            Address::Pipe => "-",
            Address::Network(address) => address.carrier.as_str(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Pipe => f.write_str("-"),
            Address::Network(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for NetworkAddress {
    /// Writes the address without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, port) = (self.carrier.as_str(), self.port);
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{port}", self.host),
            false => write!(f, "{scheme}://{}:{port}", self.host),
        }
    }
}

impl fmt::Debug for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.secret.is_some() { "/#…" } else { "" };
        write!(f, "{self}{secret}")
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address, Error> {
        if text == "-" {
            return Ok(Address::Pipe);
        }
        parse_network(text.trim()).map(Address::Network).ok_or_else(|| {
            // The text is not repeated in the message: it may hold a secret.
            Error::new(Code::Usage, "an address is not understood").hint(
                "it is -, tcp://HOST:PORT or quic://HOST:PORT, on the sending side with /#TICKET behind it",
            )
        })
    }
}

fn parse_network(text: &str) -> Option<NetworkAddress> {
    let (scheme, rest) = text.split_once("://")?;
    let carrier = match scheme {
        "tcp" => Carrier::Tcp,
        "quic" => Carrier::Quic,
        _ => return None,
    };
    let (place, secret) = match rest.split_once('#') {
        Some((place, secret)) => (place, Some(secret)),
        None => (rest, None),
    };
    if secret.is_some_and(|s| s.is_empty() || s.len() > SECRET_MAX) {
        return None;
    }
    let (host, port) = place.strip_suffix('/').unwrap_or(place).rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|h| h.contains(':'))?,
        None => Some(host).filter(|h| !h.contains(':'))?,
    };
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(sound) {
        return None;
    }
    Some(NetworkAddress {
        carrier,
        host: host.to_owned(),
        port: port.parse().ok()?,
        secret: secret.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> NetworkAddress {
        match text.parse().unwrap() {
            Address::Network(address) => address,
            Address::Pipe => panic!("{text} is no line"),
        }
    }

    #[test]
    fn addresses_are_understood() {
        assert_eq!("-".parse::<Address>().unwrap(), Address::Pipe);
        let a = line("quic://replica-1.example:4810/#dGlja2V0");
        assert_eq!((a.carrier, a.host.as_str(), a.port), (Carrier::Quic, "replica-1.example", 4810));
        assert_eq!(a.secret.as_deref(), Some("dGlja2V0"));
        assert_eq!(line("tcp://0.0.0.0:0").secret, None);
        assert_eq!(line("tcp://h:1#x").secret.as_deref(), Some("x"));
        let v6 = line("tcp://[fe80::1%eth0]:4810/");
        assert_eq!(
            (v6.host.as_str(), v6.to_string().as_str()),
            ("fe80::1%eth0", "tcp://[fe80::1%eth0]:4810")
        );
    }

    #[test]
    fn the_secret_is_not_shown() {
        let a: Address = "quic://h:1/#s3cret".parse().unwrap();
        assert_eq!(a.to_string(), "quic://h:1");
        assert!(!format!("{a:?}").contains("s3cret"));
        let e = "quic://h:x/#s3cret".parse::<Address>().unwrap_err();
        assert!(!e.to_string().contains("s3cret"));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "x",
            "tcp:",
            "tcp://",
            "tcp://h",
            "tcp://h:",
            "tcp://:1",
            "tcp://h:99999",
            "tcp://h:1/p",
            "http://h:1",
            "tcp://h:1/#",
            "tcp://::1:80",
            "tcp://[::1:80",
            "tcp://[h]:80",
            "tcp://a b:1",
            "tcp://u@h:1",
            "tcp://é:1",
        ] {
            let e = bad.parse::<Address>().expect_err(bad);
            assert_eq!(e.code, Code::Usage);
        }
        assert!(format!("tcp://h:1/#{}", "x".repeat(SECRET_MAX + 1)).parse::<Address>().is_err());
    }
}
