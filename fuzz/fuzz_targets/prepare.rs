//! The driver of native prepare: the bytes are a log, and what the pages of a table and of the system tablespace hold. It
//! works in a temporary folder.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use xbpipe::base::progress::Progress;
use xbpipe::base::{Budget, Lsn, SpaceId, Stop};
use xbpipe::innodb::page::{SpaceFlags, build_page0, checksum};
use xbpipe::innodb::redo::{BlockWriter, RedoFlags, RedoHead, lsn};
use xbpipe::prepare::native::{RedoLocation, Writes, apply};
use xbpipe::prepare::{Datadir, Resources};
use xbpipe::stream::metadata::{BackupCnf, LOGFILE};

const START: Lsn = Lsn(40 * 512);
const PAGES: u32 = 8;
const PAGE_LEN: usize = 16 << 10;

fuzz_target!(|data: &[u8]| {
    let [len, data @ ..] = data else { return };
    let (log, noise) = data.split_at(data.len().min(8 * usize::from(*len)));
    let root = std::env::temp_dir().join(format!("xbpipe-fuzz-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir(&root).unwrap();
    write_log(&root, log);
    write_space(&root.join("t.ibd"), SpaceId(5), 0x21, noise);
    write_space(&root.join("ibdata1"), SpaceId(0), 0, noise);
    let cnf = BackupCnf::parse(b"[mysqld]\ninnodb_data_file_path=ibdata1:12M:autoextend\n").unwrap();
    let run = root.join("run");
    let datadir = Datadir {
        left_out: &[],
        keyring: std::sync::Arc::new(xbpipe::innodb::encryption::NoKeyring),
        redo: xbpipe::family::redo_of_copies(),
        root: &root,
        run: &run,
        external: &[],
        owner: None,
        cnf: &cnf,
        gtid_executed: None,
        end_lsn: None,
        server_version: None,
    };
    let (progress, stop) = (Progress::new(), Stop::new().unwrap());
    let budget = Budget::new(64 << 20);
    let means = Resources { memory: 1 << 20, budget: &budget, threads: 1, progress: &progress, stop: &stop };
    let place = RedoLocation::Logfile(root.join(LOGFILE));
    if let Ok((finish, _)) = apply(&datadir, &place, None, Writes::Disposable, &means) {
        finish.run(&datadir, || Ok(())).unwrap();
    }
    let _ = std::fs::remove_dir_all(&root);
});

fn write_log(root: &Path, log: &[u8]) {
    let mut writer = BlockWriter::new(START);
    writer.push_group(log);
    let head = RedoHead {
        uuid: 7,
        start_lsn: START,
        creator: "MySQL 9.7.4".into(),
        flags: RedoFlags::default(),
        checkpoints: [Some(lsn::first_payload(START)); 2],
        encryption: None,
    };
    let bytes = [&head.build()[..], writer.finish().0.as_flattened()].concat();
    std::fs::write(root.join(LOGFILE), bytes).unwrap();
}

fn write_space(path: &PathBuf, space: SpaceId, flags: u32, noise: &[u8]) {
    let mut bytes = build_page0(space, SpaceFlags(flags), PAGES).unwrap();
    for number in 1..PAGES {
        let mut page = noise.to_vec();
        page.resize(PAGE_LEN, 0);
        page[4..8].copy_from_slice(&number.to_be_bytes());
        page[16..24].copy_from_slice(&(START.0 + u64::from(number)).to_be_bytes());
        page[34..38].copy_from_slice(&space.0.to_be_bytes());
        checksum::stamp(&mut page, false);
        bytes.extend_from_slice(&page);
    }
    std::fs::write(path, bytes).unwrap();
}
