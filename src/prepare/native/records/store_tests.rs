use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::prepare::native::records::batch_index::BatchIndex;
use crate::prepare::native::records::merge::Batch;
use crate::prepare::native::records::table::LandedLsns;

const BASE: Lsn = Lsn(1 << 20);

/// A record: its page, length of its body, and whether its group ends with it.
type Made = ((u32, u32), usize, bool);
/// Records of a page: LSNs and bodies.
type Found = BTreeMap<(u32, u32), Vec<(Lsn, Lsn, Vec<u8>)>>;

fn made() -> impl Strategy<Value = Vec<Made>> {
    // Few pages that many records are for, and many that few are for, up to the last there can be.
    let page = prop_oneof![0..3u32, 0..500u32, (u32::MAX - 70)..=u32::MAX];
    let len = prop_oneof![4 => 0..60usize, 1 => 0..5000usize];
    prop::collection::vec(((0..3u32, page), len, any::<bool>()), 1..400)
}

/// What `made` is in the log.
fn log(made: &[Made]) -> Vec<(SpaceId, PageNo, Lsn, Lsn, Vec<u8>)> {
    let ends = made.iter().scan(BASE, |lsn, (_, len, _)| {
        *lsn = lsn.plus(*len as u64 + 3);
        Some(*lsn)
    });
    let ends: Vec<_> = ends.collect();
    let group_end = |from: usize| {
        let last = (from..made.len()).find(|at| made[*at].2).unwrap_or(made.len() - 1);
        ends[last]
    };
    let start = |at: usize| if at == 0 { BASE } else { ends[at - 1] };
    let records = made.iter().enumerate().map(|(at, ((space, page), len, _))| {
        (SpaceId(*space), PageNo(*page), start(at), group_end(at), vec![at as u8; *len])
    });
    records.collect()
}

fn fill(store: &mut Store, made: &[Made], mut between: impl FnMut(&mut Store, usize)) {
    for (at, (space, page, start_lsn, end_lsn, bytes)) in log(made).iter().enumerate() {
        let run = RecordRun { start_lsn: *start_lsn, end_lsn: *end_lsn, records: 1, index: None, bytes };
        store.push(*space, *page, &run).unwrap();
        if made[at].2 {
            store.end_groups().unwrap();
            between(store, at);
        }
    }
}

/// All that comes out, and how many batches it took.
fn drain(store: Store, len_max: usize) -> (Found, usize) {
    let mut merge = store.into_merge().unwrap();
    merge.start().unwrap();
    let (mut batch, mut index, mut found, mut batches) =
        (Batch::default(), BatchIndex::default(), Found::new(), 0);
    let mut last = None;
    while merge.next(len_max, &mut batch).unwrap() {
        let range = batch.range.unwrap();
        assert!(last <= Some(range), "stretches come in the order of the files");
        last = Some(range);
        index.build(&mut batch, BASE).unwrap();
        for slot in 0..RANGE_PAGES {
            for run in index.runs(&batch.bytes, slot) {
                let page = (range.space().0, range.page(slot).0);
                let run = (run.start_lsn, run.end_lsn, run.bytes.to_vec());
                found.entry(page).or_default().push(run);
            }
        }
        batches += 1;
    }
    (found, batches)
}

fn wanted(made: &[Made], has: impl Fn((u32, u32), Lsn) -> bool) -> Found {
    let mut wanted = Found::new();
    for (space, page, start, end, bytes) in log(made) {
        if !has((space.0, page.0), start) {
            wanted.entry((space.0, page.0)).or_default().push((start, end, bytes));
        }
    }
    wanted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back_per_page_in_the_order_of_the_log_at_any_memory(
        made in made(), memory in prop_oneof![0..4096u64, 0..200_000u64], len_max in 0..10_000usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(BASE, memory, dir.path());
        fill(&mut store, &made, |_, _| ());
        let (found, _) = drain(store, len_max);
        prop_assert_eq!(found, wanted(&made, |_, _| false));
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_landed_pages_have_is_left_out_and_nothing_else(
        made in made(),
        memory in prop_oneof![0..4096u64, 0..200_000u64],
        landings in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 0..20),
    ) {
        // At some point a page lands that has all up to the end of some group before, or after.
        let records = log(&made);
        let landings: Vec<_> = landings
            .iter()
            .map(|(when, which, _)| (when.index(made.len()), records[which.index(made.len())].clone()))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(BASE, memory, dir.path());
        fill(&mut store, &made, |store, at| {
            for (_, (space, page, _, end, _)) in landings.iter().filter(|(when, _)| *when == at) {
                store.note_landed(*space, *page, *end);
            }
        });
        let (found, _) = drain(store, 1 << 20);
        // Too little memory, and landings are forgotten: more may come back, but nothing is lost or out of order.
        let lsn_of = |page: (u32, u32)| {
            let of_page = landings.iter().filter(|(when, l)| made[*when].2 && (l.0.0, l.1.0) == page);
            of_page.map(|(_, l)| l.3).max().unwrap_or(Lsn(0))
        };
        let must = wanted(&made, |page, start| start < lsn_of(page));
        let all = wanted(&made, |_, _| false);
        for (page, records) in &must {
            prop_assert!(found.get(page).is_some_and(|f| f.ends_with(records)), "page {:?}", page);
        }
        for (page, records) in &found {
            prop_assert!(all[page].ends_with(records), "page {:?}", page);
        }
        if memory > 150_000 {
            prop_assert_eq!(found, must);
        }
    }
}

#[test]
fn little_memory_spills_and_long_stretches_come_in_batches() {
    let made: Vec<Made> = (0..2000).map(|n| ((7, n % 5), 100, true)).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::new(BASE, 16 << 10, dir.path());
    fill(&mut store, &made, |_, _| ());
    assert!(store.spill.is_some());
    let (found, batches) = drain(store, 20 << 10);
    assert_eq!(found, wanted(&made, |_, _| false));
    assert!(batches > 5, "{batches}");
}

#[test]
fn what_is_pending_is_given_until_it_is_spilled() {
    let made: Vec<Made> = (0..50).map(|n| ((7, n % 5), 100, true)).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::new(BASE, 1 << 20, dir.path());
    let (range, _) = PageRange::of(SpaceId(7), PageNo(0));
    let mut bytes = Vec::new();
    assert!(!store.pending(range, &mut bytes));
    fill(&mut store, &made, |_, _| ());
    assert!(store.pending(range, &mut bytes) && bytes.len() > 5000);
    store.spill().unwrap();
    fill(&mut store, &made, |_, _| ());
    assert!(!store.pending(range, &mut bytes), "older records are in the file");
}

#[test]
fn pages_from_beyond_the_end_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::new(BASE, 1 << 20, dir.path());
    store.note_landed(SpaceId(7), PageNo(3), BASE.plus(5000));
    assert_eq!(store.beyond(BASE.plus(400)), None, "it lacks nothing");
    fill(&mut store, &[((7, 3), 100, true)], |_, _| ());
    assert_eq!(store.beyond(BASE.plus(400)), Some((SpaceId(7), PageNo(3), BASE.plus(5000))));
    assert_eq!(store.beyond(BASE.plus(5000)), None);
}

#[test]
fn a_page_is_asked_once_for_its_lsn() {
    let mut landed = LandedLsns::unknown();
    landed.ask(3, || Some(Lsn(500)));
    landed.ask(3, || unreachable!());
    assert!(landed.has(3, Lsn(499)) && !landed.has(3, Lsn(500)) && !landed.has(4, Lsn(1)));
    assert_eq!((landed.beyond(Lsn(499)), landed.beyond(Lsn(500))), (Some(3), None));
}
