//! Reads the encryption information of a tablespace or of the redo log (`Encryption::INFO_SIZE`, `Encryption::decode_encryption_info`
//! of `os0enc.cc`): which master key encrypts the key and the initialisation vector, and both of them, encrypted.
//!
//! | offset | length | content |
//! |---|---|---|
//! | 0 | 3 | magic: `lCC`, or `lCB` of earlier versions; `lCA` is of 5.7.11, and names no server |
//! | 3 | 4 | number of the master key, big-endian; 0 is `DEFAULT_MASTER_KEY` |
//! | 7 | 36 | uuid of the server that the master key is of |
//! | 43 | 64 | key and initialisation vector, 32 bytes each, encrypted with AES-256-ECB |
//! | 107 | 4 | CRC-32C of these 64 bytes in the clear, big-endian |

use aes::Aes256;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use zeroize::{Zeroize, Zeroizing};

use crate::base::crc32c::crc32c;
use crate::innodb::bytes::be32;

/// Length in bytes of the encryption information.
pub const INFO_LEN: usize = 111;
/// Length in bytes of master keys, of keys, and of initialisation vectors.
pub const KEY_LEN: usize = 32;

const MAGICS: [&[u8]; 2] = [b"lCB", b"lCC"];
const MASTER_KEY_ID: usize = 3;
const UUID: usize = 7;
const UUID_LEN: usize = 36;
const SEALED: usize = 43;
/// Length in bytes of a key and its initialisation vector.
pub(super) const SEALED_LEN: usize = 2 * KEY_LEN;
const CRC: usize = SEALED + SEALED_LEN;
const BLOCK: usize = 16;

/// The master key of number 0 (`Encryption::DEFAULT_MASTER_KEY`), padded with zeros: what is encrypted before there is another.
const DEFAULT_MASTER_KEY: &[u8] = b"DefaultMasterKey";

/// A key with which others are encrypted. It is wiped when it goes.
pub type MasterKey = Zeroizing<[u8; KEY_LEN]>;

/// The encryption information of a tablespace or of the redo log.
#[derive(Clone, Debug)]
pub struct KeyInfo {
    number: u32,
    uuid: String,
    sealed: [u8; SEALED_LEN],
    crc: u32,
}

/// The key of a tablespace or of the redo log. It is wiped when it goes, and is never shown.
#[derive(Clone, Zeroize, zeroize::ZeroizeOnDrop)]
pub struct SpaceKey {
    pub(super) key: [u8; KEY_LEN],
    pub(super) iv: [u8; KEY_LEN],
}

impl SpaceKey {
    /// Creates it of its two parts.
    pub fn new(key: [u8; KEY_LEN], iv: [u8; KEY_LEN]) -> SpaceKey {
        SpaceKey { key, iv }
    }

    /// Returns both parts, one behind the other.
    pub(super) fn parts(&self) -> Zeroizing<[u8; SEALED_LEN]> {
        let mut parts = Zeroizing::new([0; SEALED_LEN]);
        parts[..KEY_LEN].copy_from_slice(&self.key);
        parts[KEY_LEN..].copy_from_slice(&self.iv);
        parts
    }

    /// Creates it of both parts, one behind the other.
    pub(super) fn of_parts(parts: &[u8; SEALED_LEN]) -> SpaceKey {
        let mut key = SpaceKey::new([0; KEY_LEN], [0; KEY_LEN]);
        key.key.copy_from_slice(&parts[..KEY_LEN]);
        key.iv.copy_from_slice(&parts[KEY_LEN..]);
        key
    }

    /// CRC-32C of both parts, which the encryption information has in the clear.
    pub(super) fn crc(&self) -> u32 {
        crc32c(&*self.parts())
    }

    /// Returns the encryption information for this key under a master key (`Encryption::fill_encryption_info`).
    pub fn seal(&self, master: &MasterKey, number: u32, uuid: &str) -> [u8; INFO_LEN] {
        let mut info = [0; INFO_LEN];
        info[..UUID].copy_from_slice(&[MAGICS[1], &number.to_be_bytes()].concat());
        let uuid = &uuid.as_bytes()[..uuid.len().min(UUID_LEN)];
        info[UUID..UUID + uuid.len()].copy_from_slice(uuid);
        info[SEALED..CRC].copy_from_slice(&*self.parts());
        let cipher = Aes256::new((&**master).into());
        info[SEALED..CRC].chunks_exact_mut(BLOCK).for_each(|block| cipher.encrypt_block(block.into()));
        info[CRC..].copy_from_slice(&self.crc().to_be_bytes());
        info
    }
}

impl SpaceKey {
    /// Returns the file `.cfp` that `ALTER TABLE … IMPORT TABLESPACE` takes the key of an encrypted datafile from
    /// (`row_quiesce_write_transfer_key`): the length of keys, a transfer key, and key and initialisation vector encrypted with it
    /// (AES-256-ECB). Who has the file has the key.
    pub fn transfer(&self, transfer: &MasterKey) -> Zeroizing<Vec<u8>> {
        let cipher = Aes256::new((&**transfer).into());
        let mut parts = self.parts();
        parts.chunks_exact_mut(BLOCK).for_each(|block| cipher.encrypt_block(block.into()));
        let mut file = Zeroizing::new(Vec::with_capacity(4 + 3 * KEY_LEN));
        file.extend((KEY_LEN as u32).to_be_bytes());
        file.extend_from_slice(&**transfer);
        file.extend_from_slice(&*parts);
        file
    }
}

impl KeyInfo {
    /// Reads it; `None` if there is none, or one of a version that names no server.
    pub fn parse(info: &[u8]) -> Option<KeyInfo> {
        let info: &[u8; INFO_LEN] = info.first_chunk()?;
        if !MAGICS.iter().any(|magic| info.starts_with(magic)) {
            return None;
        }
        let uuid = std::str::from_utf8(&info[UUID..UUID + UUID_LEN]).ok()?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '\0';
        if !uuid.chars().all(is_plain) {
            return None;
        }
        Some(KeyInfo {
            number: be32(info, MASTER_KEY_ID),
            uuid: uuid.trim_end_matches('\0').to_owned(),
            sealed: *info[SEALED..].first_chunk()?,
            crc: be32(info, CRC),
        })
    }

    /// Returns the name that the master key has in a keyring (`Encryption::fill_master_key_name`); `None` where it is in none.
    pub fn master_key_name(&self) -> Option<String> {
        (self.number != 0).then(|| format!("INNODBKey-{}-{}", self.uuid, self.number))
    }

    /// CRC-32C of the key and its initialisation vector in the clear: the same under whatever master key.
    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// Decrypts the key; `None` if the master key is another one.
    pub fn open(&self, master: &MasterKey) -> Option<SpaceKey> {
        let mut clear = Zeroizing::new(self.sealed);
        let cipher = Aes256::new((&**master).into());
        clear.chunks_exact_mut(BLOCK).for_each(|block| cipher.decrypt_block(block.into()));
        if crc32c(&*clear) != self.crc {
            return None;
        }
        Some(SpaceKey::of_parts(&clear))
    }
}

/// Returns the master key of number 0.
pub(super) fn default_master_key() -> MasterKey {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    key[..DEFAULT_MASTER_KEY.len()].copy_from_slice(DEFAULT_MASTER_KEY);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID_OF_TEST: &str = "0a14a6b2-e660-11f1-a95e-02fc00000001";

    #[test]
    fn a_key_is_opened_by_its_master_key_only() {
        let master = Zeroizing::new([7; KEY_LEN]);
        let key = SpaceKey { key: [1; KEY_LEN], iv: [2; KEY_LEN] };
        let info = KeyInfo::parse(&key.seal(&master, 3, UUID_OF_TEST)).unwrap();
        assert_eq!(info.master_key_name().unwrap(), format!("INNODBKey-{UUID_OF_TEST}-3"));
        let opened = info.open(&master).unwrap();
        assert_eq!((opened.key, opened.iv), (key.key, key.iv));
        assert!(info.open(&Zeroizing::new([8; KEY_LEN])).is_none());
        let first = KeyInfo::parse(&key.seal(&default_master_key(), 0, "")).unwrap();
        assert_eq!(first.master_key_name(), None);
        assert!(first.open(&default_master_key()).is_some());
    }

    #[test]
    fn what_is_none_is_not_read() {
        let key = SpaceKey { key: [1; KEY_LEN], iv: [2; KEY_LEN] };
        let info = key.seal(&default_master_key(), 1, UUID_OF_TEST);
        assert!(KeyInfo::parse(&info[..INFO_LEN - 1]).is_none());
        assert!(KeyInfo::parse(&[0; INFO_LEN]).is_none());
        for (at, byte) in [(2, b'A'), (10, b'\n'), (10, 0xFF)] {
            let mut other = info;
            other[at] = byte;
            assert!(KeyInfo::parse(&other).is_none());
        }
    }
}
