//! Streams whose checksums, digests and manifest are right, and whose contents are not what a sender would write.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use xbpipe::base::{Lsn, SpaceId};
use xbpipe::innodb::redo::{BLOCK_LEN, HEAD_LEN, Kind, RedoFlags, RedoHead};
use xbpipe::stream::manifest::Manifest;
use xbpipe::stream::metadata::{
    BINLOG_INFO, BinlogInfo, BinlogPosition, CHECKPOINTS, Checkpoints, INFO, Info, LOGFILE,
};

use super::streams::{StreamMaker, noise, nothing, redo_head, redo_of, single, tablespace};
use super::{Random, crafted_ends};

/// What a receiver is given.
#[derive(Default)]
pub struct Crafted {
    pub class: &'static str,
    /// What was done, for a person.
    pub what: String,
    pub stream: Vec<u8>,
    pub options: Vec<String>,
    /// No receiver may call it whole.
    pub is_wrong: bool,
    /// Every receiver must.
    pub is_honest: bool,
    /// What else than an honest stream's may be in a copy that is called whole.
    pub free: Free,
}

/// Files of a copy that need not be as an honest stream has them.
#[derive(Default)]
pub enum Free {
    #[default]
    Nothing,
    /// These, with any content.
    Named(Vec<String>),
    /// Any: what the stream says may be so.
    All,
}

/// An honest stream, taken apart.
pub struct Honest {
    pub contents: BTreeMap<String, Vec<u8>>,
    pub manifest: Manifest,
}

/// A stream made of an honest one.
type Made = fn(&mut Random, Honest) -> Crafted;

const MADE: &[Made] = &[
    kind_of_backup,
    cut_layers,
    crafted_ends::redo_ends_inside,
    crafted_ends::other_tools,
    crafted_ends::checkpoint_is_none,
    crafted_ends::file_is_short,
    crafted_ends::honest,
];

/// A change to it: what was done, whether it must be refused.
type Change = fn(&mut Random, &mut Honest, &Path) -> (String, bool);

const CHANGES: &[(&str, Change)] = &[
    ("manifest", manifest_lies),
    ("metadata", metadata_lies),
    ("missing", something_is_missing),
    ("tablespaces", tablespaces_are_none),
    ("redo cut", redo_is_damaged),
    ("redo flags", redo_says_it_is_of_no_use),
    ("redo of files", redo_moves_files),
    ("redo noise", redo_is_noise),
    ("paths", paths_lead_out),
    ("names", names_configure),
    ("texts", texts_are_odd),
];

/// Tablespaces without which no server starts.
const REQUIRED: [&str; 4] = ["ibdata1", "mysql.ibd", "undo_001", "undo_002"];

/// The next stream. `ground` is the folder in which nothing but `place` and `new` may change.
pub fn crafted(random: &mut Random, ground: &Path) -> Crafted {
    let (contents, manifest) = StreamMaker::take_apart(&StreamMaker::small().finish().bytes);
    let mut honest = Honest { contents, manifest };
    let n = random.below((CHANGES.len() + MADE.len()) as u64) as usize;
    let map = format!("--map=/ext={}", ground.join("new").display());
    match CHANGES.get(n) {
        Some((class, change)) => {
            let (what, is_wrong) = change(random, &mut honest, ground);
            let stream = StreamMaker::assembled(&honest.contents, honest.manifest);
            let options = if *class == "paths" { vec![map] } else { vec![] };
            let free = match *class {
                "texts" => Free::Named(vec![what.split(',').next().unwrap_or_default().to_owned()]),
                "tablespaces" if !is_wrong => Free::Named(vec!["db/holes.ibd".into()]),
                "names" => Free::Named(vec![format!("backup-{what}"), format!("backup-of-{what}")]),
                "paths" | "redo of files" => Free::All,
                _ => Free::Nothing,
            };
            Crafted { class, what, stream, options, is_wrong, free, ..Crafted::default() }
        }
        None => MADE[n - CHANGES.len()](random, honest),
    }
}

fn one<'a, T: ?Sized>(random: &mut Random, of: &[&'a T]) -> &'a T {
    of[random.below(of.len() as u64) as usize]
}

fn manifest_lies(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let m = &mut honest.manifest;
    let bits = *one(random, &[&1u64, &9, &20, &40]);
    let off = 1 + random.below(1 << bits);
    let what = random.below(8);
    match what {
        0 => m.page_size = *one(random, &[&0, &4096, &8192, &32768, &65536, &12345, &u32::MAX]),
        1 => m.checkpoint_lsn = Lsn(m.checkpoint_lsn.0.wrapping_sub(off)),
        2 => m.checkpoint_lsn = Lsn(m.checkpoint_lsn.0.wrapping_add(off)),
        3 => m.end_lsn = Lsn(m.end_lsn.0.wrapping_sub(off)),
        4 => m.end_lsn = Lsn(m.end_lsn.0.wrapping_add(off)),
        5 => m.server_version = one(random, &["8.0.30", "8.4.3", "9.7.5", "5.7.44", "x", ""]).to_owned(),
        6 => {
            m.binlog = match random.below(3) {
                0 => None,
                1 => Some(BinlogPosition { file: "binlog.000002".into(), position: 157 }),
                _ => Some(BinlogPosition { file: "binlog.000001".into(), position: 157 + off }),
            }
        }
        _ => m.gtid_executed = Some("0a14a6b2-e660-11f1-a95e-02fc00000001:1-6".into()),
    }
    (format!("field {what} by {off}"), true)
}

fn metadata_lies(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let text = |honest: &Honest, name: &str| honest.contents[name].clone();
    let off = 1 + random.below(5000);
    let what = random.below(7);
    match what {
        0..3 => {
            let mut c = Checkpoints::parse(&text(honest, CHECKPOINTS)).unwrap();
            match what {
                0 => c.last_lsn = Lsn(c.last_lsn.0 + off),
                1 => c.last_lsn = Lsn(c.last_lsn.0.saturating_sub(off)),
                _ => c.from_lsn = Lsn(off),
            }
            honest.contents.insert(CHECKPOINTS.into(), c.render().into());
        }
        3 | 4 => {
            let mut i = Info::parse(&text(honest, INFO)).unwrap();
            match what {
                3 => i.innodb_to_lsn = Lsn(i.innodb_to_lsn.0 + off),
                _ => i.server_version = "8.0.36".into(),
            }
            honest.contents.insert(INFO.into(), i.render().into());
        }
        5 => {
            let mut b = BinlogInfo::parse(&text(honest, BINLOG_INFO)).unwrap();
            b.position.position += off;
            honest.contents.insert(BINLOG_INFO.into(), b.render().into());
        }
        _ => {
            let cnf = one(
                random,
                &["innodb_page_size=8192\nlog_bin=binlog", "innodb_page_size=16384\nlog_bin=other"],
            );
            honest.contents.insert("backup-my.cnf".into(), format!("[mysqld]\n{cnf}\n").into());
        }
    }
    (format!("field {what} by {off}"), true)
}

fn something_is_missing(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let others = [LOGFILE, CHECKPOINTS, INFO, BINLOG_INFO, "binlog.000001"];
    let all: Vec<&str> = REQUIRED.iter().chain(&others).copied().collect();
    let name = one(random, &all);
    honest.contents.remove(name);
    (name.to_owned(), true)
}

fn tablespaces_are_none(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let name = one(random, &[REQUIRED[0], REQUIRED[1], REQUIRED[2], REQUIRED[3], "db/holes.ibd"]);
    let content = honest.contents.get_mut(name).unwrap();
    let how = random.below(6);
    match how {
        0 => content.clear(),
        // Inside a page, and at its end where the header says more.
        1 => content.truncate(1 + random.below(content.len() as u64 - 1) as usize / 512 * 512 + 7),
        2 => content[..16384].fill(0),
        3 => *content = tablespace(SpaceId(4711), 3),
        4 => content.extend_from_slice(&noise(100, 1)),
        _ => {
            let other = content.clone();
            honest.contents.insert("db/twice.ibd".into(), other);
        }
    }
    // One page less of a table may be a page that nobody wrote.
    let is_wrong = !(how == 3 && name == "db/holes.ibd");
    (format!("{name}, way {how}"), is_wrong)
}

fn redo_is_damaged(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let redo = honest.contents.get_mut(LOGFILE).unwrap();
    let at = random.below(redo.len() as u64) as usize;
    match random.below(2) {
        0 => {
            redo.truncate(at);
            (format!("cut at {at}"), true)
        }
        _ => {
            // Behind the checkpoint's block nothing may be flipped; in the header not everything is looked at.
            redo[at] ^= 1 << random.below(8);
            (format!("flipped at {at}"), at >= HEAD_LEN && at < redo.len() / BLOCK_LEN * BLOCK_LEN)
        }
    }
}

fn redo_says_it_is_of_no_use(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let flags = RedoFlags(random.below(8) as u32);
    let head = RedoHead { flags, ..redo_head() }.build();
    honest.contents.get_mut(LOGFILE).unwrap()[..head.len()].copy_from_slice(&head);
    (format!("{flags:?}"), flags.0 & 7 != 0)
}

/// Names that lead, or seem to lead, elsewhere.
fn way_out(random: &mut Random, ground: &Path) -> String {
    let up = "../".repeat(1 + random.below(20) as usize);
    let below = ground.to_str().unwrap().trim_start_matches('/');
    let file = one(random, &["planted", "canary/mysql.ibd", "canary/db/t.ibd", "canary"]);
    let start = one(random, &["", "./", "/", "/ext/", "/ext//", "/ext/db/../", "./db/", "db/", "/ext/./"]);
    match random.below(6) {
        0 => format!("{start}{up}{below}/{file}"),
        1 => format!("{start}{up}{file}"),
        2 => format!("/{below}/{file}"),
        3 => format!("{start}{file}\0x"),
        4 => format!("{start}{}", one(random, &["", ".", "..", "a\nb", "a\u{202e}b", "\u{2028}"])),
        _ => format!("{start}{}", "d/".repeat(random.below(3000) as usize)),
    }
}

fn redo_moves_files(random: &mut Random, honest: &mut Honest, ground: &Path) -> (String, bool) {
    let text = |path: &str| [&(path.len() as u16).to_be_bytes()[..], path.as_bytes()].concat();
    let space = *one(random, &[&0, &0xFFFF_FFFE, &0xFFFF_FFEF, &0xFFFF_FFEE, &9, &77]);
    let path = way_out(random, ground);
    let name = if random.one_in(2) { path.clone() } else { "./db/holes.ibd".to_owned() };
    let (kind, body) = match random.below(3) {
        0 => (Kind::FileDelete, text(&name)),
        1 => (Kind::FileRename, [text(&name), text(&path)].concat()),
        _ => (Kind::FileCreate, [&[0; 4][..], &text(&path)].concat()),
    };
    set_redo(honest, &[nothing(3), vec![single(kind, space, 0, &body)], nothing(3)].concat());
    // An undo tablespace that is made anew has another id; one that is made beside has none of these.
    let is_wrong = space == 0 || space == 0xFFFF_FFFE || (kind != Kind::FileCreate && space > 77);
    (format!("{kind:?} of {space}: {name:?}, {path:?}"), is_wrong)
}

fn redo_is_noise(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let groups: Vec<Vec<u8>> = (0..1 + random.below(30))
        .map(|_| {
            let mut group = noise(1 + random.below(300) as usize, random.next());
            if random.one_in(2) {
                // A kind that there is.
                group[0] = 0x80 | random.below(80) as u8;
            }
            group
        })
        .collect();
    set_redo(honest, &groups);
    (format!("{} groups", groups.len()), false)
}

/// Redo of these groups, and all that says where it ends.
fn set_redo(honest: &mut Honest, groups: &[Vec<u8>]) {
    let (redo, end) = redo_of(groups);
    honest.contents.insert(LOGFILE.into(), redo);
    honest.manifest.end_lsn = end;
    StreamMaker::agree(&mut honest.contents, &honest.manifest);
}

fn paths_lead_out(random: &mut Random, honest: &mut Honest, ground: &Path) -> (String, bool) {
    let files: Vec<_> = (0..1 + random.below(3))
        .map(|_| {
            let path = way_out(random, ground);
            serde_json::json!({"file_name": path, "tablespace_name": one(random, &["db/holes", "db/t", &path])})
        })
        .collect();
    let list = serde_json::json!({"version": 2, "external_tablespaces": files}).to_string();
    honest.contents.insert("xtrabackup_tablespaces".into(), list.clone().into());
    (list, false)
}

fn names_configure(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let name = one(random, CONFIGURE);
    honest.contents.insert(name.to_owned(), b"[mysqld]\nplugin-load=evil.so\n".to_vec());
    (name.to_owned(), false)
}

/// Members that no server may find under these names.
pub const CONFIGURE: &[&str] = &[
    "auto.cnf",
    "mysqld-auto.cnf",
    "my.cnf",
    "MY.CNF",
    "mysqld.my",
    "component_keyring_file.cnf",
    "component_keyring_file",
    "keyring",
    "private_key.pem",
    "server-key.pem",
    "ca.pem",
];

fn texts_are_odd(random: &mut Random, honest: &mut Honest, _: &Path) -> (String, bool) {
    let name = one(random, &["backup-my.cnf", CHECKPOINTS, INFO, BINLOG_INFO, "xtrabackup_tablespaces"]);
    let how = random.below(5);
    let content = honest.contents.entry(name.to_owned()).or_default();
    match how {
        0 => *content = noise(1 + random.below(5000) as usize, random.next()),
        1 => *content = "x".repeat(1 << random.below(26)).into_bytes(),
        2 => content.extend_from_slice("\nk\u{202e}\u{2066} = \u{2028}\u{1b}[31m\n".as_bytes()),
        3 => content.extend("a=b\n".repeat(1 << random.below(20)).into_bytes()),
        _ => {
            let len = content.len() as u64;
            (0..random.below(8)).for_each(|_| {
                if len > 0 {
                    content[random.below(len) as usize] = random.next() as u8;
                }
            });
        }
    }
    (format!("{name}, way {how}"), false)
}

fn kind_of_backup(random: &mut Random, mut honest: Honest) -> Crafted {
    let kind = one(random, &["incremental", "log-applied", "full-prepared", "partial", "xyz", ""]);
    let text = String::from_utf8(honest.contents[CHECKPOINTS].clone()).unwrap();
    let text = text.replace("full-backuped", kind);
    honest.contents.insert(CHECKPOINTS.into(), text.into());
    let stream = crafted_ends::without_manifest(&StreamMaker::assembled(&honest.contents, honest.manifest));
    let options = vec!["--allow-no-manifest".into()];
    Crafted { class: "kind", what: kind.to_owned(), stream, options, is_wrong: true, ..Crafted::default() }
}

fn cut_layers(random: &mut Random, honest: Honest) -> Crafted {
    let mut stream = StreamMaker::assembled(&honest.contents, honest.manifest);
    let layers = 1 + random.below(3);
    for _ in 0..layers {
        let mut wrapped = Vec::new();
        for piece in stream.chunks(1 + random.below(100_000) as usize) {
            let mut encoder = zstd::Encoder::new(&mut wrapped, 1).unwrap();
            encoder.write_all(piece).unwrap();
            encoder.finish().unwrap();
        }
        stream = wrapped;
    }
    let cut = random.below(stream.len() as u64) as usize;
    stream.truncate(cut);
    Crafted {
        class: "layers",
        what: format!("{layers} layers, cut at {cut}"),
        stream,
        options: vec!["--parallel=8".into()],
        is_wrong: true,
        ..Crafted::default()
    }
}
