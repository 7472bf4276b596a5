//! The list of fields at the head of the zlib stream (`page_zip_fields_encode`, `page_zip_fields_decode`).
//!
//! One or two bytes a field. Below 80: bit 0 is NOT NULL; the rest is 0 for a length that varies up to 255, `7E` for
//! one that varies beyond, else the fixed length. From 80 on a second byte follows: 15 bits, fixed length and NOT
//! NULL. Neighbouring NOT NULL fields of fixed length count as one, but a new one starts at DB_TRX_ID. Last comes, on
//! leaf pages, the number of the field that starts with DB_TRX_ID (0: not a clustered index), on others how many
//! fields of the index can be NULL.

use super::super::record_layout::{Field, RecordLayout};
use super::super::{Applied, Corruption};
use crate::innodb::redo::index_info::FIELDS_MAX;

/// Longest fixed length that is written as one field (`DICT_MAX_FIXED_COL_LEN`).
const FIXED_MAX: u16 = 768;

/// The list, decoded.
pub(in super::super) struct ZipFields {
    pub(super) shape: RecordLayout,
    /// The field that starts with DB_TRX_ID, on leaf pages of a clustered index.
    pub(super) trx_id: Option<usize>,
}

pub(super) fn decode(list: &[u8], leaf: bool) -> Applied<ZipFields> {
    const BAD: Corruption = Corruption("the list of fields of a compressed page can't be read");
    let mut values = Vec::new();
    let mut bytes = list.iter().map(|b| u16::from(*b));
    while let Some(first) = bytes.next() {
        values.push(if first < 0x80 {
            (first, false)
        } else {
            ((first & 0x7F) << 8 | bytes.next().ok_or(BAD)?, true)
        });
    }
    let (last, _) = values.pop().ok_or(BAD)?;
    if values.is_empty() || values.len() > FIELDS_MAX {
        return Err(BAD);
    }
    let fields: Vec<_> = values.into_iter().map(field).collect();
    let nullable = fields.iter().filter(|f| f.nullable).count();
    let last = usize::from(last);
    let (trx_id, nullable) = match leaf {
        true if last >= fields.len() => return Err(BAD),
        true => (Some(last).filter(|at| *at != 0), nullable),
        false if last < nullable => return Err(BAD),
        false => (None, last),
    };
    Ok(ZipFields { shape: RecordLayout::of_zip(fields, nullable, trx_id.is_some()), trx_id })
}

fn field((value, long): (u16, bool)) -> Field {
    let (fixed, big) = match value {
        0 | 1 if !long => (0, false),
        126 | 127 if !long => (0, true),
        _ => (value >> 1, false),
    };
    Field { fixed, big, nullable: value & 1 == 0, added: 0, dropped: 0 }
}

/// The list for a page of the index; `trx_id` on leaf pages of a clustered one.
pub(super) fn encode(shape: &RecordLayout, leaf: bool, trx_id: Option<usize>) -> Vec<u8> {
    let count = if leaf { shape.fields.len() } else { shape.unique.min(shape.fields.len()) };
    let mut list = List { bytes: Vec::new(), fields: 0, sum: 0 };
    let mut trx_id_field = 0;
    for (i, field) in shape.fields.iter().enumerate().take(count) {
        if field.fixed == 0 {
            list.close();
            list.push(if field.big { 0x7E } else { 0 } | u16::from(!field.nullable));
        } else if field.nullable {
            list.close();
            list.push_fixed(field.fixed << 1);
        } else if i != 0 && Some(i) == trx_id {
            list.close();
            trx_id_field = list.fields;
            list.sum = field.fixed;
        } else {
            if list.sum + field.fixed > FIXED_MAX {
                list.close();
            }
            list.sum += field.fixed;
        }
    }
    list.close();
    let last = if leaf { trx_id_field } else { shape.nullable };
    if last < 0x80 {
        list.bytes.push(last as u8);
    } else {
        list.bytes.extend([0x80 | (last >> 8) as u8, last as u8]);
    }
    list.bytes
}

/// A list being written.
struct List {
    bytes: Vec<u8>,
    fields: usize,
    /// Bytes of the NOT NULL fields of fixed length that were not written yet.
    sum: u16,
}

impl List {
    fn close(&mut self) {
        if self.sum != 0 {
            let sum = std::mem::take(&mut self.sum);
            self.push_fixed(sum << 1 | 1);
        }
    }

    fn push(&mut self, value: u16) {
        self.bytes.push(value as u8);
        self.fields += 1;
    }

    fn push_fixed(&mut self, value: u16) {
        if value < 126 {
            return self.push(value);
        }
        self.bytes.extend([0x80 | (value >> 8) as u8, value as u8]);
        self.fields += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::redo::parse_body;
    use crate::innodb::redo::record::{Body, Kind};

    fn shape(info: &[u8]) -> RecordLayout {
        let body = [info, &[0, 120]].concat();
        let parsed = parse_body(Kind::RecDelete, crate::base::SpaceId(1), &body);
        let Ok(Body::RecDelete { index, .. }) = parsed else { panic!("{parsed:?}") };
        RecordLayout::compile(&index).unwrap()
    }

    /// id INT NOT NULL, DB_TRX_ID, DB_ROLL_PTR, INT NULL, CHAR(100) NOT NULL, VARCHAR(1000) NULL.
    const CLUSTERED: [u8; 18] = [1, 1, 0, 6, 0, 1, 0x80, 4, 0x80, 6, 0x80, 7, 0, 4, 0x80, 100, 0x7F, 0xFF];

    #[test]
    fn neighbours_are_joined_but_not_across_the_transaction_id() {
        let list = encode(&shape(&CLUSTERED), true, Some(1));
        assert_eq!(list, [4 << 1 | 1, 13 << 1 | 1, 4 << 1, 0x80, 100 << 1 | 1, 0x7E, 1]);
        let fields = decode(&list, true).unwrap();
        assert_eq!(fields.trx_id, Some(1));
        let lengths: Vec<_> = fields.shape.fields.iter().map(|f| (f.fixed, f.nullable, f.big)).collect();
        assert_eq!(
            lengths,
            [(4, false, false), (13, false, false), (4, true, false), (100, false, false), (0, true, true)]
        );
    }

    #[test]
    fn node_pages_list_the_key_and_count_what_can_be_null() {
        let list = encode(&shape(&CLUSTERED), false, None);
        assert_eq!(list, [4 << 1 | 1, 2]);
        let fields = decode(&list, false).unwrap();
        assert_eq!((fields.trx_id, fields.shape.nullable), (None, 2));
        assert!(decode(&[0, 0], false).is_err());
    }

    #[test]
    fn damaged_lists() {
        for list in [&[][..], &[9], &[9, 5], &[0x80], &[9, 0x80]] {
            assert!(decode(list, true).is_err(), "{list:?}");
        }
    }
}
