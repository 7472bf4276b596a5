//! The layout of an index's records, made from what redo says of the index (`mlog_parse_index_v1`,
//! `update_instant_info`, `dict_index_t::create_nullables`).
//!
//! Redo lists fields in logical order. In records they lie in physical order, which differs once columns were added
//! or dropped instantly: listed fields carry their physical place, the others fill the places that are left, moved
//! down by one for each added field before them.

use super::{Applied, Corruption};
use crate::innodb::redo::index_info::IndexInfo;
use crate::innodb::redo::record::RowFormat;

/// One field, by its physical place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field {
    /// Its length, 0 if that varies.
    pub(super) fixed: u16,
    /// Of varying length, which takes one or two bytes.
    pub(super) big: bool,
    pub(super) nullable: bool,
    /// Row version that added it; 0: was always there.
    pub(super) added: u8,
    /// Row version that dropped it; 0: is still there.
    pub(super) dropped: u8,
}

impl Field {
    /// Whether a record of row version `version` holds it.
    pub(super) fn is_in(&self, version: u8) -> bool {
        self.added <= version && (self.dropped == 0 || self.dropped > version)
    }
}

/// The fields whose lengths make up a leaf record that holds all fields, in physical order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plain {
    /// Bytes of the fields that every record has with this length.
    pub(super) fixed: usize,
    /// The others.
    pub(super) varying: Vec<Field>,
    /// Number of fields that can be NULL.
    pub(super) nullable: usize,
}

/// The records of an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RecordLayout {
    format: RowFormat,
    /// Fields that make up the key, which is what node pointers hold.
    pub(super) unique: usize,
    /// Whether the index is clustered: its leaf records hold DB_TRX_ID and DB_ROLL_PTR after the key.
    pub(super) clustered: bool,
    /// Physical order. Empty for REDUNDANT without versions.
    pub(super) fields: Vec<Field>,
    /// Physical place by logical one; empty if they are the same.
    physical: Vec<u16>,
    /// Whether records may carry a row version.
    pub(super) versioned: bool,
    /// Fields before the first instant column of an 8.0.12–8.0.28 server.
    pub(super) instant_fields: Option<usize>,
    /// Number of fields that can be NULL.
    pub(super) nullable: usize,
    /// How many of those that a record of this version holds can be NULL.
    nullable_in: Vec<u16>,
    /// Of a COMPACT index without instant columns and row versions.
    pub(super) plain: Option<Plain>,
}

impl Plain {
    fn of(fields: &[Field]) -> Plain {
        let is_varying = |field: &&Field| field.nullable || field.fixed == 0;
        Plain {
            fixed: fields
                .iter()
                .filter(|field| !is_varying(field))
                .map(|field| usize::from(field.fixed))
                .sum(),
            varying: fields.iter().filter(is_varying).copied().collect(),
            nullable: fields.iter().filter(|field| field.nullable).count(),
        }
    }
}

impl RecordLayout {
    pub(super) fn compile(info: &IndexInfo<'_>) -> Applied<Self> {
        let format = if info.is_compact() { RowFormat::Compact } else { RowFormat::Redundant };
        let logical: Vec<_> = info
            .field_infos()
            .map(|f| Field {
                fixed: f.fixed_len().unwrap_or(0),
                big: f.is_big(),
                nullable: f.is_nullable(),
                added: 0,
                dropped: 0,
            })
            .collect();
        let clustered = info.unique != info.fields || info.is_versioned() || info.instant_fields.is_some();
        let mut shape = RecordLayout {
            format,
            unique: usize::from(info.unique),
            clustered,
            nullable: logical.iter().filter(|f| f.nullable).count(),
            fields: logical,
            physical: Vec::new(),
            versioned: info.is_versioned(),
            instant_fields: info.instant_fields.map(usize::from),
            nullable_in: Vec::new(),
            plain: None,
        };
        if info.is_versioned() {
            shape.place_fields(info)?;
            shape.count_nullable();
        } else if info.is_compact() && info.instant_fields.is_none() {
            shape.plain = Some(Plain::of(&shape.fields));
        }
        Ok(shape)
    }

    /// The shape of records as a compressed page describes them itself.
    pub(super) fn of_zip(fields: Vec<Field>, nullable: usize, clustered: bool) -> Self {
        RecordLayout {
            format: RowFormat::Compact,
            unique: fields.len(),
            clustered,
            fields,
            physical: Vec::new(),
            versioned: false,
            instant_fields: None,
            nullable,
            nullable_in: Vec::new(),
            plain: None,
        }
    }

    pub(super) fn format(&self) -> RowFormat {
        self.format
    }

    /// The physical place of the field at this logical one.
    pub(super) fn physical(&self, logical: usize) -> usize {
        self.physical.get(logical).map_or(logical, |p| usize::from(*p))
    }

    /// How many fields that a record of row version `version` holds can be NULL.
    pub(super) fn nullable_in(&self, version: u8) -> usize {
        self.nullable_in.get(usize::from(version)).map_or(0, |n| usize::from(*n))
    }

    /// How many of the first `n` fields can be NULL, those left out that came with a row version.
    pub(super) fn nullable_before(&self, n: usize) -> usize {
        self.fields.iter().take(n).filter(|f| f.nullable && f.added == 0).count()
    }

    /// How many fields of a record from before any instant ALTER can be NULL.
    pub(super) fn nullable_originally(&self) -> usize {
        match self.instant_fields {
            Some(n) => self.nullable_before(n),
            None if self.versioned => self.nullable_in(0),
            None => self.nullable,
        }
    }

    fn place_fields(&mut self, info: &IndexInfo<'_>) -> Applied {
        const COLLISION: Corruption = Corruption("two fields in one place of the index description");
        let count = usize::from(info.fields);
        // REDUNDANT records tell the lengths of their fields; what matters here is only which they hold.
        let unknown = Field { fixed: 0, big: false, nullable: false, added: 0, dropped: 0 };
        let mut logical = std::mem::take(&mut self.fields);
        logical.resize(count, unknown);
        let mut places = vec![None; count];
        let mut taken = vec![false; count];
        for v in info.versioned_fields() {
            let (at, place) = (usize::from(v.logical), usize::from(v.physical));
            (logical[at].added, logical[at].dropped) = (v.added.unwrap_or(0), v.dropped.unwrap_or(0));
            places[at] = Some(place);
            if std::mem::replace(&mut taken[place], true) {
                return Err(COLLISION);
            }
        }
        let mut added_before = 0;
        for at in 0..count {
            if places[at].is_some() {
                added_before += usize::from(logical[at].added != 0 && logical[at].dropped == 0);
                continue;
            }
            let from = at.checked_sub(added_before).ok_or(COLLISION)?;
            let place = (from..count).find(|p| !taken[*p]).ok_or(COLLISION)?;
            taken[place] = true;
            places[at] = Some(place);
        }
        self.physical = places.iter().map(|p| p.unwrap_or(0) as u16).collect();
        self.fields = vec![unknown; count];
        for (field, place) in logical.into_iter().zip(&self.physical) {
            self.fields[usize::from(*place)] = field;
        }
        Ok(())
    }

    fn count_nullable(&mut self) {
        let last = self.fields.iter().map(|f| f.added.max(f.dropped)).max().unwrap_or(0);
        self.nullable_in = (0..=last)
            .map(|version| self.fields.iter().filter(|f| f.nullable && f.is_in(version)).count() as u16)
            .collect();
    }
}
