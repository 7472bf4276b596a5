//! Formats records as readable lines.

use std::fmt;

use super::record::{Body, DynamicMeta, Insert, NO_SPACE, Record, SystemFields};

/// Bytes of a string that are shown.
const SHOWN: usize = 32;

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.start_lsn, self.kind.name())?;
        if self.space != NO_SPACE {
            write!(f, " {}:{}", self.space, self.page)?;
        }
        write!(f, "{}", self.body)
    }
}

/// Bytes as hex, cut where they get long.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "len {} ", self.0.len())?;
        for byte in self.0.iter().take(SHOWN) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(if self.0.len() > SHOWN { "…" } else { "" })
    }
}

struct Path<'a>(&'a [u8]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

struct System<'a>(bool, &'a SystemFields<'a>);

impl fmt::Display for System<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let System(keep, fields) = self;
        if *keep { Ok(()) } else { write!(f, " trx {}", fields.trx_id) }
    }
}

impl fmt::Display for Insert<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(h) = self.header {
            write!(f, "bits {:#04x} origin {} shared {} ", h.info_and_status, h.origin, h.shared)?;
        }
        Hex(self.end).fmt(f)
    }
}

impl fmt::Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Write { offset, value, .. } => write!(f, " at {offset} = {value} ({value:#x})"),
            Body::WriteString { offset, bytes } => write!(f, " at {offset} {}", Hex(bytes)),
            Body::InitFilePage { .. } | Body::PageCreate { .. } | Body::UndoEraseEnd => Ok(()),
            Body::IbufBitmapInit | Body::Dummy => Ok(()),
            Body::RecInsert { after, insert, .. } => write!(f, " after {after} {insert}"),
            Body::ClustDeleteMark { keep_system, deleted, system, rec, .. } => {
                write!(f, " at {rec} {}{}", mark(*deleted), System(*keep_system, system))
            }
            Body::SecDeleteMark { deleted, rec } => write!(f, " at {rec} {}", mark(*deleted)),
            Body::MinRecMark { rec, .. }
            | Body::RecDelete { rec, .. }
            | Body::ListEndDelete { rec, .. }
            | Body::ListStartDelete { rec, .. } => write!(f, " at {rec}"),
            Body::UpdateInPlace { keep_system, system, rec, info_bits, fields, .. } => {
                write!(f, " at {rec} bits {info_bits:#04x}{}", System(*keep_system, system))?;
                fields.iter().try_for_each(|field| match field.value {
                    Some(value) => write!(f, " field {} {}", field.number, Hex(value)),
                    None => write!(f, " field {} NULL", field.number),
                })
            }
            Body::ListEndCopyCreated { inserts, .. } => {
                write!(f, " records {}", inserts.iter().filter(Result::is_ok).count())?;
                inserts.iter().find_map(Result::err).map_or(Ok(()), |what| write!(f, ", then {what}"))
            }
            Body::Reorganize { zip_level: None, .. } => Ok(()),
            Body::Reorganize { zip_level: Some(level), .. } | Body::ZipCompressNoData { level, .. } => {
                write!(f, " level {level}")
            }
            Body::UndoInsert { bytes } => write!(f, " {}", Hex(bytes)),
            Body::UndoInit { undo_type: 1 } => f.write_str(" insert"),
            Body::UndoInit { .. } => f.write_str(" update"),
            Body::UndoHeaderReuse { trx_id } | Body::UndoHeaderCreate { trx_id } => {
                write!(f, " trx {trx_id}")
            }
            Body::FileCreate { flags, path } => write!(f, " flags {flags:#x} {}", Path(path)),
            Body::FileRename { from, to } => write!(f, " {} to {}", Path(from), Path(to)),
            Body::FileDelete { path } => write!(f, " {}", Path(path)),
            Body::FileExtend { offset, size } => write!(f, " at byte {offset} by {size}"),
            Body::IndexLoad { index_id } => write!(f, " index {index_id}"),
            Body::DynamicMeta { table, version, meta } => {
                write!(f, " table {table} version {version}")?;
                match meta {
                    DynamicMeta::AutoIncrement(value) => write!(f, " auto-increment {value}"),
                    DynamicMeta::CorruptedIndexes(ids) => write!(f, " corrupted indexes {}", Hex(ids)),
                }
            }
            Body::ZipWriteNodePtr { offset, zip_offset, child } => {
                write!(f, " at {offset} and {zip_offset} child {}", u32::from_be_bytes(**child))
            }
            Body::ZipWriteBlobPtr { offset, zip_offset, reference } => {
                write!(f, " at {offset} and {zip_offset} {}", Hex(&reference[..]))
            }
            Body::ZipWriteHeader { offset, bytes } => write!(f, " at {offset} {}", Hex(bytes)),
            Body::ZipPageCompress { data, trailer, .. } => {
                write!(f, " data {} trailer {}", data.len(), trailer.len())
            }
        }
    }
}

fn mark(deleted: bool) -> &'static str {
    if deleted { "set" } else { "clear" }
}

#[cfg(test)]
mod tests {
    use crate::base::SpaceId;
    use crate::innodb::redo::{Kind, parse_body};

    #[test]
    fn a_list_that_is_cut_says_so() {
        // A REDUNDANT index; two records of two bytes each, without a header, of which the second is cut.
        let shown = |list: &[u8]| {
            let bytes = [&[1, 0], &(list.len() as u32).to_be_bytes()[..], list].concat();
            parse_body(Kind::ListEndCopyCreated, SpaceId(5), &bytes).unwrap().to_string()
        };
        assert!(shown(&[4, 7, 7, 4, 7, 7]).ends_with(" records 2"));
        let cut = shown(&[4, 7, 7, 4, 7]);
        assert!(cut.ends_with(" records 1, then a list of records that ends inside a record"), "{cut}");
    }
}
