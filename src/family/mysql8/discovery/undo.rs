//! Finds the file of an undo tablespace.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::base::SpaceId;
use crate::source::files;
use crate::source::server_facts::ServerFacts;

/// Offset of the space id in the FIL header.
const SPACE_ID: u64 = 34;

/// The file that the dictionary names `file`. `CREATE UNDO TABLESPACE` takes relative names as names in
/// `innodb_undo_directory`, and the dictionary keeps them as they were given, so that they look like names in the datadir.
/// Where both are there, the one with the right number in it is meant.
pub(super) fn find(facts: &ServerFacts, file: &str, space: SpaceId) -> PathBuf {
    let as_spelled = facts.resolve(file);
    if Path::new(file).is_absolute() {
        return as_spelled;
    }
    let folder = facts.resolve(facts.variable("innodb_undo_directory"));
    let in_undo = folder.join(file.trim_start_matches("./"));
    if in_undo == as_spelled || !in_undo.exists() {
        return as_spelled;
    }
    let is_meant = |path: &Path| number(path, facts.owner) == space.undo_number();
    if as_spelled.exists() && is_meant(&as_spelled) && !is_meant(&in_undo) { as_spelled } else { in_undo }
}

fn number(path: &Path, owner: u32) -> Option<u32> {
    let mut id = [0; 4];
    files::open(path, owner).ok()?.read_exact_at(&mut id, SPACE_ID).ok()?;
    SpaceId(u32::from_be_bytes(id)).undo_number()
}
