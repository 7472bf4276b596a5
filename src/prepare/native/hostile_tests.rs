//! Redo and pages that nobody sent in good faith: a copy or an error, but no panic, and an end.

use proptest::prelude::*;

use super::testing::{Around, START, SYSTEM, TABLE, write_log, write_space};
use super::*;
use crate::base::progress::Progress;
use crate::base::{Budget, Stop};
use crate::innodb::redo::{Kind, lsn};
use crate::prepare::Resources;
use crate::stream::metadata::LOGFILE;
use crate::stream::{Chunk, MemberName};

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
        write_log(root, &groups, lsn::first_payload(START));
        write_space(root, TABLE, &noise);
        write_space(root, SYSTEM, &noise);
        let around = Around::of(root);
        let datadir = around.datadir(root);
        let (progress, stop) = (std::sync::Arc::new(Progress::new()), Stop::new().unwrap());
        let live = arriving.then(|| arrive(root, &progress));
        let place = datadir.redo.find(root).unwrap().unwrap();
        let writes = if in_place { Writes::InPlace } else { Writes::Disposable };
        let budget = Budget::new(64 << 20);
        let means = Resources { memory: 1 << 20, budget: &budget, threads: 2, progress: &progress, stop: &stop };
        if let Ok((finish, _)) = apply(&datadir, &place, live, writes, &means) {
            finish.run(&datadir, || Ok(())).unwrap();
            prop_assert_eq!(datadir.redo.find(root).unwrap(), None);
        }
    }
}

/// The table's pages pass by while its redo comes.
fn arrive(root: &std::path::Path, progress: &std::sync::Arc<Progress>) -> StreamingApply {
    let live = StreamingApply::start(
        crate::family::redo_of_copies(),
        std::sync::Arc::new(crate::innodb::encryption::NoKeyring),
        root,
        1 << 20,
        &Budget::new(64 << 20),
        true,
        progress.clone(),
    )
    .unwrap();
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
