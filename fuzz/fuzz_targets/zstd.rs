//! zstd frames, sound and unsound.
#![no_main]

#[allow(dead_code)]
mod common;

use libfuzzer_sys::fuzz_target;
use xbpipe::codec::{Compression, Layer};

fuzz_target!(|data: &[u8]| common::frames(Layer::Zstd, Compression::Zstd(1), data));
