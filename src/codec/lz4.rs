//! Reads and writes lz4 frames (the LZ4 Frame Format, version 1.6).
//!
//! ```text
//! frame   magic (4) · flags (1) · block size (1) · content size (0/8) · dictionary id (0/4)
//!         · header checksum (1) · blocks · end mark (4, zero) · content checksum (0/4)
//! block   size (4, little endian; the highest bit: stored as it is) · content · checksum (0/4)
//! ```
//!
//! The library supports frames as well, but copies everything once more and makes new tables for every frame.
//! So only its functions for blocks are used.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, decompress_into_with_dict};
use std::hash::Hasher;
use twox_hash::XxHash32;

use crate::base::PageBuffer;

use super::frames::{Batch, Block, Fault, Ran, Stream};
use super::{CodecError, Layer, frames};

/// First four bytes of a frame, little endian.
pub const MAGIC: u32 = 0x184D_2204;
/// Distance in bytes to which linked blocks refer back.
const WINDOW: usize = 64 << 10;
const SUM_LEN: usize = 4;
const STORED: u32 = 1 << 31;

const FLAG_VERSION_MASK: u8 = 0b1100_0000;
const FLAG_VERSION: u8 = 0b0100_0000;
const FLAG_INDEPENDENT: u8 = 0b0010_0000;
const FLAG_BLOCK_SUM: u8 = 0b0001_0000;
const FLAG_CONTENT_SIZE: u8 = 0b0000_1000;
const FLAG_CONTENT_SUM: u8 = 0b0000_0100;
const FLAG_RESERVED: u8 = 0b0000_0010;
const FLAG_DICTIONARY: u8 = 0b0000_0001;

/// Maximum content of a frame that [`compress`] makes: one block of the size class in [`BLOCK_CLASS`].
pub(super) const FRAME_MAX: usize = 1 << 20;
const BLOCK_CLASS: u8 = 6;
/// Number of bytes of such a frame around its block.
const AROUND: usize = 15 + SUM_LEN + SUM_LEN + SUM_LEN;

/// The header of a frame, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    len: usize,
    flags: u8,
    block_max: usize,
    content: Option<u64>,
}

impl Head {
    /// Reads a header; `None` if more bytes are needed.
    fn read(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        frames::check_magic(bytes, MAGIC)?;
        let Some(&[flags, class]) = bytes.get(4..6) else { return Ok(None) };
        if flags & FLAG_VERSION_MASK != FLAG_VERSION || flags & FLAG_RESERVED != 0 || class & 0x8F != 0 {
            return Err(Fault::corrupt("a version or a flag that is not known"));
        }
        let block_max = match class >> 4 {
            class @ 4..=7 => 1 << (8 + 2 * class),
            _ => return Err(Fault::corrupt("a block size that is not known")),
        };
        let size_len = if flags & FLAG_CONTENT_SIZE != 0 { 8 } else { 0 };
        let dictionary_len = if flags & FLAG_DICTIONARY != 0 { 4 } else { 0 };
        let len = 6 + size_len + dictionary_len + 1;
        let Some(head) = bytes.get(..len) else { return Ok(None) };
        if head_sum(&head[4..len - 1]) != head[len - 1] {
            return Err(Fault::corrupt("a wrong checksum of a frame's head"));
        }
        if dictionary_len > 0 {
            return Err(Fault::Refused("the frame needs a dictionary".into()));
        }
        let content = (size_len > 0).then(|| head[6..14].try_into().map(u64::from_le_bytes)).transpose();
        let content = content.map_err(Fault::corrupt)?;
        Ok(Some(Head { len, flags, block_max, content }))
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn sum_len(&self, flag: u8) -> usize {
        if self.has(flag) { SUM_LEN } else { 0 }
    }
}

fn head_sum(descriptor: &[u8]) -> u8 {
    (XxHash32::oneshot(0, descriptor) >> 8) as u8
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Returns the size of a block, and whether it is stored uncompressed.
fn block_size(word: u32, head: &Head) -> Result<(usize, bool), Fault> {
    let size = (word & !STORED) as usize;
    if size > head.block_max {
        return Err(Fault::corrupt(format!("a block of {size} bytes")));
    }
    Ok((size, word & STORED != 0))
}

impl frames::Head for Head {
    fn len(&self) -> usize {
        self.len
    }

    fn content(&self) -> Option<u64> {
        self.content
    }
}

/// The frame format of lz4.
pub(super) enum Lz4 {}

impl frames::FrameFormat for Lz4 {
    const LAYER: Layer = Layer::Lz4;
    type Head = Head;
    type Stream = Streamed;

    fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        Head::read(bytes)
    }

    fn block(head: &Head, bytes: &[u8]) -> Result<Option<Block>, Fault> {
        let Some(word) = word(bytes, 0) else { return Ok(None) };
        Ok(Some(match word {
            0 => Block::End(4 + head.sum_len(FLAG_CONTENT_SUM)),
            _ => Block::Next(4 + block_size(word, head)?.0 + head.sum_len(FLAG_BLOCK_SUM)),
        }))
    }

    fn memory(_: &Head) -> u64 {
        2 * WINDOW as u64
    }

    fn stream(_: &Head) -> Result<Streamed, Fault> {
        Ok(Streamed::default())
    }
}

/// A frame that is decompressed block by block.
#[derive(Default)]
pub(super) struct Streamed {
    head: Option<Head>,
    /// Last bytes of the content, if blocks refer back to them.
    window: Vec<u8>,
    content: u64,
    sum: Option<XxHash32>,
}

impl Stream for Streamed {
    fn run(&mut self, bytes: &[u8], out: &mut PageBuffer) -> Result<Ran, Fault> {
        let Some(head) = self.head else {
            let Some(head) = Head::read(bytes)? else {
                return Ok(Ran { taken: 0, written: 0, ended: false });
            };
            self.head = Some(head);
            self.sum = head.has(FLAG_CONTENT_SUM).then(|| XxHash32::with_seed(0));
            return Ok(Ran { taken: head.len, written: 0, ended: false });
        };
        out.resize(head.block_max);
        let (taken, written, ended) = self.block(&head, bytes, out)?;
        Ok(Ran { taken, written, ended })
    }
}

impl Streamed {
    /// Processes one block, or the end of the frame: returns bytes taken, bytes written, and whether it was
    /// the end. Nothing is taken if more bytes are needed.
    fn block(&mut self, head: &Head, bytes: &[u8], out: &mut [u8]) -> Result<(usize, usize, bool), Fault> {
        const WAIT: (usize, usize, bool) = (0, 0, false);
        let Some(size) = word(bytes, 0) else { return Ok(WAIT) };
        if size == 0 {
            let end = 4 + head.sum_len(FLAG_CONTENT_SUM);
            if bytes.len() < end {
                return Ok(WAIT);
            }
            self.end(head, word(bytes, 4))?;
            return Ok((end, 0, true));
        }
        let (size, stored) = block_size(size, head)?;
        let end = 4 + size + head.sum_len(FLAG_BLOCK_SUM);
        if bytes.len() < end {
            return Ok(WAIT);
        }
        let block = &bytes[4..4 + size];
        if head.has(FLAG_BLOCK_SUM) && word(bytes, 4 + size) != Some(XxHash32::oneshot(0, block)) {
            return Err(Fault::corrupt("a wrong checksum of a block"));
        }
        let written = self.decompress(head, block, stored, out)?;
        Ok((end, written, false))
    }

    fn decompress(
        &mut self,
        head: &Head,
        block: &[u8],
        stored: bool,
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        let room = out.len().min(head.block_max);
        let out = &mut out[..room];
        let linked = !head.has(FLAG_INDEPENDENT);
        let written = match (stored, linked) {
            (true, _) if block.len() > room => return Err(Fault::corrupt("more content than was said")),
            (true, _) => {
                out[..block.len()].copy_from_slice(block);
                block.len()
            }
            (false, false) => decompress_into(block, out).map_err(Fault::corrupt)?,
            (false, true) => decompress_into_with_dict(block, out, &self.window).map_err(Fault::corrupt)?,
        };
        let written_bytes = &out[..written];
        self.content += written as u64;
        if let Some(sum) = &mut self.sum {
            sum.write(written_bytes);
        }
        if linked {
            self.window.extend_from_slice(&written_bytes[written.saturating_sub(WINDOW)..]);
            self.window.drain(..self.window.len().saturating_sub(WINDOW));
        }
        Ok(written)
    }

    fn end(&self, head: &Head, sum: Option<u32>) -> Result<(), Fault> {
        if head.content.is_some_and(|content| content != self.content) {
            return Err(Fault::corrupt(format!(
                "{} bytes of content instead of {}",
                self.content,
                head.content.unwrap_or_default()
            )));
        }
        match &self.sum {
            Some(wanted) if Some(wanted.finish_32()) != sum => {
                Err(Fault::corrupt("a wrong checksum of a frame's content"))
            }
            _ => Ok(()),
        }
    }
}

/// Decompresses whole frames.
pub(super) fn open(batch: &Batch, mut out: PageBuffer) -> Result<PageBuffer, CodecError> {
    out.resize(batch.content);
    let written = frames_into(&batch.bytes, &mut out).map_err(|f| f.at(Layer::Lz4, batch.at))?;
    if written != batch.content {
        let what = format!("{written} bytes of content instead of {}", batch.content);
        return Err(Fault::Corrupt(what).at(Layer::Lz4, batch.at));
    }
    Ok(out)
}

fn frames_into(mut bytes: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
    let mut written = 0;
    while !bytes.is_empty() {
        let cut = || Fault::corrupt("a frame that is cut");
        let head = Head::read(bytes)?.ok_or_else(cut)?;
        let mut frame = Streamed {
            head: Some(head),
            sum: head.has(FLAG_CONTENT_SUM).then(|| XxHash32::with_seed(0)),
            ..Streamed::default()
        };
        bytes = &bytes[head.len..];
        loop {
            let (taken, more, ended) = frame.block(&head, bytes, &mut out[written..])?;
            bytes = &bytes[taken..];
            written += more;
            match (taken, ended) {
                (_, true) => break,
                (0, _) => return Err(cut()),
                _ => {}
            }
        }
    }
    Ok(written)
}

/// Returns the size of the largest frame that [`compress`] makes of `len` bytes.
pub(super) fn bound(len: usize) -> usize {
    AROUND + lz4_flex::block::get_maximum_output_size(len)
}

/// Makes a frame of `data` ([`FRAME_MAX`] bytes at most); returns its length.
pub(super) fn compress(data: &[u8], table: &mut CompressTable, out: &mut [u8]) -> Result<usize, CodecError> {
    let mut head = [0; 15];
    head[..4].copy_from_slice(&MAGIC.to_le_bytes());
    head[4] = FLAG_VERSION | FLAG_INDEPENDENT | FLAG_CONTENT_SIZE | FLAG_CONTENT_SUM;
    head[5] = BLOCK_CLASS << 4;
    head[6..14].copy_from_slice(&(data.len() as u64).to_le_bytes());
    head[14] = head_sum(&head[4..14]);
    out[..15].copy_from_slice(&head);
    let block = 15 + SUM_LEN;
    let mut size = compress_into_with_table(data, &mut out[block..], table)
        .map_err(|e| CodecError::Internal(e.to_string()))?;
    let mut word = size as u32;
    if size >= data.len() {
        size = data.len();
        word = size as u32 | STORED;
        out[block..block + size].copy_from_slice(data);
    }
    out[15..block].copy_from_slice(&word.to_le_bytes());
    let end = block + size;
    out[end..end + SUM_LEN].fill(0);
    let sum = XxHash32::oneshot(0, data);
    out[end + SUM_LEN..end + 2 * SUM_LEN].copy_from_slice(&sum.to_le_bytes());
    Ok(end + 2 * SUM_LEN)
}
