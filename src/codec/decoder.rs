//! Removes a layer from a stream: takes bytes and gives [`Piece`]s, each of which any thread can then decode.

use crate::base::{Budget, PageBuffer};

use super::age::{AgeDecoder, Keys, Sealed};
use super::frames::{Batch, Found, Frames};
use super::input_buffer::InputBuffer;
use super::{CodecError, Layer, lz4, zstd};

/// Removes a layer. Ask for [`space`](Decoder::space), read into it, and report how many bytes came
/// ([`filled`](Decoder::filled)); then [`poll`](Decoder::poll) until there is nothing more. At the end of the
/// input call [`finish`](Decoder::finish).
pub struct Decoder {
    feed: InputBuffer,
    inner: Inner,
}

enum Inner {
    Age(AgeDecoder),
    Zstd(Frames<zstd::Zstd>),
    Lz4(Frames<lz4::Lz4>),
}

/// A part of the content of a layer, in the order of the stream.
pub enum Piece {
    /// Bytes that need no decoding.
    Plain(PageBuffer),
    /// Encrypted chunks of the age format.
    Sealed(Sealed),
    /// Frames of zstd.
    Zstd(Batch),
    /// Frames of lz4.
    Lz4(Batch),
}

/// The state that one thread needs to decode pieces.
#[derive(Default)]
pub struct PieceDecoder {
    zstd: Option<::zstd::bulk::Decompressor<'static>>,
}

impl Decoder {
    /// Creates a decoder at the first byte of `layer`. `keys` are for encryption.
    pub fn new(layer: Layer, keys: &Keys) -> Decoder {
        let inner = match layer {
            Layer::Age => Inner::Age(AgeDecoder::new(keys.clone())),
            Layer::Zstd => Inner::Zstd(Frames::new()),
            Layer::Lz4 => Inner::Lz4(Frames::new()),
        };
        Decoder { feed: InputBuffer::new(), inner }
    }

    /// Charges to `budget` the memory that decompressing takes beside buffers, which are never larger than
    /// [`super::PIECE_MAX`], and lets deriving a key from a passphrase take `hardening` bytes for a moment.
    pub fn within(mut self, budget: &Budget, hardening: u64) -> Decoder {
        match &mut self.inner {
            Inner::Age(age) => age.hardening(hardening),
            Inner::Zstd(frames) => frames.within(budget),
            Inner::Lz4(frames) => frames.within(budget),
        }
        self
    }

    /// Returns the buffer to read into next; it is never empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.feed.space()
    }

    /// Records that `n` bytes were read into [`space`](Decoder::space).
    ///
    /// # Panics
    /// If that is more than there was space for.
    pub fn filled(&mut self, n: usize) {
        self.feed.filled(n);
    }

    /// Returns the next piece; `None` if more bytes are needed. `spare` may be taken as a piece's buffer.
    ///
    /// # Errors
    /// The layer can't be decoded any further.
    pub fn poll(&mut self, spare: &mut Option<PageBuffer>) -> Result<Option<Piece>, CodecError> {
        match &mut self.inner {
            Inner::Age(age) => Ok(age.poll(&mut self.feed, spare)?.map(Piece::Sealed)),
            Inner::Zstd(frames) => {
                Ok(frames.poll(&mut self.feed, spare)?.map(|found| Piece::of(found, Piece::Zstd)))
            }
            Inner::Lz4(frames) => {
                Ok(frames.poll(&mut self.feed, spare)?.map(|found| Piece::of(found, Piece::Lz4)))
            }
        }
    }

    /// Ends the input, after [`poll`](Decoder::poll) gave `None`; returns the last piece, if there is one
    /// more.
    ///
    /// # Errors
    /// The layer must not end here.
    pub fn finish(&mut self) -> Result<Option<Piece>, CodecError> {
        match &mut self.inner {
            Inner::Age(age) => age.finish(&mut self.feed).map(|sealed| Some(Piece::Sealed(sealed))),
            Inner::Zstd(frames) => frames.finish(&self.feed).map(|()| None),
            Inner::Lz4(frames) => frames.finish(&self.feed).map(|()| None),
        }
    }
}

impl Piece {
    fn of(found: Found, whole: fn(Batch) -> Piece) -> Piece {
        match found {
            Found::Plain(content) => Piece::Plain(content),
            Found::Frames(batch) => whole(batch),
        }
    }

    /// Returns the number of bytes of memory that the piece and its decoded content take.
    pub fn memory(&self) -> usize {
        match self {
            Piece::Plain(bytes) => bytes.capacity(),
            Piece::Sealed(sealed) => sealed.memory(),
            Piece::Zstd(batch) | Piece::Lz4(batch) => batch.bytes.len() + batch.content,
        }
    }

    /// Decodes the piece and returns its content. `spare` may be used for it.
    ///
    /// # Errors
    /// Nothing of the piece may be used then.
    pub fn open(self, opener: &mut PieceDecoder, spare: PageBuffer) -> Result<PageBuffer, CodecError> {
        match self {
            Piece::Plain(bytes) => Ok(bytes),
            Piece::Sealed(sealed) => sealed.open(),
            Piece::Zstd(batch) => zstd::open(&batch, &mut opener.zstd, spare),
            Piece::Lz4(batch) => lz4::open(&batch, spare),
        }
    }
}
