//! Reads and writes zstd frames (RFC 8878).
//!
//! ```text
//! frame   magic (4) · descriptor (1) · window (0/1) · dictionary id (0/1/2/4) · content size (0/1/2/4/8)
//!         · blocks · checksum (0/4)
//! block   header (3, little endian: bit 0 last, bits 1-2 type, the rest size) · content
//! ```

use ::zstd::bulk::Decompressor;
use ::zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use ::zstd::zstd_safe::DParameter;

use crate::base::PageBuffer;

use super::frames::{Batch, Block, Fault, Ran, Stream};
use super::{CodecError, Layer, frames};

/// First four bytes of a frame, little endian.
pub const MAGIC: u32 = 0xFD2F_B528;
/// Largest window that is accepted, as a power of two: that of `zstd --long` and of every level below
/// `--ultra`.
pub const WINDOW_LOG_MAX: u32 = 27;
/// Size of the largest block in bytes.
const BLOCK_MAX: usize = 128 << 10;
/// Number of bytes that are decompressed at a time from a frame that is not held whole.
const OUT_LEN: usize = 1 << 20;
const CHECKSUM_LEN: usize = 4;
const BLOCK_HEADER_LEN: usize = 3;

/// The header of a frame, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    len: usize,
    content: Option<u64>,
    window: u64,
    checksum: bool,
}

impl Head {
    /// Reads a header; `None` if more bytes are needed.
    fn read(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        frames::check_magic(bytes, MAGIC)?;
        let Some(&descriptor) = bytes.get(4) else { return Ok(None) };
        if descriptor & 0x08 != 0 {
            return Err(Fault::corrupt("a reserved bit is set"));
        }
        let single = descriptor & 0x20 != 0;
        let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content_len = match descriptor >> 6 {
            0 => usize::from(single),
            n => 1 << n,
        };
        let window_len = usize::from(!single);
        let len = 5 + window_len + dictionary_len + content_len;
        let Some(fields) = bytes.get(5..len) else { return Ok(None) };
        if fields[window_len..][..dictionary_len].iter().any(|b| *b != 0) {
            return Err(Fault::Refused("the frame needs a dictionary".into()));
        }
        let number = fields[window_len + dictionary_len..]
            .iter()
            .rev()
            .fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let content = match content_len {
            0 => None,
            2 => Some(number + 256),
            _ => Some(number),
        };
        let window = match (single, content) {
            (true, Some(content)) => content,
            _ => {
                let (exponent, mantissa) = (fields[0] >> 3, u64::from(fields[0] & 7));
                let base = 1u64 << (10 + exponent);
                base + base / 8 * mantissa
            }
        };
        let checksum = descriptor & 4 != 0;
        Ok(Some(Head { len, content, window, checksum }))
    }
}

impl frames::Head for Head {
    fn len(&self) -> usize {
        self.len
    }

    fn content(&self) -> Option<u64> {
        self.content
    }
}

/// The frame format of zstd.
pub(super) enum Zstd {}

impl frames::FrameFormat for Zstd {
    const LAYER: Layer = Layer::Zstd;
    type Head = Head;
    type Stream = Streamed;

    fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        Head::read(bytes)
    }

    fn block(head: &Head, bytes: &[u8]) -> Result<Option<Block>, Fault> {
        let Some(&[a, b, c]) = bytes.first_chunk() else { return Ok(None) };
        let header = u32::from_le_bytes([a, b, c, 0]);
        let size = (header >> 3) as usize;
        let stored = match (header >> 1) & 3 {
            1 => 1,
            0 | 2 if size <= BLOCK_MAX => size,
            0 | 2 => return Err(Fault::corrupt(format!("a block of {size} bytes"))),
            _ => return Err(Fault::corrupt("a block of no known type")),
        };
        let len = BLOCK_HEADER_LEN + stored;
        Ok(Some(match header & 1 {
            0 => Block::Next(len),
            _ => Block::End(len + if head.checksum { CHECKSUM_LEN } else { 0 }),
        }))
    }

    fn memory(head: &Head) -> u64 {
        // Memory that the library keeps beside the window: its context, and three blocks.
        const AROUND: u64 = (256 + 3 * 128) << 10;
        head.window.min(head.content.unwrap_or(u64::MAX)) + AROUND
    }

    fn stream(head: &Head) -> Result<Streamed, Fault> {
        let window = head.window;
        if window > 1 << WINDOW_LOG_MAX {
            return Err(Fault::Refused(format!(
                "the frame needs a window of {window} bytes, more than the {} that are let in (zstd --long={WINDOW_LOG_MAX})",
                1u64 << WINDOW_LOG_MAX
            )));
        }
        let mut decoder = Decoder::new().map_err(Fault::corrupt)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(Fault::corrupt)?;
        Ok(Streamed(decoder))
    }
}

/// A frame that is decompressed as it arrives.
pub(super) struct Streamed(Decoder<'static>);

impl Stream for Streamed {
    fn run(&mut self, bytes: &[u8], out: &mut PageBuffer) -> Result<Ran, Fault> {
        out.resize(OUT_LEN);
        let mut input = InBuffer::around(bytes);
        let mut output = OutBuffer::around(&mut out[..]);
        let mut ended = false;
        while !ended && output.pos() < OUT_LEN {
            let before = (input.pos(), output.pos());
            ended = self.0.run(&mut input, &mut output).map_err(Fault::corrupt)? == 0;
            if before == (input.pos(), output.pos()) {
                break;
            }
        }
        Ok(Ran { taken: input.pos(), written: output.pos(), ended })
    }
}

/// Decompresses whole frames.
pub(super) fn open(
    batch: &Batch,
    decompressor: &mut Option<Decompressor<'static>>,
    mut out: PageBuffer,
) -> Result<PageBuffer, CodecError> {
    let decompressor = match decompressor {
        Some(decompressor) => decompressor,
        None => {
            let new = Decompressor::new().map_err(|e| CodecError::Internal(e.to_string()))?;
            decompressor.insert(new)
        }
    };
    out.resize(batch.content);
    // The library treats frames that follow each other as one.
    let written = decompressor
        .decompress_to_buffer(&batch.bytes, &mut out[..])
        .map_err(|e| Fault::corrupt(e).at(Layer::Zstd, batch.at))?;
    if written != batch.content {
        let what = format!("{written} bytes of content instead of {}", batch.content);
        return Err(Fault::Corrupt(what).at(Layer::Zstd, batch.at));
    }
    Ok(out)
}

/// Returns the size of the largest frame that [`store`] makes of `len` bytes.
pub(super) fn stored_bound(len: usize) -> usize {
    9 + len + BLOCK_HEADER_LEN * (len / BLOCK_MAX + 1) + CHECKSUM_LEN
}

/// Makes a frame that holds `data` uncompressed; returns its length.
pub(super) fn store(data: &[u8], out: &mut [u8]) -> usize {
    // One segment, content size of four bytes, checksum.
    const DESCRIPTOR: u8 = 0b1010_0100;
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&MAGIC.to_le_bytes());
    put(&[DESCRIPTOR]);
    put(&(data.len() as u32).to_le_bytes());
    let mut blocks = data.chunks(BLOCK_MAX).peekable();
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        put(&((block.len() as u32) << 3 | last).to_le_bytes()[..BLOCK_HEADER_LEN]);
        put(block);
    }
    put(&(twox_hash::XxHash64::oneshot(0, data) as u32).to_le_bytes());
    at
}
