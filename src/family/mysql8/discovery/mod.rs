//! Discovers what must travel: every tablespace that the data dictionary knows, the files of other engines, and nothing else.
//!
//! The data dictionary (`information_schema.FILES`) says which tablespaces there are; the file system says
//! whether their files are. A file that the dictionary names and the file system lacks fails the backup, and so does one
//! that is there and not named, unless it is proved that nobody needs it ([`orphans`]). It is read while
//! `LOCK INSTANCE FOR BACKUP` is held, so no DDL changes it meanwhile.

mod dictionary;
mod folders;
mod orphans;
mod schemas;
mod undo;

use crate::base::{Code, Error, Result};
use crate::source::inventory::Inventory;

use crate::family::mysql8::other_engines::{OtherEngines, Unlocked};
use crate::family::mysql8::pages::MySql8Pages;
use crate::family::mysql8::privileges::Privileges;
use crate::source::server_facts::ServerFacts;
use crate::source::session::Session;

use dictionary::{Dictionary, Tablespace};
use schemas::Schemas;

/// Looks for everything that must travel.
///
/// # Errors
/// [`Code::SourceIncomplete`] for a tablespace without its file, [`Code::Unsupported`] for tables of an engine
/// that can't be copied, [`Code::SourceIo`].
pub(super) fn inventory(
    session: &mut Session,
    facts: &ServerFacts,
    privileges: &Privileges,
) -> Result<Inventory> {
    let mut found = Inventory::default();
    // Once more: what was created before the lock was taken is there now.
    let others = OtherEngines::find(session, facts, privileges)?;
    found.add_system_tablespace(facts, &MySql8Pages)?;
    let dictionary = Dictionary::read(session)?;
    found.notes.extend(dictionary.notes());
    for tablespace in dictionary.tablespaces {
        found.tablespace(facts, tablespace)?;
    }
    let schemas = Schemas::read(session, privileges)?;
    let strangers = found.walk(facts, &schemas)?;
    orphans::check(session, facts, &strangers, &mut found)?;
    found.divide(others)?;
    found.name_members(facts)?;
    Ok(found)
}

impl Inventory {
    /// Files of other engines: those of tables that are locked are copied under the lock, leftovers are not copied.
    fn divide(&mut self, others: OtherEngines) -> Result<()> {
        let found: Vec<_> = self.plain.drain(..).collect();
        for file in found {
            if !file.member.contains('/') {
                self.plain.push(file);
            } else if others.locks(&file.member) {
                self.locked.push(file);
            } else {
                match others.unlocked(&file.member)? {
                    Unlocked::Travels => self.plain.push(file),
                    Unlocked::Leftover => {
                        self.notes.push(format!("{} belongs to no table: left out", file.path.display()));
                    }
                }
            }
        }
        self.locked_tables = others.locked;
        Ok(())
    }

    fn tablespace(&mut self, facts: &ServerFacts, t: Tablespace) -> Result<()> {
        let kind = match (t.undo, t.name.contains('/')) {
            (true, _) => "undo",
            (false, true) => "single",
            (false, false) => "general",
        };
        let path = if t.undo { undo::find(facts, &t.file, t.space) } else { facts.resolve(&t.file) };
        if !path.exists() {
            return Err(Error::new(
                Code::SourceIncomplete,
                format!("tablespace {} (id {}) has no file at {}", t.name, t.space, path.display()),
            )
            .hint("the server needs this file too: look into its error log; a backup without it would not be whole"));
        }
        self.add(path, t.space, 0, &t.name, kind).map(drop)
    }
}
