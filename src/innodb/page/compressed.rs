//! Transparent page compression, COMPRESSION='zlib' or 'lz4' (os/file.cc, `Compression::deserialize`).
//!
//! A page of type 14 keeps bytes 0..26 of its header but for the type. Then come: version (1 byte at 26: 1 or
//! 2), algorithm (27: 1 zlib, 2 lz4), original type (2 at 28), bytes of the body before compression (2 at 30)
//! and after it (2 at 32), space id, and from 38 the payload. What follows is a hole in the file. The page's
//! checksum and trailer lie inside the payload.

use flate2::{Decompress, FlushDecompress, Status};

use super::header::{FLUSH_LSN, SPACE_ID, TYPE};
use super::{FIL_HEADER, FilHeader, LOGICAL_MAX, LOGICAL_MIN, PageType};
use crate::innodb::bytes::{be16, put16};

/// The algorithm of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// zlib, with its header.
    Zlib,
    /// A raw LZ4 block.
    Lz4,
}

/// The control information of a compressed page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The page type to restore.
    pub original_type: PageType,
    /// Bytes of the body before compression: page size − 38.
    pub original_len: usize,
    /// Bytes of the payload.
    pub payload_len: usize,
}

/// Why a compressed page can't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PayloadError {
    /// Not version 1 or 2.
    #[error("compression version {0} is unknown")]
    Version(u8),
    /// Neither zlib nor lz4.
    #[error("compression algorithm {0} is unknown")]
    Algorithm(u8),
    /// Lengths that can't be.
    #[error("compressed length {payload} or original length {original} can't be")]
    Lengths {
        /// Bytes after compression, as stored.
        payload: usize,
        /// Bytes before compression, as stored.
        original: usize,
    },
    /// The payload does not decompress to the stored length.
    #[error("payload does not decompress")]
    Payload,
}

impl Control {
    const VERSION: usize = FLUSH_LSN;
    const ALGORITHM: usize = 27;
    const ORIGINAL_TYPE: usize = 28;
    const ORIGINAL_LEN: usize = 30;
    const PAYLOAD_LEN: usize = 32;
    const _FITS: () = assert!(Self::PAYLOAD_LEN + 2 == SPACE_ID);

    /// The control information of `page`, whose type is 14 or 16 and which has at least 38 bytes.
    fn read(page: &[u8]) -> Result<Self, PayloadError> {
        if !matches!(page[Self::VERSION], 1 | 2) {
            return Err(PayloadError::Version(page[Self::VERSION]));
        }
        let algorithm = match page[Self::ALGORITHM] {
            1 => Algorithm::Zlib,
            2 => Algorithm::Lz4,
            unknown => return Err(PayloadError::Algorithm(unknown)),
        };
        let original_len = usize::from(be16(page, Self::ORIGINAL_LEN));
        let payload_len = usize::from(be16(page, Self::PAYLOAD_LEN));
        if !(LOGICAL_MIN - FIL_HEADER..=LOGICAL_MAX - FIL_HEADER).contains(&original_len)
            || payload_len == 0
            || FIL_HEADER + payload_len > page.len()
        {
            return Err(PayloadError::Lengths { payload: payload_len, original: original_len });
        }
        let original_type = PageType(be16(page, Self::ORIGINAL_TYPE));
        Ok(Control { algorithm, original_type, original_len, payload_len })
    }
}

/// How many bytes of a transparently compressed page matter (header and payload): the rest of it is a hole in
/// the source's file and may be one in the copy's. `None` for any other page, also for one that is compressed
/// and encrypted: there only the server knows where the ciphertext ends.
pub fn stored_len(page: &[u8]) -> Option<usize> {
    let header = FilHeader::of(page)?;
    if header.page_type() != PageType::COMPRESSED {
        return None;
    }
    Control::read(page).ok().map(|c| FIL_HEADER + c.payload_len)
}

/// A decompressor that can be used for page after page.
pub(super) struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Inflater(Decompress::new(true))
    }
}

/// Room to decompress a page in. Empty until the first transparently compressed page.
#[derive(Default)]
pub struct Scratch {
    pub(super) page: Vec<u8>,
    pub(super) inflater: Inflater,
}

impl Scratch {
    /// Creates the buffers, empty.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Restores the page of type 14 in `page` into `into`, which has the logical page size; `scratch` lends its
/// decompressor.
pub(crate) fn restore_compressed(
    page: &[u8],
    into: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), PayloadError> {
    restore(page, into, &mut scratch.inflater)
}

/// Restores the page of type 14 in `page` into `into`, which has the logical page size.
pub(super) fn restore(page: &[u8], into: &mut [u8], inflater: &mut Inflater) -> Result<(), PayloadError> {
    let control = Control::read(page)?;
    if control.original_len + FIL_HEADER != into.len() {
        let Control { payload_len: payload, original_len: original, .. } = control;
        return Err(PayloadError::Lengths { payload, original });
    }
    let payload = &page[FIL_HEADER..FIL_HEADER + control.payload_len];
    let (header, body) = into.split_at_mut(FIL_HEADER);
    let written = match control.algorithm {
        Algorithm::Lz4 => lz4_flex::block::decompress_into(payload, body).ok(),
        Algorithm::Zlib => inflate(&mut inflater.0, payload, body),
    };
    if written != Some(body.len()) {
        return Err(PayloadError::Payload);
    }
    header.copy_from_slice(&page[..FIL_HEADER]);
    put16(header, TYPE, control.original_type.0);
    header[FLUSH_LSN..SPACE_ID].fill(0);
    Ok(())
}

/// Inflates all of `payload`; the bytes written, if it is one whole zlib stream that fits.
fn inflate(inflater: &mut Decompress, payload: &[u8], body: &mut [u8]) -> Option<usize> {
    inflater.reset(true);
    match inflater.decompress(payload, body, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) => usize::try_from(inflater.total_out()).ok(),
        _ => None,
    }
}
