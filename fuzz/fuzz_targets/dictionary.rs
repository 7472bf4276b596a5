//! The dictionary objects of tables, the tree that they are kept in, and undo logs: any bytes; what is made of a table is made without a
//! panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::base::{PageNo, SpaceId};
use xbpipe::innodb::dictionary::{Table, cfg, create_table};
use xbpipe::innodb::page::{PageLayout, SpaceFlags};
use xbpipe::innodb::{sdi, undo};

const PAGE: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let layout = PageLayout::plain(PAGE).unwrap();
    if let Ok(table) = Table::parse(data) {
        let parents = |schema: &str, table: &str| (table.to_owned(), schema.to_owned());
        let place = create_table::Placement { data_directory: Some("/outside"), parents: Some(&parents) };
        let _ = create_table::statements(&table, place);
        let leaves = table.partitions.iter().flat_map(|p| p.subpartitions.iter().chain([p])).map(Some);
        for partition in leaves.chain([None]) {
            let flags = SpaceFlags(0x4021);
            let datafile = cfg::Datafile { space: 7, flags, layout, sdi_root: 3, partition, name: "d/t" };
            let _ = cfg::write(&table, &datafile, "host");
        }
    }
    let page = |number: PageNo| {
        let at = (number.0 as usize).checked_mul(PAGE).ok_or(())?;
        let mut page = data.get(at..).ok_or(())?.to_vec();
        page.resize(PAGE, 0);
        Ok::<_, ()>(page)
    };
    let _ = sdi::read(&page(PageNo(0)).unwrap_or_default(), layout, &mut |number| page(number));
    let _ = undo::unfinished([SpaceId(0xFFFF_FFEF)], &mut |_, number| page(number));
});
