//! Reads and writes the cluster headers of `.delta` members: the changed pages of one datafile, as XtraBackup
//! and mariadb-backup lay them out (`wf_incremental_process` and `xtrabackup_apply_delta` of XtraBackup).
//!
//! A `.delta` is a sequence of clusters. A cluster is one header page, then up to `page_size / 4 − 1` pages of
//! the datafile, all of `page_size` bytes (the physical page size). All integers of the header are big-endian:
//!
//! | offset | length | content |
//! |---|---|---|
//! | 0 | 4 | [`MORE`] (`xtra`) if another cluster follows, [`LAST`] (`XTRA`) if not |
//! | 4 × i | 4 | number in the datafile of page i of the cluster, counted from 1; [`NO_PAGE`] ends a list that is not full |
//!
//! Only the last cluster may be less than full; it is cut after its last page. A datafile without changed pages
//! has a `.delta` of one header page.

/// Suffix of the member with a datafile's changed pages.
pub const DELTA: &str = ".delta";
/// Suffix of the member that describes it, [`super::metadata::DeltaMeta`].
pub const META: &str = ".meta";

/// Magic number of a cluster that another one follows: `xtra`.
pub const MORE: u32 = 0x7874_7261;
/// Magic number of the last cluster: `XTRA`.
pub const LAST: u32 = 0x5854_5241;
/// Stands behind the last page number of a list that is not full.
pub const NO_PAGE: u32 = 0xFFFF_FFFF;

/// Bytes of a page number, and of the magic number.
const SLOT: usize = 4;

/// Smallest and largest physical page size, in bytes (`UNIV_ZIP_SIZE_MIN`, `UNIV_PAGE_SIZE_MAX`).
const PAGE_SIZES: std::ops::RangeInclusive<usize> = 1024..=65_536;

/// The header page of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterHeader {
    /// Numbers in the datafile of the pages that follow, in their order.
    pub pages: Vec<u32>,
    /// True if no other cluster follows.
    pub last: bool,
}

/// Error: the bytes are not the header of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClusterError {
    /// The header is not one page long, or its length is not a page size.
    #[error("the header of a cluster has {0} bytes")]
    Length(usize),
    /// It begins with another magic number.
    #[error("the header of a cluster begins with {0:#010x}")]
    Magic(u32),
    /// Another cluster follows, although there is room for more pages.
    #[error("a cluster of {0} pages is followed by another one")]
    Short(usize),
}

/// Returns the number of pages that a cluster of pages of `page_size` bytes holds at most.
pub fn cluster_pages(page_size: usize) -> usize {
    page_size / SLOT - 1
}

impl ClusterHeader {
    /// Returns the header page, `page_size` bytes long.
    pub fn encode(&self, page_size: usize) -> Vec<u8> {
        let mut page = Vec::with_capacity(page_size);
        page.extend_from_slice(&(if self.last { LAST } else { MORE }).to_be_bytes());
        self.pages.iter().for_each(|number| page.extend_from_slice(&number.to_be_bytes()));
        if page.len() < page_size {
            page.extend_from_slice(&NO_PAGE.to_be_bytes());
        }
        page.resize(page_size, 0);
        page
    }

    /// Reads a header page, which may come from an untrusted source.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn parse(page: &[u8]) -> Result<ClusterHeader, ClusterError> {
        if !page.len().is_power_of_two() || !PAGE_SIZES.contains(&page.len()) {
            return Err(ClusterError::Length(page.len()));
        }
        let mut slots =
            page.chunks_exact(SLOT).map(|slot| u32::from_be_bytes([slot[0], slot[1], slot[2], slot[3]]));
        let last = match slots.next() {
            Some(LAST) => true,
            Some(MORE) => false,
            other => return Err(ClusterError::Magic(other.unwrap_or_default())),
        };
        let pages: Vec<u32> = slots.take_while(|number| *number != NO_PAGE).collect();
        if !last && pages.len() < cluster_pages(page.len()) {
            return Err(ClusterError::Short(pages.len()));
        }
        Ok(ClusterHeader { pages, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (pages, last) in
            [(vec![], true), (vec![0, 7, 9], true), ((0..255).collect(), false), ((0..255).collect(), true)]
        {
            let header = ClusterHeader { pages, last };
            let page = header.encode(1024);
            assert_eq!(page.len(), 1024);
            assert_eq!(ClusterHeader::parse(&page), Ok(header));
        }
        let none = ClusterHeader { pages: vec![], last: true }.encode(1024);
        assert_eq!(none[..8], *b"XTRA\xff\xff\xff\xff");
        assert!(none[8..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn hostile_headers_are_refused() {
        let good = ClusterHeader { pages: vec![3], last: true }.encode(4096);
        assert_eq!(ClusterHeader::parse(&good[..4095]), Err(ClusterError::Length(4095)));
        assert_eq!(ClusterHeader::parse(&[]), Err(ClusterError::Length(0)));
        let more = ClusterHeader { pages: vec![3], last: false }.encode(4096);
        assert_eq!(ClusterHeader::parse(&more), Err(ClusterError::Short(1)));
        assert_eq!(ClusterHeader::parse(&[7; 1024]), Err(ClusterError::Magic(0x0707_0707)));
    }
}
