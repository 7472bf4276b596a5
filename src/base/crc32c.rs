//! Computes CRC-32C (Castagnoli; "CRC-32/ISCSI"), the checksum of pages, of redo blocks and of journals.

use crc_fast::CrcAlgorithm;

/// Returns the CRC-32C of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    // The library returns every kind of CRC in 64 bits.
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_castagnolis() {
        // RFC 3720, appendix B.4; and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        // One bit at a time, for every length up to some of the library's steps, and at every alignment.
        let bytes: Vec<u8> = (0..2000u32).map(|n| (n * n / 7) as u8).collect();
        let slow = |bytes: &[u8]| {
            !bytes.iter().fold(!0u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    crc >> 1 ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
                })
            })
        };
        for from in 0..16 {
            for to in (from..bytes.len()).step_by(if from == 0 { 1 } else { 37 }) {
                assert_eq!(crc32c(&bytes[from..to]), slow(&bytes[from..to]), "{from}..{to}");
            }
        }
    }
}
