//! Reads the bytes of records: plain and compressed integers (mach0data.cc, `mach_parse_compressed`,
//! `mach_parse_u64_much_compressed`).
//!
//! A compressed 32-bit integer takes 1 to 5 bytes; the first byte tells how many:
//!
//! | first byte | bytes | value |
//! |---|---|---|
//! | `00`–`7F` | 1 | 7 bits |
//! | `80`–`BF` | 2 | 14 bits |
//! | `C0`–`DF` | 3 | 21 bits |
//! | `E0`–`EF` | 4 | 28 bits |
//! | `F0`–`F7` | 5 | the four bytes that follow |
//! | `F8`–`FB` | 2 | 10 bits below `0xFFFFFC00` |
//! | `FC`–`FD` | 3 | 17 bits below `0xFFFE0000` |
//! | `FE` | 4 | 24 bits below `0xFF000000` |
//!
//! A "compressed" 64-bit integer is its high half compressed and its low half plain; a "much compressed" one is
//! its low half compressed or, where the high half is not 0, `FF` and both halves compressed.

/// Why reading stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::innodb) enum Stop {
    /// The bytes at hand end inside the record.
    More,
    /// No server writes this.
    Bad(&'static str),
}

pub(in crate::innodb) type Read<T> = Result<T, Stop>;

/// A position in the bytes of a record.
#[derive(Clone)]
pub(in crate::innodb) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(in crate::innodb) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    /// The bytes that were not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline(always)]
    pub(super) fn bytes(&mut self, n: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Stop::More)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Read<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Stop::More)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    pub(super) fn array_ref<const N: usize>(&mut self) -> Read<&'a [u8; N]> {
        self.array()
    }

    #[inline(always)]
    pub(in crate::innodb) fn u8(&mut self) -> Read<u8> {
        self.array().map(|[b]: &[u8; 1]| *b)
    }

    #[inline(always)]
    pub(super) fn u16(&mut self) -> Read<u16> {
        self.array().map(|b| u16::from_be_bytes(*b))
    }

    #[inline(always)]
    pub(super) fn u32(&mut self) -> Read<u32> {
        self.array().map(|b| u32::from_be_bytes(*b))
    }

    #[inline(always)]
    pub(super) fn u64(&mut self) -> Read<u64> {
        self.array().map(|b| u64::from_be_bytes(*b))
    }

    #[inline(always)]
    pub(super) fn compressed(&mut self) -> Read<u32> {
        let Some(chunk) = self.rest.first_chunk() else { return self.compressed_at_end() };
        let word = u64::from_be_bytes(*chunk);
        // Branches, since what follows need not wait for them: how long the next one is can mostly be foreseen.
        let (len, value) = match word >> 56 {
            0x00..=0x7F => (1, word >> 56),
            0x80..=0xBF => (2, word >> 48 & 0x3FFF),
            0xC0..=0xDF => (3, word >> 40 & 0x1F_FFFF),
            0xE0..=0xEF => (4, word >> 32 & 0x0FFF_FFFF),
            0xF0..=0xF7 => (5, word >> 24),
            0xF8..=0xFB => (2, word >> 48 & 0x3FF | 0xFFFF_FC00),
            0xFC..=0xFD => (3, word >> 40 & 0x1_FFFF | 0xFFFE_0000),
            0xFE => (4, word >> 32 & 0xFF_FFFF | 0xFF00_0000),
            _ => return Err(Stop::Bad("compressed integer starts with FF")),
        };
        self.rest = &self.rest[len..];
        Ok(value as u32)
    }

    /// Where fewer bytes are left than are looked at.
    #[inline(never)]
    fn compressed_at_end(&mut self) -> Read<u32> {
        if let Some((&first @ 0x00..=0x7F, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(u32::from(first));
        }
        let mut chunk = [0; 8];
        chunk[..self.rest.len()].copy_from_slice(self.rest);
        let mut padded = Cursor::new(&chunk);
        let value = if self.rest.is_empty() { Err(Stop::More) } else { padded.compressed() };
        let len = chunk.len() - padded.rest.len();
        self.bytes(len).and(value)
    }

    #[inline(always)]
    pub(super) fn u64_compressed(&mut self) -> Read<u64> {
        let high = self.compressed()?;
        Ok(u64::from(high) << 32 | u64::from(self.u32()?))
    }

    #[inline(always)]
    pub(in crate::innodb) fn u64_much_compressed(&mut self) -> Read<u64> {
        if self.rest.first() != Some(&0xFF) {
            return self.compressed().map(u64::from);
        }
        self.u8()?;
        let high = self.compressed()?;
        Ok(u64::from(high) << 32 | u64::from(self.compressed()?))
    }
}

/// Writes a "much compressed" 64-bit integer (`mach_u64_write_much_compressed`).
pub(super) fn put_u64_much_compressed(out: &mut Vec<u8>, value: u64) {
    let (high, low) = ((value >> 32) as u32, value as u32);
    if high != 0 {
        out.push(0xFF);
        put_compressed(out, high);
    }
    put_compressed(out, low);
}

/// Bytes of a compressed 32-bit integer (`mach_get_compressed_size`).
pub(super) fn compressed_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 | 0xFFFF_FC00.. => 2,
        0x4000..0x20_0000 | 0xFFFE_0000.. => 3,
        0x20_0000..0x1000_0000 | 0xFF00_0000.. => 4,
        _ => 5,
    }
}

/// Writes a compressed 32-bit integer (`mach_write_compressed`).
pub(super) fn put_compressed(out: &mut Vec<u8>, value: u32) {
    let (len, bits) = match value {
        0..0x80 => (1, value),
        0x80..0x4000 => (2, value | 0x8000),
        0x4000..0x20_0000 => (3, value | 0xC0_0000),
        0x20_0000..0x1000_0000 => (4, value | 0xE000_0000),
        0xFFFF_FC00.. => (2, value & 0x3FF | 0xF800),
        0xFFFE_0000.. => (3, value & 0x1_FFFF | 0xFC_0000),
        0xFF00_0000.. => (4, value & 0xFF_FFFF | 0xFE00_0000),
        _ => {
            out.push(0xF0);
            (4, value)
        }
    };
    out.extend_from_slice(&bits.to_be_bytes()[4 - len..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(bytes: &[u8]) -> Read<u32> {
        Cursor::new(bytes).compressed()
    }

    #[test]
    fn forms_seen_on_servers() {
        assert_eq!(compressed(&[0x00]), Ok(0));
        assert_eq!(compressed(&[0xFB, 0xFE]), Ok(0xFFFF_FFFE));
        assert_eq!(compressed(&[0xFB, 0xFF]), Ok(0xFFFF_FFFF));
        assert_eq!(compressed(&[0x80, 0x80]), Ok(128));
        assert_eq!(compressed(&[0xF0, 0x80, 0, 0, 1]), Ok(0x8000_0001));
        assert_eq!(compressed(&[0xFE, 1, 2, 3]), Ok(0xFF01_0203));
        assert_eq!(compressed(&[0xFF, 1, 2, 3, 4]), Err(Stop::Bad("compressed integer starts with FF")));
    }

    #[test]
    fn short_input_asks_for_more() {
        for bytes in [&[][..], &[0x80], &[0xC0, 1], &[0xE0, 1, 1], &[0xF0, 1, 1, 1], &[0xF8], &[0xFE, 0, 0]] {
            assert_eq!(compressed(bytes), Err(Stop::More), "{bytes:x?}");
        }
        assert_eq!(Cursor::new(&[0xFF, 1]).u64_much_compressed(), Err(Stop::More));
    }

    proptest::proptest! {
        #[test]
        fn compressed_integers_are_read_as_written(value: u32, shift in 0..32u32, high: u32) {
            for value in [value, value >> shift, !(value >> shift)] {
                let mut bytes = Vec::new();
                put_compressed(&mut bytes, value);
                proptest::prop_assert_eq!(compressed_len(value), bytes.len());
                let mut cursor = Cursor::new(&bytes);
                proptest::prop_assert_eq!(cursor.compressed(), Ok(value));
                proptest::prop_assert!(cursor.is_empty());
                for high in [0, high] {
                    let wide = u64::from(high) << 32 | u64::from(value);
                    let mut bytes = Vec::new();
                    put_u64_much_compressed(&mut bytes, wide);
                    let mut cursor = Cursor::new(&bytes);
                    proptest::prop_assert_eq!(cursor.u64_much_compressed(), Ok(wide));
                    proptest::prop_assert!(cursor.is_empty());
                }
            }
        }
    }
}
