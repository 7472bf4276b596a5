//! Whatever a sender may cut and interleave arrives as it was.

use std::collections::BTreeMap;

use proptest::prelude::*;
use xbpipe::stream::digest::{BLOCK, BlockDigest, digest, leaf};
use xbpipe::stream::frame::end_frame;
use xbpipe::stream::{Extent, MemberName};

use crate::stream::packer::{Cut, frame, manifest_frames, name};
use crate::stream::receiver::receive;

/// A member as runs: zeros that may travel as holes, and data.
#[derive(Clone, Debug)]
struct Plan {
    content: Vec<u8>,
    cuts: Vec<Cut>,
}

fn runs() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
    let run = (prop_oneof![Just(0), 1..5000u32], prop::collection::vec(any::<u8>(), 0..300));
    prop::collection::vec(run, 0..4)
}

fn plan() -> impl Strategy<Value = Plan> {
    prop::collection::vec((runs(), any::<bool>()), 0..6).prop_map(|chunks| {
        let mut content = Vec::new();
        let mut cuts = Vec::new();
        for (runs, sparse) in chunks {
            let start = content.len();
            let mut map = Vec::new();
            for (skip, data) in &runs {
                content.resize(content.len() + *skip as usize, 0);
                content.extend_from_slice(data);
                map.push(Extent { skip: *skip, len: data.len() as u32 });
            }
            cuts.push(if sparse { Cut::Sparse(map) } else { Cut::Dense(content.len() - start) });
        }
        Plan { content, cuts }
    })
}

/// The frames of all plans, interleaved as `order` says.
fn interleave(plans: &[(MemberName, Plan)], order: &[prop::sample::Index]) -> Vec<u8> {
    let mut queues: Vec<Vec<Vec<u8>>> = plans
        .iter()
        .map(|(name, plan)| {
            let mut offset = 0;
            let mut frames = Vec::new();
            for cut in &plan.cuts {
                let (bytes, end) = frame(name, &plan.content, offset, cut);
                frames.push(bytes);
                offset = end;
            }
            frames.push(end_frame(name));
            frames.reverse();
            frames
        })
        .collect();
    let mut stream = Vec::new();
    let mut order = order.iter().cycle();
    while !queues.is_empty() {
        let at = order.next().unwrap().index(queues.len());
        match queues[at].pop() {
            Some(frame) => stream.extend_from_slice(&frame),
            None => drop(queues.swap_remove(at)),
        }
    }
    stream
}

proptest! {
    #[test]
    fn members_arrive_as_they_were(
        plans in prop::collection::vec(plan(), 0..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
        step in prop_oneof![1..200usize, Just(16_384), Just(usize::MAX)],
    ) {
        let plans: Vec<_> =
            plans.into_iter().enumerate().map(|(i, plan)| (name(&format!("db/t{i}.ibd")), plan)).collect();
        let members: Vec<_> = plans.iter().map(|(name, plan)| (name.clone(), plan.content.clone())).collect();
        let mut stream = interleave(&plans, &order);
        stream.extend(manifest_frames(&members).concat());
        let taken = receive(&stream, step).unwrap();
        prop_assert_eq!(taken.members, members.into_iter().collect::<BTreeMap<_, _>>());
    }

    #[test]
    fn digests_do_not_depend_on_order_or_cuts(
        len in 0..(6 * BLOCK),
        seed in any::<u32>(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 8),
        cuts in prop::collection::vec(1..(2 * BLOCK), 1..10),
    ) {
        let content: Vec<u8> =
            (0..len as u32).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let expected = digest(&content);
        let mut blocks: Vec<_> = content.chunks(BLOCK).enumerate().collect();
        let mut shuffled = BlockDigest::new();
        for index in &order {
            if !blocks.is_empty() {
                let (index, block) = blocks.swap_remove(index.index(blocks.len()));
                shuffled.put_leaf(index as u64, leaf(block));
            }
        }
        prop_assert_eq!(shuffled.finish(len as u64), Ok(expected));
        let mut pieces = BlockDigest::new();
        let mut rest = &content[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at(rest.len().min(*cut));
            pieces.update(piece);
            rest = later;
        }
        prop_assert_eq!(pieces.finish(len as u64), Ok(expected));
    }
}
