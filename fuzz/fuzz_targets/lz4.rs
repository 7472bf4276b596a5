//! lz4 frames, sound and unsound.
#![no_main]

#[allow(dead_code)]
mod common;

use libfuzzer_sys::fuzz_target;
use xbpipe::codec::{Compression, Layer};

fuzz_target!(|data: &[u8]| common::frames(Layer::Lz4, Compression::Lz4, data));
