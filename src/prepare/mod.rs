//! From received files to a datadir that a server starts on.
//!
//! * [`Prepare::Native`]: redo is applied to the pages by ourselves ([`native`]).
//!
//! The other ways begin with [`redo`], which makes the streamed redo a redo log again, and [`file_operations`], which brings the
//! files to what that redo says of their creation, renaming and removal. Then:
//!
//! * [`Prepare::None`]: nothing more. The user's server recovers the copy at its first start, as after a crash.
//! * [`Prepare::Server`]: a private mysqld does that now ([`server`]).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod checks;
pub mod datafiles;
pub mod export;
pub mod file_operations;
pub mod launch;
pub mod lengths;
pub mod logfile;
pub mod mini_transactions;
pub mod mysqld;
pub mod native;
pub mod new_master_key;
pub mod options;
pub mod redo;
pub mod server;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::nofollow;
use crate::base::progress::Progress;
use crate::base::version::ServerVersion;
use crate::base::{Budget, Code, Error, Lsn, Result, Stop};
use crate::innodb::encryption::Keyring;
use crate::stream::manifest::LeftOut;
use crate::stream::metadata::BackupCnf;

pub use mysqld::Mysqld;
pub use native::RedoFormat;
use redo::Redo;
pub use server::run_folder;

/// The way in which a copy is prepared.
#[derive(Clone, Debug)]
pub enum Prepare {
    /// Redo is applied to the pages before it is put in place; no server is needed.
    Native,
    /// The user's server recovers it.
    None,
    /// This server binary recovers it before it is put in place.
    Server(Mysqld),
}

/// A received datadir, not in its place yet.
#[derive(Debug)]
pub struct Datadir<'a> {
    /// Keys of its encrypted tablespaces and redo.
    pub keyring: Arc<dyn Keyring>,
    /// The format of its redo.
    pub redo: &'static dyn RedoFormat,
    /// The datadir.
    pub root: &'a Path,
    /// Tablespaces that a partial backup does not have: redo for them is of no interest.
    pub left_out: &'a [LeftOut],
    /// A folder beside it that may be made and filled, and that goes away with the staging folder.
    pub run: &'a Path,
    /// Tablespace files that lay outside the source's datadir: their path there, and where they are now.
    pub external: &'a [(PathBuf, PathBuf)],
    /// User and group that own it, where that is not us.
    pub owner: Option<(u32, u32)>,
    /// The source's options.
    pub cnf: &'a BackupCnf,
    /// The GTID set that the copy must have.
    pub gtid_executed: Option<&'a str>,
    /// LSN that its redo must reach.
    pub end_lsn: Option<Lsn>,
    /// Version of the source's server.
    pub server_version: Option<&'a str>,
}

/// Resources that preparing may use, and the counters that it bumps.
#[derive(Clone, Copy, Debug)]
pub struct Resources<'a> {
    /// Bytes of memory.
    pub memory: u64,
    /// For what is kept of redo beside records of pages.
    pub budget: &'a Budget,
    /// Threads.
    pub threads: usize,
    /// Counters.
    pub progress: &'a Progress,
    /// Whether to go on.
    pub stop: &'a Stop,
}

/// The result of preparing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Prepared {
    /// LSN at which recovery begins, and at which it ends.
    pub lsn: Option<(Lsn, Lsn)>,
    /// Words for the user: what is not an error but should be known.
    pub notes: Vec<String>,
    /// Steps, and the time that each took.
    pub steps: Vec<(&'static str, Duration)>,
}

impl Datadir<'_> {
    /// Gives an open file or folder to whom the datadir belongs.
    fn own(&self, file: impl AsFd) -> std::io::Result<()> {
        self.owner.map_or(Ok(()), |owner| nofollow::give(file, owner))
    }
}

impl Prepare {
    /// One word for summaries.
    pub fn as_str(&self) -> &'static str {
        match self {
            Prepare::Native => "native",
            Prepare::None => "none",
            Prepare::Server(_) => "server",
        }
    }
}

/// Makes the copy ready. `live` is what was begun while it arrived.
pub fn prepare(
    how: &Prepare,
    datadir: &Datadir<'_>,
    live: Option<native::StreamingApply>,
    means: &Resources<'_>,
) -> Result<Prepared> {
    let partial = !datadir.left_out.is_empty();
    if let (Prepare::None, true) = (how, partial) {
        // A server's recovery ends at the first tablespace that is missing.
        return Err(Error::new(Code::Usage, "a partial backup can't be left to a server to recover").hint(
            "leave out --prepare=none; xbrecv prepare does the same later on a folder that was extracted",
        ));
    }
    if matches!(how, Prepare::Native) || partial {
        let place = datadir.redo.find(datadir.root)?.ok_or_else(|| {
            Error::new(Code::StreamRefused, "the stream has the redo log of a copy that was prepared already")
        })?;
        let (finish, prepared) = native::apply(datadir, &place, live, native::Writes::Disposable, means)?;
        // All of it is synced before it is put in place, and thrown away if anything fails.
        finish.run(datadir, || means.stop.check())?;
        if let Prepare::Server(mysqld) = how {
            let notes = server::prepare(mysqld, datadir, means.memory, means.stop)?;
            return Ok(Prepared { notes: [prepared.notes, notes].concat(), ..prepared });
        }
        return Ok(prepared);
    }
    if let (Prepare::Server(mysqld), Some(version)) = (how, datadir.server_version) {
        let version = ServerVersion::parse(version).ok_or_else(|| {
            Error::new(Code::Prepare, format!("the source's version '{version}' was not understood"))
        })?;
        mysqld.check_fits(version)?;
    }
    let redo = Redo::open(datadir.root, datadir.end_lsn, means.budget)?;
    means.stop.check()?;
    let mut prepared = Prepared { lsn: Some((redo.checkpoint, redo.end)), ..Prepared::default() };
    match &redo.events {
        Some(events) => {
            prepared.notes.extend(file_operations::apply(datadir, events)?);
            lengths::check(datadir, &redo.growth)?;
        }
        None => prepared
            .notes
            .push("redo is encrypted: renamed or removed files were not looked for in it".into()),
    }
    redo.install(datadir)?;
    if let Prepare::Server(mysqld) = how {
        prepared.notes.extend(server::prepare(mysqld, datadir, means.memory, means.stop)?);
        native::mark_prepared(datadir.root)?;
    }
    Ok(prepared)
}
