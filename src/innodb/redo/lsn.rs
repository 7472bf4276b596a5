//! LSN arithmetic: an LSN counts every byte of the log, a payload position only the 496 payload bytes of each
//! block (`log_translate_sn_to_lsn`; the server calls it "sn").

use super::{BLOCK_HEADER, BLOCK_LEN, BLOCK_PAYLOAD};
use crate::base::Lsn;

const HEADER: u64 = BLOCK_HEADER as u64;
const LEN: u64 = BLOCK_LEN as u64;
const PAYLOAD: u64 = BLOCK_PAYLOAD as u64;

/// The first LSN a server ever uses: block 16 (`LOG_START_LSN`).
pub const FIRST_BLOCK: Lsn = Lsn(16 * LEN);

/// The LSN of the first payload byte of the block that holds `lsn`.
pub fn first_payload(lsn: Lsn) -> Lsn {
    lsn.block_start().plus(HEADER)
}

/// Payload bytes of the log before `lsn`. An LSN in a header counts as the block's first payload byte, one in a
/// trailer as the next block's.
pub fn to_payload(lsn: Lsn) -> u64 {
    let in_block = (lsn.0 % LEN).clamp(HEADER, HEADER + PAYLOAD) - HEADER;
    lsn.0 / LEN * PAYLOAD + in_block
}

/// The LSN of the payload byte with that many payload bytes before it; saturates.
pub fn from_payload(payload: u64) -> Lsn {
    Lsn((payload / PAYLOAD).saturating_mul(LEN)).plus(HEADER + payload % PAYLOAD)
}

/// The LSN of the payload byte `bytes` payload bytes after `lsn`. Where that is the end of a block it is the
/// first payload byte of the next, as the server normalises it.
pub fn advance(lsn: Lsn, bytes: u64) -> Lsn {
    from_payload(to_payload(lsn).saturating_add(bytes))
}

/// The LSN at which the next record starts where the one before ends at `end`: servers never give one that is the border of a
/// block.
pub fn next_payload(end: Lsn) -> Lsn {
    if end == end.block_start() { first_payload(end) } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `lsn` is that of a payload byte, not of a block's header or trailer (`log_is_data_lsn`).
    fn is_payload(lsn: Lsn) -> bool {
        lsn >= FIRST_BLOCK && (HEADER..HEADER + PAYLOAD).contains(&(lsn.0 % LEN))
    }

    #[test]
    fn ends_of_blocks_are_normalised() {
        assert_eq!(advance(Lsn(8192 + 12), 1), Lsn(8192 + 13));
        assert_eq!(advance(Lsn(8192 + 12), 495), Lsn(8192 + 507));
        assert_eq!(advance(Lsn(8192 + 12), 496), Lsn(8704 + 12));
        assert_eq!(advance(Lsn(8192 + 500), 20), Lsn(8704 + 12 + 12));
        assert_eq!(advance(Lsn(8192 + 508), 0), Lsn(8704 + 12));
        assert_eq!(advance(Lsn(8192), 0), Lsn(8192 + 12));
    }

    #[test]
    fn payload_positions() {
        assert!(is_payload(Lsn(8192 + 12)) && is_payload(Lsn(8192 + 507)));
        assert!(!is_payload(Lsn(8192 + 508)) && !is_payload(Lsn(8192 + 11)) && !is_payload(Lsn(512 + 12)));
    }

    proptest::proptest! {
        #[test]
        fn there_and_back(payload in 0u64..1 << 60) {
            let lsn = from_payload(payload);
            proptest::prop_assert_eq!(to_payload(lsn), payload);
            proptest::prop_assert!(lsn < FIRST_BLOCK || is_payload(lsn));
        }

        #[test]
        fn nothing_overflows(lsn: u64, bytes: u64) {
            proptest::prop_assert!(advance(Lsn(lsn), bytes) >= Lsn(lsn.min(u64::MAX - 512)));
        }
    }
}
