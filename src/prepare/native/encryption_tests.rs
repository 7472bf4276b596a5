//! The seam for keys: encrypted pages and redo go through the keyring's cipher on their way in and out, and are refused without.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::testing::{Around, PAGE_LEN, PAGES, START, SYSTEM, TABLE, write_log, write_space};
use super::*;
use crate::base::progress::Progress;
use crate::base::{Budget, Code, PageNo, Stop};
use crate::innodb::encryption::key_info::SpaceKey;
use crate::innodb::encryption::{Cipher, Keyring, NoKey, Sealed, Unit};
use crate::innodb::page::header::TYPE;
use crate::innodb::page::{Expected, FilHeader, PageLayout, PageType, Scratch, Verdict, verify};
use crate::innodb::redo::{BLOCK_LEN, Kind, lsn};
use crate::prepare::Resources;
use crate::stream::metadata::LOGFILE;

/// The original type of an encrypted page (`FIL_PAGE_ORIGINAL_TYPE_V1`).
const ORIGINAL_TYPE: usize = 28;
/// Says of a redo block that it is encrypted, in the length of its data.
const BLOCK_ENCRYPTED: u8 = 0x80;

/// A cipher that turns every bit of what it encrypts.
#[derive(Debug)]
struct Flip;

impl Flip {
    fn page(page: &mut [u8]) {
        let end = page.len() - 8;
        page[38..end].iter_mut().for_each(|b| *b = !*b);
    }

    fn block(block: &mut [u8]) {
        block[14..BLOCK_LEN - 4].iter_mut().for_each(|b| *b = !*b);
        block[4] ^= BLOCK_ENCRYPTED;
    }
}

impl Cipher for Flip {
    fn decrypt(&self, unit: Unit, bytes: &mut [u8]) {
        match unit {
            Unit::Page(_) if FilHeader::of(bytes).unwrap().page_type() == PageType::ENCRYPTED => {
                bytes.copy_within(ORIGINAL_TYPE..ORIGINAL_TYPE + 2, TYPE);
                bytes[ORIGINAL_TYPE..ORIGINAL_TYPE + 2].fill(0);
                Flip::page(bytes);
            }
            Unit::RedoBlock(_) if bytes[4] & BLOCK_ENCRYPTED != 0 => Flip::block(bytes),
            _ => {}
        }
    }

    fn encrypt(&self, unit: Unit, bytes: &mut [u8]) {
        if let Unit::Page(number) = unit
            && number != PageNo(0)
        {
            bytes.copy_within(TYPE..TYPE + 2, ORIGINAL_TYPE);
            bytes[TYPE..TYPE + 2].copy_from_slice(&PageType::ENCRYPTED.0.to_be_bytes());
            Flip::page(bytes);
        }
    }
}

/// Has the key of one tablespace and of the redo.
#[derive(Debug)]
struct OneKey;

impl Keyring for OneKey {
    fn key(&self, _: Sealed<'_>) -> std::result::Result<SpaceKey, NoKey> {
        Err(NoKey::Unknown)
    }

    fn cipher(&self, sealed: Sealed<'_>) -> std::result::Result<Arc<dyn Cipher>, NoKey> {
        match sealed {
            Sealed::Tablespace(space, info) => {
                assert!(info.starts_with(b"lCC"));
                (space == TABLE.1).then(|| Arc::new(Flip) as Arc<dyn Cipher>).ok_or(NoKey::Unknown)
            }
            Sealed::Redo(info) => {
                assert!(info.starts_with(b"lCC"));
                Ok(Arc::new(Flip))
            }
            Sealed::Binlog(_) => Err(NoKey::Unknown),
        }
    }
}

/// A backup whose redo sets a byte of page 3 of an encrypted tablespace.
fn write_backup(root: &std::path::Path) {
    const SINGLE: u8 = 0x80;
    let group = vec![Kind::Write1 as u8 | SINGLE, 5, 3, 0x01, 0x00, 0x6E];
    write_log(root, &[group], lsn::first_payload(START));
    write_space(root, SYSTEM, &[0]);
    write_space(root, (TABLE.0, TABLE.1, TABLE.2 | 1 << 13), &[3]);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(root.join(TABLE.0)).unwrap();
    let at = crate::innodb::page::Page0::encryption_offset(PageLayout::plain(PAGE_LEN).unwrap());
    file.write_all_at(b"lCC", at as u64).unwrap();
    let mut page = vec![0; PAGE_LEN];
    file.read_exact_at(&mut page, 0).unwrap();
    crate::innodb::page::checksum::stamp(&mut page, false);
    file.write_all_at(&page, 0).unwrap();
    for number in 1..PAGES {
        let at = u64::from(number) * PAGE_LEN as u64;
        file.read_exact_at(&mut page, at).unwrap();
        Flip.encrypt(Unit::Page(PageNo(number)), &mut page);
        file.write_all_at(&page, at).unwrap();
    }
    let path = root.join(LOGFILE);
    let mut log = std::fs::read(&path).unwrap();
    // The encryption information is in the header's third block.
    log[2 * BLOCK_LEN + 48..][..3].copy_from_slice(b"lCC");
    log[4 * BLOCK_LEN..].chunks_exact_mut(BLOCK_LEN).for_each(Flip::block);
    std::fs::write(path, log).unwrap();
}

fn prepare(root: &std::path::Path, keyring: Arc<dyn Keyring>) -> Result<()> {
    let around = Around::of(root);
    let datadir = Datadir { keyring, ..around.datadir(root) };
    let (progress, stop, budget) = (Progress::new(), Stop::new().unwrap(), Budget::new(64 << 20));
    let means = Resources { memory: 1 << 20, budget: &budget, threads: 2, progress: &progress, stop: &stop };
    let place = datadir.redo.find(root).unwrap().unwrap();
    let (finish, _) = apply(&datadir, &place, None, Writes::Disposable, &means)?;
    finish.run(&datadir, || Ok(()))
}

#[test]
fn with_its_key_a_tablespace_is_read_changed_and_encrypted_again() {
    let dir = tempfile::tempdir().unwrap();
    write_backup(dir.path());
    prepare(dir.path(), Arc::new(OneKey)).unwrap();
    let bytes = std::fs::read(dir.path().join(TABLE.0)).unwrap();
    let mut page = bytes[3 * PAGE_LEN..4 * PAGE_LEN].to_vec();
    assert_eq!(FilHeader::of(&page).unwrap().page_type(), PageType::ENCRYPTED);
    assert_eq!(page[0x100], !0x6E);
    Flip.decrypt(Unit::Page(PageNo(3)), &mut page);
    let (layout, expected) =
        (PageLayout::plain(PAGE_LEN).unwrap(), Expected { space: TABLE.1, page: PageNo(3) });
    assert_eq!(verify(&page, &layout, expected, &mut Scratch::new()), Ok(Verdict::Ok));
    assert_eq!(page[0x100], 0x6E);
}

#[test]
fn without_a_key_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_backup(dir.path());
    let e = prepare(dir.path(), Arc::new(crate::innodb::encryption::NoKeyring)).unwrap_err();
    assert_eq!(e.code, Code::Encrypted);
}
