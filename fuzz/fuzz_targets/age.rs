//! The age format: any header; and a sound stream with bytes changed, cut or put in, of which nothing but a start may come out.
#![no_main]

#[allow(dead_code)]
mod common;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use xbpipe::codec::Layer;
use xbpipe::codec::age::{self, Key, Keys, Recipient, SEALED};
use xbpipe::transport::LayerOptions;

const RECIPIENT: &str = "age1nyyjgn2j9plgxztywpq6qj9srcmqdrv07jke04tpzgf24nzt7ctqvy08w3";
const SECRET: &str = "AGE-SECRET-KEY-1H6WCTZG9EDY89493YKQ3LPAJ4578P838Z0890S04NHQFHMU2U2LST0J2FH";

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::new(Key::parse_file(&mut SECRET.as_bytes()).unwrap()));
/// Three chunks, the last of them short.
static STREAM: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let plain: Vec<u8> = (0..2 * 65536 + 100u32).map(|n| (n >> 3) as u8).collect();
    let cover = Some(age::cover(&[Recipient::parse(RECIPIENT).unwrap()]).unwrap());
    let stream = common::wrap(LayerOptions { compression: None, cover }, &plain);
    (plain, stream)
});

fuzz_target!(|data: &[u8]| {
    let _ = common::undo(Layer::Age, &KEYS, data, 7);
    let _ = common::undo(Layer::Age, &KEYS, &[age::MAGIC, data].concat(), usize::MAX);
    let (plain, stream) = &*STREAM;
    let mut changed = stream.clone();
    for op in data.chunks_exact(5) {
        let at = u32::from_le_bytes([op[1], op[2], op[3], 0]) as usize % (changed.len() + 1);
        match op[0] % 5 {
            0 => changed.truncate(at),
            1 if at < changed.len() => changed[at] ^= op[4],
            2 => changed.insert(at, op[4]),
            3 => drop(changed.drain(at..(at + SEALED).min(changed.len()))),
            _ => {
                let end = (at + SEALED).min(changed.len());
                let again = changed[at..end].to_vec();
                changed.splice(at..at, again);
            }
        }
    }
    let (opened, done) = common::undo(Layer::Age, &KEYS, &changed, 65_000);
    if done.is_ok() {
        assert!(opened == *plain, "a changed stream was accepted");
    } else {
        assert!(plain.starts_with(&opened), "bytes that nobody sent came out");
    }
});
