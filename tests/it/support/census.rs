//! How often each type of redo record occurs, and in whose tablespace.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use xbpipe::base::SpaceId;
use xbpipe::innodb::redo::{FileChange, Kind, file_events, newest_checkpoint};

use super::innodb;

/// Records by type, and by the kind of work that they are of.
#[derive(Default)]
pub struct Census(BTreeMap<Kind, BTreeMap<String, u64>>);

impl Census {
    /// Takes in the redo log of a backup that was received and not prepared.
    pub fn count(&mut self, dir: &Path) {
        let files = innodb::redo_files(dir);
        let start = newest_checkpoint(files.iter().map(|(_, file)| file)).expect("a checkpoint");
        let mut owners = BTreeMap::new();
        for (space, (path, ..)) in innodb::tablespaces(&[dir]) {
            owners.insert(space, owner(path.strip_prefix(dir).unwrap()));
        }
        let mut counts = BTreeMap::<(Kind, SpaceId), u64>::new();
        innodb::read_redo(dir, start, |group| {
            for event in file_events(group) {
                if let FileChange::Create { path, .. } | FileChange::Delete { path } = event.what {
                    let path = String::from_utf8_lossy(&path).into_owned();
                    let of = owner(Path::new(path.trim_start_matches("./")));
                    owners.entry(event.space).or_insert(of);
                }
            }
            for (kind, space, _) in group.outline() {
                *counts.entry((kind, space)).or_default() += 1;
            }
        });
        for ((kind, space), count) in counts {
            let owner = match owners.get(&space) {
                Some(owner) => owner.clone(),
                None if space.is_undo() => UNDO.to_owned(),
                None => "(no file)".to_owned(),
            };
            *self.0.entry(kind).or_default().entry(owner).or_default() += count;
        }
    }

    pub fn add(&mut self, other: Census) {
        for (kind, counts) in other.0 {
            for (owner, count) in counts {
                *self.0.entry(kind).or_default().entry(owner).or_default() += count;
            }
        }
    }

    /// Types that did not occur.
    pub fn missing(&self) -> Vec<Kind> {
        Kind::ALL.iter().copied().filter(|kind| !self.0.contains_key(kind)).collect()
    }
}

const UNDO: &str = "(undo)";

/// The kind of work that a tablespace is of.
fn owner(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let schema = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    match schema.strip_prefix("w_") {
        Some(kind) => kind.trim_end_matches('2').to_owned(),
        None if name == "mysql.ibd" => "(dictionary)".to_owned(),
        None if name.starts_with("ibdata") => "(system)".to_owned(),
        None if name.starts_with("undo_") || name.ends_with(".ibu") => UNDO.to_owned(),
        None if schema.is_empty() && name.starts_with('g') => "general".to_owned(),
        None => format!("({schema})"),
    }
}

/// One line a type: its number, how often it occurred, and where, most first.
impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            let Some(counts) = self.0.get(kind) else {
                writeln!(f, "{:>2} {:<26}{:>10}", *kind as u8, kind.name(), 0)?;
                continue;
            };
            let mut owners: Vec<_> = counts.iter().collect();
            owners.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let sum: u64 = counts.values().sum();
            write!(f, "{:>2} {:<26}{sum:>10} ", *kind as u8, kind.name())?;
            for (owner, count) in owners {
                write!(f, " {owner} {count}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
