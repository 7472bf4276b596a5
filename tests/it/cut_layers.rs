//! Compressed and encrypted streams that end early, wherever that is: refused in plain words, with several threads at work.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::layered::{SECRET, to_recipient, wrap};
use crate::support::pipe::{Said, said};
use crate::support::{Random, StreamMaker, seed};
use xbpipe::codec::{Compression, Layer};
use xbpipe::transport::LayerOptions;

const ZSTD: Option<Compression> = Some(Compression::Zstd(1));

/// What a sender is asked for.
const WRAPS: &[(&str, Option<Compression>, bool)] = &[
    ("zstd", ZSTD, false),
    ("lz4", Some(Compression::Lz4), false),
    ("age", None, true),
    ("zstd and age", ZSTD, true),
];

/// A stream in these layers, written in pieces of a few KiB each so that there are many frames.
fn wrapped(random: &mut Random, compression: Option<Compression>, encrypted: bool) -> Vec<u8> {
    let stream = StreamMaker::small().finish().bytes;
    let cover = if encrypted { to_recipient() } else { None };
    let piece = 1 + random.below(200_000) as usize;
    let pieces: Vec<_> = stream.chunks(piece).map(<[u8]>::to_vec).collect();
    wrap(LayerOptions { compression, cover }, &pieces)
}

fn verify(stream: &[u8], keys: &Path) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbrecv"));
    command.args(["--verify-only", "--progress=none", "--parallel=8", "--identity"]).arg(keys);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have seen enough before the end.
    let _ = child.stdin.take().unwrap().write_all(stream);
    said(child)
}

#[test]
fn a_layer_that_ends_early_is_refused() {
    let seed = seed();
    let rounds: u64 = std::env::var("XBPIPE_ROUNDS").map_or(400, |n| n.parse().unwrap());
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::write(&keys, format!("{SECRET}\n")).unwrap();
    let mut failed = Vec::new();
    for (name, compression, encrypted) in WRAPS {
        let mut whole = Vec::new();
        for n in 0..rounds / WRAPS.len() as u64 {
            if n % 50 == 0 {
                whole = wrapped(&mut random, *compression, *encrypted);
                assert!(Layer::of(&whole).is_some(), "{name}");
                verify(&whole, &keys).ok();
            }
            // The last bytes too: what is missing there is not data.
            let last = if random.one_in(4) { 1 + random.below(200) as usize } else { whole.len() };
            let cut = whole.len() - 1 - random.below(last.min(whole.len()) as u64) as usize;
            let said = verify(&whole[..cut], &keys);
            let refused = said.status.is_some_and(|status| status == 1 || status == 2);
            if !refused || said.words.contains("panicked") || said.words.contains("error[internal]") {
                failed.push(format!(
                    "{name}, {cut} of {} bytes: {:?}\n{}",
                    whole.len(),
                    said.status,
                    said.words
                ));
            }
        }
    }
    assert!(failed.is_empty(), "XBPIPE_SEED={seed}, {} of {rounds}:\n{}", failed.len(), failed.join("\n"));
}
