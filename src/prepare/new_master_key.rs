//! Puts the keys of a prepared copy's tablespaces under a new master key, for a server with another keyring.
//!
//! Only the encryption information in page 0 of each tablespace changes; pages stay as their keys encrypt them. The server finds the
//! master key by the name that stands there.

use std::os::unix::fs::FileExt;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::native::error::encrypted;
use super::{Datadir, datafiles};
use crate::base::nofollow;
use crate::base::{Code, Error, Result};
use crate::innodb::encryption::Sealed;
use crate::innodb::encryption::key_info::{KEY_LEN, MasterKey};
use crate::innodb::page::{Page0, checksum};

/// Number of the new master key: the first of its name.
const NUMBER: u32 = 1;

/// A master key that no keyring has yet.
pub struct NewMasterKey {
    uuid: String,
    key: MasterKey,
}

impl NewMasterKey {
    /// Makes one.
    ///
    /// # Errors
    /// [`Code::Internal`] if the system has no random numbers.
    pub fn generate() -> Result<NewMasterKey> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let filled = SystemRandom::new().fill(&mut *key);
        filled.map_err(|_| Error::new(Code::Internal, "the system has no random numbers"))?;
        Ok(NewMasterKey { uuid: uuid::Uuid::new_v4().to_string(), key })
    }

    /// Returns the name that it must have in the keyring, and the key.
    pub fn entry(&self) -> (String, MasterKey) {
        (format!("INNODBKey-{}-{NUMBER}", self.uuid), self.key.clone())
    }

    /// Puts the keys of all encrypted tablespaces of `datadir` under it; returns their number.
    ///
    /// # Errors
    /// [`Code::Encrypted`] if a key is not known, [`Code::TargetIo`].
    pub fn install(&self, datadir: &Datadir<'_>) -> Result<usize> {
        let mut count = 0;
        for (id, files) in datafiles::tablespaces(datadir)? {
            let Some(path) = files.first() else { continue };
            let failed = |e| Error::io(Code::TargetIo, path.display(), e);
            let (_, page0) = datafiles::page0(path, datadir.redo.pages())?;
            let Some(info) = page0.encryption.as_deref() else { continue };
            let key = datadir.keyring.key(Sealed::Tablespace(id, info));
            let key = key.map_err(|lacking| encrypted(path.display(), &lacking))?;
            let info = key.seal(&self.key, NUMBER, &self.uuid);
            let file = nofollow::open_rw(path).map_err(failed)?;
            let mut page = vec![0; page0.layout.physical()];
            file.read_exact_at(&mut page, 0).map_err(failed)?;
            let at = Page0::encryption_offset(page0.layout);
            page[at..at + info.len()].copy_from_slice(&info);
            checksum::stamp(&mut page, page0.layout.is_zip());
            file.write_all_at(&page, 0).map_err(failed)?;
            count += 1;
        }
        Ok(count)
    }
}

impl std::fmt::Debug for NewMasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.entry().0)
    }
}
