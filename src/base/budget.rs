//! Limits the memory that a stream can make the program take: every piece is charged before it is taken, and
//! refused once the limit is reached.
//!
//! A few bytes of a stream can ask for much that must be kept: names, texts, lists. Each of these is charged
//! to one [`Budget`], so that their sum is bounded, whatever they are. Buffers whose number and size do not
//! depend on the stream are not charged. Redo records are not charged either: those that exceed their share
//! ([`Shares`]) go to a file.
//!
//! ```
//! # use xbpipe::base::budget::Budget;
//! let budget = Budget::new(1000);
//! let mut kept = budget.charge("names of members", 600)?;
//! assert!(budget.charge("the manifest", 600).is_err());
//! kept.grow(300)?;
//! drop(kept);
//! budget.charge("the manifest", 600)?;
//! # Ok::<(), xbpipe::base::budget::OverBudget>(())
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Code, Error};

/// Hint for the user when something exceeds the budget.
pub const HINT: &str = "if the sender is who it should be, give more memory with --use-memory: a quarter of it is for what is kept of a stream";

/// A limit on memory, in bytes, that all clones share.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: AtomicU64,
    used: AtomicU64,
}

/// Bytes that were charged to a [`Budget`]. They are given back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    what: &'static str,
    bytes: u64,
}

/// Error of a charge that was refused, because it would have exceeded the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{what} would take {bytes} bytes of memory; all that is kept of a stream may take {limit}, and {used} are taken"
)]
pub struct OverBudget {
    /// Name of the thing that was too large, such as "names of members".
    pub what: &'static str,
    /// Number of bytes that the thing would have taken with this charge.
    pub bytes: u64,
    /// Number of bytes that everything else has taken.
    pub used: u64,
    /// Limit of the budget in bytes.
    pub limit: u64,
}

impl Budget {
    /// Creates a budget of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        Budget { inner: Arc::new(Inner { limit: AtomicU64::new(limit), used: AtomicU64::new(0) }) }
    }

    /// Charges `bytes` for `what`; an error message begins with `what`.
    ///
    /// # Errors
    /// If the limit would be exceeded; nothing is charged then.
    pub fn charge(&self, what: &'static str, bytes: u64) -> Result<Charge, OverBudget> {
        let mut charge = self.charged(what);
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Creates a charge of zero bytes for `what`, to be grown later.
    pub fn charged(&self, what: &'static str) -> Charge {
        Charge { budget: self.clone(), what, bytes: 0 }
    }

    /// Lowers the limit to `limit`; a limit that is lower already stays.
    pub fn lower(&self, limit: u64) {
        self.inner.limit.fetch_min(limit, Relaxed);
    }

    /// Returns the number of bytes that are charged at present.
    pub fn used(&self) -> u64 {
        self.inner.used.load(Relaxed)
    }

    /// Returns the limit in bytes.
    pub fn limit(&self) -> u64 {
        self.inner.limit.load(Relaxed)
    }
}

impl Charge {
    /// Charges `bytes` more.
    ///
    /// # Errors
    /// If the limit would be exceeded; the bytes that were charged before stay charged.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OverBudget> {
        let (limit, used) = (self.budget.limit(), &self.budget.inner.used);
        let add = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= limit);
        match used.fetch_update(Relaxed, Relaxed, add) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(now) => Err(OverBudget {
                what: self.what,
                bytes: self.bytes.saturating_add(bytes),
                used: now.saturating_sub(self.bytes),
                limit,
            }),
        }
    }

    /// Sets the charge to `bytes`: takes more, or gives some back.
    ///
    /// # Errors
    /// Those of [`Charge::grow`].
    pub fn set(&mut self, bytes: u64) -> Result<(), OverBudget> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    /// Gives back `bytes`, or everything if less is charged.
    pub fn shrink(&mut self, bytes: u64) {
        let back = bytes.min(self.bytes);
        self.bytes -= back;
        self.budget.inner.used.fetch_sub(back, Relaxed);
    }

    /// Returns the number of bytes that are charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

impl From<OverBudget> for Error {
    fn from(e: OverBudget) -> Error {
        Error::new(Code::TooLarge, e.to_string()).hint(HINT)
    }
}

/// Divides `--use-memory` between its uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    memory: u64,
}

impl Shares {
    /// Divisor: the data that is kept of a stream may take a quarter of the memory.
    const KEPT_SHARE: u64 = 4;
    /// Lower limit of that share in bytes; it is enough for some 80,000 members.
    const KEPT_MIN: u64 = 64 << 20;
    /// Lower limit of the share for redo in bytes, or half of all memory if that is less. With less memory,
    /// the pieces that go through a file would be too small to be read back at speed.
    const REDO_MIN: u64 = 32 << 20;

    /// Divides `memory` bytes.
    pub fn of(memory: u64) -> Shares {
        Shares { memory }
    }

    /// Returns the share for the data that must be kept of a stream: the limit of its [`Budget`].
    pub fn kept(&self) -> u64 {
        (self.memory / Self::KEPT_SHARE).max(Self::KEPT_MIN)
    }

    /// Returns the share for storing and applying redo records, where buffers may take `beside` bytes.
    pub fn redo(&self, beside: u64) -> u64 {
        let least = Self::REDO_MIN.min(self.memory / 2);
        (self.memory - self.memory / Self::KEPT_SHARE).saturating_sub(beside).max(least)
    }

    /// Returns the share for deriving a key from a passphrase (hardening). It is used for a moment only,
    /// before anything else is taken.
    pub fn hardening(&self) -> u64 {
        self.memory / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_given_back() {
        let budget = Budget::new(100);
        let mut a = budget.charge("a", 40).unwrap();
        let b = budget.charge("b", 60).unwrap();
        let refused = a.grow(1).unwrap_err();
        assert_eq!(refused, OverBudget { what: "a", bytes: 41, used: 60, limit: 100 });
        drop(b);
        a.grow(60).unwrap();
        a.set(10).unwrap();
        a.shrink(3);
        assert_eq!((a.bytes(), budget.used()), (7, 7));
        assert!(a.grow(u64::MAX).is_err());
        drop(a);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_refusal_names_what_was_too_large_and_the_way_out() {
        let e = Error::from(Budget::new(10).charge("the manifest", 11).unwrap_err());
        assert_eq!(e.code, Code::TooLarge);
        assert!(e.message.starts_with("the manifest would take 11 bytes"), "{e}");
        assert!(e.hint.unwrap().contains("--use-memory"));
    }

    #[test]
    fn threads_never_take_more_together() {
        let budget = Budget::new(1000);
        let taken: u64 = std::thread::scope(|scope| {
            let take = || {
                let charges: Vec<_> = (0..500).map_while(|_| budget.charge("some", 7).ok()).collect();
                let bytes = charges.iter().map(Charge::bytes).sum::<u64>();
                std::mem::forget(charges);
                bytes
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, budget.used()), (994, 994));
    }

    #[test]
    fn shares_leave_something_for_each() {
        let shares = |memory: u64, beside: u64| {
            let shares = Shares::of(memory << 20);
            (shares.kept() >> 20, shares.redo(beside << 20) >> 20)
        };
        assert_eq!((shares(512, 0), shares(512, 100)), ((128, 384), (128, 284)));
        assert_eq!((shares(32, 0), shares(32, 100)), ((64, 24), (64, 16)));
        assert_eq!(shares(128, 100), (64, 32));
    }
}
