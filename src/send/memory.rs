//! Bounds the memory that sending takes: buffers and the compressor's tables, by thread.

use crate::codec::Compression;

/// Most bytes that all threads may take together.
const LIMIT: usize = 256 << 20;
/// A block of 1 MiB, what is made of it, and what waits for company.
const BUFFERS: usize = 3 << 20;

/// Returns the bytes that the compressor of one thread keeps beside its buffers, for frames of at most 1 MiB; measured, and
/// rounded up.
fn tables(compression: Option<Compression>) -> usize {
    match compression {
        None => 0,
        Some(Compression::Lz4) => 1 << 20,
        Some(Compression::Zstd(level)) if level < 4 => 3 << 20,
        Some(Compression::Zstd(level)) if level < 13 => 6 << 20,
        Some(Compression::Zstd(_)) => 8 << 20,
    }
}

/// How many threads there may be of those that were asked for; one at least.
pub fn threads(asked: usize, compression: Option<Compression>) -> usize {
    asked.min(LIMIT / (BUFFERS + tables(compression))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_stay_within_the_limit() {
        assert_eq!(threads(64, None), 64);
        for level in Compression::ZSTD_LEVELS {
            let how = Some(Compression::Zstd(level));
            assert!(threads(64, how) * (BUFFERS + tables(how)) <= LIMIT);
            assert_eq!((threads(4, how), threads(1, how)), (4, 1));
        }
        assert_eq!(threads(64, Some(Compression::Zstd(19))), 23);
    }
}
