//! Reads and writes `.meta` members: what a datafile is whose changed pages the `.delta` of the same name holds
//! (`xb_write_delta_metadata` in XtraBackup).
//!
//! It consists of lines of `key = value`: page_size, zip_size, space_id, space_flags. `file_size` is ours: other
//! programs ignore it, and older files do not have it.

use super::{KeyValues, MetadataError};
use crate::base::SpaceId;

/// Name of the kind of member, for messages.
const NAME: &str = "*.meta";
/// Smallest and largest physical page size, in bytes (`UNIV_ZIP_SIZE_MIN`, `UNIV_PAGE_SIZE_MAX`).
const PAGE_SIZES: std::ops::RangeInclusive<u64> = 1024..=65_536;

/// The description of a datafile in an incremental backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeltaMeta {
    /// Size in bytes of its pages on disk.
    pub page_size: u32,
    /// True if it has ROW_FORMAT=COMPRESSED.
    pub is_zip: bool,
    /// Id of its tablespace.
    pub space: SpaceId,
    /// Flags of its tablespace; older programs did not write them.
    pub flags: Option<u32>,
    /// Size of the datafile in bytes. Other programs do not write it: the file is then as long as its base and
    /// its changed pages need.
    pub file_size: Option<u64>,
}

impl DeltaMeta {
    /// Returns the content of the member.
    pub fn render(&self) -> String {
        let zip_size = if self.is_zip { self.page_size } else { 0 };
        let mut text =
            format!("page_size = {}\nzip_size = {zip_size}\nspace_id = {}\n", self.page_size, self.space);
        for (key, value) in [("space_flags", self.flags.map(u64::from)), ("file_size", self.file_size)] {
            if let Some(value) = value {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text
    }

    /// Reads the content of the member.
    ///
    /// # Errors
    /// [`MetadataError`] for a page size that InnoDB does not have, or an id or flags beyond 32 bits.
    pub fn parse(content: &[u8]) -> Result<DeltaMeta, MetadataError> {
        let pairs = KeyValues::parse(NAME, content)?;
        let short = |key: &'static str, value: u64| {
            u32::try_from(value)
                .map_err(|_| MetadataError::new(NAME, format!("{key} {value} has more than 32 bits")))
        };
        let page_size = pairs.number("page_size")?;
        if !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size) {
            return Err(MetadataError::new(NAME, format!("page_size {page_size} is none that InnoDB has")));
        }
        let optional = |key| pairs.get(key).map(|_| pairs.number(key)).transpose();
        Ok(DeltaMeta {
            page_size: short("page_size", page_size)?,
            is_zip: optional("zip_size")?.unwrap_or_default() > 0,
            space: SpaceId(short("space_id", pairs.number("space_id")?)?),
            flags: optional("space_flags")?.map(|flags| short("space_flags", flags)).transpose()?,
            file_size: optional("file_size")?,
        })
    }
}
