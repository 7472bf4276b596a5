//! Implements the layers around the stream: compression (zstd and lz4 frames) and encryption (the age
//! format). The module is pure: bytes in, bytes out. The written specification is `proto/layers.md`.
//!
//! * Many threads make a layer together: a [`FrameCompressor`] makes independent frames of whatever it is
//!   given, and an [`age::Sealer`] encrypts chunks of a stream of which an [`age::Carry`] keeps the leftover
//!   bytes between two threads.
//! * Removing a layer works by feed and poll: a [`Decoder`] takes bytes and gives [`Piece`]s, in the order of
//!   the stream. Decoding a piece takes most of the time and needs nothing but the piece, so that many
//!   threads can do it.
//!
//! No length in a layer is trusted. A piece that is given out is never larger than [`PIECE_MAX`]; frames that
//! are larger, or don't say how large they are, are decompressed bit by bit; and a window larger than
//! [`zstd::WINDOW_LOG_MAX`] is refused.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod age;
mod compressor;
mod decoder;
mod error;
mod frames;
mod input_buffer;
pub mod lz4;
pub mod zstd;

pub use compressor::{Compression, FrameCompressor};
pub use decoder::{Decoder, Piece, PieceDecoder};
pub use error::{CodecError, Lock};

/// Maximum number of bytes of a piece, before and after decoding.
pub const PIECE_MAX: usize = 4 << 20;

/// Number of first bytes that [`Layer::of`] needs.
pub const MAGIC_MAX: usize = 32;

/// Magic numbers of frames that zstd and lz4 skip: `0x184D2A50` to `0x184D2A5F`, then a length of four bytes.
pub const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;
/// Number of bytes of a skippable frame before its content.
pub const SKIPPABLE_HEAD: usize = 8;

/// A layer around a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layer {
    /// Encryption, the binary age format.
    Age,
    /// Compression with zstd.
    Zstd,
    /// Compression with lz4.
    Lz4,
}

impl Layer {
    /// Returns the layer that begins with `head`. Pass fewer than [`MAGIC_MAX`] bytes only if there are no
    /// more: a layer may be cut off there.
    pub fn of(head: &[u8]) -> Option<Layer> {
        const MAGICS: [(&[u8], Layer); 3] = [
            (age::MAGIC, Layer::Age),
            (&zstd::MAGIC.to_le_bytes(), Layer::Zstd),
            (&lz4::MAGIC.to_le_bytes(), Layer::Lz4),
        ];
        let begins = |magic: &[u8]| head.starts_with(magic) || !head.is_empty() && magic.starts_with(head);
        MAGICS.iter().find(|(magic, _)| begins(magic)).map(|(_, layer)| *layer)
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layer::Age => "age",
            Layer::Zstd => "zstd",
            Layer::Lz4 => "lz4",
        })
    }
}

/// Returns whether a skippable frame may begin here, of whose header more bytes are needed.
pub fn may_be_skippable(head: &[u8]) -> bool {
    let known = &head[..head.len().min(4)];
    let begins = |magic: u32| magic.to_le_bytes().starts_with(known);
    !head.is_empty() && head.len() < SKIPPABLE_HEAD && SKIPPABLE.into_iter().any(begins)
}

/// Returns the length of the content of a skippable frame, if one begins here.
pub fn skippable(head: &[u8]) -> Option<u64> {
    let magic = u32::from_le_bytes(*head.first_chunk()?);
    let len = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    SKIPPABLE.contains(&magic).then_some(len.into())
}
