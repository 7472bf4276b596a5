//! Writes bytes into files at their places.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Most bytes written in one call. In kernels with large folios a larger write asks for larger blocks of memory, which in
/// a virtual machine may have to be fetched from the host first: measured at half the speed.
const WRITE_MAX: usize = 64 << 10;

/// Writes all `bytes` at `offset`.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = offset;
    for slice in bytes.chunks(WRITE_MAX) {
        file.write_all_at(slice, at)?;
        at += slice.len() as u64;
    }
    Ok(())
}
