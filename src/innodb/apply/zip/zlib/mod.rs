//! Deflate as zlib does it, bit for bit.
//!
//! Where the server logs that it compressed a page but not the outcome, the page must be compressed again to the same
//! bytes: the modification log goes on where the stream ends, and another compressor's stream may not even fit. So
//! the matcher (its hash chains, lazy evaluation and limits), the choice of block type and the shape of the Huffman
//! trees are zlib's, for streams of two parts with a full flush between them, memory level 9, default strategy. The
//! tests compare with streams made by zlib.
//!
//! # Why no crate
//!
//! Crates that write deflate write valid streams, but others: of the 159 streams that the tests have from zlib 1.2.13, flate2 over
//! zlib-rs makes 29 the same, over miniz_oxide none. The C library itself would be exact by definition, at the price of unsafe code, a C
//! compiler in the build, and of whatever zlib a system links it to (zlib-ng and vendors' patches make yet other bytes).
//!
//! # What can be left out
//!
//! A page's bytes are fewer than its window, so the window never moves, and fewer than the symbol buffer, so each
//! part is one block.
//!
//! Level 0 stores (`deflate_stored`, as it is since zlib 1.2.11). It writes a block before it is told to flush or to
//! finish only once it has as many bytes as the window, which a page never has: each part is one stored block there, too.

mod bits;
mod matcher;
mod trees;

use crate::innodb::page::checksum::adler32;
use bits::Bits;

/// zlib's compression levels.
pub(super) const LEVELS: std::ops::RangeInclusive<u8> = 0..=9;
/// The level that compresses nothing.
const STORE: u8 = 0;

/// Compresses `first`, flushes, compresses `second` and ends the stream. The window has `1 << window_bits` bytes, and
/// neither part has more.
pub(super) fn deflate(first: &[u8], second: &[u8], level: u8, window_bits: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.bytes(&header(level, window_bits));
    if !first.is_empty() {
        write_block(&mut bits, first, level, window_bits, false);
    }
    bits.empty_stored_block();
    write_block(&mut bits, second, level, window_bits, true);
    bits.align();
    let checksum = adler32(adler32(1, first), second);
    bits.bytes(&checksum.to_be_bytes());
    bits.finish()
}

fn write_block(bits: &mut Bits, input: &[u8], level: u8, window_bits: u32, last: bool) {
    if level == STORE {
        bits.stored_block(input, last);
    } else {
        let symbols = matcher::symbols(input, level, window_bits);
        trees::write_block(bits, &symbols, input, last);
    }
}

/// Method and window size, a hint of the level, and what makes it a multiple of 31.
fn header(level: u8, window_bits: u32) -> [u8; 2] {
    const DEFLATED: u32 = 8;
    let hint = match level {
        0..2 => 0,
        2..6 => 1,
        6 => 2,
        _ => 3,
    };
    let header = (DEFLATED + ((window_bits - 8) << 4)) << 8 | hint << 6;
    ((header + 31 - header % 31) as u16).to_be_bytes()
}

#[cfg(test)]
mod tests;
