//! Reading the datafiles and the redo of a server that runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::encryption::{decrypt_pages, keyring_of};
use xbpipe::base::{Lsn, SpaceId};
use xbpipe::innodb::encryption::{Keyring, Sealed, Unit};
use xbpipe::innodb::page::Page0;
use xbpipe::innodb::redo::{self, BLOCK_LEN, Fed, MiniTransaction, RedoFile, RedoHead, Scanner};

/// The tablespace files under `dir`, but not those of temporary tablespaces.
pub fn tablespace_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('#') {
            tablespace_files(&path, into);
        } else if [".ibd", ".ibu"].iter().any(|end| name.ends_with(end))
            || name == "ibdata1"
            || name.starts_with("undo_") && !name.ends_with(".log")
        {
            into.push(path);
        }
    }
}

/// The bytes of the tablespace that `path` is the first file of. The zoo's system tablespace has a second one, whose
/// pages are numbered on.
pub fn tablespace(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let second = path.with_file_name("ibdata2");
    if path.ends_with("ibdata1") && second.exists() {
        bytes.extend(std::fs::read(second).unwrap());
    }
    bytes
}

/// All tablespaces under `dirs`, by id, decrypted.
pub fn tablespaces(dirs: &[&Path]) -> BTreeMap<SpaceId, (PathBuf, Page0, Vec<u8>)> {
    let mut files = Vec::new();
    dirs.iter().for_each(|dir| tablespace_files(dir, &mut files));
    let keyring = keyring_of(dirs);
    files
        .into_iter()
        .map(|path| {
            let mut bytes = tablespace(&path);
            let page0 = Page0::read(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            if let Some(keyring) = &keyring {
                decrypt_pages(keyring, &page0, &mut bytes);
            }
            (page0.space, (path, page0, bytes))
        })
        .collect()
}

/// The redo files of a server, in order, with their contents.
pub fn redo_files(datadir: &Path) -> Vec<(Vec<u8>, RedoFile)> {
    let mut files: Vec<_> = std::fs::read_dir(datadir.join(redo::file::DIRECTORY))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|e| redo::FileName::parse(&e.file_name().to_string_lossy()).is_some_and(|name| !name.spare))
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap();
            let head = RedoHead::read(&bytes).unwrap();
            let len = bytes.len() as u64;
            (bytes, RedoFile { head, len })
        })
        .collect();
    files.sort_by_key(|(_, file)| file.head.start_lsn);
    for pair in files.windows(2) {
        assert_eq!(pair[0].1.end_lsn(), pair[1].1.head.start_lsn);
        assert_eq!(pair[0].1.head.uuid, pair[1].1.head.uuid);
        assert!(pair[0].1.head.flags.is_full() && !files.last().unwrap().1.head.flags.is_full());
    }
    files
}

/// Gives every group from `start` on to `see`; the LSN of the end of the last one.
pub fn read_redo(datadir: &Path, start: Lsn, mut see: impl FnMut(&MiniTransaction<'_>)) -> Lsn {
    let mut scanner = Scanner::new(start);
    let keyring = keyring_of(&[datadir]);
    for (mut bytes, file) in redo_files(datadir) {
        if let (Some(keyring), Some(info)) = (&keyring, &file.head.encryption) {
            let cipher = keyring.cipher(Sealed::Redo(&**info)).unwrap();
            for block in bytes[redo::HEAD_LEN..].chunks_exact_mut(BLOCK_LEN) {
                cipher.decrypt(Unit::RedoBlock(Lsn(0)), block);
            }
        }
        while let Some(at) = file.offset_of(scanner.next_block()) {
            let block: &[u8; BLOCK_LEN] = bytes[at as usize..].first_chunk().unwrap();
            let fed = scanner.feed(block).unwrap();
            while let Some(group) = scanner.poll().unwrap() {
                see(&group);
            }
            if fed != Fed::Full {
                break;
            }
        }
    }
    scanner.recovered_lsn().unwrap()
}
