//! Where a record starts and ends, and where its fields lie (rem/rec.cc, `rec_get_offsets`).
//!
//! COMPACT, from the fixed header down: row version (1 byte, if the record has one) or number of fields (1 or 2
//! bytes, in tables with instant columns of before 8.0.29), a bit for each field that can be NULL, lengths of
//! the fields of varying length. Such a length takes one byte; for fields that may exceed 255 bytes it takes two, if
//! the first has bit 7 set: 14 bits, and bit 6 of the first says that the field goes on elsewhere.
//!
//! REDUNDANT, from the fixed header down: row version (1 byte, if it has one), end offset of each field in one byte
//! (bit 7: NULL) or two (bit 15: NULL, bit 14: goes on elsewhere).

use super::record_layout::{Plain, RecordLayout};
use super::{Applied, Corruption};
use crate::innodb::bytes::be16;
use crate::innodb::redo::index_info::FIELDS_MAX;
use crate::innodb::redo::record::RowFormat;

/// Info bits of a record that has a version, and of one of before `ALGORITHM=INSTANT` had versions.
pub(super) const INFO_VERSION: u8 = 0x40;
pub(super) const INFO_INSTANT: u8 = 0x80;
/// Bytes of a COMPACT record's fixed header (`REC_N_NEW_EXTRA_BYTES`).
pub(super) const COMPACT_HEADER: usize = 5;
/// Bytes of a REDUNDANT record's fixed header (`REC_N_OLD_EXTRA_BYTES`).
pub(super) const REDUNDANT_HEADER: usize = 6;

const STATUS_ORDINARY: u8 = 0;
const STATUS_NODE_POINTER: u8 = 1;
const STATUS_BITS: u8 = 7;

/// Bytes of a child page number.
pub(super) const NODE_POINTER: usize = 4;
/// Bytes of infimum's and supremum's data.
const END_RECORD: usize = 8;
const NULLS_PER_BYTE: usize = 8;

const OUTSIDE: Corruption = Corruption("a record that reaches outside of its page");

/// Extent of a record around its origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// Bytes before the origin.
    pub(super) extra: usize,
    /// Bytes from the origin on.
    pub(super) data: usize,
}

impl Extent {
    pub(super) fn size(self) -> usize {
        self.extra + self.data
    }
}

/// A field of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FieldAt {
    /// Its first byte, from the origin.
    pub(super) start: usize,
    /// Its bytes, 0 if it is NULL and takes none.
    pub(super) len: usize,
    pub(super) null: bool,
    /// The last 20 bytes refer to the rest, which lies elsewhere.
    pub(super) external: bool,
    /// The record was written before the field came, or after it went.
    pub(super) absent: bool,
}

/// The extent of the record at `origin` of `bytes`, all of it inside `bytes`.
pub(super) fn extent(bytes: &[u8], origin: usize, shape: &RecordLayout) -> Applied<Extent> {
    let Some(plain) = &shape.plain else { return walk(bytes, origin, shape, |_, _| {}) };
    match bytes.get(origin.wrapping_sub(3)).map(|status| status & STATUS_BITS) {
        Some(STATUS_ORDINARY) => inside(plain_extent(bytes, origin, plain)?, bytes, origin),
        _ => walk(bytes, origin, shape, |_, _| {}),
    }
}

/// The extent of a COMPACT leaf record that holds all fields of its index.
fn plain_extent(bytes: &[u8], origin: usize, plain: &Plain) -> Applied<Extent> {
    let fixed = origin.checked_sub(COMPACT_HEADER).ok_or(OUTSIDE)?;
    if plain.varying.is_empty() {
        return Ok(Extent { extra: COMPACT_HEADER, data: plain.fixed });
    }
    let mut nulls = Down { bytes, at: fixed };
    let mut lengths =
        Down { bytes, at: fixed.checked_sub(plain.nullable.div_ceil(NULLS_PER_BYTE)).ok_or(OUTSIDE)? };
    let (mut null_byte, mut null_bit, mut data) = (0, NULLS_PER_BYTE, plain.fixed);
    for field in &plain.varying {
        if field.nullable {
            if null_bit == NULLS_PER_BYTE {
                (null_byte, null_bit) = (nulls.byte()?, 0);
            }
            null_bit += 1;
            if null_byte >> (null_bit - 1) & 1 != 0 {
                continue;
            }
        }
        data += if field.fixed != 0 { usize::from(field.fixed) } else { lengths.field(field.big)?.0 };
    }
    Ok(Extent { extra: origin - lengths.at, data })
}

/// The fields of the record at `origin` of `bytes`, in physical order; its extent, all of it inside `bytes`.
pub(super) fn fields(
    bytes: &[u8],
    origin: usize,
    shape: &RecordLayout,
    into: &mut Vec<FieldAt>,
) -> Applied<Extent> {
    into.clear();
    walk(bytes, origin, shape, |_, field| into.push(field))
}

/// The extent and fields of a COMPACT record of which only the bytes before its origin are there.
pub(super) fn fields_of_header(
    head: &[u8],
    shape: &RecordLayout,
    into: &mut Vec<FieldAt>,
) -> Applied<Extent> {
    into.clear();
    walk_compact(head, head.len(), shape, |_, field| into.push(field))
}

fn walk(
    bytes: &[u8],
    origin: usize,
    shape: &RecordLayout,
    see: impl FnMut(usize, FieldAt),
) -> Applied<Extent> {
    let extent = match shape.format() {
        RowFormat::Compact => walk_compact(bytes, origin, shape, see)?,
        RowFormat::Redundant => walk_redundant(bytes, origin, shape, see)?,
    };
    inside(extent, bytes, origin)
}

fn inside(extent: Extent, bytes: &[u8], origin: usize) -> Applied<Extent> {
    if extent.extra > origin || origin + extent.data > bytes.len() {
        return Err(OUTSIDE);
    }
    Ok(extent)
}

/// Reads the variable part of a COMPACT header, which grows downwards.
struct Down<'b> {
    bytes: &'b [u8],
    /// One above the next byte.
    at: usize,
}

impl Down<'_> {
    fn byte(&mut self) -> Applied<u8> {
        self.at = self.at.checked_sub(1).ok_or(OUTSIDE)?;
        self.bytes.get(self.at).copied().ok_or(OUTSIDE)
    }

    /// The length of a field, and whether it goes on elsewhere.
    fn field(&mut self, big: bool) -> Applied<(usize, bool)> {
        let first = usize::from(self.byte()?);
        Ok(match big && first & 0x80 != 0 {
            true => ((first & 0x3F) << 8 | usize::from(self.byte()?), first & 0x40 != 0),
            false => (first, false),
        })
    }
}

/// Which fields a COMPACT leaf record holds, and how many of these can be NULL.
enum Holds {
    /// All of the index.
    All,
    /// Those of its row version.
    Version(u8),
    /// The first so many.
    First(usize),
}

fn walk_compact(
    bytes: &[u8],
    origin: usize,
    shape: &RecordLayout,
    mut see: impl FnMut(usize, FieldAt),
) -> Applied<Extent> {
    let fixed = origin.checked_sub(COMPACT_HEADER).ok_or(OUTSIDE)?;
    let status = bytes.get(origin - 3).ok_or(OUTSIDE)? & STATUS_BITS;
    let mut down = Down { bytes, at: fixed };
    let (holds, count, nullable) = match status {
        STATUS_ORDINARY => held(&mut down, bytes[fixed], shape)?,
        STATUS_NODE_POINTER => {
            (Holds::All, shape.unique.min(shape.fields.len()), shape.nullable_originally())
        }
        _ => return Ok(Extent { extra: COMPACT_HEADER, data: END_RECORD }),
    };
    let mut nulls = Down { bytes, at: down.at };
    let mut lengths =
        Down { bytes, at: down.at.checked_sub(nullable.div_ceil(NULLS_PER_BYTE)).ok_or(OUTSIDE)? };
    let (mut null_byte, mut null_bit, mut offset) = (0, NULLS_PER_BYTE, 0);
    for (i, field) in shape.fields.iter().enumerate().take(count) {
        let mut found = FieldAt { start: offset, len: 0, null: false, external: false, absent: false };
        found.absent = match holds {
            Holds::All => false,
            Holds::Version(version) => !field.is_in(version),
            Holds::First(n) => i >= n,
        };
        if !found.absent && field.nullable {
            if null_bit == NULLS_PER_BYTE {
                (null_byte, null_bit) = (nulls.byte()?, 0);
            }
            found.null = null_byte >> null_bit & 1 != 0;
            null_bit += 1;
        }
        if !found.absent && !found.null {
            if field.fixed != 0 {
                found.len = usize::from(field.fixed);
            } else {
                (found.len, found.external) = lengths.field(field.big)?;
            }
        }
        offset += found.len;
        see(i, found);
    }
    if status == STATUS_NODE_POINTER {
        let len = NODE_POINTER;
        see(count, FieldAt { start: offset, len, null: false, external: false, absent: false });
        offset += NODE_POINTER;
    }
    Ok(Extent { extra: origin - lengths.at, data: offset })
}

/// Returns which fields a leaf record with these info bits holds; reads the row version or the number of fields below the header.
fn held(down: &mut Down<'_>, info: u8, shape: &RecordLayout) -> Applied<(Holds, usize, usize)> {
    let count = shape.fields.len();
    if !shape.versioned && shape.instant_fields.is_none() {
        return Ok((Holds::All, count, shape.nullable));
    }
    if info & INFO_VERSION != 0 {
        let version = down.byte()?;
        // A table with nothing but old instant columns has version 0, which all fields are in.
        let nullable = if shape.versioned { shape.nullable_in(version) } else { shape.nullable };
        return Ok((Holds::Version(version), count, nullable));
    }
    match shape.instant_fields {
        Some(_) if info & INFO_INSTANT != 0 => {
            let first = usize::from(down.byte()?);
            let n = if first & 0x80 == 0 { first } else { (first & 0x7F) << 8 | usize::from(down.byte()?) };
            Ok((Holds::First(n), count, shape.nullable_before(n)))
        }
        Some(n) => Ok((Holds::First(n), count, shape.nullable_before(n))),
        None => Ok((Holds::Version(0), count, shape.nullable_in(0))),
    }
}

fn walk_redundant(
    bytes: &[u8],
    origin: usize,
    shape: &RecordLayout,
    mut see: impl FnMut(usize, FieldAt),
) -> Applied<Extent> {
    let fixed = origin.checked_sub(REDUNDANT_HEADER).ok_or(OUTSIDE)?;
    if bytes.len() < origin {
        return Err(OUTSIDE);
    }
    let stored = usize::from(be16(bytes, origin - 4) >> 1 & 0x3FF);
    let short = bytes[origin - 3] & 1 != 0;
    let version = bytes[fixed] & INFO_VERSION != 0;
    let width = if short { 1 } else { 2 };
    let ends = fixed.checked_sub(usize::from(version)).ok_or(OUTSIDE)?;
    if stored == 0 || ends < stored * width {
        return Err(Corruption("a record without fields, or with more than fit"));
    }
    let row_version = if version { bytes[fixed - 1] } else { 0 };
    let end_of = |n: usize| {
        if short {
            let end = usize::from(bytes[ends - 1 - n]);
            (end & 0x7F, end & 0x80 != 0, false)
        } else {
            let end = usize::from(be16(bytes, ends - 2 * (n + 1)));
            (end & 0x3FFF, end & 0x8000 != 0, end & 0x4000 != 0)
        }
    };
    // Without a row version every field up to the last stored one is there.
    let held =
        |i: usize| !version || !shape.versioned || shape.fields.get(i).is_some_and(|f| f.is_in(row_version));
    let (mut n, mut start, mut i) = (0, 0, 0);
    while n < stored {
        if i >= FIELDS_MAX {
            return Err(Corruption("a record with more fields than its index"));
        }
        if held(i) {
            let (end, null, external) = end_of(n);
            let len = end.checked_sub(start).ok_or(Corruption("fields of a record overlap"))?;
            see(i, FieldAt { start, len, null, external, absent: false });
            (n, start) = (n + 1, end);
        } else {
            see(i, FieldAt { start, len: 0, null: false, external: false, absent: true });
        }
        i += 1;
    }
    Ok(Extent { extra: origin - ends + stored * width, data: start })
}
