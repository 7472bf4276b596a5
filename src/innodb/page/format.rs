//! The seam between page readers and server families: how a family's pages are laid out and checked.

use std::fmt::Debug;

use super::{Expected, FlagsError, Page0, Page0Error, PageDefect, PageLayout, Scratch, SpaceFlags, Verdict};

/// The page format of one server family: layout and checksums.
pub trait PageFormat: Debug + Sync {
    /// The page sizes, and the kind of checksum, that the flags of a tablespace header say.
    ///
    /// # Errors
    /// [`FlagsError`] for flags that no server of the family writes.
    fn layout(&self, flags: SpaceFlags) -> Result<PageLayout, FlagsError>;

    /// Checks that `page` is sound, and the one that is `expected`.
    ///
    /// # Errors
    /// [`PageDefect`] says what is wrong with it.
    fn verify(
        &self,
        page: &[u8],
        layout: &PageLayout,
        expected: Expected,
        scratch: &mut Scratch,
    ) -> Result<Verdict, PageDefect>;

    /// Reads the head of a tablespace's first file, as [`Page0::read`] does.
    ///
    /// # Errors
    /// [`Page0Error`] where the bytes are no page 0.
    fn page0(&self, bytes: &[u8]) -> Result<Page0, Page0Error> {
        Page0::read_as(bytes, |flags| self.layout(flags))
    }
}
