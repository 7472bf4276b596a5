//! Provides reads that go on until their buffer is full or the file ends.

#![allow(clippy::disallowed_types)]

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Fills `buffer` from offset `at` on, as far as the file goes; returns the number of bytes read.
///
/// # Errors
/// Those of the system; interrupted reads are tried again.
pub fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    fill(buffer, |rest, filled| file.read_at(rest, at + filled as u64))
}

/// Fills `buffer` from the current position of `reader`, as far as it goes; returns the number of bytes read.
///
/// # Errors
/// Those of the system; interrupted reads are tried again.
pub fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    fill(buffer, |rest, _| reader.read(rest))
}

fn fill(buffer: &mut [u8], mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..], filled) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
