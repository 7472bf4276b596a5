//! Describes which bytes of a block of a datafile travel: holes and data, alternating.

use crate::innodb::page;
use crate::stream::Extent;

/// Holes of page compression are made in units of file system blocks.
const HOLE_UNIT: usize = 4096;

/// The content of a block of up to 1 MiB.
#[derive(Debug, Default)]
pub struct Block {
    /// Bytes of the file that the block stands for.
    pub len: usize,
    /// Holes and data, alternating; empty where there are no holes.
    pub map: Vec<Extent>,
}

impl Block {
    /// The parts of `buffer` that are data.
    pub fn data<'a>(&self, buffer: &'a [u8]) -> Vec<&'a [u8]> {
        if self.map.is_empty() {
            return vec![&buffer[..self.len]];
        }
        let mut at = 0;
        let mut parts = Vec::with_capacity(self.map.len());
        for extent in &self.map {
            at += extent.skip as usize;
            parts.push(&buffer[at..at + extent.len as usize]);
            at += extent.len as usize;
        }
        parts
    }
}

/// Gathers the holes and data of a block.
#[derive(Default)]
pub struct ExtentBuilder {
    map: Vec<Extent>,
    holes: bool,
}

impl ExtentBuilder {
    /// Adds a hole of `len` bytes.
    pub fn hole(&mut self, len: usize) {
        self.holes = true;
        match self.map.last_mut() {
            Some(last) if last.len == 0 => last.skip += len as u32,
            _ => self.map.push(Extent { skip: len as u32, len: 0 }),
        }
    }

    /// Adds `len` bytes of data.
    pub fn data(&mut self, len: usize) {
        match self.map.last_mut() {
            Some(last) => last.len += len as u32,
            None => self.map.push(Extent { skip: 0, len: len as u32 }),
        }
    }

    /// A page with content; the punched tail of a transparently compressed one is a hole here too, and so is what was
    /// never used of a page.
    pub(super) fn page(&mut self, page: &[u8]) {
        let stored = page::compressed::stored_len(page).map_or(page.len(), |n| n.next_multiple_of(HOLE_UNIT));
        let stored = stored.min(page.len());
        if stored < page.len() && page::is_all_zero(&page[stored..]) {
            self.data(stored);
            self.hole(page.len() - stored);
        } else if let Some(unused) = page::unused(page) {
            self.data(unused.start);
            self.hole(unused.len());
            self.data(page.len() - unused.end);
        } else {
            self.data(page.len());
        }
    }

    /// Returns holes and data; empty if there are no holes.
    pub fn into_map(self) -> Vec<Extent> {
        if self.holes { self.map } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_data_alternate() {
        let mut shape = ExtentBuilder::default();
        shape.data(16);
        shape.data(16);
        shape.hole(16);
        shape.hole(16);
        shape.data(16);
        shape.hole(16);
        let block = Block { len: 96, map: shape.into_map() };
        let expected = [(0, 32), (32, 16), (16, 0)].map(|(skip, len)| Extent { skip, len });
        assert_eq!(block.map, expected);
        let buffer: Vec<u8> = (0..96).collect();
        assert_eq!(block.data(&buffer), [&buffer[..32], &buffer[64..80], &buffer[96..]]);
    }

    #[test]
    fn a_block_without_holes_has_no_map() {
        let mut shape = ExtentBuilder::default();
        shape.data(16);
        shape.data(16);
        assert!(shape.into_map().is_empty());
    }
}
