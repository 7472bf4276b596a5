//! Finds the keys of a tablespace: those of its pages as they were copied, and the one that it has at the end of the redo.
//!
//! Page 0 holds the encryption information. Redo writes it anew when the master key is rotated (the key stays what it was), when the
//! tablespace is encrypted in its place, and when that is undone (zeros). So pages may be in the copy as any of these keys encrypts
//! them, and are written with the last one, or in the clear if there is none any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::SpaceId;
use crate::innodb::encryption::key_info::{INFO_LEN, KeyInfo};
use crate::innodb::encryption::{Cipher, Keyring, NoKey, Sealed};

/// Most pieces of encryption information of one tablespace that are kept, the last ones.
const KEPT_MAX: usize = 16;

/// Encryption information that redo writes, in its order.
#[derive(Default)]
pub(crate) struct SpaceKeys {
    by_space: BTreeMap<SpaceId, Vec<[u8; INFO_LEN]>>,
}

impl SpaceKeys {
    pub(crate) fn note(&mut self, space: SpaceId, info: &[u8; INFO_LEN]) {
        let all = self.by_space.entry(space).or_default();
        if all.last() != Some(info) {
            if all.len() == KEPT_MAX {
                all.remove(0);
            }
            all.push(*info);
        }
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        let entries: usize = self.by_space.values().map(|all| all.capacity() * INFO_LEN).sum();
        entries + 2 * self.by_space.len() * size_of::<(SpaceId, Vec<[u8; INFO_LEN]>)>()
    }
}

/// The ciphers of one tablespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpaceCiphers {
    /// Those that its pages may be encrypted with, the last one first.
    pub(crate) opens: Vec<Arc<dyn Cipher>>,
    /// The one that pages are written with; `None` for a tablespace that is not encrypted (any more).
    pub(crate) seals: Option<Arc<dyn Cipher>>,
    /// Why the key is not known that the tablespace has.
    pub(crate) lacking: Option<NoKey>,
}

impl SpaceCiphers {
    /// Finds those of a tablespace whose page 0 has this encryption information. `is_encrypted`: its flags say so.
    pub(crate) fn find(
        space: SpaceId,
        page0: Option<&[u8; INFO_LEN]>,
        is_encrypted: bool,
        redo: &SpaceKeys,
        keyring: &dyn Keyring,
    ) -> SpaceCiphers {
        let written = redo.by_space.get(&space).map(Vec::as_slice).unwrap_or_default();
        let mut found = SpaceCiphers::default();
        let mut is_last = true;
        for info in written.iter().rev().chain(page0) {
            let is_info = KeyInfo::parse(info).is_some();
            match keyring.cipher(Sealed::Tablespace(space, info)) {
                Ok(cipher) => {
                    if is_last {
                        found.seals = Some(cipher.clone());
                    }
                    found.opens.push(cipher);
                }
                // What is there no longer needs no key.
                Err(_) if !is_info && !written.is_empty() => {}
                Err(e) if is_last => found.lacking = Some(e),
                Err(_) => {}
            }
            is_last = false;
        }
        if is_last && is_encrypted {
            found.lacking = Some(NoKey::Unknown);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::encryption::NoKeyring;
    use crate::innodb::encryption::key_info::{KEY_LEN, MasterKey, SpaceKey};
    use crate::innodb::encryption::keyring_file::KeyringFile;

    const UUID: &str = "0a14a6b2-e660-11f1-a95e-02fc00000001";
    const SPACE: SpaceId = SpaceId(5);

    /// A keyring with the master key 1, all of whose bytes are 7.
    fn keyring() -> KeyringFile {
        let hex = "07".repeat(KEY_LEN);
        KeyringFile::parse(
            format!(r#"{{"elements":[{{"data_id":"INNODBKey-{UUID}-1","data":"{hex}"}}]}}"#).as_bytes(),
        )
        .unwrap()
    }

    fn info(number: u32, key: u8) -> [u8; INFO_LEN] {
        let key = SpaceKey::new([key; KEY_LEN], [key; KEY_LEN]);
        key.seal(&MasterKey::new([7; KEY_LEN]), number, UUID)
    }

    #[test]
    fn the_last_key_encrypts_and_all_decrypt() {
        let mut redo = SpaceKeys::default();
        let find = |page0: Option<&[u8; INFO_LEN]>, redo: &SpaceKeys| {
            let found = SpaceCiphers::find(SPACE, page0, page0.is_some(), redo, &keyring());
            (found.opens.len(), found.seals.is_some(), found.lacking)
        };
        assert_eq!(find(None, &redo), (0, false, None));
        assert_eq!(find(Some(&info(1, 1)), &redo), (1, true, None));
        let missing = Some(NoKey::Missing(format!("INNODBKey-{UUID}-2")));
        assert_eq!(find(Some(&info(2, 1)), &redo), (0, false, missing.clone()));
        // Encrypted while it was copied, by a key that page 0 did not have yet.
        redo.note(SPACE, &info(1, 2));
        assert_eq!(find(None, &redo), (1, true, None));
        assert_eq!(find(Some(&info(1, 1)), &redo), (2, true, None));
        // A master key that is no longer needed.
        assert_eq!(find(Some(&info(2, 1)), &redo), (1, true, None));
        // Decrypted at last: old pages still need their key.
        redo.note(SPACE, &[0; INFO_LEN]);
        assert_eq!(find(Some(&info(1, 2)), &redo), (2, false, None));
        redo.note(SPACE, &info(2, 3));
        assert_eq!(find(Some(&info(1, 2)), &redo), (2, false, missing));
        let none = SpaceCiphers::find(SPACE, Some(&info(1, 1)), true, &SpaceKeys::default(), &NoKeyring);
        assert_eq!(none.lacking, Some(NoKey::NotGiven(format!("INNODBKey-{UUID}-1"))));
        let created = SpaceCiphers::find(SPACE, None, true, &SpaceKeys::default(), &keyring());
        assert_eq!(created.lacking, Some(NoKey::Unknown));
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut redo = SpaceKeys::default();
        for n in 0..40 {
            redo.note(SPACE, &info(1, n));
            redo.note(SPACE, &info(1, n));
        }
        assert_eq!(redo.by_space[&SPACE].len(), KEPT_MAX);
        assert_eq!(redo.by_space[&SPACE].last(), Some(&info(1, 39)));
    }
}
