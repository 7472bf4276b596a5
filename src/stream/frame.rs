//! Encodes frames of xbstream version 1.
//!
//! All integers are little-endian. Every frame begins with `XBSTCK01` (8) | flags u8 | type u8 | path_len u32
//! | path, and continues according to its type:
//!
//! * `P`: payload_len u64 | file offset u64 | crc32 u32 | payload
//! * `S`: map entries u32 | payload_len u64 | file offset u64 | crc32 u32 | map of (skip u32, len u32) |
//!   payload. For each entry first `skip` bytes are left as a hole, then `len` bytes of the payload follow.
//! * `E`: nothing more; the member is complete.
//!
//! The crc is zlib's CRC-32 over the payload, for `S` over map and payload. Header, path and offset are not
//! covered; the manifest covers their meaning. (Sources of these facts: `xb_stream_write_chunk`,
//! `xb_stream_write_sparse_data` and `xb_stream_validate_checksum` of Percona XtraBackup.)
//!
//! The functions here return the bytes that go before a payload, so that header and payload leave in one
//! `writev` and no payload is copied.

use super::name::MemberName;

/// Magic bytes of every frame.
pub const MAGIC: [u8; 8] = *b"XBSTCK01";
/// Type of a frame with payload.
pub const TYPE_PAYLOAD: u8 = b'P';
/// Type of a frame with a map of holes and payload.
pub const TYPE_SPARSE: u8 = b'S';
/// Type of a frame that ends a member.
pub const TYPE_END: u8 = b'E';
/// Number of bytes of one entry of the map of an `S` frame.
pub const EXTENT_LEN: usize = 8;
/// Maximum payload of a frame in bytes that is accepted. XtraBackup and its relatives write chunks of 10 MiB,
/// xbpipe of 1 MiB.
pub const PAYLOAD_MAX: usize = 128 << 20;
/// Maximum number of map entries that is accepted: a hole on every page of [`PAYLOAD_MAX`] bytes in pages of
/// 2 KiB.
pub const EXTENTS_MAX: usize = 65_536;
/// Maximum number of chunks without content. Nothing needs them, and in a compressed stream any number of
/// them costs nothing.
pub(super) const EMPTY_MAX: u64 = 1 << 20;

/// Length in bytes of magic, flags, type and path_len.
pub(super) const PREFIX_LEN: usize = 8 + 1 + 1 + 4;
/// Length in bytes of payload_len, offset and crc.
pub(super) const PAYLOAD_FIELDS_LEN: usize = 8 + 8 + 4;
/// Length in bytes of the number of map entries, followed by the fields of a `P` frame.
pub(super) const SPARSE_FIELDS_LEN: usize = 4 + PAYLOAD_FIELDS_LEN;

/// One entry of a sparse map: a hole, then bytes of the payload. Either may be 0; a last entry with `len` 0
/// is a hole at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Extent {
    /// Number of bytes of the hole.
    pub skip: u32,
    /// Number of bytes of the payload after it.
    pub len: u32,
}

impl Extent {
    /// Returns the number of bytes of the member that hole and payload take together.
    pub fn logical_len(self) -> u64 {
        u64::from(self.skip) + u64::from(self.len)
    }

    pub(super) fn encode(self) -> [u8; EXTENT_LEN] {
        let mut bytes = [0; EXTENT_LEN];
        bytes[..4].copy_from_slice(&self.skip.to_le_bytes());
        bytes[4..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }
}

/// Returns the header of a `P` frame, which goes before its payload. `crc` is [`payload_crc`] of the payload.
pub fn payload_header(member: &MemberName, offset: u64, crc: u32, payload_len: usize) -> Vec<u8> {
    let mut header = prefix(TYPE_PAYLOAD, member, PAYLOAD_FIELDS_LEN);
    payload_fields(&mut header, payload_len, offset, crc);
    header
}

/// Returns the header of an `S` frame, which goes before its payload, the map included. `crc` is
/// [`sparse_crc`] of map and payload, and the lengths in the map add up to `payload_len`. The map must have
/// an entry: XtraBackup looks at its last one without checking whether there is any (`local_write_sparse`).
pub fn sparse_header(
    member: &MemberName,
    offset: u64,
    crc: u32,
    map: &[Extent],
    payload_len: usize,
) -> Vec<u8> {
    debug_assert_eq!(map.iter().map(|e| u64::from(e.len)).sum::<u64>(), payload_len as u64);
    debug_assert!(map.len() <= EXTENTS_MAX);
    let mut header = prefix(TYPE_SPARSE, member, SPARSE_FIELDS_LEN + map.len() * EXTENT_LEN);
    header.extend_from_slice(&(map.len() as u32).to_le_bytes());
    payload_fields(&mut header, payload_len, offset, crc);
    for extent in map {
        header.extend_from_slice(&extent.encode());
    }
    header
}

/// Returns the `E` frame of `member`.
pub fn end_frame(member: &MemberName) -> Vec<u8> {
    prefix(TYPE_END, member, 0)
}

/// Returns the crc of a `P` frame.
pub fn payload_crc(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

/// Returns the crc of an `S` frame: of its map, then of its payload, which may lie in pieces.
pub fn sparse_crc<'a>(map: &[Extent], payload: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for extent in map {
        crc.update(&extent.encode());
    }
    for piece in payload {
        crc.update(piece);
    }
    crc.finalize()
}

/// Returns a whole `P` frame, for members that are small and in memory.
pub fn payload_frame(member: &MemberName, offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = payload_header(member, offset, payload_crc(payload), payload.len());
    frame.extend_from_slice(payload);
    frame
}

fn prefix(kind: u8, member: &MemberName, room: usize) -> Vec<u8> {
    let path = member.as_str().as_bytes();
    let mut header = Vec::with_capacity(PREFIX_LEN + path.len() + room);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&[0, kind]);
    // A member's name is at most NAME_MAX bytes long.
    header.extend_from_slice(&(path.len() as u32).to_le_bytes());
    header.extend_from_slice(path);
    header
}

fn payload_fields(header: &mut Vec<u8>, payload_len: usize, offset: u64, crc: u32) {
    debug_assert!(payload_len <= PAYLOAD_MAX);
    header.extend_from_slice(&(payload_len as u64).to_le_bytes());
    header.extend_from_slice(&offset.to_le_bytes());
    header.extend_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MemberName {
        MemberName::parse(text).unwrap()
    }

    #[test]
    fn payload_frame_has_the_published_bytes() {
        let frame = payload_frame(&name("a/b"), 0x0102, b"123456789");
        // 0xCBF43926 is the check value of CRC-32 for these nine digits.
        assert_eq!(
            frame,
            b"XBSTCK01\0P\x03\0\0\0a/b\x09\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x26\x39\xf4\xcb123456789"
        );
    }

    #[test]
    fn end_frame_has_the_published_bytes() {
        assert_eq!(end_frame(&name("ibdata1")), b"XBSTCK01\0E\x07\0\0\0ibdata1");
    }

    #[test]
    fn sparse_header_has_the_published_bytes() {
        let map = [Extent { skip: 1, len: 2 }, Extent { skip: 0x300, len: 0 }];
        let crc = sparse_crc(&map, [&b"x"[..], b"y"]);
        assert_eq!(crc, payload_crc(b"\x01\0\0\0\x02\0\0\0\0\x03\0\0\0\0\0\0xy"));
        let header = sparse_header(&name("s"), 16, crc, &map, 2);
        let mut expected = b"XBSTCK01\0S\x01\0\0\0s\x02\0\0\0\x02\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0".to_vec();
        expected.extend_from_slice(&crc.to_le_bytes());
        expected.extend_from_slice(b"\x01\0\0\0\x02\0\0\0\0\x03\0\0\0\0\0\0");
        assert_eq!(header, expected);
    }
}
