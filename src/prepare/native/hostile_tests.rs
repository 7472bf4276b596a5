//! Redo and pages that nobody sent in good faith: a copy or an error, but no panic, and an end.

use proptest::prelude::*;

use super::*;
use crate::base::Stop;
use crate::base::progress::Progress;
use crate::innodb::page::{SpaceFlags, build_page0, checksum};
use crate::innodb::redo::{BlockWriter, Kind, RedoFlags, RedoHead, lsn};
use crate::prepare::Means;
use crate::stream::metadata::{BackupCnf, LOGFILE};
use crate::stream::{Chunk, MemberName};

const PAGE_LEN: usize = 16 << 10;
const PAGES: u32 = 70;
const START: Lsn = Lsn(40 * 512);
const TABLE: (&str, SpaceId, u32) = ("t.ibd", SpaceId(5), 0x21);
const SYSTEM: (&str, SpaceId, u32) = ("ibdata1", SpaceId(0), 0);

/// A group of one record for one of a few pages: one that can be applied, or anything.
fn group() -> impl Strategy<Value = Vec<u8>> {
    let place = (prop::sample::select(vec![0u8, 5, 9]), 0u8..80);
    let applicable = prop_oneof![
        (0u8..0x40, any::<u8>(), 0u8..0x80)
            .prop_map(|(high, low, value)| (Kind::Write1, vec![high, low, value])),
        (0u8..0x40, any::<u8>(), prop::collection::vec(any::<u8>(), 0..90)).prop_map(|(high, low, bytes)| {
            (Kind::WriteString, [&[high, low, 0, bytes.len() as u8][..], &bytes].concat())
        }),
        Just((Kind::InitFilePage2, vec![])),
        Just((Kind::CompPageCreate, vec![])),
        Just((Kind::UndoInit, vec![1])),
        (0u8..120).prop_map(|len| (Kind::UndoInsert, [&[0, len][..], &vec![7; usize::from(len)]].concat())),
        (any::<u8>(), 0u8..120).prop_map(|(high, low)| (Kind::RecDelete, vec![1, 0, high & 0x3F, low])),
    ];
    let anything = (prop::sample::select(Kind::ALL), prop::collection::vec(any::<u8>(), 0..40));
    (place, prop_oneof![9 => applicable, 1 => anything]).prop_map(|((space, page), (kind, body))| {
        const SINGLE: u8 = 0x80;
        [&[kind as u8 | SINGLE, space, page][..], &body].concat()
    })
}

fn write_log(root: &std::path::Path, groups: &[Vec<u8>]) {
    let mut writer = BlockWriter::new(START);
    groups.iter().for_each(|group| writer.push_group(group));
    let (blocks, _) = writer.finish();
    let head = RedoHead {
        uuid: 7,
        start_lsn: START,
        creator: "MySQL 9.7.4".into(),
        flags: RedoFlags::default(),
        checkpoints: [Some(lsn::first_payload(START)); 2],
        encryption: None,
    };
    let head = head.build(crate::base::format::Format::MySql8);
    std::fs::write(root.join(LOGFILE), [&head[..], blocks.as_flattened()].concat()).unwrap();
}

/// A tablespace whose pages are these bytes again and again, with the header and checksum of sound pages but for every
/// seventh.
fn write_space(root: &std::path::Path, (name, space, flags): (&str, SpaceId, u32), noise: &[u8]) {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn hostile_backups_end(
        groups in prop::collection::vec(group(), 1..60),
        noise in prop::collection::vec(any::<u8>(), 1..300),
        in_place: bool,
        arriving: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write_log(root, &groups);
        write_space(root, TABLE, &noise);
        write_space(root, SYSTEM, &noise);
        let cnf = BackupCnf::parse(b"[mysqld]\ninnodb_data_file_path=ibdata1:12M:autoextend\n").unwrap();
        let run = root.join("run");
        let datadir = Datadir {
            root,
            run: &run,
            external: &[],
            owner: None,
            cnf: &cnf,
            gtid_executed: None,
            end_lsn: None,
            server_version: None,
        };
        let (progress, stop) = (std::sync::Arc::new(Progress::new()), Stop::new().unwrap());
        let live = arriving.then(|| arrive(root, &progress));
        let place = find_log(root).unwrap().unwrap();
        let writes = if in_place { Writes::InPlace } else { Writes::Disposable };
        let means = Means { memory: 1 << 20, threads: 2, progress: &progress, stop: &stop };
        if let Ok((finish, _)) = apply(&datadir, &place, live, writes, &means) {
            finish.run(&datadir, || Ok(())).unwrap();
            prop_assert_eq!(find_log(root).unwrap(), None);
        }
    }
}

/// The table's pages pass by while its redo comes.
fn arrive(root: &std::path::Path, progress: &std::sync::Arc<Progress>) -> Live {
    let live = Live::start(root, 1 << 20, true, progress.clone()).unwrap();
    let size = std::fs::metadata(root.join(LOGFILE)).unwrap().len();
    let mut bytes = std::fs::read(root.join(TABLE.0)).unwrap();
    let space = live.arriving().space(TABLE.0, &bytes).unwrap().unwrap();
    live.arriving().redo_written(0, size / 2);
    let half = bytes.len() / 2 + 1000;
    let parts = [(0, &bytes[..half]), (half, &bytes[half..])];
    let chunks = parts.map(|(at, payload)| Chunk {
        member: MemberName::parse(TABLE.0).unwrap(),
        offset: at as u64,
        map: Vec::new(),
        payload: payload.into(),
        crc: 0,
        sparse: false,
        at: 0,
    });
    let mut amended = live.arriving().pages(space, &chunks[0]);
    live.arriving().redo_written(size / 2, size);
    live.arriving().redo_ended(size);
    amended.extend(live.arriving().pages(space, &chunks[1]));
    for (at, image) in amended {
        bytes[at as usize..][..image.len()].copy_from_slice(&image);
    }
    std::fs::write(root.join(TABLE.0), bytes).unwrap();
    live
}
