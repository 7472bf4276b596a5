//! Decodes the header of a frame. Its layout is in [`frame`](super::frame).
//!
//! Nothing is trusted before it is checked: a length that is beyond its limit is refused when its field is
//! read, not when the announced bytes would be needed.

use super::error::Fault;
use super::frame::*;
use super::name::{self, NAME_MAX};

/// Number of bytes of the longest header: no more are needed to read any.
pub(super) const HEADER_MAX: usize = PREFIX_LEN + PATH_MAX + SPARSE_FIELDS_LEN;
/// Maximum length of the path field: a name, and 2 bytes for a `./` in front, which is removed.
const PATH_MAX: usize = NAME_MAX + 2;
/// Maximum number of bytes of a refused name that go into a message.
const NAME_SHOWN: usize = 80;

/// A header whose fields are within their limits.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Header<'a> {
    pub(super) name: &'a str,
    pub(super) body: Body,
    /// Number of bytes that the header took.
    pub(super) len: usize,
}

/// The part of the header behind the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    Payload(PayloadFields),
    Sparse { extents: usize, fields: PayloadFields },
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PayloadFields {
    pub(super) len: usize,
    pub(super) offset: u64,
    pub(super) crc: u32,
}

/// Reads the header at the start of `bytes`; `None` if there are too few bytes.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Fault> {
    let mut fields = Fields { rest: bytes };
    // The magic is compared as a whole, so that the message does not depend on how much was read.
    let Some(magic) = fields.array() else { return Ok(None) };
    if magic != MAGIC {
        return Err(Fault::Magic { found: magic.to_vec() });
    }
    let Some(flags) = fields.u8() else { return Ok(None) };
    if flags != 0 {
        return Err(Fault::Flags(flags));
    }
    let Some(kind) = fields.u8() else { return Ok(None) };
    if !matches!(kind, TYPE_PAYLOAD | TYPE_SPARSE | TYPE_END) {
        return Err(Fault::Type(kind));
    }
    let Some(path_len) = fields.u32() else { return Ok(None) };
    if path_len as usize > PATH_MAX {
        return Err(Fault::NameLength(path_len));
    }
    let Some(path) = fields.take(path_len as usize) else { return Ok(None) };
    let name = name::from_wire(path)
        .map_err(|error| Fault::Name { error, name: path[..path.len().min(NAME_SHOWN)].to_vec() })?;
    let body = match kind {
        TYPE_END => Body::End,
        TYPE_PAYLOAD => match fields.payload()? {
            None => return Ok(None),
            Some(fields) => Body::Payload(fields),
        },
        _ => match fields.sparse()? {
            None => return Ok(None),
            Some((extents, fields)) => Body::Sparse { extents, fields },
        },
    };
    Ok(Some(Header { name, body, len: bytes.len() - fields.rest.len() }))
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn payload(&mut self) -> Result<Option<PayloadFields>, Fault> {
        let Some(len) = self.u64() else { return Ok(None) };
        if len > PAYLOAD_MAX as u64 {
            return Err(Fault::PayloadLength(len));
        }
        let Some(offset) = self.u64() else { return Ok(None) };
        let Some(crc) = self.u32() else { return Ok(None) };
        Ok(Some(PayloadFields { len: len as usize, offset, crc }))
    }

    fn sparse(&mut self) -> Result<Option<(usize, PayloadFields)>, Fault> {
        let Some(extents) = self.u32() else { return Ok(None) };
        if extents as usize > EXTENTS_MAX {
            return Err(Fault::MapLength(extents));
        }
        Ok(self.payload()?.map(|fields| (extents as usize, fields)))
    }
}

/// Returns the defect of a stream that ends after `bytes`, which are too few for a header.
pub(super) fn cut(bytes: &[u8]) -> Fault {
    match bytes.iter().zip(&MAGIC).all(|(found, magic)| found == magic) {
        true => Fault::CutFrame,
        false => Fault::Magic { found: bytes[..bytes.len().min(MAGIC.len())].to_vec() },
    }
}

/// Reads a map; `raw` must be a whole number of entries.
pub(super) fn parse_map(raw: &[u8]) -> Vec<Extent> {
    raw.as_chunks::<EXTENT_LEN>()
        .0
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| Extent {
            skip: u32::from_le_bytes([a, b, c, d]),
            len: u32::from_le_bytes([e, f, g, h]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::name::MemberName;
    use super::*;

    #[test]
    fn every_prefix_of_a_header_waits_for_more() {
        let name = MemberName::parse("db/t.ibd").unwrap();
        let map = [Extent { skip: 5, len: 7 }];
        for header in [
            payload_header(&name, 9, 8, 7),
            sparse_header(&name, 9, 8, &map, 7)[..].to_vec(),
            end_frame(&name),
        ] {
            let parsed = parse(&header).unwrap().unwrap();
            assert_eq!(parsed.name, "db/t.ibd");
            for cut in 0..parsed.len {
                assert_eq!(parse(&header[..cut]), Ok(None), "{cut}");
            }
        }
        let sparse = sparse_header(&name, 9, 8, &map, 7);
        let parsed = parse(&sparse).unwrap().unwrap();
        let fields = PayloadFields { len: 7, offset: 9, crc: 8 };
        assert_eq!(parsed.body, Body::Sparse { extents: 1, fields });
        assert_eq!(parse_map(&sparse[parsed.len..]), map);
    }

    #[test]
    fn the_longest_header_fits() {
        let longest = format!("{}/{}", "x".repeat(255), "y".repeat(255));
        let name = MemberName::parse(&longest).unwrap();
        assert_eq!(sparse_header(&name, 0, 0, &[], 0).len() + "./".len(), HEADER_MAX);
    }

    #[test]
    fn limits_are_checked_as_soon_as_their_field_is_there() {
        let path_len = |n: u32| [&b"XBSTCK01\0P"[..], &n.to_le_bytes()].concat();
        assert_eq!(parse(&path_len(PATH_MAX as u32)), Ok(None));
        assert_eq!(parse(&path_len(PATH_MAX as u32 + 1)), Err(Fault::NameLength(PATH_MAX as u32 + 1)));
        assert_eq!(parse(&path_len(u32::MAX)), Err(Fault::NameLength(u32::MAX)));

        let payload_len = |n: u64| [&b"XBSTCK01\0P\x01\0\0\0a"[..], &n.to_le_bytes()].concat();
        assert_eq!(parse(&payload_len(PAYLOAD_MAX as u64)), Ok(None));
        for n in [PAYLOAD_MAX as u64 + 1, u64::MAX - 1, u64::MAX] {
            assert_eq!(parse(&payload_len(n)), Err(Fault::PayloadLength(n)));
        }

        let extents = |n: u32| [&b"XBSTCK01\0S\x01\0\0\0a"[..], &n.to_le_bytes()].concat();
        assert_eq!(parse(&extents(EXTENTS_MAX as u32)), Ok(None));
        assert_eq!(parse(&extents(u32::MAX)), Err(Fault::MapLength(u32::MAX)));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(parse(b"age-enc"), Ok(None));
        assert_eq!(parse(b"age-encryption.org/v1"), Err(Fault::Magic { found: b"age-encr".to_vec() }));
        assert_eq!(parse(b"XBSTCK01\x01"), Err(Fault::Flags(1)));
        assert_eq!(parse(b"XBSTCK01\0Q"), Err(Fault::Type(b'Q')));
        assert_eq!(
            parse(b"XBSTCK01\0E\x02\0\0\0.."),
            Err(Fault::Name { error: name::NameError::Dots, name: b"..".to_vec() })
        );
    }
}
