//! Bits in deflate's order: values lowest bit first, filling bytes from their lowest bit.

#[derive(Default)]
pub(super) struct Bits {
    out: Vec<u8>,
    buffer: u64,
    count: u32,
}

impl Bits {
    /// Appends the lowest `len` (at most 16) bits of `value`.
    pub(super) fn put(&mut self, value: u32, len: u32) {
        self.buffer |= u64::from(value) << self.count;
        self.count += len;
        while self.count >= 8 {
            self.out.push(self.buffer as u8);
            self.buffer >>= 8;
            self.count -= 8;
        }
    }

    /// Fills the last byte up with zeros.
    pub(super) fn align(&mut self) {
        if self.count > 0 {
            self.out.push(self.buffer as u8);
            (self.buffer, self.count) = (0, 0);
        }
    }

    /// Appends whole bytes; the last byte is full.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.count, 0);
        self.out.extend_from_slice(bytes);
    }

    /// The block of a flush: stored, empty, not the last.
    pub(super) fn empty_stored_block(&mut self) {
        self.stored_block(&[], false);
    }

    /// A block of bytes as they are.
    pub(super) fn stored_block(&mut self, bytes: &[u8], last: bool) {
        self.put(u32::from(last), 3);
        self.align();
        let len = bytes.len() as u16;
        self.bytes(&len.to_le_bytes());
        self.bytes(&(!len).to_le_bytes());
        self.bytes(bytes);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}
