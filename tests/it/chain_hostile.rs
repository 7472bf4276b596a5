//! Increments with right checksums that no sender would write: what can't be laid over is refused, and nothing is left of it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::StreamMaker;
use crate::support::chains::Streams;
use crate::support::folders::assert_same_files;
use crate::support::{Random, seed};
use xbpipe::stream::manifest::Manifest;

const PAGE: usize = 16384;
const TABLE: &str = "d/t.ibd.delta";
const META: &str = "d/t.ibd.meta";
const INCREMENT: &str = "xbpipe_increment";

type Contents = BTreeMap<String, Vec<u8>>;

/// An increment that a sender wrote, taken apart.
struct Forge {
    chain: Streams,
    contents: Contents,
    manifest: Manifest,
}

impl Forge {
    fn new() -> Forge {
        let chain = Streams::take(1);
        let (contents, manifest) = StreamMaker::take_apart(&std::fs::read(&chain.streams[1]).unwrap());
        Forge { chain, contents, manifest }
    }

    /// Writes a stream of these members in the order that a sender has them: descriptions before pages.
    fn stream(&self, contents: &Contents) -> PathBuf {
        let mut names: Vec<&str> = contents.keys().map(String::as_str).collect();
        names.sort_by_key(|name| (*name != INCREMENT, *name != "backup-my.cnf", name.replace(".meta", ".a")));
        self.stream_in_order(&names, contents)
    }

    fn stream_in_order(&self, names: &[&str], contents: &Contents) -> PathBuf {
        let path = self.chain.path("forged.xb");
        let bytes = StreamMaker::in_order(names, contents, self.manifest.clone());
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Whether both ways of giving the chain say the same; its words.
    fn restores(&self, stream: &Path, target: &str) -> Result<(), String> {
        let both: [&Path; 2] = [&self.chain.streams[0], stream];
        let said = self.chain.restore(target, &both);
        let words = said.words.clone();
        assert!(!words.contains("error[internal]"), "{words}");
        if said.status == Some(0) { Ok(()) } else { Err(words) }
    }

    #[track_caller]
    fn refused(&self, contents: &Contents, words: &str) {
        let said = self.restores(&self.stream(contents), "refused").unwrap_err();
        assert!(said.contains("error[stream-refused]") && said.contains(words), "{words}: {said}");
    }
}

#[test]
fn pages_come_into_their_files_in_any_order_of_members() {
    let forge = Forge::new();
    let all: Vec<&Path> = forge.chain.streams.iter().map(PathBuf::as_path).collect();
    forge.chain.restore("honest", &all).ok();
    // The manifest lists members in the order of the stream.
    let same = |target: &str| {
        for copy in [target, "honest"] {
            let _ = std::fs::remove_file(forge.chain.path(copy).join("xbpipe_manifest"));
        }
        assert_same_files(&forge.chain.path(target), &forge.chain.path("honest"));
    };
    forge.restores(&forge.stream(&forge.contents), "same").unwrap();
    same("same");
    // What says that it is an increment comes last, or between pages.
    let mut names: Vec<&str> =
        forge.contents.keys().map(String::as_str).filter(|n| *n != INCREMENT).collect();
    for at in [names.len(), names.iter().position(|name| *name == META).unwrap()] {
        names.insert(at, INCREMENT);
        let target = format!("late{at}");
        forge.restores(&forge.stream_in_order(&names, &forge.contents), &target).unwrap();
        same(&target);
        names.remove(at);
    }
    // Before the pages it must stand, where they go straight into the datafiles.
    names.insert(0, INCREMENT);
    let stream = forge.stream_in_order(&names, &forge.contents);
    let said = forge.restores(&stream, "refused").unwrap_err();
    assert!(said.contains("comes before its description"), "{said}");
}

#[test]
fn pages_that_belong_nowhere_are_refused() {
    let forge = Forge::new();
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut contents = forge.contents.clone();
        change(contents.get_mut(TABLE).unwrap());
        contents
    };
    let number =
        |slot: usize, n: u32| change(&move |delta| delta[slot * 4..][..4].copy_from_slice(&n.to_be_bytes()));
    let count = forge.contents[TABLE].len() / PAGE - 1;
    assert!(count >= 2, "the table has {count} pages");
    for (contents, words) in [
        (number(0, 7), "begins with 0x00000007"),
        (number(0, 0x7874_7261), "is followed by another one"),
        (number(count, 1 << 20), "lies behind the end of the datafile"),
        (number(count, 0xFFFF_FFFE), "lies behind the end of the datafile"),
        (number(2, 0), "comes after page"),
        (number(count, 0xFFFF_FFFF), "behind the last cluster"),
        (change(&|delta| delta.truncate(count * PAGE)), "bytes are missing"),
        (change(&|delta| delta.extend([0; PAGE])), "behind the last cluster"),
    ] {
        forge.refused(&contents, words);
        let stream = forge.stream(&contents);
        forge.chain.verify(&[&forge.chain.streams[0], &stream]).failed("stream-refused").says(words);
    }
    let without = |name: &str| {
        let mut contents = forge.contents.clone();
        contents.remove(name);
        contents
    };
    forge.refused(&without(META), "comes before its description");
    forge.refused(&without(TABLE), "is missing");
    // Files that a server would take for its settings, made of pages.
    for name in ["mysqld-auto.cnf", "auto.cnf", "d/key.pem"] {
        let mut contents = forge.contents.clone();
        for (suffix, old) in [("delta", TABLE), ("meta", META)] {
            let content = contents.remove(old).unwrap();
            contents.insert(format!("{name}.{suffix}"), content);
        }
        forge.refused(&contents, "can't be the name of a datafile");
    }
    // A file with the name of a datafile, before it and after.
    for name in ["d/t.ibd", "ibdata1"] {
        let mut contents = forge.contents.clone();
        contents.insert(name.into(), b"mine".to_vec());
        let said = forge.restores(&forge.stream(&contents), "refused").unwrap_err();
        assert!(said.contains("error[stream-refused]"), "{said}");
    }
    // Two descriptions with one id.
    let mut contents = forge.contents.clone();
    for suffix in ["delta", "meta"] {
        contents.insert(format!("d/u.ibd.{suffix}"), contents[&format!("d/t.ibd.{suffix}")].clone());
    }
    let said = forge.restores(&forge.stream(&contents), "refused").unwrap_err();
    assert!(said.contains("error[stream-refused]"), "{said}");
}

#[test]
fn noise_in_descriptions_and_headers_ends_in_words() {
    let seed = seed();
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    let forge = Forge::new();
    let names: Vec<&String> =
        forge.contents.keys().filter(|n| n.ends_with(".delta") || n.ends_with(".meta")).collect();
    let mut refused = 0;
    for round in 0..40 {
        let mut contents = forge.contents.clone();
        let name = names[random.below(names.len() as u64) as usize];
        let content = contents.get_mut(name).unwrap();
        let head = content.len().min(if random.one_in(2) { 12 } else { PAGE });
        let at = random.below(head as u64) as usize;
        content[at] ^= 1 << random.below(8);
        let target = format!("noise{round}");
        match forge.restores(&forge.stream(&contents), &target) {
            Ok(()) => std::fs::remove_dir_all(forge.chain.path(&target)).unwrap(),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 5, "{refused}");
}
