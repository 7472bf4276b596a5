//! Defines how backups form a chain: what an increment says of the backup that it builds on, and whether it fits.
//!
//! An increment holds every page whose LSN is not below its `from_lsn`. Two conditions make it fit a base:
//!
//! * The base is of the same history of changes: the same server, the same redo log, and, where the increment
//!   names its base, just that backup.
//! * The base has all changes below `from_lsn`. Its datafiles have all below its own checkpoint; with its redo
//!   applied, all below its end.
//!
//! `to_lsn` of our backups is the checkpoint at which their redo begins. An increment made since then holds every
//! page that the base's redo would have changed. So redo is applied once in a chain, that of its last backup.

use serde::{Deserialize, Serialize};

use super::digest::{Digest, digest};
use super::manifest::{Manifest, lsn};

pub use super::manifest::Increment;
use crate::base::{self, Code, Lsn};

/// Name of the member that tells a receiver, before any data, that the stream is an increment. It is JSON, a
/// [`Lineage`].
pub const INCREMENT: &str = "xbpipe_increment";

/// What a backup says of its place in a chain.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Lineage {
    /// Identity of the backup: the digest of its manifest. `None` if it has no manifest (yet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Digest>,
    /// `@@server_uuid` of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_uuid: Option<String>,
    /// Number that all redo files of the source's redo log share. A server keeps it as long as it goes on with
    /// its log; a server that is restored from a backup begins another log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redo_uuid: Option<u32>,
    /// Time at which the source's server was started, in seconds since 1970, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_started: Option<u64>,
    /// `@@innodb_page_size` of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u32>,
    /// Which tables were chosen, in one text; `None` for all, or if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<String>,
    /// LSN from which on the next increment needs pages.
    #[serde(with = "lsn")]
    pub to_lsn: Lsn,
    /// LSN that the backup's redo reaches; an increment that begins after it leaves a gap.
    #[serde(with = "lsn")]
    pub end_lsn: Lsn,
    /// What it builds on; `None` for a full backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment: Option<Increment>,
}

/// Whether the redo of a base must be applied before an increment's pages are laid over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// The datafiles of the base are enough.
    Datafiles,
    /// The base's redo must be applied to them first.
    AfterRedo,
}

/// Error: an increment does not fit a base.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misfit {
    /// The backup is a full one.
    #[error("it is a full backup, and not an increment")]
    NoIncrement,
    /// It was made of another server.
    #[error("it is of server {increment}, and the backup before it of server {base}")]
    Server {
        /// Of the base.
        base: String,
        /// Of the increment.
        increment: String,
    },
    /// The server began a new redo log in between.
    #[error(
        "it was made from redo log {increment:08x}, and the backup before it from {base:08x}: the server was restored or initialised in between"
    )]
    RedoLog {
        /// Of the base.
        base: u32,
        /// Of the increment.
        increment: u32,
    },
    /// The page sizes differ.
    #[error("it has pages of {increment} bytes, and the backup before it of {base}")]
    PageSize {
        /// Of the base.
        base: u32,
        /// Of the increment.
        increment: u32,
    },
    /// It has other tables.
    #[error("it has the tables '{increment}', and the backup before it '{base}'")]
    Selection {
        /// Of the base.
        base: String,
        /// Of the increment.
        increment: String,
    },
    /// It names another base.
    #[error("it builds on backup {named}, and the backup before it is {base}")]
    Base {
        /// Identity of the base.
        base: Digest,
        /// Identity that the increment names.
        named: Digest,
    },
    /// It begins after the end of the base.
    #[error(
        "it holds pages from LSN {from} on, and the backup before it ends at LSN {end}: an increment in between is missing"
    )]
    Gap {
        /// `from_lsn` of the increment.
        from: Lsn,
        /// End of the base.
        end: Lsn,
    },
    /// It ends before the base does.
    #[error("it ends at LSN {end}, and the backup before it at LSN {base}: it is older")]
    Older {
        /// End of the base.
        base: Lsn,
        /// End of the increment.
        end: Lsn,
    },
}

impl From<Misfit> for base::Error {
    fn from(e: Misfit) -> Self {
        base::Error::new(Code::WrongBase, e.to_string())
    }
}

impl Lineage {
    /// Returns what a manifest says, `text` being the content of its member.
    pub fn of_manifest(manifest: &Manifest, text: &[u8]) -> Lineage {
        Lineage {
            identity: Some(manifest.stands_for.unwrap_or_else(|| digest(text))),
            server_uuid: Some(manifest.server_uuid.clone()),
            redo_uuid: manifest.redo_uuid,
            server_started: manifest.server_started,
            page_size: Some(manifest.page_size),
            selection: manifest.selection.clone(),
            to_lsn: manifest.checkpoint_lsn,
            end_lsn: manifest.end_lsn,
            increment: manifest.increment.clone(),
        }
    }

    /// Checks whether `increment` can be laid over a backup with this lineage. `end_lsn` of an increment that has
    /// not arrived yet is unknown and not compared: it must be 0.
    ///
    /// # Errors
    /// [`Misfit`] names what differs.
    pub fn takes(&self, increment: &Lineage) -> Result<Fit, Misfit> {
        let Some(Increment { from_lsn, base }) = &increment.increment else {
            return Err(Misfit::NoIncrement);
        };
        if let (Some(base), Some(increment)) = (&self.server_uuid, &increment.server_uuid)
            && base != increment
        {
            return Err(Misfit::Server { base: base.clone(), increment: increment.clone() });
        }
        if let (Some(base), Some(increment)) = (self.page_size, increment.page_size)
            && base != increment
        {
            return Err(Misfit::PageSize { base, increment });
        }
        if let (Some(base), Some(increment)) = (self.redo_uuid, increment.redo_uuid)
            && base != increment
        {
            return Err(Misfit::RedoLog { base, increment });
        }
        // What a manifest does not say was not chosen; other statements say nothing of it.
        if self.identity.is_some() && increment.server_uuid.is_some() && self.selection != increment.selection
        {
            let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "all".to_owned());
            let (base, increment) = (shown(&self.selection), shown(&increment.selection));
            return Err(Misfit::Selection { base, increment });
        }
        if *from_lsn > self.end_lsn {
            return Err(Misfit::Gap { from: *from_lsn, end: self.end_lsn });
        }
        if let (Some(base), Some(named)) = (self.identity, *base)
            && base != named
        {
            return Err(Misfit::Base { base, named });
        }
        if increment.end_lsn != Lsn(0) && increment.end_lsn < self.end_lsn {
            return Err(Misfit::Older { base: self.end_lsn, end: increment.end_lsn });
        }
        Ok(if *from_lsn <= self.to_lsn { Fit::Datafiles } else { Fit::AfterRedo })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Lineage {
        Lineage {
            identity: Some(digest(b"full")),
            server_uuid: Some("a".into()),
            redo_uuid: Some(7),
            server_started: Some(3),
            page_size: Some(16_384),
            selection: None,
            to_lsn: Lsn(100),
            end_lsn: Lsn(150),
            increment: None,
        }
    }

    fn increment() -> Lineage {
        let increment = Some(Increment { from_lsn: Lsn(100), base: base().identity });
        Lineage { identity: Some(digest(b"1")), to_lsn: Lsn(200), end_lsn: Lsn(250), increment, ..base() }
    }

    #[test]
    fn an_increment_fits_its_own_base_and_no_other() {
        assert_eq!(base().takes(&increment()), Ok(Fit::Datafiles));
        assert_eq!(base().takes(&base()), Err(Misfit::NoIncrement));
        let changed = |change: fn(&mut Lineage)| {
            let mut other = increment();
            change(&mut other);
            base().takes(&other)
        };
        let from = |lsn| Some(Increment { from_lsn: Lsn(lsn), base: None });
        assert!(matches!(changed(|i| i.server_uuid = Some("b".into())), Err(Misfit::Server { .. })));
        assert!(matches!(changed(|i| i.redo_uuid = Some(8)), Err(Misfit::RedoLog { .. })));
        assert!(matches!(changed(|i| i.page_size = Some(4096)), Err(Misfit::PageSize { .. })));
        assert!(matches!(changed(|i| i.end_lsn = Lsn(149)), Err(Misfit::Older { .. })));
        assert_eq!(changed(|i| i.end_lsn = Lsn(0)), Ok(Fit::Datafiles));
        let other = |lsn| Lineage { increment: from(lsn), ..increment() };
        assert_eq!(base().takes(&other(99)), Ok(Fit::Datafiles));
        assert_eq!(base().takes(&other(101)), Ok(Fit::AfterRedo));
        assert_eq!(base().takes(&other(150)), Ok(Fit::AfterRedo));
        assert!(matches!(base().takes(&other(151)), Err(Misfit::Gap { .. })));
        // The second increment does not fit the full backup.
        let second = Some(Increment { from_lsn: Lsn(140), base: increment().identity });
        let second = Lineage { increment: second, ..increment() };
        assert!(matches!(base().takes(&second), Err(Misfit::Base { .. })));
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        for lineage in [base(), increment(), Lineage::default()] {
            let json = serde_json::to_string(&lineage).unwrap();
            assert_eq!(serde_json::from_str::<Lineage>(&json).unwrap(), lineage, "{json}");
        }
    }
}
