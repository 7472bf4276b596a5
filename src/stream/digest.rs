//! Computes the digest of a member's content. The same bytes have the same digest, however they were cut into
//! chunks, and wherever holes stood for zeros.
//!
//! The content is cut into blocks of 1 MiB ([`BLOCK`]; the last may be shorter). The leaf of a block is the
//! XXH3-128 of its bytes. The digest is the XXH3-128 of all leaves in order, each as 16 bytes big-endian,
//! followed by the size of the content as u64 big-endian. So leaves can be computed in parallel and in any
//! order. Its text form is `xxh3-128-1m:` and 32 lower-case hex digits.
//!
//! The digest finds corruption and defects. It does not protect against an attacker, who could as well write
//! a new manifest.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use twox_hash::XxHash3_128;

use super::frame::Extent;

/// Number of bytes of a block.
pub const BLOCK: usize = 1 << 20;
/// Prefix of the text form.
pub const DIGEST_PREFIX: &str = "xxh3-128-1m:";

/// Zeros to hash in place of holes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The hash of one block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Leaf(u128);

/// Returns the leaf of a block with these bytes (at most [`BLOCK`]).
pub fn leaf(block: &[u8]) -> Leaf {
    debug_assert!(block.len() <= BLOCK);
    Leaf(XxHash3_128::oneshot(block))
}

/// Returns the leaf of a block of `len` zeros.
pub fn zero_leaf(len: usize) -> Leaf {
    static FULL: OnceLock<Leaf> = OnceLock::new();
    let hash = || {
        let mut state = XxHash3_128::new();
        hash_zeros(&mut state, len as u64);
        Leaf(state.finish_128())
    };
    if len == BLOCK { *FULL.get_or_init(hash) } else { hash() }
}

/// Returns the leaf of a block with holes.
pub fn sparse_leaf(map: &[Extent], payload: &[u8]) -> Leaf {
    if payload.is_empty() {
        return zero_leaf(map.iter().map(|e| e.logical_len()).sum::<u64>() as usize);
    }
    let mut state = XxHash3_128::new();
    let mut rest = payload;
    for extent in map {
        hash_zeros(&mut state, extent.skip.into());
        let (data, after) = rest.split_at(rest.len().min(extent.len as usize));
        state.write(data);
        rest = after;
    }
    Leaf(state.finish_128())
}

fn hash_zeros(state: &mut XxHash3_128, mut len: u64) {
    while len > 0 {
        let n = len.min(ZEROS.len() as u64);
        state.write(&ZEROS[..n as usize]);
        len -= n;
    }
}

/// Computes a [`Digest`].
///
/// Blocks come as leaves in any order ([`put_leaf`](Self::put_leaf)), or as bytes in order
/// ([`update`](Self::update), [`update_zeros`](Self::update_zeros)), which continue where the unbroken run of
/// blocks from the start ends. Both can be mixed, changing at block borders. Only leaves that wait for an
/// earlier one take memory.
pub struct BlockDigest {
    /// Hash over the leaves so far.
    root: XxHash3_128,
    /// Number of leaves in `root`, which is the index of the current block.
    done: u64,
    /// Leaves that came before their turn.
    waiting: BTreeMap<u64, Leaf>,
    /// Current block, of which only a part has come.
    block: Option<Box<Partial>>,
    fault: Option<DigestError>,
}

struct Partial {
    state: XxHash3_128,
    len: usize,
}

impl BlockDigest {
    /// Creates a digest of nothing yet.
    pub fn new() -> Self {
        BlockDigest { root: XxHash3_128::new(), done: 0, waiting: BTreeMap::new(), block: None, fault: None }
    }

    /// Takes the leaf of block `index`. A block that is given twice is an error of [`finish`](Self::finish).
    pub fn put_leaf(&mut self, index: u64, leaf: Leaf) {
        if index < self.done || (index == self.done && self.block.is_some()) {
            self.fault.get_or_insert(DigestError::Twice(index));
        } else if index == self.done {
            self.fold(leaf);
        } else if self.waiting.insert(index, leaf).is_some() {
            self.fault.get_or_insert(DigestError::Twice(index));
        }
    }

    /// Continues with `bytes`.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK - self.block.as_ref().map_or(0, |b| b.len);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            bytes = later;
            if now.len() == BLOCK {
                self.fold(leaf(now));
            } else {
                self.extend(now.len(), |state| state.write(now));
            }
        }
    }

    /// Continues with `n` zeros.
    pub fn update_zeros(&mut self, mut n: u64) {
        while n > 0 {
            let room = BLOCK - self.block.as_ref().map_or(0, |b| b.len);
            let now = n.min(room as u64);
            n -= now;
            if now == BLOCK as u64 {
                self.fold(zero_leaf(BLOCK));
            } else {
                self.extend(now as usize, |state| hash_zeros(state, now));
            }
        }
    }

    /// Returns the digest, if all blocks of a content of `size` bytes were given and no others.
    pub fn finish(mut self, size: u64) -> Result<Digest, DigestError> {
        if let Some(partial) = self.block.take() {
            let end = self.done * BLOCK as u64 + partial.len as u64;
            if end != size {
                return Err(DigestError::Size { hashed: end, size });
            }
            self.fold(Leaf(partial.state.finish_128()));
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let blocks = size.div_ceil(BLOCK as u64);
        if self.done < blocks {
            return Err(DigestError::Missing(self.done));
        }
        if self.done > blocks || !self.waiting.is_empty() {
            return Err(DigestError::Beyond { size });
        }
        self.root.write(&size.to_be_bytes());
        Ok(Digest(self.root.finish_128()))
    }

    /// Continues inside a block.
    fn extend(&mut self, len: usize, hash: impl FnOnce(&mut XxHash3_128)) {
        let block = self.block.get_or_insert_with(|| Box::new(Partial { state: XxHash3_128::new(), len: 0 }));
        hash(&mut block.state);
        block.len += len;
        if block.len == BLOCK {
            let leaf = Leaf(block.state.finish_128());
            self.block = None;
            self.fold(leaf);
        }
    }

    /// Takes the leaf whose turn it is, and those that waited for it.
    fn fold(&mut self, leaf: Leaf) {
        if self.waiting.contains_key(&self.done) {
            self.fault.get_or_insert(DigestError::Twice(self.done));
        }
        self.root.write(&leaf.0.to_be_bytes());
        self.done += 1;
        while let Some(next) = self.waiting.remove(&self.done) {
            self.root.write(&next.0.to_be_bytes());
            self.done += 1;
        }
    }
}

impl Default for BlockDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BlockDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockDigest").field("done", &self.done).field("waiting", &self.waiting.len()).finish()
    }
}

/// Returns the digest of a whole content that is in memory.
pub fn digest(content: &[u8]) -> Digest {
    let mut digest = BlockDigest::new();
    digest.update(content);
    digest.finish(content.len() as u64).expect("every block was given once")
}

/// The reason why there is no digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DigestError {
    /// A block was never given.
    #[error("block {0} is missing")]
    Missing(u64),
    /// A block was given twice.
    #[error("block {0} was given twice")]
    Twice(u64),
    /// Blocks lie beyond the size.
    #[error("there are blocks beyond the size of {size} bytes")]
    Beyond {
        /// Size that was asked for.
        size: u64,
    },
    /// The given bytes end elsewhere.
    #[error("{hashed} bytes were given of {size}")]
    Size {
        /// Offset at which the bytes end.
        hashed: u64,
        /// Size that was asked for.
        size: u64,
    },
}

/// The digest of a member's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DIGEST_PREFIX}{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Error: the text is not a digest of the known kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a digest of the form {DIGEST_PREFIX}<32 hex digits>")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let hex = text.strip_prefix(DIGEST_PREFIX).ok_or(NotADigest)?;
        let canonical = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(NotADigest);
        }
        u128::from_str_radix(hex, 16).map(Digest).map_err(|_| NotADigest)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    /// Computes the digest exactly as its definition says.
    fn by_definition(content: &[u8]) -> u128 {
        let mut leaves: Vec<u8> =
            content.chunks(BLOCK).flat_map(|block| XxHash3_128::oneshot(block).to_be_bytes()).collect();
        leaves.extend_from_slice(&(content.len() as u64).to_be_bytes());
        XxHash3_128::oneshot(&leaves)
    }

    #[test]
    fn hash_is_the_published_one() {
        // Test vectors of the xxHash specification: XXH3-128 of nothing, seed 0.
        assert_eq!(XxHash3_128::oneshot(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }

    #[test]
    fn digest_follows_its_definition() {
        for len in [0, 1, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK, 3 * BLOCK + 12_345] {
            let bytes = content(len);
            assert_eq!(digest(&bytes).0, by_definition(&bytes), "{len}");
        }
    }

    #[test]
    fn order_and_cuts_do_not_matter() {
        let bytes = content(5 * BLOCK + 999);
        let expected = digest(&bytes);
        let mut backwards = BlockDigest::new();
        for (index, block) in bytes.chunks(BLOCK).enumerate().collect::<Vec<_>>().into_iter().rev() {
            backwards.put_leaf(index as u64, leaf(block));
        }
        assert_eq!(backwards.finish(bytes.len() as u64), Ok(expected));
        for step in [1000, 65_536, BLOCK - 1, BLOCK + 1, 2 * BLOCK] {
            let mut pieces = BlockDigest::new();
            bytes.chunks(step).for_each(|piece| pieces.update(piece));
            assert_eq!(pieces.finish(bytes.len() as u64), Ok(expected), "{step}");
        }
        let mut mixed = BlockDigest::new();
        mixed.put_leaf(2, leaf(&bytes[2 * BLOCK..3 * BLOCK]));
        mixed.update(&bytes[..2 * BLOCK]);
        mixed.update(&bytes[3 * BLOCK..4 * BLOCK]);
        mixed.put_leaf(4, leaf(&bytes[4 * BLOCK..5 * BLOCK]));
        mixed.update(&bytes[5 * BLOCK..]);
        assert_eq!(mixed.finish(bytes.len() as u64), Ok(expected));
    }

    #[test]
    fn zeros_are_zeros() {
        for (len, lead) in [(BLOCK, 0), (3 * BLOCK + 5, 0), (2 * BLOCK, 77), (10, BLOCK - 3)] {
            let mut bytes = content(lead);
            bytes.resize(lead + len, 0);
            let mut holes = BlockDigest::new();
            holes.update(&bytes[..lead]);
            holes.update_zeros(len as u64);
            assert_eq!(holes.finish(bytes.len() as u64), Ok(digest(&bytes)), "{lead} {len}");
        }
        for len in [0, 1, 100_000, BLOCK] {
            assert_eq!(zero_leaf(len), leaf(&vec![0; len]));
            assert_eq!(sparse_leaf(&[Extent { skip: len as u32, len: 0 }], b""), zero_leaf(len));
        }
    }

    #[test]
    fn what_is_not_whole_has_no_digest() {
        let block = leaf(&content(BLOCK));
        let size = 3 * BLOCK as u64;
        let after = |indexes: &[u64], size: u64| {
            let mut digest = BlockDigest::new();
            indexes.iter().for_each(|&i| digest.put_leaf(i, block));
            digest.finish(size)
        };
        assert!(after(&[2, 0, 1], size).is_ok());
        assert_eq!(after(&[0, 2], size), Err(DigestError::Missing(1)));
        assert_eq!(after(&[0, 1], size), Err(DigestError::Missing(2)));
        assert_eq!(after(&[0, 1, 1, 2], size), Err(DigestError::Twice(1)));
        assert_eq!(after(&[2, 2, 0, 1], size), Err(DigestError::Twice(2)));
        assert_eq!(after(&[0, 1, 2, 3], size), Err(DigestError::Beyond { size }));
        assert_eq!(after(&[0, 1, 2, 7], size), Err(DigestError::Beyond { size }));
        let mut short = BlockDigest::new();
        short.update(b"abc");
        assert_eq!(short.finish(4), Err(DigestError::Size { hashed: 3, size: 4 }));
        let mut twice = BlockDigest::new();
        twice.put_leaf(1, block);
        twice.update(b"abc");
        twice.put_leaf(0, block);
        assert_eq!(twice.finish(3), Err(DigestError::Twice(0)));
    }

    #[test]
    fn text_form_is_strict() {
        let digest = digest(b"abc");
        let text = digest.to_string();
        assert_eq!(text.len(), DIGEST_PREFIX.len() + 32);
        assert_eq!(text.parse(), Ok(digest));
        for bad in [
            "",
            "xxh3-128-1m:",
            "xxh3-128-1m:+0000000000000000000000000000000",
            "xxh3-128-1m:0123456789ABCDEF0123456789abcdef",
            "xxh3-128-1m:0123456789abcdef0123456789abcdef0",
            "sha256:0123456789abcdef0123456789abcdef",
            "xxh3-128-1m:0123456789abcdef0123456789abcdé",
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(NotADigest), "{bad}");
        }
    }
}
