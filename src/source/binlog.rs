//! The GTIDs in a binlog file, read as its bytes pass by.
//!
//! A recovering server commits what its last binlog file holds, so the GTID set of a copy is that of the binlog's
//! prefix. `log_status` may lack the newest of them: it waits for transactions with an XID to be committed before it
//! looks (`MYSQL_BIN_LOG::wait_for_prep_xids`), but XA statements in the middle of a group commit have none.
//!
//! A file is a magic number of 4 bytes, then events: timestamp 4, type 1, server id 4, length 4 (the header's 19 bytes
//! included), end position 4, flags 2, all little-endian, then the event's body. Type 33 (`GTID_LOG_EVENT`): flags 1, UUID 16,
//! number 8. Type 42 (`GTID_TAGGED_LOG_EVENT`) is in the format of the server's `mysql::serialization`: version, size and
//! last obligatory field, then fields, each with its id before it: flags, UUID (16 numbers), number, tag.

use std::collections::VecDeque;
use std::fmt::Write as _;

const MAGIC: [u8; 4] = [0xFE, b'b', b'i', b'n'];
/// An encrypted file begins with this, and a header that no position counts (`Rpl_encryption_header`).
const MAGIC_ENCRYPTED: [u8; 4] = [0xFD, b'b', b'i', b'n'];
const ENCRYPTION_HEADER: u64 = 512;

/// Whether a file that starts like this is a binary log. The server says where its log is, and xbsend may be allowed to read
/// more than the server is: nothing else is sent in its place.
pub fn is_binlog(start: &[u8]) -> bool {
    start.starts_with(&MAGIC) || start.starts_with(&MAGIC_ENCRYPTED)
}

/// Bytes of a binary log before those that positions count, by the first four of the file.
pub fn uncounted_bytes(start: &[u8]) -> u64 {
    if start.starts_with(&MAGIC_ENCRYPTED) { ENCRYPTION_HEADER } else { 0 }
}
const EVENT_HEADER: usize = 19;
const TYPE_GTID: u8 = 33;
const TYPE_TAGGED_GTID: u8 = 42;
/// Longest part of a GTID event that is looked at: a tag has 32 characters.
const BODY_MAX: usize = 160;
/// How many GTIDs are remembered: more transactions than can be in the middle of a group commit.
const NEWEST: usize = 4096;

/// Reads GTID events out of a binlog file that is fed in pieces.
#[derive(Debug, Default)]
pub struct GtidScanner {
    /// Bytes of the magic number, or of the event's header and the part of its body that matters.
    gathered: Vec<u8>,
    /// Bytes of the event in hand that are still to be passed over.
    skip: u64,
    inside: bool,
    not_a_binlog: bool,
    newest: VecDeque<String>,
}

impl GtidScanner {
    /// A scanner at the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the file.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.not_a_binlog {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = &bytes[skipped as usize..];
            let wanted = self.wanted().saturating_sub(self.gathered.len());
            let now = wanted.min(bytes.len());
            self.gathered.extend_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
            if self.skip == 0 && self.gathered.len() == self.wanted() {
                self.take();
            }
        }
    }

    /// The newest GTIDs, oldest first; empty for a file that is encrypted.
    pub fn newest(&self) -> impl Iterator<Item = &str> {
        self.newest.iter().map(String::as_str)
    }

    /// How much of the thing in hand is to be gathered.
    fn wanted(&self) -> usize {
        match (self.inside, self.gathered.get(..EVENT_HEADER)) {
            (false, _) => MAGIC.len(),
            (true, None) => EVENT_HEADER,
            (true, Some(header)) => EVENT_HEADER + self.body_len(header).min(BODY_MAX),
        }
    }

    /// Length of the body as far as it matters; 0 for events that don't.
    fn body_len(&self, header: &[u8]) -> usize {
        let gtid = matches!(header[4], TYPE_GTID | TYPE_TAGGED_GTID);
        if gtid { event_len(header).saturating_sub(EVENT_HEADER) } else { 0 }
    }

    /// The thing in hand is gathered.
    fn take(&mut self) {
        if !self.inside {
            self.not_a_binlog = self.gathered != MAGIC;
            self.inside = true;
            self.gathered.clear();
            return;
        }
        let (header, body) = self.gathered.split_at(EVENT_HEADER);
        let len = event_len(header);
        if len < EVENT_HEADER {
            self.not_a_binlog = true;
            return;
        }
        if self.gathered.len() < EVENT_HEADER + self.body_len(header).min(BODY_MAX) {
            return;
        }
        let gtid = match header[4] {
            TYPE_GTID => plain(body),
            TYPE_TAGGED_GTID => tagged(body),
            _ => None,
        };
        self.skip = (len - self.gathered.len()) as u64;
        self.gathered.clear();
        if let Some(gtid) = gtid {
            if self.newest.len() == NEWEST {
                self.newest.pop_front();
            }
            self.newest.push_back(gtid);
        }
    }
}

fn event_len(header: &[u8]) -> usize {
    u32::from_le_bytes([header[9], header[10], header[11], header[12]]) as usize
}

fn plain(body: &[u8]) -> Option<String> {
    let uuid = body.get(1..17)?;
    let number = i64::from_le_bytes(body.get(17..25)?.try_into().ok()?);
    // 0 is an anonymous transaction.
    (number > 0).then(|| text(uuid, "", number))
}

fn tagged(body: &[u8]) -> Option<String> {
    let mut at = Packed(body);
    let (_version, _size, _last_obligatory) = (at.unsigned()?, at.unsigned()?, at.unsigned()?);
    let (mut uuid, mut number) = (None, None);
    loop {
        match at.unsigned()? {
            0 => drop(at.unsigned()?),
            1 => uuid = (0..16).map(|_| at.unsigned().map(|byte| byte as u8)).collect::<Option<Vec<u8>>>(),
            2 => number = Some(at.signed()?),
            3 => {
                let len = usize::try_from(at.unsigned()?).ok()?;
                let tag = std::str::from_utf8(at.0.get(..len)?).ok()?;
                return Some(text(&uuid?, tag, number?));
            }
            _ => return None,
        }
    }
}

fn text(uuid: &[u8], tag: &str, number: i64) -> String {
    let mut text = String::with_capacity(64);
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    if !tag.is_empty() {
        let _ = write!(text, ":{tag}");
    }
    let _ = write!(text, ":{number}");
    text
}

/// Integers of variable length: as many more bytes as the first has ones at its low end, then the value.
struct Packed<'a>(&'a [u8]);

impl Packed<'_> {
    fn unsigned(&mut self) -> Option<u64> {
        let ones = self.0.first()?.trailing_ones();
        let len = ones as usize + 1;
        let mut bytes = [0; 16];
        bytes[..len].copy_from_slice(self.0.get(..len)?);
        self.0 = &self.0[len..];
        // With eight ones the first byte holds nothing but them.
        let value = u128::from_le_bytes(bytes) >> (ones + 1).min(8);
        u64::try_from(value).ok()
    }

    /// The sign is the lowest bit.
    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        let half = (value >> 1) as i64;
        Some(if value & 1 == 0 { half } else { !half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_no_binlogs() {
        assert!(is_binlog(b"\xFEbin") && is_binlog(b"\xFDbin..."));
        for other in [&b""[..], b"\xFEbi", b"root:x:0:0", b"bin\xFE"] {
            assert!(!is_binlog(other));
        }
    }

    #[test]
    fn positions_do_not_count_the_header_of_an_encrypted_file() {
        assert_eq!(uncounted_bytes(b"\xfdbin\x01"), 512);
        assert_eq!(uncounted_bytes(b"\xfebin\x01"), 0);
        assert_eq!(uncounted_bytes(b"\xfd"), 0);
    }

    const UUID: &str = "325ae148-e663-11f1-8213-02fc00000001";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    fn event(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut event = vec![0; EVENT_HEADER];
        event[4] = kind;
        event[9..13].copy_from_slice(&((EVENT_HEADER + body.len()) as u32).to_le_bytes());
        event.extend_from_slice(body);
        event
    }

    /// Bodies as a MySQL 9.7 wrote them.
    fn file() -> Vec<u8> {
        let tagged = hex(
            "02740000020264b48503909903c622c50309022604f103000000020404060e7461675f6f6e6508000a040c7fff5106f6db600610dd02",
        );
        let plain = hex(
            "00325ae148e66311f1821302fc0000000101000000000000000202000000000000000400000000000000c6c006f6db6006",
        );
        let anonymous = [0; 50];
        let mut file = MAGIC.to_vec();
        for (kind, body) in
            [(15, &[7; 100][..]), (42, &tagged), (2, &[9; 3000]), (33, &plain), (33, &anonymous), (16, &[])]
        {
            file.extend(event(kind, body));
        }
        file
    }

    #[test]
    fn both_kinds_are_read_however_the_file_is_cut() {
        let expected = [format!("{UUID}:tag_one:1"), format!("{UUID}:1")];
        let file = file();
        for piece in [1, 2, 3, 7, 19, 20, 100, 4096] {
            let mut scanner = GtidScanner::new();
            file.chunks(piece).for_each(|bytes| scanner.feed(bytes));
            assert_eq!(scanner.newest().collect::<Vec<_>>(), expected, "{piece}");
        }
    }

    #[test]
    fn other_files_hold_none_and_nothing_panics() {
        let mut scanner = GtidScanner::new();
        scanner.feed(&hex("fd62696e"));
        scanner.feed(&file());
        assert_eq!(scanner.newest().count(), 0);
        let file = file();
        for at in 0..file.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = value;
                let mut scanner = GtidScanner::new();
                scanner.feed(&damaged);
                scanner.feed(&damaged[..at]);
            }
        }
    }

    #[test]
    fn integers_of_every_length() {
        for value in [0u64, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX >> 8, u64::MAX] {
            let significant = 64 - value.leading_zeros() as usize;
            let len = significant.div_ceil(7).clamp(1, 9);
            let (ones, shift) = (len - 1, len.min(8));
            let bits = (u128::from(value) << shift) | ((1u128 << ones) - 1);
            let mut packed = Packed(&bits.to_le_bytes()[..len]);
            assert_eq!(packed.unsigned(), Some(value), "{value}");
        }
    }
}
