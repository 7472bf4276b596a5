//! The keys that a receive works with: those of the keyring that was given, and those that come in the stream.

use std::sync::{Arc, Mutex};

use crate::base::sync::lock;
use crate::base::{Code, Error, Result};
use crate::codec::age::{self, Keys};
use crate::innodb::encryption::key_info::{MasterKey, SpaceKey};
use crate::innodb::encryption::transition::TransitionKeys;
use crate::innodb::encryption::{Cipher, Keyring, NoKey, Sealed};

/// Maximum length in bytes of a member with keys: those of 100,000 tablespaces.
pub(super) const KEYS_MAX: usize = 16 << 20;

/// A keyring that grows.
#[derive(Debug)]
pub struct ReceivedKeys {
    given: Arc<dyn Keyring>,
    /// Whether keys in the stream are used.
    wanted: bool,
    arrived: Mutex<Vec<TransitionKeys>>,
}

impl ReceivedKeys {
    /// Creates it with the keyring that was given. `wanted`: keys in the stream are used as well.
    pub fn new(given: Arc<dyn Keyring>, wanted: bool) -> ReceivedKeys {
        ReceivedKeys { given, wanted, arrived: Mutex::default() }
    }

    /// Takes keys that came in a stream; `keys` decrypt them.
    ///
    /// # Errors
    /// Those of decrypting; [`Code::StreamRefused`] if what is encrypted is no list of keys.
    pub(super) fn add(&self, member: &str, content: &[u8], keys: &Keys) -> Result<()> {
        if !self.wanted {
            return Ok(());
        }
        let text = age::decrypt(keys, content, KEYS_MAX as u64).map_err(|e| {
            let e = Error::from(e);
            Error { message: format!("the keys in the stream ({member}): {}", e.message), ..e }
                .hint("give the secret key that xbsend --transition-to encrypted them for: --identity FILE")
        })?;
        let keys = TransitionKeys::parse(&text)
            .map_err(|e| Error::new(Code::StreamRefused, format!("member '{member}'")).cause(e))?;
        lock(&self.arrived).push(keys);
        Ok(())
    }

    /// Returns the entries that the copy's keyring needs beside a master key.
    pub(super) fn entries(&self) -> Vec<(String, MasterKey)> {
        let arrived = lock(&self.arrived);
        let entries = arrived.iter().flat_map(TransitionKeys::entries);
        entries.map(|(name, key)| (name.to_owned(), key.clone())).collect()
    }

    fn first<T>(
        &self,
        find: impl Fn(&dyn Keyring) -> std::result::Result<T, NoKey>,
    ) -> std::result::Result<T, NoKey> {
        find(&*self.given).or_else(|lacking| {
            let arrived = lock(&self.arrived);
            arrived.iter().find_map(|keys| find(keys).ok()).ok_or(lacking)
        })
    }
}

impl Keyring for ReceivedKeys {
    fn key(&self, sealed: Sealed<'_>) -> std::result::Result<SpaceKey, NoKey> {
        self.first(|keyring| keyring.key(sealed))
    }

    fn cipher(&self, sealed: Sealed<'_>) -> std::result::Result<Arc<dyn Cipher>, NoKey> {
        self.first(|keyring| keyring.cipher(sealed))
    }

    fn has_keys(&self) -> bool {
        self.wanted || self.given.has_keys()
    }
}
