//! The transition keys: all keys that one backup needs, for a receiver that does not have the source's keyring. A sender encrypts
//! this text to the receiver (`xbsend --transition-to`).
//!
//! A text of lines: `HEAD`; `key`, and the key of a tablespace or of the redo log with its initialisation vector, in hexadecimal
//! digits; `entry`, the name of an entry of the keyring that the binary log of the backup needs, and its key. Which tablespace a key
//! is of need not be said: its checksum stands in the encryption information, and stays what it is under another master key.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::key_info::{KEY_LEN, KeyInfo, MasterKey, SEALED_LEN, SpaceKey};
use super::{Keyring, NoKey, Sealed};

/// The first line.
const HEAD: &str = "xbpipe-keys 1";

/// Keys of tablespaces, of the redo log, and of the binary log.
#[derive(Clone, Default)]
pub struct TransitionKeys {
    by_crc: BTreeMap<u32, SpaceKey>,
    entries: BTreeMap<String, MasterKey>,
}

/// Error: the text is no list of keys. It shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {0} of the keys in the stream is not understood")]
pub struct TransitionError(usize);

impl TransitionKeys {
    /// Adds the key of a tablespace or of the redo log.
    pub fn add(&mut self, key: SpaceKey) {
        self.by_crc.insert(key.crc(), key);
    }

    /// Adds an entry of the keyring.
    pub fn add_entry(&mut self, name: &str, key: MasterKey) {
        self.entries.insert(name.to_owned(), key);
    }

    /// Returns the entries for the receiver's keyring.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &MasterKey)> {
        self.entries.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// Returns the text.
    pub fn encode(&self) -> Zeroizing<String> {
        // Room for all of it: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(
            64 + self.by_crc.len() * (8 + 2 * SEALED_LEN)
                + self.entries.keys().map(|name| name.len() + 80).sum::<usize>(),
        ));
        text.push_str(HEAD);
        for key in self.by_crc.values() {
            text.push_str("\nkey ");
            push_hex(&mut text, &*key.parts());
        }
        for (name, key) in &self.entries {
            text.push_str("\nentry ");
            text.push_str(name);
            text.push(' ');
            push_hex(&mut text, &**key);
        }
        text.push('\n');
        text
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`TransitionError`].
    pub fn parse(text: &str) -> Result<TransitionKeys, TransitionError> {
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, line)| line != HEAD) {
            return Err(TransitionError(1));
        }
        let mut keys = TransitionKeys::default();
        for (n, line) in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["key", hex] => {
                    let parts = from_hex::<SEALED_LEN>(hex).ok_or(TransitionError(n + 1))?;
                    keys.add(SpaceKey::of_parts(&parts));
                }
                ["entry", name, hex] if is_name(name) => {
                    keys.add_entry(name, from_hex::<KEY_LEN>(hex).ok_or(TransitionError(n + 1))?);
                }
                _ => return Err(TransitionError(n + 1)),
            }
        }
        Ok(keys)
    }
}

impl fmt::Debug for TransitionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.by_crc.len())
    }
}

impl Keyring for TransitionKeys {
    fn key(&self, sealed: Sealed<'_>) -> Result<SpaceKey, NoKey> {
        let (Sealed::Tablespace(_, info) | Sealed::Redo(info)) = sealed else { return Err(NoKey::Unknown) };
        let info = KeyInfo::parse(info).ok_or(NoKey::Unknown)?;
        let missing = || info.master_key_name().map_or(NoKey::Unknown, NoKey::Missing);
        self.by_crc.get(&info.crc()).cloned().ok_or_else(missing)
    }
}

/// Whether it can be the name of an entry for binary logs (`Rpl_encryption::get_key_id`).
fn is_name(name: &str) -> bool {
    name.starts_with("MySQLReplicationKey_")
        && name.len() < 128
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Reads so many bytes in hexadecimal digits, neither more nor fewer.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * n..2 * n + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SpaceId;
    use proptest::prelude::*;

    const UUID: &str = "0a14a6b2-e660-11f1-a95e-02fc00000001";

    #[test]
    fn keys_travel_and_open_what_they_are_of_under_any_master_key() {
        let mut sent = TransitionKeys::default();
        let keys: Vec<SpaceKey> = (1..4).map(|n| SpaceKey::new([n; KEY_LEN], [n + 9; KEY_LEN])).collect();
        keys[..2].iter().for_each(|key| sent.add(key.clone()));
        sent.add_entry("MySQLReplicationKey_x_1", Zeroizing::new([8; KEY_LEN]));
        let read = TransitionKeys::parse(&sent.encode()).unwrap();
        assert_eq!(read.encode(), sent.encode());
        assert_eq!(read.entries().count(), 1);
        for master in [3, 4] {
            let info = |key: &SpaceKey| key.seal(&Zeroizing::new([master; KEY_LEN]), 6, UUID);
            let opened = read.key(Sealed::Tablespace(SpaceId(9), &info(&keys[1]))).unwrap();
            assert_eq!(*opened.parts(), *keys[1].parts());
            let missing = read.key(Sealed::Redo(&info(&keys[2]))).map(drop);
            assert_eq!(missing, Err(NoKey::Missing(format!("INNODBKey-{UUID}-6"))));
        }
        assert_eq!(format!("{read:?}"), "2 keys");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let good = "xbpipe-keys 1\nentry MySQLReplicationKey_x_1 ";
        let hex = "ab".repeat(KEY_LEN);
        assert!(TransitionKeys::parse(&format!("{good}{hex}\n")).is_ok());
        for bad in ["", "x", "xbpipe-keys 1\nkey", "xbpipe-keys 1\nkey 00", "xbpipe-keys 1\n\n"] {
            assert!(TransitionKeys::parse(bad).is_err(), "{bad}");
        }
        for hex in [&hex[2..], &hex.replace("ab", "+a"), &hex.replace("ab", "xy")] {
            assert!(TransitionKeys::parse(&format!("{good}{hex}\n")).is_err());
        }
        let other = good.replace("MySQLReplicationKey_x_1", "INNODBKey-x-1");
        assert_eq!(TransitionKeys::parse(&format!("{other}{hex}")).unwrap_err(), TransitionError(2));
    }

    proptest! {
        #[test]
        fn noise_is_taken(text in "(xbpipe-keys 1\n)?[a-f0-9 key\n+]{0,200}") {
            let _ = TransitionKeys::parse(&text);
        }
    }
}
