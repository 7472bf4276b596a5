//! The description of an index that precedes the body of record-level redo (mtr0log.cc, `mlog_parse_index`).
//!
//! Version (1 byte, 1), flags (1 byte: 1 COMPACT, 2 VERSIONED, 4 INSTANT). Without COMPACT and VERSIONED that is
//! all: REDUNDANT records describe themselves. Otherwise: number of fields (2). With COMPACT: with INSTANT the
//! number of fields before the first instant ADD COLUMN (2); number of unique fields (2); for each field two
//! bytes, bit 15 NOT NULL, below it the fixed length, 0 for variable up to 255 bytes, `7FFF` for variable
//! beyond. With VERSIONED: number of entries (2), each: logical position (2), physical position (2; `8000`:
//! added, `4000`: dropped), and in that order the row version of the addition and of the drop, a byte each.
//!
//! Fewer unique fields than fields means a clustered leaf: DB_TRX_ID and DB_ROLL_PTR follow the unique ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cursor::{Cursor, Read, Stop};

/// Most fields of an index record (`REC_MAX_N_FIELDS`).
pub const FIELDS_MAX: usize = 1023;

const VERSION: u8 = 1;
const COMPACT: u8 = 1;
const VERSIONED: u8 = 2;
const INSTANT: u8 = 4;

const TRX_ID_LEN: u16 = 6;
const ROLL_PTR_LEN: u16 = 7;

/// An index as redo describes it. Borrows from the record; every position and count was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexInfo<'a> {
    flags: u8,
    /// Number of fields, dropped ones included. 0: REDUNDANT, the record tells.
    pub fields: u16,
    /// Number of fields that make an entry unique in the tree. 0 where it is not known (REDUNDANT).
    pub unique: u16,
    /// For a table with instant columns of before 8.0.29: its fields before the first of them.
    pub instant_fields: Option<u16>,
    lengths: &'a [u8],
    versions: &'a [u8],
    raw: &'a [u8],
}

/// One field of an index, in logical order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldInfo(pub u16);

impl FieldInfo {
    const BIG: u16 = 0x7FFF;

    /// Whether it can be NULL.
    pub fn is_nullable(self) -> bool {
        self.0 & 0x8000 == 0
    }

    /// Its length, if it is fixed.
    pub fn fixed_len(self) -> Option<u16> {
        match self.0 & 0x7FFF {
            0 | Self::BIG => None,
            len => Some(len),
        }
    }

    /// Of variable length, and one that may exceed 255 bytes: its length takes one or two bytes.
    pub fn is_big(self) -> bool {
        self.0 & 0x7FFF == Self::BIG
    }
}

/// A field that an instant ADD or DROP COLUMN touched, or whose place they changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionedField {
    /// Its place in the list of fields.
    pub logical: u16,
    /// Its place in a record.
    pub physical: u16,
    /// The row version that added it.
    pub added: Option<u8>,
    /// The row version that dropped it.
    pub dropped: Option<u8>,
}

impl VersionedField {
    const ADDED: u16 = 0x8000;
    const DROPPED: u16 = 0x4000;

    fn read(c: &mut Cursor<'_>) -> Read<Self> {
        let (logical, place) = (c.u16()?, c.u16()?);
        let added = if place & Self::ADDED != 0 { Some(c.u8()?) } else { None };
        let dropped = if place & Self::DROPPED != 0 { Some(c.u8()?) } else { None };
        Ok(VersionedField { logical, physical: place & !(Self::ADDED | Self::DROPPED), added, dropped })
    }
}

impl<'a> IndexInfo<'a> {
    /// Records are in COMPACT, DYNAMIC or COMPRESSED format.
    pub fn is_compact(&self) -> bool {
        self.flags & COMPACT != 0
    }

    /// The table has row versions: instant ADD or DROP COLUMN since 8.0.29.
    pub fn is_versioned(&self) -> bool {
        self.flags & VERSIONED != 0
    }

    /// The fields in logical order; none for REDUNDANT.
    pub fn field_infos(&self) -> impl ExactSizeIterator<Item = FieldInfo> + use<'a> {
        self.lengths.chunks_exact(2).map(|b| FieldInfo(u16::from_be_bytes([b[0], b[1]])))
    }

    /// The fields with a version or a changed place.
    pub fn versioned_fields(&self) -> impl Iterator<Item = VersionedField> + use<'a> {
        let mut cursor = Cursor::new(self.versions);
        std::iter::from_fn(move || VersionedField::read(&mut cursor).ok())
    }

    /// Its bytes in the record: equal bytes describe equal indexes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    pub(super) fn read(c: &mut Cursor<'a>) -> Read<Self> {
        let all = c.rest();
        let mut info = Self::read_parts(c)?;
        info.raw = &all[..all.len() - c.rest().len()];
        Ok(info)
    }

    fn read_parts(c: &mut Cursor<'a>) -> Read<Self> {
        if c.u8()? != VERSION {
            return Err(Stop::Bad("unknown version of index description"));
        }
        let flags = c.u8()?;
        if flags & !(COMPACT | VERSIONED | INSTANT) != 0 {
            return Err(Stop::Bad("unknown flag in index description"));
        }
        let mut info = IndexInfo {
            flags,
            fields: 0,
            unique: 0,
            instant_fields: None,
            lengths: &[],
            versions: &[],
            raw: &[],
        };
        if info.is_compact() || info.is_versioned() {
            info.fields = c.u16()?;
        }
        if info.is_compact() {
            info.read_compact(c)?;
        }
        if info.is_versioned() {
            info.read_versions(c)?;
        }
        Ok(info)
    }

    fn read_compact(&mut self, c: &mut Cursor<'a>) -> Read<()> {
        if self.flags & INSTANT != 0 {
            self.instant_fields = Some(c.u16()?).filter(|n| *n != 0);
        }
        self.unique = c.u16()?;
        let clustered = self.unique != self.fields;
        if usize::from(self.fields) > FIELDS_MAX
            || self.instant_fields > Some(self.fields)
            || self.unique > self.fields
            || (clustered && self.unique + 2 > self.fields)
        {
            return Err(Stop::Bad("impossible number of fields in index description"));
        }
        self.lengths = c.bytes(2 * usize::from(self.fields))?;
        let mut system = self.field_infos().skip(usize::from(self.unique)).map(FieldInfo::fixed_len);
        if clustered && (system.next() != Some(Some(TRX_ID_LEN)) || system.next() != Some(Some(ROLL_PTR_LEN)))
        {
            return Err(Stop::Bad("no DB_TRX_ID and DB_ROLL_PTR in the description of a clustered index"));
        }
        Ok(())
    }

    fn read_versions(&mut self, c: &mut Cursor<'a>) -> Read<()> {
        let count = c.u16()?;
        let all = c.rest();
        if count > self.fields {
            return Err(Stop::Bad("impossible number of versioned fields in index description"));
        }
        for _ in 0..count {
            let field = VersionedField::read(c)?;
            if field.logical >= self.fields || field.physical >= self.fields {
                return Err(Stop::Bad("impossible position in index description"));
            }
        }
        self.versions = &all[..all.len() - c.rest().len()];
        Ok(())
    }
}

/// The key of the next new description. All [`KnownIndexes`] share it: [`IndexNumbers`] may outlive the one that its keys came
/// from, and a key that another description has again would give records the index of another table.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// Descriptions met before: most records have one of a few, which then need not be checked again.
#[derive(Default)]
pub struct KnownIndexes {
    /// Each in the place that its first bytes say, where the last one met of that place is.
    known: Vec<Known>,
}

#[derive(Clone, Default)]
struct Known {
    /// No other description in this process has it, or had it.
    key: u64,
    raw: Vec<u8>,
    fields: u16,
    unique: u16,
    instant_fields: Option<u16>,
    lengths: std::ops::Range<usize>,
    versions: std::ops::Range<usize>,
}

impl KnownIndexes {
    const PLACES: usize = 64;
    /// Shorter ones are read as fast as they are found.
    const LEN_MIN: usize = 8;
    /// Longer ones are read again. Those of a table with the most columns have half of this.
    const LEN_MAX: usize = 4096;

    #[inline(always)]
    pub(super) fn read<'a>(&mut self, c: &mut Cursor<'a>) -> Read<IndexInfo<'a>> {
        self.read_keyed(c).map(|(info, _)| info)
    }

    /// Gives a key too, equal for equal descriptions as long as these are remembered. 0: this one is not.
    #[inline(always)]
    pub(super) fn read_keyed<'a>(&mut self, c: &mut Cursor<'a>) -> Read<(IndexInfo<'a>, u64)> {
        let rest = c.rest();
        let place = Self::place(rest);
        match place.and_then(|place| self.known.get(place)) {
            // A description says itself how long it is, so none begins with another one.
            Some(known) if known.raw.len() >= Self::LEN_MIN && rest.starts_with(&known.raw) => {
                Ok((known.again(c)?, known.key))
            }
            _ => self.read_new(c, place),
        }
    }

    #[inline(never)]
    fn read_new<'a>(&mut self, c: &mut Cursor<'a>, place: Option<usize>) -> Read<(IndexInfo<'a>, u64)> {
        let info = IndexInfo::read(c)?;
        let Some(place) = place.filter(|_| (Self::LEN_MIN..=Self::LEN_MAX).contains(&info.raw.len())) else {
            return Ok((info, 0));
        };
        self.known.resize_with(Self::PLACES, Known::default);
        let known = &mut self.known[place];
        known.keep(&info);
        known.key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        Ok((info, known.key))
    }

    /// Where a description that begins so would be.
    #[inline(always)]
    fn place(bytes: &[u8]) -> Option<usize> {
        /// Descriptions of so many fields have eight bytes more.
        const MANY_FIELDS: u64 = 5;
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let mut key = u64::from_be_bytes(*first);
        if (key >> 32) & 0xFFFF >= MANY_FIELDS {
            key ^= u64::from_be_bytes(*rest.first_chunk()?).rotate_left(7);
        }
        // Fibonacci hashing.
        Some((key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize % Self::PLACES)
    }
}

impl Known {
    fn keep(&mut self, info: &IndexInfo<'_>) {
        // The parts stand at the end: lengths, the number of versions (2 bytes) where there are any, versions.
        let versions_at = info.raw.len() - info.versions.len();
        let lengths_end = if info.is_versioned() { versions_at - 2 } else { info.raw.len() };
        self.raw.clear();
        self.raw.extend_from_slice(info.raw);
        self.fields = info.fields;
        self.unique = info.unique;
        self.instant_fields = info.instant_fields;
        self.lengths = lengths_end - info.lengths.len()..lengths_end;
        self.versions = versions_at..info.raw.len();
    }

    /// Reads the description again, from the bytes that follow.
    #[inline(always)]
    fn again<'a>(&self, c: &mut Cursor<'a>) -> Read<IndexInfo<'a>> {
        c.bytes(self.raw.len()).map(|raw| self.info(raw))
    }

    #[inline(always)]
    fn info<'a>(&self, raw: &'a [u8]) -> IndexInfo<'a> {
        IndexInfo {
            flags: raw[1],
            fields: self.fields,
            unique: self.unique,
            instant_fields: self.instant_fields,
            lengths: &raw[self.lengths.clone()],
            versions: &raw[self.versions.clone()],
            raw,
        }
    }
}

/// Descriptions by number, for records that are kept without theirs.
#[derive(Clone, Default)]
pub struct IndexList {
    all: Vec<Arc<Known>>,
    numbers: HashMap<Arc<[u8]>, u32>,
    /// Bytes of all.
    len: usize,
}

impl IndexList {
    /// A database has few; a hostile log may have one in every record.
    const MAX: usize = 4096;
    /// Most bytes of all.
    const BYTES_MAX: usize = 4 << 20;

    /// The number of the description in these bytes, if it has one.
    pub fn find(&self, raw: &[u8]) -> Option<u32> {
        self.numbers.get(raw).copied()
    }

    /// Gives a description a number; `None` if that is not worth it.
    pub fn add(&mut self, raw: &[u8]) -> Option<u32> {
        if raw.len() < KnownIndexes::LEN_MIN
            || raw.len() > KnownIndexes::LEN_MAX
            || self.all.len() >= Self::MAX
        {
            return None;
        }
        if self.len + raw.len() > Self::BYTES_MAX {
            return None;
        }
        let mut known = Known::default();
        known.keep(&IndexInfo::read(&mut Cursor::new(raw)).ok().filter(|info| info.raw.len() == raw.len())?);
        let number = self.all.len() as u32;
        self.len += raw.len();
        self.all.push(Arc::new(known));
        self.numbers.insert(raw.into(), number);
        Some(number)
    }

    /// The description with this number.
    pub fn get(&self, number: u32) -> Option<IndexInfo<'_>> {
        self.all.get(number as usize).map(|known| known.info(&known.raw))
    }
}

/// The numbers of descriptions that were asked for lately, by the key that a [`KnownIndexes`] gave them.
#[derive(Default)]
pub struct IndexNumbers {
    known: Vec<(u64, Option<u32>)>,
}

impl IndexNumbers {
    /// The number of a description, which `find` tells if it was not asked for lately.
    #[inline]
    pub fn get(&mut self, key: u64, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let place = key as usize % KnownIndexes::PLACES;
        match self.known.get(place) {
            Some((known, number)) if *known == key && key != 0 => *number,
            _ => {
                self.known.resize_with(KnownIndexes::PLACES, Default::default);
                self.known[place] = (key, find());
                self.known[place].1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Read<IndexInfo<'_>> {
        IndexInfo::read(&mut Cursor::new(bytes))
    }

    /// id INT, DB_TRX_ID, DB_ROLL_PTR, name VARCHAR(1000).
    const CLUSTERED: [u8; 14] = [1, 1, 0, 4, 0, 1, 0x80, 4, 0x80, 6, 0x80, 7, 0x7F, 0xFF];

    #[test]
    fn a_clustered_leaf() {
        let info = read(&CLUSTERED).unwrap();
        assert!(info.is_compact() && !info.is_versioned());
        let fields: Vec<_> = info.field_infos().collect();
        assert_eq!(fields[0].fixed_len(), Some(4));
        assert!(!fields[0].is_nullable() && fields[3].is_nullable() && fields[3].is_big());
        for short in 0..CLUSTERED.len() {
            assert_eq!(read(&CLUSTERED[..short]), Err(Stop::More));
        }
    }

    #[test]
    fn redundant_is_two_bytes() {
        let mut cursor = Cursor::new(&[1, 0, 99]);
        assert_eq!(IndexInfo::read(&mut cursor).unwrap().fields, 0);
        assert_eq!(cursor.rest(), [99]);
    }

    #[test]
    fn versions_are_read_in_order() {
        let mut bytes = CLUSTERED.to_vec();
        bytes[1] = 3;
        bytes.extend([0, 2, 0, 3, 0xC0, 3, 1, 2, 0, 1, 0, 1]);
        let info = read(&bytes).unwrap();
        let versions: Vec<_> = info.versioned_fields().collect();
        let added = VersionedField { logical: 3, physical: 3, added: Some(1), dropped: Some(2) };
        let moved = VersionedField { logical: 1, physical: 1, added: None, dropped: None };
        assert_eq!(versions, [added, moved]);
        bytes[19] = 4;
        assert_eq!(read(&bytes), Err(Stop::Bad("impossible position in index description")));
    }

    #[test]
    fn known_descriptions_are_read_as_new_ones() {
        let mut versioned = CLUSTERED.to_vec();
        versioned[1] = 3;
        versioned.extend([0, 2, 0, 3, 0xC0, 3, 1, 2, 0, 1, 0, 1]);
        let mut no_versions = CLUSTERED.to_vec();
        no_versions[1] = 3;
        no_versions.extend([0, 0]);
        let old = [1, 5, 0, 4, 0, 3, 0, 1, 0x80, 4, 0x80, 6, 0x80, 7, 0x7F, 0xFF];
        let all = [&CLUSTERED[..], &versioned, &no_versions, &[1, 0], &[1, 2, 0, 5, 0, 1, 0, 4, 0, 4], &old];
        let mut known = KnownIndexes::default();
        for _ in 0..3 {
            for bytes in all {
                let longer = [bytes, &[9, 9]].concat();
                let mut cursor = Cursor::new(&longer);
                assert_eq!(known.read(&mut cursor), read(bytes));
                assert_eq!(cursor.rest(), [9, 9]);
            }
        }
        assert_eq!(known.read(&mut Cursor::new(&versioned[..20])), Err(Stop::More));
        for n in 0..20 {
            let mut other = CLUSTERED;
            other[13] = n;
            assert_eq!(known.read(&mut Cursor::new(&other)), read(&other));
        }
        assert_eq!(known.known.len(), KnownIndexes::PLACES);
    }

    #[test]
    fn descriptions_are_known_by_number() {
        let mut list = IndexList::default();
        let other = [1, 1, 0, 2, 0, 2, 0x80, 4, 0, 0];
        assert_eq!((list.add(&CLUSTERED), list.add(&other), list.add(&[1, 0])), (Some(0), Some(1), None));
        assert_eq!((list.find(&other), list.find(&[1, 0])), (Some(1), None));
        assert_eq!(list.get(0), read(&CLUSTERED).ok());
        assert_eq!((list.get(1).map(|info| info.fields), list.get(2)), (Some(2), None));
        assert_eq!(list.add(&[&other[..], &[0]].concat()), None, "more than a description");
        let (mut numbers, mut known) = (IndexNumbers::default(), KnownIndexes::default());
        let mut key = |raw: &[u8]| known.read_keyed(&mut Cursor::new(raw)).unwrap().1;
        for _ in 0..2 {
            assert_eq!(numbers.get(key(&other), || list.find(&other)), Some(1));
            assert_eq!(numbers.get(key(&CLUSTERED), || list.find(&CLUSTERED)), Some(0));
            // Too short to be remembered.
            assert_eq!((key(&[1, 0]), numbers.get(0, || Some(7))), (0, Some(7)));
            assert_eq!(numbers.get(0, || None), None);
        }
        assert_eq!(numbers.get(key(&other), || unreachable!()), Some(1));
    }

    #[test]
    fn impossible_descriptions() {
        let with = |at: usize, byte: u8| {
            let mut bytes = CLUSTERED;
            bytes[at] = byte;
            read(&bytes).err()
        };
        assert_eq!(with(0, 2), Some(Stop::Bad("unknown version of index description")));
        assert_eq!(with(1, 9), Some(Stop::Bad("unknown flag in index description")));
        assert_eq!(with(5, 3), Some(Stop::Bad("impossible number of fields in index description")));
        assert_eq!(with(5, 5), Some(Stop::Bad("impossible number of fields in index description")));
        let no_trx_id = "no DB_TRX_ID and DB_ROLL_PTR in the description of a clustered index";
        assert_eq!(with(9, 5), Some(Stop::Bad(no_trx_id)));
    }
}
