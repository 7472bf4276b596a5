//! Reads keyring files of a server: that of `component_keyring_file`, which is JSON, and that of the plugin `keyring_file`, which
//! versions before 9.0 had.
//!
//! The plugin's file (`plugin/keyring/buffered_file_io.cc`, `plugin/keyring/common/keyring_key.cc`): `PLUGIN_HEAD`, then each key
//! as five little-endian numbers of 8 bytes (length of the whole entry, of the key's id, type, user, and of the key) with these four
//! behind them, padded to 8 bytes; at the end `PLUGIN_END`, and SHA-256 of all before. The key is XORed with `PLUGIN_MASK`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::key_info::{KEY_LEN, KeyInfo, MasterKey, SpaceKey, default_master_key};
use super::transition::from_hex;
use super::{Keyring, NoKey, Sealed};

/// Maximum length in bytes of a keyring file that is read.
pub const KEYRING_MAX: u64 = 64 << 20;

const PLUGIN_HEAD: &[u8] = b"Keyring file version:";
/// With the number of the version.
const PLUGIN_HEAD_LEN: usize = 24;
const PLUGIN_END: &[u8] = b"EOF";
const PLUGIN_MASK: &[u8] = b"*305=Ljt0*!@$Hnm(*-9-w;:";
const PLUGIN_NUMBERS: usize = 5;
const PLUGIN_ALIGN: usize = 8;

/// Master keys of InnoDB, and those of binary logs, by their names.
#[derive(Clone)]
pub struct KeyringFile {
    keys: BTreeMap<String, MasterKey>,
    binlogs: BTreeMap<String, MasterKey>,
}

/// Error: it is no keyring file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyringError {
    /// Neither of the formats.
    #[error(
        "it is no keyring file: neither JSON as component_keyring_file writes it, nor the file of the plugin keyring_file"
    )]
    Unknown,
    /// The plugin's file is cut.
    #[error("it is cut: the file of a plugin keyring_file ends with EOF and a digest")]
    Cut,
}

/// The file of the component.
#[derive(Deserialize)]
struct Component<'a> {
    #[serde(borrow)]
    elements: Vec<Element<'a>>,
}

/// The key is borrowed from the content, which the caller wipes.
#[derive(Deserialize)]
struct Element<'a> {
    data_id: Cow<'a, str>,
    data: &'a str,
}

impl KeyringFile {
    /// Reads the content of a keyring file. Entries that are no master keys of InnoDB are left out.
    ///
    /// # Errors
    /// [`KeyringError`]. It never shows what is in the file.
    pub fn parse(content: &[u8]) -> Result<KeyringFile, KeyringError> {
        let mut keys = BTreeMap::new();
        if content.starts_with(PLUGIN_HEAD) {
            plugin(content, &mut keys)?;
        } else {
            let file: Component<'_> = serde_json::from_slice(content).map_err(|_| KeyringError::Unknown)?;
            for element in file.elements {
                if let Some(key) = from_hex::<KEY_LEN>(element.data) {
                    keys.insert(element.data_id.into_owned(), key);
                }
            }
        }
        let binlogs = keys.extract_if(.., |name, _| name.starts_with("MySQLReplicationKey_")).collect();
        keys.retain(|name, _| name.starts_with("INNODBKey-"));
        Ok(KeyringFile { keys, binlogs })
    }

    /// Returns the names of the master keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }
}

impl fmt::Debug for KeyringFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.keys()).finish()
    }
}

impl Keyring for KeyringFile {
    fn key(&self, sealed: Sealed<'_>) -> Result<SpaceKey, NoKey> {
        let info = match sealed {
            Sealed::Tablespace(_, info) | Sealed::Redo(info) => KeyInfo::parse(info).ok_or(NoKey::Unknown)?,
            Sealed::Binlog(_) => return Err(NoKey::Unknown),
        };
        match info.master_key_name() {
            None => info.open(&default_master_key()).ok_or(NoKey::Unknown),
            Some(name) => match self.keys.get(&name) {
                None => Err(NoKey::Missing(name)),
                Some(master) => info.open(master).ok_or(NoKey::Wrong(name)),
            },
        }
    }

    fn binlog_key(&self, header: &[u8]) -> Option<(String, MasterKey)> {
        const FIELDS: usize = 5;
        const NAME: u8 = 1;
        let [NAME, len, rest @ ..] = header.get(FIELDS..)? else { return None };
        let name = std::str::from_utf8(rest.get(..usize::from(*len))?).ok()?;
        self.binlogs.get_key_value(name).map(|(name, key)| (name.clone(), key.clone()))
    }
}

/// Reads the plugin's file.
fn plugin(content: &[u8], keys: &mut BTreeMap<String, MasterKey>) -> Result<(), KeyringError> {
    let mut rest = content.get(PLUGIN_HEAD_LEN..).ok_or(KeyringError::Cut)?;
    while !rest.starts_with(PLUGIN_END) {
        let mut numbers = [0; PLUGIN_NUMBERS];
        for (n, number) in numbers.iter_mut().enumerate() {
            let bytes = rest.get(n * 8..).and_then(|bytes| bytes.first_chunk()).ok_or(KeyringError::Cut)?;
            *number = usize::try_from(u64::from_le_bytes(*bytes)).map_err(|_| KeyringError::Cut)?;
        }
        let [whole, id, kind, user, key] = numbers;
        let fields = rest.get(PLUGIN_NUMBERS * 8..whole).ok_or(KeyringError::Cut)?;
        let (name, fields) = fields.split_at_checked(id).ok_or(KeyringError::Cut)?;
        let skipped = kind.checked_add(user).ok_or(KeyringError::Cut)?;
        let masked = fields.get(skipped..).and_then(|key_on| key_on.get(..key)).ok_or(KeyringError::Cut)?;
        if let (Ok(name), Some(masked)) = (std::str::from_utf8(name), masked.first_chunk::<KEY_LEN>())
            && key == KEY_LEN
        {
            let mut key = Zeroizing::new(*masked);
            key.iter_mut().zip(PLUGIN_MASK.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            keys.insert(name.to_owned(), key);
        }
        let next = whole.checked_next_multiple_of(PLUGIN_ALIGN).filter(|next| *next > 0);
        rest = next.and_then(|next| rest.get(next..)).ok_or(KeyringError::Cut)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SpaceId;
    use proptest::prelude::*;

    const UUID: &str = "0a14a6b2-e660-11f1-a95e-02fc00000001";

    fn component() -> String {
        let hex = "07".repeat(KEY_LEN);
        format!(
            r#"{{"version":"1.0","elements":[{{"user":"","data_id":"INNODBKey-{UUID}-1","data_type":"AES","data":"{hex}","extension":[]}},
               {{"user":"u@h","data_id":"percona_binlog","data_type":"AES","data":"00","extension":[]}}]}}"#
        )
    }

    fn plugin_file() -> Vec<u8> {
        let mut file = b"Keyring file version:2.0".to_vec();
        let name = format!("INNODBKey-{UUID}-2");
        let whole = 40 + name.len() + 3 + KEY_LEN;
        for number in [whole, name.len(), 3, 0, KEY_LEN] {
            file.extend((number as u64).to_le_bytes());
        }
        file.extend(name.as_bytes());
        file.extend(b"AES");
        file.extend([9; KEY_LEN].iter().zip(PLUGIN_MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        file.resize(24 + whole.next_multiple_of(8), 0);
        file.extend(b"EOF");
        file.extend([0; 32]);
        file
    }

    #[test]
    fn both_formats_are_read_and_show_no_key() {
        let space = SpaceKey { key: [1; KEY_LEN], iv: [2; KEY_LEN] };
        for (file, number, master) in [(component().into_bytes(), 1, 7), (plugin_file(), 2, 9)] {
            let keyring = KeyringFile::parse(&file).unwrap();
            let name = format!("INNODBKey-{UUID}-{number}");
            assert_eq!(keyring.names().collect::<Vec<_>>(), [name.as_str()]);
            assert_eq!(format!("{keyring:?}"), format!("[{name:?}]"));
            let info = space.seal(&Zeroizing::new([master; KEY_LEN]), number, UUID);
            assert!(keyring.cipher(Sealed::Tablespace(SpaceId(5), &info)).is_ok());
            assert!(keyring.cipher(Sealed::Redo(&info)).is_ok());
            let other = space.seal(&Zeroizing::new([1; KEY_LEN]), number, UUID);
            assert_eq!(keyring.cipher(Sealed::Redo(&other)).unwrap_err(), NoKey::Wrong(name));
            let later = space.seal(&Zeroizing::new([1; KEY_LEN]), 8, UUID);
            let missing = format!("INNODBKey-{UUID}-8");
            assert_eq!(keyring.cipher(Sealed::Redo(&later)).unwrap_err(), NoKey::Missing(missing));
            let first = space.seal(&default_master_key(), 0, "");
            assert!(keyring.cipher(Sealed::Redo(&first)).is_ok());
            assert_eq!(keyring.cipher(Sealed::Redo(&[0; 111])).unwrap_err(), NoKey::Unknown);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in ["", "{}", "[]", "{\"elements\": 3}", "Keyring file version:2.0"] {
            assert!(KeyringFile::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let file = plugin_file();
        for cut in 22..file.len() - 32 {
            assert!(KeyringFile::parse(&file[..cut]).is_err() || file[..cut].ends_with(b"EOF"), "{cut}");
        }
        assert_eq!(KeyringFile::parse(br#"{"elements": []}"#).unwrap().names().count(), 0);
    }

    proptest! {
        #[test]
        fn noise_is_taken(at in 24usize..120, byte in any::<u8>(), tail in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut file = plugin_file();
            let at = at.min(file.len() - 1);
            file[at] = byte;
            let _ = KeyringFile::parse(&file);
            let _ = KeyringFile::parse(&[b"Keyring file version:2.0", &tail[..]].concat());
        }
    }
}
