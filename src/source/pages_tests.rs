//! Tests of reading datafiles by pages.

use super::*;
use crate::base::Lsn;
use crate::innodb::encryption::NoKeyring;
use crate::innodb::page::{SpaceFlags, build_page0, checksum};
use crate::stream::Extent;

/// Selects pages from an LSN on.
#[derive(Debug)]
struct From(Lsn);

impl PageFilter for From {
    fn selects(&self, place: Expected, header: FilHeader<'_>) -> bool {
        assert_eq!((place.space, place.page), (SpaceId(5), header.page_no()));
        header.lsn() >= self.0
    }
}

#[test]
fn pages_that_are_not_selected_are_holes() {
    const PAGE: usize = 16384;
    let mut bytes = build_page0(SpaceId(5), SpaceFlags(0x4021), 6).unwrap();
    for number in 1..6u32 {
        let mut page = vec![0; PAGE];
        page[4..8].copy_from_slice(&number.to_be_bytes());
        page[16..24].copy_from_slice(&(100 * u64::from(number)).to_be_bytes());
        page[24..26].copy_from_slice(&[0x45, 0xBF]);
        page[34..38].copy_from_slice(&5u32.to_be_bytes());
        page[38..].fill(7);
        checksum::stamp(&mut page, false);
        bytes.extend_from_slice(&page);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let datafile = Datafile {
        member: "t.ibd".into(),
        path: file.path().canonicalize().unwrap(),
        space: SpaceId(5),
        bytes: bytes.len() as u64,
        part: 0,
        tablespace: "t".into(),
        kind: "general",
    };
    let (suspects, torn, filter) = (EmptyPages::new(Lsn(0)), AtomicU64::new(0), From(Lsn(300)));
    let reading = Reading {
        format: crate::family::redo_of_copies().pages(),
        plain: PageLayout::plain(PAGE).unwrap(),
        owner: rustix::process::getuid().as_raw(),
        in_order: true,
        gives_way: None,
        suspects: &suspects,
        filter: &filter,
        keyring: &NoKeyring,
        encrypted: &Default::default(),
    };
    let open = OpenDatafile::open(&datafile, 0, &reading).unwrap();
    let mut buffer = vec![0; BLOCK];
    let block = open.read_block(0, &mut buffer, &mut PageReader::new(&torn, &reading)).unwrap();
    assert_eq!(block.len, bytes.len());
    assert_eq!(block.map, [Extent { skip: 3 * PAGE as u32, len: 3 * PAGE as u32 }]);
    assert_eq!(block.data(&buffer).concat(), bytes[3 * PAGE..]);
}
