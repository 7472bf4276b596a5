//! Server families: all that differs between lines of servers, one folder for each.
//!
//! A family says whether a server is one of its own ([`Family::recognise`]), how such a server is backed up ([`SourceServer`]), how
//! its pages are laid out and checked ([`PageFormat`]), and how its redo is applied to them
//! ([`RedoFormat`]). [`crate::send`] and [`crate::receive`] ask the family in hand and know none by name.
//! A new one is a folder here and a row in [`FAMILIES`].
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod mariadb;
mod mysql8;
mod server;

use std::fmt::Debug;
use std::sync::Arc;

use crate::base::{Code, Error, Result, Stop};
use crate::innodb::page::PageFormat;
use crate::prepare::RedoFormat;
use crate::source::server_facts::ServerFacts;
use crate::source::session::{ConnectOptions, Session};

pub use server::{ChangeQuery, RedoLsns, RedoRetention, SourceServer, TableName};

/// All families.
pub static FAMILIES: &[&dyn Family] = &[&mysql8::MySql8, &mariadb::MariaDb];

/// A line of servers that are backed up and restored in one way.
pub trait Family: Debug + Sync {
    /// The name that users know it by.
    fn name(&self) -> &'static str;

    /// Whether a server that calls itself `version` (`VERSION()`) and `comment` (`@@version_comment`) is of this family.
    fn recognise(&self, version: &str, comment: &str) -> Recognition;

    /// The format of its pages.
    fn pages(&self) -> &'static dyn PageFormat;

    /// How its redo is read and applied; `None` if copies of this family can't be prepared yet.
    fn redo(&self) -> Option<&'static dyn RedoFormat>;

    /// Looks into the server before a backup: privileges, whether the datadir is its own, and all else that would make the
    /// backup fail later. Nothing is locked yet.
    ///
    /// # Errors
    /// [`Code::Privilege`], [`Code::Unsupported`], [`Code::RedoDisabled`], [`Code::SourceIncomplete`], [`Code::SourceIo`].
    fn examine(
        &self,
        session: &mut Session,
        facts: Arc<ServerFacts>,
        options: &ConnectOptions,
        stop: &Stop,
    ) -> Result<Box<dyn SourceServer>>;
}

/// A family's answer about a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recognition {
    /// It is none of this family's.
    Other,
    /// It can be backed up.
    Supported,
    /// It is of this family, and can't be backed up: why, or what can be done instead.
    Unsupported(&'static str),
}

/// The family of a server that can be backed up.
///
/// # Errors
/// [`Code::Unsupported`] with the way out.
pub fn of_server(version: &str, comment: &str) -> Result<&'static dyn Family> {
    let refuse = |hint: &str| {
        Err(Error::new(Code::Unsupported, format!("server {version} ({comment}) can't be backed up yet"))
            .hint(hint.to_owned()))
    };
    for family in FAMILIES {
        match family.recognise(version, comment) {
            Recognition::Other => {}
            Recognition::Supported => return Ok(*family),
            Recognition::Unsupported(hint) => return refuse(hint),
        }
    }
    refuse("its version was not understood; MySQL 8.0.30 to 9.7 are supported")
}

/// How the redo of a copy is read. A copy does not say of which family it is before its redo does, and only one family's
/// can be applied ([`Family::redo`]); the header of any other redo is refused.
///
/// # Panics
/// If no family's redo can be applied.
pub fn redo_of_copies() -> &'static dyn RedoFormat {
    FAMILIES.iter().find_map(|family| family.redo()).expect("a family whose redo can be applied")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_apart() {
        let name = |version, comment| of_server(version, comment).unwrap().name();
        assert_eq!(name("9.7.4", "MySQL"), "MySQL");
        assert_eq!(name("8.0.30", "Percona Server"), "MySQL");
        for (version, comment) in
            [("8.0.29", ""), ("5.6.24", "MySQL"), ("10.11.6-MariaDB", ""), ("10.0.0", "MySQL"), ("?", "")]
        {
            let e = of_server(version, comment).unwrap_err();
            assert_eq!(e.code, Code::Unsupported, "{version}");
            assert!(e.hint.is_some());
        }
    }
}
