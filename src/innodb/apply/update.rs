//! Changes a record in place (`btr_cur_parse_update_in_place`, `btr_cur_parse_del_mark_set_clust_rec`,
//! `btr_cur_parse_del_mark_set_sec_rec`, `btr_parse_set_min_rec_mark`).

use super::index_page::{INFO_DELETED, INFO_MIN_REC, IndexPage};
use super::offsets::{self, FieldAt, INFO_INSTANT, INFO_VERSION, REDUNDANT_HEADER};
use super::record_layout::RecordLayout;
use super::{Applied, Corruption, zip};
use crate::innodb::bytes::{be16, put16};
use crate::innodb::redo::record::{RowFormat, SystemFields, UpdateField, UpdateFields};

const TRX_ID: usize = 6;
const ROLL_PTR: usize = 7;

fn set_deleted(page: &mut IndexPage<'_>, rec: usize, deleted: bool) -> Applied {
    let info = page.info_bits(rec);
    page.set_info_bits(rec, if deleted { info | INFO_DELETED } else { info & !INFO_DELETED });
    match &mut page.zip {
        Some(zip) => zip.set_deleted(rec, deleted),
        None => Ok(()),
    }
}

/// Secondary index: the info bits are where they are in either format.
pub(super) fn sec_delete_mark(page: &mut IndexPage<'_>, rec: u16, deleted: bool) -> Applied {
    let rec = page.user_record(usize::from(rec))?;
    set_deleted(page, rec, deleted)
}

/// A compressed page does not hold the mark: its leftmost page says it by having no page before it.
pub(super) fn min_rec_mark(page: &mut IndexPage<'_>, format: RowFormat, rec: u16) -> Applied {
    if page.format != format {
        return Err(Corruption("the page and the record have different row formats"));
    }
    let rec = page.user_record(usize::from(rec))?;
    page.set_info_bits(rec, page.info_bits(rec) | INFO_MIN_REC);
    Ok(())
}

/// Clustered index, with new system fields where the record carries them.
pub(super) fn clust_delete_mark(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    rec: usize,
    deleted: bool,
    system: Option<&SystemFields<'_>>,
) -> Applied {
    let rec = page.user_record(rec)?;
    set_deleted(page, rec, deleted)?;
    if let Some(system) = system {
        let mut fields = Vec::new();
        offsets::fields(page.b, rec, shape, &mut fields)?;
        set_system(page, rec, &fields, system)?;
    }
    Ok(())
}

pub(super) fn in_place(
    page: &mut IndexPage<'_>,
    shape: &RecordLayout,
    rec: usize,
    system: Option<&SystemFields<'_>>,
    info_bits: u8,
    updates: &UpdateFields<'_>,
) -> Applied {
    let rec = page.user_record(rec)?;
    let mut fields = Vec::new();
    offsets::fields(page.b, rec, shape, &mut fields)?;
    if let Some(system) = system {
        set_system(page, rec, &fields, system)?;
    }
    // Whether it has a row version is the record's own affair.
    let own = INFO_INSTANT | INFO_VERSION;
    page.set_info_bits(rec, page.info_bits(rec) & own | info_bits & !own);
    for update in updates.iter() {
        let place = shape.physical(update.number as usize);
        let field = field_at(&fields, place)?;
        let stored = fields[..place].iter().filter(|f| !f.absent).count();
        set_field(page, rec, stored, field, &update)?;
    }
    if page.zip.is_some() { zip::write(page, shape, rec, false) } else { Ok(()) }
}

/// The field at a physical place.
fn field_at(fields: &[FieldAt], place: usize) -> Applied<FieldAt> {
    fields
        .get(place)
        .copied()
        .filter(|f| !f.absent)
        .ok_or(Corruption("an update of a field that the record has not"))
}

/// DB_TRX_ID and, after it, DB_ROLL_PTR.
fn set_system(
    page: &mut IndexPage<'_>,
    rec: usize,
    fields: &[FieldAt],
    system: &SystemFields<'_>,
) -> Applied {
    let field = field_at(fields, system.position as usize)?;
    let at = rec + field.start;
    if field.len != TRX_ID || system.trx_id >> (8 * TRX_ID) != 0 {
        return Err(Corruption("no DB_TRX_ID where the record has it"));
    }
    let bytes =
        page.b.get_mut(at..at + TRX_ID + ROLL_PTR).ok_or(Corruption("DB_ROLL_PTR outside of the page"))?;
    bytes[..TRX_ID].copy_from_slice(&system.trx_id.to_be_bytes()[2..]);
    bytes[TRX_ID..].copy_from_slice(system.roll_ptr);
    if page.zip.is_some() { zip::write_system(page, rec, at) } else { Ok(()) }
}

/// `rec_set_nth_field`: the length stays. In a REDUNDANT record a field of fixed length keeps its bytes when it is
/// NULL, so it can become NULL and back. `stored` is the field's place among those that the record holds.
fn set_field(
    page: &mut IndexPage<'_>,
    rec: usize,
    stored: usize,
    field: FieldAt,
    update: &UpdateField<'_>,
) -> Applied {
    let range = rec + field.start..rec + field.start + field.len;
    let redundant = page.format == RowFormat::Redundant;
    match update.value {
        None if field.null => Ok(()),
        None if redundant => {
            page.b[range].fill(0);
            set_redundant_null(page, rec, stored, true);
            Ok(())
        }
        Some(value) if value.len() == field.len && (redundant || !field.null) => {
            if field.null {
                set_redundant_null(page, rec, stored, false);
            }
            page.b[range].copy_from_slice(value);
            Ok(())
        }
        _ => Err(Corruption("an update in place that changes a field's length")),
    }
}

/// Sets or clears the NULL bit in a field's end offset, which was read before (`rec_set_nth_field_null_bit_low`).
fn set_redundant_null(page: &mut IndexPage<'_>, rec: usize, stored: usize, null: bool) {
    let version = usize::from(page.info_bits(rec) & INFO_VERSION != 0);
    let ends = rec - REDUNDANT_HEADER - version;
    let short = page.b[rec - 3] & 1 != 0;
    if short {
        let at = ends - 1 - stored;
        page.b[at] = page.b[at] & 0x7F | u8::from(null) << 7;
    } else {
        let at = ends - 2 * (stored + 1);
        let end = be16(page.b, at);
        put16(page.b, at, end & 0x7FFF | u16::from(null) << 15);
    }
}
