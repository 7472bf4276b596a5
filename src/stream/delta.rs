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
    /// A page lies behind the end of the datafile.
    #[error("page {0} lies behind the end of the datafile")]
    Beyond(u32),
    /// Its page numbers do not ascend.
    #[error("page {0} comes after page {1}")]
    Order(u32, u32),
    /// Bytes follow the last cluster.
    #[error("there are bytes behind the last cluster")]
    Trailing,
    /// The bytes end inside a cluster, or others are missing before these.
    #[error("bytes are missing at offset {0}")]
    Cut(u64),
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

/// Bytes of a `.delta` that belong into its datafile one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Offset in the `.delta`.
    pub from: u64,
    /// Offset in the datafile.
    pub to: u64,
    /// Number of bytes.
    pub len: u64,
}

/// Follows the bytes of one `.delta` as they pass, in any pieces, and says where in the datafile they belong.
///
/// Page numbers must ascend, as xbsend writes them: no byte of the datafile is written twice, and so runs may be written in any
/// order.
#[derive(Debug)]
pub struct DeltaCursor {
    page_size: u64,
    /// Number of pages that the datafile has.
    pages: u64,
    /// Offset in the `.delta` of the next byte.
    at: u64,
    /// What has passed of the header that is under way.
    header: Vec<u8>,
    /// The pages of the cluster that are still to come, the next one last.
    next: Vec<u32>,
    /// Bytes that have passed of the next page.
    passed: u64,
    /// Whether the cluster is the last one.
    last: bool,
    /// The last page of the clusters so far.
    highest: Option<u32>,
    /// Number of pages in them.
    count: u64,
}

impl DeltaCursor {
    /// Begins before the first byte; `pages`: the number of pages that the datafile has, if that is known.
    pub fn new(page_size: u32, pages: Option<u64>) -> DeltaCursor {
        DeltaCursor {
            page_size: page_size.into(),
            pages: pages.unwrap_or(1 << 32),
            at: 0,
            header: Vec::new(),
            next: Vec::new(),
            passed: 0,
            last: false,
            highest: None,
            count: 0,
        }
    }

    /// Passes the bytes `from..to`, which `copy` gives. Returns the runs of them that belong into the datafile, in their order.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn pass(
        &mut self,
        from: u64,
        to: u64,
        mut copy: impl FnMut(u64, &mut [u8]),
    ) -> Result<Vec<Run>, ClusterError> {
        if from != self.at {
            return Err(ClusterError::Cut(self.at));
        }
        let mut runs: Vec<Run> = Vec::new();
        while self.at < to {
            let Some(&number) = self.next.last() else {
                if self.last {
                    return Err(ClusterError::Trailing);
                }
                let had = self.header.len();
                let now = (self.page_size - had as u64).min(to - self.at);
                self.header.resize(had + now as usize, 0);
                copy(self.at, &mut self.header[had..]);
                self.at += now;
                if self.header.len() as u64 == self.page_size {
                    self.begin_cluster()?;
                }
                continue;
            };
            let len = (self.page_size - self.passed).min(to - self.at);
            let place = u64::from(number) * self.page_size + self.passed;
            match runs.last_mut() {
                Some(run) if run.from + run.len == self.at && run.to + run.len == place => run.len += len,
                _ => runs.push(Run { from: self.at, to: place, len }),
            }
            self.at += len;
            self.passed += len;
            if self.passed == self.page_size {
                self.passed = 0;
                self.next.pop();
            }
        }
        Ok(runs)
    }

    fn begin_cluster(&mut self) -> Result<(), ClusterError> {
        let ClusterHeader { mut pages, last } = ClusterHeader::parse(&self.header)?;
        for &number in &pages {
            match self.highest.replace(number) {
                Some(before) if number <= before => return Err(ClusterError::Order(number, before)),
                _ if u64::from(number) >= self.pages => return Err(ClusterError::Beyond(number)),
                _ => {}
            }
        }
        self.count += pages.len() as u64;
        pages.reverse();
        (self.next, self.last) = (pages, last);
        self.header.clear();
        Ok(())
    }

    /// Checks that the last cluster has passed whole; returns the number of pages.
    ///
    /// # Errors
    /// [`ClusterError::Cut`].
    pub fn end(&self) -> Result<u64, ClusterError> {
        if self.last && self.next.is_empty() { Ok(self.count) } else { Err(ClusterError::Cut(self.at)) }
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

    use proptest::prelude::*;

    /// Returns a `.delta` of pages with these numbers; each page is filled with the low byte of its number.
    fn delta(page_size: usize, numbers: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let clusters: Vec<&[u32]> = match numbers {
            [] => vec![&[]],
            _ => numbers.chunks(cluster_pages(page_size)).collect(),
        };
        for (n, pages) in clusters.iter().enumerate() {
            let header = ClusterHeader { pages: pages.to_vec(), last: n + 1 == clusters.len() };
            bytes.extend(header.encode(page_size));
            pages.iter().for_each(|number| bytes.extend(std::iter::repeat_n(*number as u8, page_size)));
        }
        bytes
    }

    fn pass_all(cursor: &mut DeltaCursor, bytes: &[u8], cuts: &[usize]) -> Result<Vec<Run>, ClusterError> {
        let mut runs = Vec::new();
        let mut at = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let end = (at + cut).min(bytes.len());
            let copy =
                |from: u64, into: &mut [u8]| into.copy_from_slice(&bytes[from as usize..][..into.len()]);
            runs.extend(cursor.pass(at as u64, end as u64, copy)?);
            at = end;
        }
        cursor.end().map(|_| runs)
    }

    proptest! {
        #[test]
        fn bytes_belong_where_the_headers_say(
            numbers in proptest::collection::btree_set(0..2000u32, 0..600),
            cuts in proptest::collection::vec(0..200_000usize, 0..20),
        ) {
            let numbers: Vec<u32> = numbers.into_iter().collect();
            let bytes = delta(1024, &numbers);
            let runs = pass_all(&mut DeltaCursor::new(1024, Some(2000)), &bytes, &cuts).unwrap();
            let mut file = vec![0; 2000 << 10];
            for Run { from, to, len } in &runs {
                file[*to as usize..][..*len as usize].copy_from_slice(&bytes[*from as usize..][..*len as usize]);
            }
            for (number, page) in file.chunks(1024).enumerate() {
                let content = if numbers.contains(&(number as u32)) { number as u8 } else { 0 };
                prop_assert!(page.iter().all(|byte| *byte == content), "page {number}");
            }
            prop_assert_eq!(runs.iter().map(|run| run.len).sum::<u64>(), numbers.len() as u64 * 1024);
        }

        #[test]
        fn noise_ends_in_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            prop_assert!(pass_all(&mut DeltaCursor::new(1024, None), &bytes, &[700, 700]).is_err());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = delta(1024, &[5, 9]);
        let pass = |pages, bytes: &[u8]| pass_all(&mut DeltaCursor::new(1024, pages), bytes, &[]);
        assert_eq!(pass(None, &delta(1024, &[5, 5])), Err(ClusterError::Order(5, 5)));
        assert_eq!(pass(Some(9), &bytes), Err(ClusterError::Beyond(9)));
        assert_eq!(pass(Some(10), &bytes[..3071]), Err(ClusterError::Cut(3071)));
        assert_eq!(pass(Some(10), &[&bytes[..], &[0]].concat()), Err(ClusterError::Trailing));
        let mut cursor = DeltaCursor::new(1024, None);
        assert_eq!(cursor.pass(1, 2, |_, _| ()), Err(ClusterError::Cut(0)));
        // A hole of any length is a header of zeros.
        assert_eq!(cursor.pass(0, u64::MAX, |_, into| into.fill(0)), Err(ClusterError::Magic(0)));
    }
}
