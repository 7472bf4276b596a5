//! Crafted streams against `xbrecv`: none is called whole that is not, and none reaches beyond its target.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::crafted::{CONFIGURE, Crafted, Free, crafted};
use crate::support::folders::without_log_id;
use crate::support::measured::{Measured, on};
use crate::support::{Random, StreamMaker, seed};
use xbpipe::base::show::is_deceptive;
use xbpipe::stream::manifest::MANIFEST;

/// What a receiver may take, whatever is sent.
const PEAK_MAX: u64 = 512 << 20;
/// The same, on a machine that does nothing else; the suite's may be busy.
const TIME_MAX: Duration = Duration::from_secs(10);
const TIME_MAX_BUSY: Duration = Duration::from_secs(60);

/// Every file below `dir` but those in `place` and `new`, with what is in it.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("place") && !path.ends_with("new") {
                    left.push(path.clone());
                }
                found.insert(path, Vec::new());
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

/// What is wrong with a receiver that treats this stream so.
fn faults(
    crafted: &Crafted,
    measured: &Measured,
    ground: &Path,
    before: &BTreeMap<PathBuf, Vec<u8>>,
) -> Vec<String> {
    let Measured { said, peak, time } = measured;
    let mut faults = Vec::new();
    let accepted = said.status == Some(0);
    let mut fault = |is: bool, what: &str| {
        if is {
            faults.push(what.to_owned());
        }
    };
    fault(crafted.is_wrong && accepted, "wrong exit 0");
    fault(crafted.is_honest && !accepted, "an honest stream is refused");
    fault(said.status.is_none_or(|s| s > 2), "no exit status of its own");
    fault(said.words.contains("panicked") || said.words.contains("error[internal]"), "panic");
    fault(*peak > PEAK_MAX, "more than 512 MiB");
    let quiet = std::env::var_os("XBPIPE_ROUNDS").is_some();
    fault(*time > if quiet { TIME_MAX } else { TIME_MAX_BUSY }, "too long");
    fault(said.words.len() > 20_000, "words without end");
    let shown = |c: char| is_deceptive(c) && c != '\n';
    fault(said.words.contains(shown), "words that deceive");
    fault(tree(ground) != *before, "files outside the target");
    let empty = |name: &str| fs::read_dir(ground.join(name)).unwrap().next().is_none();
    fault(!accepted && (!empty("place") || !empty("new")), "something was left");
    let target = ground.join("place/t");
    fault(CONFIGURE.iter().any(|name| target.join(name).exists()), "settings for the target's server");
    faults
}

/// `xbrecv` in one of the three ways: verifying, and both that need no server.
fn receive(how: u64, target: &Path, options: &[String], stream: &[u8]) -> Measured {
    // Verifying takes no --map.
    let options = options.iter().filter(|option| how > 0 || !option.starts_with("--map"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["--progress=none", "--use-memory=64M"]).args(options).stderr(Stdio::piped());
    match how {
        0 => command.arg("--verify-only"),
        1 => command.arg("--prepare=none").arg(target),
        _ => command.arg("--prepare=native").arg(target),
    };
    on(command, |out| out.write_all(stream).and_then(|()| out.flush()))
}

/// Files of a copy by their names in it.
fn copy(target: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.strip_prefix(target).unwrap().to_string_lossy().into_owned();
    let file = |path: &PathBuf, content: &Vec<u8>| {
        let name = name(path);
        let content = without_log_id(&name, content.clone());
        (name, content)
    };
    tree(target).iter().map(|(path, content)| file(path, content)).collect()
}

/// The judge of an exit 0: the first file that is not what an honest stream gives.
fn differs(crafted: &Crafted, target: &Path, honest: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let free = match &crafted.free {
        Free::All => return None,
        Free::Named(names) => names.clone(),
        Free::Nothing => Vec::new(),
    };
    let found = copy(target);
    // The manifest has the digests of what differs, and the order in which all came.
    let names = found.keys().chain(honest.keys()).filter(|name| *name != MANIFEST).collect::<BTreeSet<_>>();
    let other = names.into_iter().find(|name| !free.contains(name) && found.get(*name) != honest.get(*name));
    other.map(|name| format!("exit 0, and {name} is not what an honest stream gives"))
}

#[test]
fn nothing_crafted_is_called_whole_or_reaches_out() {
    let seed = seed();
    let rounds: u64 = std::env::var("XBPIPE_ROUNDS").map_or(150, |n| n.parse().unwrap());
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let (mut peak, mut longest, mut failed) = (0, Duration::ZERO, Vec::new());
    let ground = tempfile::tempdir().unwrap();
    let root = ground.path().canonicalize().unwrap();
    for name in ["place", "new", "canary/db"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["mysql.ibd", "db/t.ibd"] {
        fs::write(root.join("canary").join(name), format!("untouched {name}")).unwrap();
    }
    let whole = StreamMaker::small().finish().bytes;
    let honest = [1, 2].map(|how| {
        let target = root.join("place/t");
        assert_eq!(receive(how, &target, &[], &whole).said.status, Some(0));
        let honest = copy(&target);
        fs::remove_dir_all(target).unwrap();
        honest
    });
    let before = tree(&root);
    for n in 0..rounds {
        // Each can be had again alone.
        let mut random = Random::new(seed.wrapping_add(n));
        let crafted = crafted(&mut random, &root);
        let how = random.below(3);
        let target = root.join("place/t");
        let measured = receive(how, &target, &crafted.options, &crafted.stream);
        let accepted = measured.said.status == Some(0);
        let mut faults = faults(&crafted, &measured, &root, &before);
        if accepted && how > 0 {
            faults.extend(differs(&crafted, &target, &honest[how as usize - 1]));
        }
        // What depends on the target apart, what can't be received is not verified either.
        if !accepted && how > 0 && !["paths", "names"].contains(&crafted.class) {
            let verified = receive(0, &target, &crafted.options, &crafted.stream);
            faults.extend((verified.said.status == Some(0)).then(|| "verified, but not received".to_owned()));
        }
        let count = counts.entry(crafted.class).or_default();
        count.0 += 1;
        count.1 += u64::from(measured.said.status == Some(0));
        peak = peak.max(measured.peak);
        longest = longest.max(measured.time);
        if !faults.is_empty() {
            let words: String = measured.said.words.chars().take(1500).collect();
            failed.push(format!(
                "XBPIPE_SEED={} class {}, mode {how}, {:.300}: {faults:?}\n{words}",
                seed.wrapping_add(n),
                crafted.class,
                crafted.what
            ));
        }
        for name in ["place", "new"] {
            let _ = fs::remove_dir_all(root.join(name));
            fs::create_dir(root.join(name)).unwrap();
        }
    }
    eprintln!(
        "{rounds} streams, most memory {} MiB, longest {longest:?}; class: (streams, accepted) {counts:?}",
        peak >> 20
    );
    assert!(failed.is_empty(), "{} of {rounds} failed:\n{}", failed.len(), failed.join("\n"));
}
