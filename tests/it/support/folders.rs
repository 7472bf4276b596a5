//! Folders compared file by file.

use std::collections::BTreeMap;
use std::path::Path;

/// Every file below `dir` by a digest of its content.
pub fn files(dir: &Path) -> BTreeMap<String, u128> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                    let content = without_log_id(&name, std::fs::read(&path).unwrap());
                    found.insert(name, twox_hash::XxHash3_128::oneshot(&content));
                }
            }
        }
    }
    found
}

/// Leaves out the random number of a new redo log, and the checksum that follows from it.
pub fn without_log_id(name: &str, mut content: Vec<u8>) -> Vec<u8> {
    if name.ends_with("#innodb_redo/#ib_redo0") && content.len() >= 512 {
        content[4..8].fill(0);
        content[508..512].fill(0);
    }
    content
}

#[track_caller]
pub fn assert_same_files(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (files(ours), files(theirs));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let differing: Vec<_> = ours.iter().filter(|(name, digest)| theirs[*name] != **digest).collect();
    assert!(differing.is_empty(), "{differing:?}");
}
