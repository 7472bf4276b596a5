//! More crafted streams: redo that ends where no group of records does, backups of other tools that a receiver can't take, and
//! honest ones, which every receiver must take.

use xbpipe::base::{Lsn, SpaceId};
use xbpipe::innodb::page::{SpaceFlags, build_page0, checksum};
use xbpipe::innodb::redo::{BLOCK_LEN, HEAD_LEN, Kind, block, lsn};
use xbpipe::stream::metadata::LOGFILE;

use super::Random;
use super::crafted::{Crafted, Free, Honest};
use super::streams::{CHECKPOINT, START, StreamMaker, compressed, nothing, page, redo_of, single};

/// An undo tablespace that no server has any more: its records are read, and for no page.
const GONE: u32 = 0xFFFF_FF70 - 127;

/// Redo whose end lies inside a group of records: cut there, or going on.
pub fn redo_ends_inside(random: &mut Random, mut honest: Honest) -> Crafted {
    let len = 30 + random.below(900) as u16;
    let body = [&[0, 100][..], &len.to_be_bytes(), &vec![7; usize::from(len)]].concat();
    let last = single(Kind::WriteString, GONE, 5, &body);
    let before = nothing(1 + random.below(20) as usize);
    let (_, start) = redo_of(&before);
    let end = lsn::advance(start, 1 + random.below(last.len() as u64 - 1));
    let (mut redo, _) = redo_of(&[before, vec![last]].concat());
    let cut = random.one_in(2);
    if cut {
        cut_at(&mut redo, end);
    }
    honest.contents.insert(LOGFILE.into(), redo);
    honest.manifest.end_lsn = end;
    StreamMaker::agree(&mut honest.contents, &honest.manifest);
    let without = random.one_in(2);
    let stream = StreamMaker::assembled(&honest.contents, honest.manifest);
    let stream = if without { without_manifest(&stream) } else { stream };
    let options = if without { vec!["--allow-no-manifest".to_owned()] } else { Vec::new() };
    let what = format!("the group from {start} ends behind {end}, cut: {cut}, manifest: {}", !without);
    Crafted { class: "redo end", what, stream, options, is_wrong: true, ..Crafted::default() }
}

/// Ends the log there as a sender does.
fn cut_at(redo: &mut Vec<u8>, end: Lsn) {
    let at = HEAD_LEN + end.block_start().since(Lsn(START)) as usize;
    let last: &[u8; BLOCK_LEN] = redo[at..].first_chunk().unwrap();
    let last = block::cut(last, end.since(end.block_start()) as usize);
    redo.truncate(at);
    redo.extend_from_slice(&last);
}

/// The same stream, but for its manifest.
pub fn without_manifest(stream: &[u8]) -> Vec<u8> {
    let mut maker = StreamMaker::new();
    for (name, content) in &StreamMaker::take_apart(stream).0 {
        maker.add(name, content);
    }
    maker.bytes
}

/// Files that only the tool that made them can bring to what they stand for: compressed or encrypted one by one, increments,
/// marks of what DDL did meanwhile.
pub fn other_tools(random: &mut Random, mut honest: Honest) -> Crafted {
    const NAMES: [&str; 11] = [
        "db/t.ibd.zst",
        "db/t.ibd.lz4",
        "db/t.ibd.qp",
        "db/t.ibd.xbcrypt",
        "db/t.ibd.zst.xbcrypt",
        "db/t.ibd.delta",
        "db/t.ibd.meta",
        "9.del",
        "9.ren",
        "db/t.ibd.new",
        "9.crpt",
    ];
    let name = NAMES[random.below(NAMES.len() as u64) as usize];
    honest.contents.insert(name.into(), b"db/u.ibd".to_vec());
    let stream = without_manifest(&StreamMaker::assembled(&honest.contents, honest.manifest));
    let options = vec!["--allow-no-manifest".into()];
    Crafted { class: "tools", what: name.into(), stream, options, is_wrong: true, ..Crafted::default() }
}

/// A datafile that ends before its tablespace does, at a whole page, with a header that is newer than the checkpoint. That is
/// right only where redo says that the tablespace grew meanwhile.
pub fn file_is_short(random: &mut Random, mut honest: Honest) -> Crafted {
    const FSP_SIZE: u8 = 46;
    const GROWN: [(&str, SpaceId, u32); 3] = [
        ("ibdata1", SpaceId::SYSTEM, 0),
        ("mysql.ibd", SpaceId::DICTIONARY, 0x4800),
        ("db/t.ibd", SpaceId(77), 0x4021),
    ];
    let (name, space, flags) = GROWN[random.below(3) as usize];
    let pages = 8 + random.below(200) as u32;
    // The group that sets the size stands before or behind others; or another does what looks like it.
    let grows = single(Kind::Write4, space.0, 0, &[&[0, FSP_SIZE][..], &compressed(pages)].concat());
    let other = match random.below(4) {
        0 => single(Kind::Write4, space.0, 0, &[&[0, FSP_SIZE + 4][..], &compressed(pages)].concat()),
        1 => single(Kind::Write4, space.0, 1, &[&[0, FSP_SIZE][..], &compressed(pages)].concat()),
        2 => single(Kind::Write4, GONE, 0, &[&[0, FSP_SIZE][..], &compressed(pages)].concat()),
        _ => nothing(1).remove(0),
    };
    let is_honest = random.one_in(2);
    let said = if is_honest { grows } else { other };
    let before = nothing(1 + random.below(30) as usize);
    let (_, from) = redo_of(&before);
    let (_, to) = redo_of(&[before.clone(), vec![said.clone()]].concat());
    let (redo, end) = redo_of(&[before, vec![said], nothing(random.below(30) as usize)].concat());
    let mut file = build_page0(space, SpaceFlags(flags), pages).unwrap();
    file[16..24].copy_from_slice(&to.0.to_be_bytes());
    checksum::stamp(&mut file, false);
    (1..7).for_each(|number| file.extend(page(space, number, CHECKPOINT.0 - 1)));
    honest.contents.insert(name.into(), file);
    honest.contents.insert(LOGFILE.into(), redo);
    honest.manifest.end_lsn = end;
    StreamMaker::agree(&mut honest.contents, &honest.manifest);
    let stream = StreamMaker::assembled(&honest.contents, honest.manifest);
    let what = format!("{name} of {pages} pages, set at {from}: {is_honest}");
    Crafted {
        class: "short",
        what,
        stream,
        is_wrong: !is_honest,
        is_honest,
        free: Free::All,
        ..Crafted::default()
    }
}

/// Nothing is wrong: in chunks with and without holes, in any order, with a manifest and without.
pub fn honest(random: &mut Random, honest: Honest) -> Crafted {
    let mut names: Vec<&String> = honest.contents.keys().collect();
    for n in (1..names.len()).rev() {
        names.swap(n, random.below(n as u64 + 1) as usize);
    }
    // What says how the others are to be taken comes first.
    names.sort_by_key(|name| *name != "backup-my.cnf");
    let mut maker = StreamMaker::new();
    for name in &names {
        match random.one_in(2) {
            true => maker.add(name, &honest.contents[*name]),
            false => maker.add_sparse(name, &honest.contents[*name]),
        };
    }
    let without = random.one_in(3);
    let options = if without { vec!["--allow-no-manifest".to_owned()] } else { Vec::new() };
    let stream = match without {
        true => maker.bytes,
        false => maker.finish().bytes,
    };
    Crafted {
        class: "honest",
        what: format!("{names:?}"),
        stream,
        options,
        is_honest: true,
        ..Crafted::default()
    }
}

/// A checkpoint that lies inside a group, or behind all of them.
pub fn checkpoint_is_none(random: &mut Random, mut honest: Honest) -> Crafted {
    use xbpipe::innodb::redo::RedoHead;
    let checkpoint = match random.below(3) {
        0 => Lsn(honest.manifest.end_lsn.0 + 1 + random.below(5000)),
        1 => Lsn(honest.manifest.end_lsn.0 + (BLOCK_LEN as u64) * random.below(50)),
        _ => Lsn(CHECKPOINT.0.saturating_sub(1 + random.below(20_000))),
    };
    let head = RedoHead { checkpoints: [Some(checkpoint); 2], ..super::streams::redo_head() };
    let redo = honest.contents.get_mut(LOGFILE).unwrap();
    redo[..HEAD_LEN].copy_from_slice(&head.build());
    honest.manifest.checkpoint_lsn = checkpoint.min(honest.manifest.end_lsn);
    let stream = StreamMaker::assembled(&honest.contents, honest.manifest);
    let same = checkpoint == Lsn(0);
    let what = format!("checkpoint {checkpoint}");
    let free = if same { Free::Nothing } else { Free::All };
    Crafted { class: "checkpoint", what, stream, is_wrong: !same, free, ..Crafted::default() }
}
