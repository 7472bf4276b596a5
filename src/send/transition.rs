//! Sends the keys of encrypted tablespaces, redo and binary log, encrypted to a receiver that does not have the source's keyring.

use std::time::{Duration, Instant};

use crate::base::{Code, Error, Result};
use crate::innodb::encryption::Sealed;
use crate::innodb::encryption::transition::TransitionKeys;
use crate::innodb::redo::RedoHead;
use crate::source::inventory::Datafile;
use crate::source::pages::{OpenDatafile, Reading};
use crate::stream::metadata::{BINLOG_KEY, KEYS};

use super::Backup;
use crate::source::page_filter::EveryPage;

/// How long the server is given to write the pages of a new tablespace.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

impl Backup<'_> {
    /// Sends the keys of all encrypted tablespaces, and of the redo log with this header, if that was asked for.
    ///
    /// # Errors
    /// [`Code::Encrypted`] names a key that the keyring lacks.
    pub(super) fn send_keys(&self, redo_head: &[u8]) -> Result<()> {
        if self.options.transition.is_none() {
            return Ok(());
        }
        let mut keys = TransitionKeys::default();
        let counts = Default::default();
        let reading = self.reading(&EveryPage, false, &counts);
        for file in self.inventory.datafiles.iter().filter(|file| file.part == 0) {
            let open = self.with_key(file, &reading)?;
            if let Some(info) = open.encryption_info() {
                let key = self.keyring.key(Sealed::Tablespace(file.space, info));
                keys.add(key.map_err(|lacking| lacks(&file.path.display().to_string(), &lacking))?);
            }
        }
        let info = RedoHead::read_logfile(redo_head).ok().and_then(|head| head.encryption);
        if let Some(info) = info {
            let key = self.keyring.key(Sealed::Redo(&*info));
            keys.add(key.map_err(|lacking| lacks("the redo log", &lacking))?);
        }
        self.send_encrypted(KEYS, &keys)
    }

    /// Opens a datafile once its page 0 says which key it has: that of a new tablespace stands in the redo log alone until the server
    /// writes its pages.
    fn with_key(&self, file: &Datafile, reading: &Reading<'_>) -> Result<OpenDatafile> {
        let begun = Instant::now();
        loop {
            let open = OpenDatafile::open(file, 0, reading)?;
            if !open.is_encrypted() || open.encryption_info().is_some() {
                return Ok(open);
            }
            if begun.elapsed() > WRITTEN_WITHIN {
                let path = file.path.display();
                let what = format!("{path} is encrypted, and its key stands in the redo log alone so far");
                return Err(Error::new(Code::Encrypted, what).hint(
                    "try again later, or have the server write its pages: SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0, \
                     innodb_max_dirty_pages_pct = 0",
                ));
            }
            self.stop.check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends the key of the binary log that begins with `header`, if that was asked for.
    ///
    /// # Errors
    /// [`Code::Encrypted`].
    pub(super) fn send_binlog_key(&self, header: &[u8]) -> Result<()> {
        if self.options.transition.is_none() {
            return Ok(());
        }
        let (name, key) = self.keyring.binlog_key(header).ok_or_else(|| {
            Error::new(Code::Encrypted, "the keyring does not have the key of the encrypted binary log")
        })?;
        let mut keys = TransitionKeys::default();
        keys.add_entry(&name, key);
        self.send_encrypted(BINLOG_KEY, &keys)
    }

    fn send_encrypted(&self, member: &str, keys: &TransitionKeys) -> Result<()> {
        let text = keys.encode();
        let encrypted = self.options.transition.encrypt(text.as_bytes())?;
        self.member_writer.send_bytes(member, &encrypted)
    }
}

fn lacks(what: &str, lacking: &crate::innodb::encryption::NoKey) -> Error {
    Error::new(Code::Encrypted, format!("{what} is encrypted: it {lacking}"))
        .hint("give the server's own keyring file with --keyring")
}
