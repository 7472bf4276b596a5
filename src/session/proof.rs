//! Makes and checks the proof that a sender shows in the first packet of a connection, as the name that it
//! asks for in TLS (SNI).
//!
//! Only the holder of the ticket can make it, so that a flood of unauthenticated peers never takes the
//! sender's place among the unauthenticated connections. The proof only ranks these; what admits a sender is
//! its `Hello`.
//!
//! ```text
//! "p" | hex of: nonce (8 bytes) | HMAC-SHA256(token, label | nonce), cut to 8
//!             | HMAC-SHA256(secret, label | nonce), cut to 8
//! ```

use std::collections::VecDeque;
use std::fmt::Write as _;

use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::Secret;
use super::ticket::Token;

/// Length in bytes of a nonce, and of each truncated code.
pub const NONCE_LEN: usize = 8;
/// Number of proofs that are remembered, so that none can be used twice.
const REMEMBERED: usize = 1024;
const LABEL: &[u8] = b"xbpipe/1 connection";
const PREFIX: &str = "p";
const PARTS: usize = 3;

/// A number that is used for one connection only.
pub type Nonce = [u8; NONCE_LEN];

/// The evidence that an unauthenticated connection has shown so far, in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Standing {
    /// It has shown nothing.
    #[default]
    Silent,
    /// It has begun a handshake.
    Spoke,
    /// It holds the ticket, or a certificate of the authority.
    Invited,
    /// It knows the session's secret.
    Sender,
}

/// Returns the name to ask for.
pub fn name(nonce: Nonce, token: Option<&Token>, secret: &Secret) -> String {
    let mut name = PREFIX.to_owned();
    for byte in [nonce, by_token(nonce, token), code(secret, nonce)].iter().flatten() {
        // Writing to a string can't fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn by_token(nonce: Nonce, token: Option<&Token>) -> Nonce {
    token.map_or([0; NONCE_LEN], |token| code(&token.0, nonce))
}

fn code(key: &[u8], nonce: Nonce) -> Nonce {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &[LABEL, &nonce].concat());
    tag.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The nonces of the proofs that were seen.
#[derive(Debug, Default)]
pub(super) struct Proofs(VecDeque<Nonce>);

impl Proofs {
    /// Returns what a name proves. A proof counts once: whoever recorded it can't use it again.
    pub(super) fn standing(
        &mut self,
        name: &str,
        token: Option<&Token>,
        secret: Option<&Secret>,
    ) -> Standing {
        let Some([nonce, shown_token, shown_secret]) = parse(name) else { return Standing::Spoke };
        let is = |shown: Nonce, right: Nonce| bool::from(shown.ct_eq(&right));
        let standing = match (secret, token) {
            (Some(secret), _) if is(shown_secret, code(secret, nonce)) => Standing::Sender,
            (_, Some(token)) if is(shown_token, code(&token.0, nonce)) => Standing::Invited,
            _ => return Standing::Spoke,
        };
        if self.0.contains(&nonce) {
            return Standing::Spoke;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(nonce);
        standing
    }
}

fn parse(name: &str) -> Option<[Nonce; PARTS]> {
    let digits = name.strip_prefix(PREFIX)?.as_bytes();
    if digits.len() != PARTS * NONCE_LEN * 2 {
        return None;
    }
    let mut parts = [[0; NONCE_LEN]; PARTS];
    for (byte, pair) in parts.iter_mut().flatten().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: Token = Token([3; 16]);
    const SECRET: Secret = [5; 32];

    #[test]
    fn a_proof_counts_once_and_only_with_the_right_keys() {
        let mut proofs = Proofs::default();
        let name = |n: u8| super::name([n; 8], Some(&TOKEN), &SECRET);
        assert_eq!(proofs.standing(&name(1), Some(&TOKEN), None), Standing::Invited);
        assert_eq!(proofs.standing(&name(1), Some(&TOKEN), Some(&SECRET)), Standing::Spoke);
        assert_eq!(proofs.standing(&name(2), Some(&TOKEN), Some(&SECRET)), Standing::Sender);
        assert_eq!(proofs.standing(&name(3), Some(&TOKEN), Some(&[6; 32])), Standing::Invited);
        assert_eq!(proofs.standing(&name(4), Some(&Token([4; 16])), None), Standing::Spoke);
        // Without a ticket there is no token that could be right.
        assert_eq!(proofs.standing(&super::name([5; 8], None, &SECRET), None, None), Standing::Spoke);
        for n in 0..2 * REMEMBERED as u64 {
            let name = super::name(n.to_le_bytes(), Some(&TOKEN), &SECRET);
            assert_eq!(proofs.standing(&name, Some(&TOKEN), None), Standing::Invited);
        }
        assert_eq!(proofs.0.len(), REMEMBERED);
    }

    proptest! {
        #[test]
        fn any_name_is_read_or_proves_nothing(name in "p?[0-9a-fé]{0,60}") {
            let standing = Proofs::default().standing(&name, Some(&TOKEN), Some(&SECRET));
            prop_assert_eq!(standing, Standing::Spoke);
        }
    }
}
