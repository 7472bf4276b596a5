//! Pages of this family: a checksum at the head and, in tablespaces without ROW_FORMAT=COMPRESSED, another in the trailer.

use crate::innodb::page::{
    Expected, FlagsError, PageDefect, PageFormat, PageLayout, Scratch, SpaceFlags, Verdict, verify,
};

/// The page format that [`crate::innodb::page`] implements.
#[derive(Debug)]
pub(super) struct MySql8Pages;

impl PageFormat for MySql8Pages {
    fn layout(&self, flags: SpaceFlags) -> Result<PageLayout, FlagsError> {
        flags.layout()
    }

    fn verify(
        &self,
        page: &[u8],
        layout: &PageLayout,
        expected: Expected,
        scratch: &mut Scratch,
    ) -> Result<Verdict, PageDefect> {
        verify(page, layout, expected, scratch)
    }
}
