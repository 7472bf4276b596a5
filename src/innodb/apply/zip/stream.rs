//! The zlib stream of a compressed page.
//!
//! It holds two things, the list of fields and the records, with a full flush between them: an empty stored block,
//! `00 00 FF FF` at a byte border, after which nothing refers to what lies before. zlib's C interface can stop at
//! that border; here the marker is looked for, and taken for it only if what follows is a stream of its own
//! that ends with the checksum of both parts. So chance bytes that look like the marker don't mislead.

use flate2::{Decompress, FlushDecompress, Status};

use super::super::{Applied, Corruption};
use crate::innodb::bytes::be32;
use crate::innodb::page::checksum::adler32;
use crate::innodb::redo::index_info::FIELDS_MAX;

const MARKER: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// Longest list of fields: two bytes each, and two for what follows them.
const LIST_MAX: usize = 2 * (FIELDS_MAX + 1);
/// zlib's header.
const HEADER: usize = 2;
/// zlib's checksum.
const CHECKSUM: usize = 4;
/// What Adler-32 starts from.
const ADLER_START: u32 = 1;

/// Decompressors that are used for page after page.
pub(in super::super) struct Inflaters {
    list: Decompress,
    records: Decompress,
}

impl Default for Inflaters {
    fn default() -> Self {
        Inflaters { list: Decompress::new(true), records: Decompress::new(false) }
    }
}

/// The two parts of a stream.
pub(super) struct Parts {
    pub(super) fields: Vec<u8>,
    pub(super) records: Vec<u8>,
    /// Bytes of the stream.
    pub(super) len: usize,
}

/// Takes the stream at the head of `bytes` apart; its records are at most `records_max` bytes.
pub(super) fn inflate(bytes: &[u8], records_max: usize, inflaters: &mut Inflaters) -> Applied<Parts> {
    let starts = bytes.windows(MARKER.len()).enumerate().skip(HEADER).filter(|(_, w)| *w == MARKER);
    for (at, _) in starts {
        if let Some(parts) = split_at(bytes, at + MARKER.len(), records_max, inflaters) {
            return Ok(parts);
        }
    }
    Err(Corruption("the zlib stream of a compressed page is broken"))
}

/// The parts, if the second starts at `border`.
fn split_at(bytes: &[u8], border: usize, records_max: usize, inflaters: &mut Inflaters) -> Option<Parts> {
    let mut fields = vec![0; LIST_MAX];
    let list = &mut inflaters.list;
    list.reset(true);
    let status = list.decompress(&bytes[..border], &mut fields, FlushDecompress::Sync).ok()?;
    if status == Status::StreamEnd || list.total_in() != border as u64 {
        return None;
    }
    fields.truncate(list.total_out() as usize);
    let mut records = vec![0; records_max];
    let raw = &mut inflaters.records;
    raw.reset(false);
    if raw.decompress(&bytes[border..], &mut records, FlushDecompress::Finish).ok()? != Status::StreamEnd {
        return None;
    }
    records.truncate(raw.total_out() as usize);
    let end = border + raw.total_in() as usize;
    let checksum = be32(bytes.get(end..end + CHECKSUM)?, 0);
    let whole = adler32(adler32(ADLER_START, &fields), &records);
    (checksum == whole).then_some(Parts { fields, records, len: end + CHECKSUM })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    fn deflate(fields: &[u8], records: &[u8]) -> Vec<u8> {
        let mut c = Compress::new(Compression::new(6), true);
        let mut out = Vec::with_capacity(100_000);
        c.compress_vec(fields, &mut out, FlushCompress::Full).unwrap();
        c.compress_vec(records, &mut out, FlushCompress::Finish).unwrap();
        out
    }

    #[test]
    fn parts_are_found_and_what_follows_is_left() {
        let records: Vec<u8> = (0..9000u32).map(|i| (i / 7) as u8).collect();
        let mut stream = deflate(b"\x09\x1b\x01", &records);
        let len = stream.len();
        stream.extend(b"\x00\x00\xff\xff the modification log");
        let parts = inflate(&stream, 16384, &mut Inflaters::default()).unwrap();
        assert_eq!((parts.fields, parts.records, parts.len), (b"\x09\x1b\x01".to_vec(), records, len));
    }

    #[test]
    fn records_may_be_none() {
        let stream = deflate(b"\x09\x00", b"");
        let parts = inflate(&stream, 16384, &mut Inflaters::default()).unwrap();
        assert_eq!((parts.records.len(), parts.len), (0, stream.len()));
    }

    #[test]
    fn damage_is_found_or_harmless() {
        let records: Vec<u8> = (0..3000u32).map(|i| (i * i / 7) as u8).collect();
        let good = deflate(b"\x09\x1b\x01", &records);
        let mut inflaters = Inflaters::default();
        let mut harmless = 0;
        for at in HEADER..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            // Some bits mean nothing: those that fill up a byte, for instance.
            if let Ok(parts) = inflate(&bad, 16384, &mut inflaters) {
                assert_eq!((&parts.fields[..], &parts.records), (&b"\x09\x1b\x01"[..], &records));
                harmless += 1;
            }
        }
        assert!(harmless < 10, "{harmless}");
        assert!(inflate(&good[..good.len() - 1], 16384, &mut inflaters).is_err());
        assert!(inflate(&good, 2999, &mut inflaters).is_err());
    }
}
