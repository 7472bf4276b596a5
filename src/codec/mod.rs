//! The layers around the stream: compression (zstd and lz4 frames) and encryption (the age format). Pure: bytes in, bytes
//! out. The written specification is `proto/layers.md`.
//!
//! * Making a layer is for many threads: a [`FrameCompressor`] makes independent frames of whatever it is given, and an
//!   [`age::Sealer`] seals chunks of a stream of which an [`age::Carry`] keeps the odd bytes between two threads.
//! * Undoing one is feed/poll: an [`Decoder`] takes bytes and gives [`Piece`]s, in the order of the stream; opening a piece,
//!   which is the work, needs nothing but the piece, so that many threads can do it.
//!
//! No length in a layer is trusted: what is given out never is larger than [`PIECE_MAX`], frames that are, or don't say how
//! large they are, are decompressed bit by bit, and a window larger than [`zstd::WINDOW_LOG_MAX`] is refused.
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

/// Most bytes that a piece has when it is opened, and that it is opened from.
pub const PIECE_MAX: usize = 4 << 20;

/// As many first bytes as [`Layer::of`] needs.
pub const MAGIC_MAX: usize = 32;

/// Magic of frames that zstd and lz4 skip: `0x184D2A50` to `0x184D2A5F`, then a length of four bytes.
pub const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;
/// Bytes of a skippable frame before its content.
pub const SKIPPABLE_HEAD: usize = 8;

/// A layer around a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layer {
    /// Encryption, the binary age format.
    Age,
    /// Compression.
    Zstd,
    /// Compression.
    Lz4,
}

impl Layer {
    /// What begins like this. Less than [`MAGIC_MAX`] bytes are all that there is: a layer that was cut.
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

/// Whether a skippable frame may begin here, of whose head more bytes are needed.
pub fn may_be_skippable(head: &[u8]) -> bool {
    let known = &head[..head.len().min(4)];
    let begins = |magic: u32| magic.to_le_bytes().starts_with(known);
    !head.is_empty() && head.len() < SKIPPABLE_HEAD && SKIPPABLE.into_iter().any(begins)
}

/// The length of the content of a skippable frame, if that is what begins here.
pub fn skippable(head: &[u8]) -> Option<u64> {
    let magic = u32::from_le_bytes(*head.first_chunk()?);
    let len = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    SKIPPABLE.contains(&magic).then_some(len.into())
}
