//! Compresses pieces of a stream, each into a frame of its own.

use ::zstd::bulk::Compressor;
use ::zstd::zstd_safe::compress_bound;
use lz4_flex::block::CompressTable;

use super::age::Body;
use super::{CodecError, lz4, zstd};

/// Maximum content of a frame in bytes.
const FRAME_MAX: usize = lz4::FRAME_MAX;
/// Length in bytes below which parts share a frame with their neighbours; larger parts are compressed without
/// copying them.
const SMALL: usize = 64 << 10;
/// Number and length of the samples of a large part that tell whether compressing it is worth the time.
const SAMPLES: usize = 4;
const SAMPLE_LEN: usize = 4096;
/// Level of zstd for the samples: the fastest that finds everything.
const SAMPLE_LEVEL: i32 = 1;

/// The compression of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// zstd at a level.
    Zstd(i32),
    /// lz4, which has one level.
    Lz4,
}

impl Compression {
    /// Level of zstd if none is asked for. Rows that can be compressed well at all are compressed by level 1
    /// almost as well as by levels that take three times as long.
    pub const ZSTD_LEVEL: i32 = 1;
    /// Levels of zstd that may be chosen.
    pub const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = -7..=19;
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Compression::Zstd(level) => write!(f, "zstd level {level}"),
            Compression::Lz4 => f.write_str("lz4"),
        }
    }
}

/// The state that one thread needs to compress frames.
pub struct FrameCompressor {
    means: CompressorState,
    /// Small parts that are gathered for one frame.
    gathered: Vec<u8>,
}

enum CompressorState {
    Zstd { compressor: Compressor<'static>, sampler: Compressor<'static> },
    Lz4(CompressTable),
}

impl FrameCompressor {
    /// Creates the state for `compression`.
    ///
    /// # Errors
    /// [`CodecError::Internal`] if memory is short.
    pub fn new(compression: Compression) -> Result<FrameCompressor, CodecError> {
        let means = match compression {
            Compression::Lz4 => CompressorState::Lz4(CompressTable::large()),
            Compression::Zstd(level) => {
                let mut compressor = Compressor::new(level).map_err(internal)?;
                compressor.include_checksum(true).map_err(internal)?;
                CompressorState::Zstd {
                    compressor,
                    sampler: Compressor::new(SAMPLE_LEVEL).map_err(internal)?,
                }
            }
        };
        Ok(FrameCompressor { means, gathered: Vec::new() })
    }

    /// Compresses all of `parts` into frames and appends these to `body`.
    ///
    /// # Errors
    /// [`CodecError::Internal`]: a library failed where it must not.
    pub fn pack<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a [u8]>,
        body: &mut Body,
    ) -> Result<(), CodecError> {
        let mut gathered = std::mem::take(&mut self.gathered);
        for part in parts {
            if part.len() < SMALL {
                if gathered.len() + part.len() > FRAME_MAX {
                    self.frame(&gathered, body)?;
                    gathered.clear();
                }
                gathered.extend_from_slice(part);
                continue;
            }
            if !gathered.is_empty() {
                self.frame(&gathered, body)?;
                gathered.clear();
            }
            for data in part.chunks(FRAME_MAX) {
                self.frame(data, body)?;
            }
        }
        if !gathered.is_empty() {
            self.frame(&gathered, body)?;
            gathered.clear();
        }
        self.gathered = gathered;
        Ok(())
    }

    fn frame(&mut self, data: &[u8], body: &mut Body) -> Result<(), CodecError> {
        match &mut self.means {
            CompressorState::Lz4(table) => {
                let n = lz4::compress(data, table, body.space(lz4::bound(data.len())))?;
                body.filled(n);
            }
            CompressorState::Zstd { compressor, sampler } => {
                if data.len() >= SMALL && !is_worth_it(data, sampler)? {
                    let n = zstd::store(data, body.space(zstd::stored_bound(data.len())));
                    body.filled(n);
                    return Ok(());
                }
                let space = body.space(compress_bound(data.len()));
                let n = compressor.compress_to_buffer(data, space).map_err(internal)?;
                body.filled(n);
            }
        }
        Ok(())
    }
}

/// Returns whether samples of `data` become smaller. Encrypted or compressed data does not, and is then
/// passed through at many times the speed of even a vain attempt.
fn is_worth_it(data: &[u8], sampler: &mut Compressor<'_>) -> Result<bool, CodecError> {
    const LEN: usize = SAMPLES * SAMPLE_LEN;
    let mut samples = [0; LEN];
    let stride = (data.len() - SAMPLE_LEN) / (SAMPLES - 1);
    for (n, sample) in samples.chunks_exact_mut(SAMPLE_LEN).enumerate() {
        sample.copy_from_slice(&data[n * stride..][..SAMPLE_LEN]);
    }
    let mut out = [0; LEN + LEN / 128 + 512];
    let len = sampler.compress_to_buffer(&samples, &mut out[..]).map_err(internal)?;
    Ok(len < LEN - LEN / 64)
}

fn internal(e: std::io::Error) -> CodecError {
    CodecError::Internal(e.to_string())
}
