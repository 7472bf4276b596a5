//! Backups for tests: a log, tablespaces, and what stands around them.

use std::path::{Path, PathBuf};

use crate::base::{Lsn, SpaceId};
use crate::innodb::page::{SpaceFlags, build_page0, checksum};
use crate::innodb::redo::{BLOCK_LEN, BlockWriter, RedoFlags, RedoHead};
use crate::prepare::Datadir;
use crate::stream::metadata::{BackupCnf, LOGFILE};

pub(crate) const PAGE_LEN: usize = 16 << 10;
pub(crate) const PAGES: u32 = 70;
/// Where the log begins.
pub(crate) const START: Lsn = Lsn(40 * 512);
/// Name, id and flags of tablespaces.
pub(crate) const TABLE: (&str, SpaceId, u32) = ("t.ibd", SpaceId(5), 0x21);
pub(crate) const SYSTEM: (&str, SpaceId, u32) = ("ibdata1", SpaceId(0), 0);

/// Makes a logfile of these groups; gives its blocks.
pub(crate) fn write_log(root: &Path, groups: &[Vec<u8>], checkpoint: Lsn) -> Vec<[u8; BLOCK_LEN]> {
    let mut writer = BlockWriter::new(START);
    groups.iter().for_each(|group| writer.push_group(group));
    let (blocks, _) = writer.finish();
    let head = RedoHead {
        uuid: 7,
        start_lsn: START,
        creator: "MySQL 9.7.4".into(),
        flags: RedoFlags::default(),
        checkpoints: [Some(checkpoint); 2],
        encryption: None,
    };
    let head = head.build();
    std::fs::write(root.join(LOGFILE), [&head[..], blocks.as_flattened()].concat()).unwrap();
    blocks
}

/// A tablespace whose pages are these bytes again and again, with the header and checksum of sound pages but for every
/// seventh.
pub(crate) fn write_space(root: &Path, (name, space, flags): (&str, SpaceId, u32), noise: &[u8]) {
    let mut bytes = build_page0(space, SpaceFlags(flags), PAGES).unwrap();
    for number in 1..PAGES {
        let mut page: Vec<u8> = noise.iter().copied().cycle().take(PAGE_LEN).collect();
        page[4..8].copy_from_slice(&number.to_be_bytes());
        page[16..24].copy_from_slice(&(START.0 + u64::from(number)).to_be_bytes());
        page[24..26].copy_from_slice(&[0x45, 0xBF]);
        page[34..38].copy_from_slice(&space.0.to_be_bytes());
        if number % 7 != 0 {
            checksum::stamp(&mut page, false);
        }
        bytes.extend_from_slice(&page);
    }
    std::fs::write(root.join(name), bytes).unwrap();
}

/// What a [`Datadir`] borrows.
pub(crate) struct Around {
    run: PathBuf,
    cnf: BackupCnf,
}

impl Around {
    pub(crate) fn of(root: &Path) -> Around {
        let cnf = BackupCnf::parse(b"[mysqld]\ninnodb_data_file_path=ibdata1:12M:autoextend\n").unwrap();
        Around { run: root.join("run"), cnf }
    }

    pub(crate) fn datadir<'a>(&'a self, root: &'a Path) -> Datadir<'a> {
        Datadir {
            keyring: std::sync::Arc::new(crate::innodb::encryption::NoKeyring),
            redo: crate::family::redo_of_copies(),
            left_out: &[],
            root,
            run: &self.run,
            external: &[],
            owner: None,
            cnf: &self.cnf,
            gtid_executed: None,
            end_lsn: None,
            server_version: None,
        }
    }
}
