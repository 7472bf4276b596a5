//! Defines the ticket that the listening end prints: it identifies that end, and lets its bearer send to it
//! once.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

/// Length in bytes of a certificate's SHA-256.
pub const FINGERPRINT_LEN: usize = 32;
/// Length in bytes of a token.
pub const TOKEN_LEN: usize = 16;
/// First byte of a ticket of this version.
const VERSION: u8 = 1;

/// SHA-256 of a certificate as it is sent (DER).
pub type Fingerprint = [u8; FINGERPRINT_LEN];

/// A secret that is valid for one session.
#[derive(Clone, Copy)]
pub struct Token(pub [u8; TOKEN_LEN]);

impl Token {
    /// Returns whether these bytes are the token; takes the same time wherever they differ.
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.0.ct_eq(bytes).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A ticket. Its text is a secret; `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Fingerprint of the listening end's certificate.
    pub fingerprint: Fingerprint,
    /// Token that gives the right to send to it.
    pub token: Token,
}

impl Ticket {
    /// Returns the text to paste: base64url without padding of version, fingerprint and token.
    pub fn reveal(&self) -> String {
        let bytes = [&[VERSION][..], &self.fingerprint, &self.token.0].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Error: the text is not a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TicketError {
    /// The text is not base64url.
    #[error("the ticket holds characters that no ticket has")]
    Characters,
    /// The text is too short or too long.
    #[error("the ticket is not whole")]
    Length,
    /// The ticket is of another version.
    #[error("the ticket is of version {0}, this program knows version {VERSION}")]
    Version(u8),
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Ticket, TicketError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| match e {
            base64::DecodeError::InvalidByte(..) => TicketError::Characters,
            _ => TicketError::Length,
        })?;
        let (version, rest) = bytes.split_first().ok_or(TicketError::Length)?;
        if *version != VERSION {
            return Err(TicketError::Version(*version));
        }
        let (fingerprint, token) = rest.split_first_chunk().ok_or(TicketError::Length)?;
        let token = Token(token.try_into().map_err(|_| TicketError::Length)?);
        Ok(Ticket { fingerprint: *fingerprint, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_back() {
        let ticket = Ticket { fingerprint: [0xA5; 32], token: Token([7; 16]) };
        let text = ticket.reveal();
        assert_eq!(text.len(), 66);
        let again: Ticket = text.parse().unwrap();
        assert_eq!(again.fingerprint, ticket.fingerprint);
        assert!(
            again.token.is(&[7; 16])
                && !again.token.is(&[7; 15])
                && !again.token.is(&[8; 16])
                && !again.token.is(b"")
        );
        assert!(!format!("{ticket:?}").contains('7'));
    }

    #[test]
    fn anything_else_is_refused() {
        let text = Ticket { fingerprint: [1; 32], token: Token([2; 16]) }.reveal();
        let no = |t: &str| t.parse::<Ticket>().unwrap_err();
        assert_eq!(no(""), TicketError::Length);
        for cut in 1..text.len() {
            no(&text[..cut]);
        }
        no(&format!("{text}AAAA"));
        assert_eq!(no(&text.replace('A', "/")), TicketError::Characters);
        assert_eq!(no(&URL_SAFE_NO_PAD.encode([9; 49])), TicketError::Version(9));
    }
}
