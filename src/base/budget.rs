//! Memory that a stream makes us take: charged before it is taken, refused beyond a limit.
//!
//! A few bytes of a stream can ask for much that must be kept: names, texts, lists. Each of these is charged to one [`Budget`],
//! so that what is bounded is their sum, whatever they are. Buffers whose number and size do not depend on the stream are
//! not charged; nor are redo records, which go to a file beyond their share ([`Shares`]).
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

/// The way out for what is too large.
pub const HINT: &str = "if the sender is who it should be, give more memory with --use-memory: a quarter of it is for what is kept of a stream";

/// Bytes that may be taken, shared by all clones.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: AtomicU64,
    used: AtomicU64,
}

/// Bytes that were charged; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    what: &'static str,
    bytes: u64,
}

/// A charge that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{what} would take {bytes} bytes of memory; all that is kept of a stream may take {limit}, and {used} are taken"
)]
pub struct OverBudget {
    /// The thing that was too large: "names of members".
    pub what: &'static str,
    /// Bytes that it would have with this charge.
    pub bytes: u64,
    /// Bytes that all others have.
    pub used: u64,
    /// Bytes that all together may have.
    pub limit: u64,
}

impl Budget {
    /// One of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        Budget { inner: Arc::new(Inner { limit: AtomicU64::new(limit), used: AtomicU64::new(0) }) }
    }

    /// Takes `bytes` for `what`, the words that a refusal begins with.
    ///
    /// # Errors
    /// If that would be more than there is; nothing is charged then.
    pub fn charge(&self, what: &'static str, bytes: u64) -> Result<Charge, OverBudget> {
        let mut charge = self.charged(what);
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Nothing yet for `what`, to be grown.
    pub fn charged(&self, what: &'static str) -> Charge {
        Charge { budget: self.clone(), what, bytes: 0 }
    }

    /// From now on not more than `limit` may be taken.
    pub fn lower(&self, limit: u64) {
        self.inner.limit.fetch_min(limit, Relaxed);
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.inner.used.load(Relaxed)
    }

    /// Bytes that may be taken.
    pub fn limit(&self) -> u64 {
        self.inner.limit.load(Relaxed)
    }
}

impl Charge {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// If that would be more than there is; what was charged before stays.
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

    /// Takes more, or gives back, so that `bytes` are charged.
    ///
    /// # Errors
    /// As [`Charge::grow`].
    pub fn set(&mut self, bytes: u64) -> Result<(), OverBudget> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    /// Gives back `bytes`, or all if that is less.
    pub fn shrink(&mut self, bytes: u64) {
        let back = bytes.min(self.bytes);
        self.bytes -= back;
        self.budget.inner.used.fetch_sub(back, Relaxed);
    }

    /// Bytes that are charged.
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

/// Shares of `--use-memory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    memory: u64,
}

impl Shares {
    /// What is kept has a quarter.
    const KEPT_SHARE: u64 = 4;
    /// And not less than this: some 80,000 members.
    const KEPT_MIN: u64 = 64 << 20;
    /// Redo has not less than this, or half of all: below it, what goes through a file is cut too small to be read back at speed.
    const REDO_MIN: u64 = 32 << 20;

    /// Shares of `memory` bytes.
    pub fn of(memory: u64) -> Shares {
        Shares { memory }
    }

    /// For what must be kept of a stream: the limit of its [`Budget`].
    pub fn kept(&self) -> u64 {
        (self.memory / Self::KEPT_SHARE).max(Self::KEPT_MIN)
    }

    /// For redo records and for applying them, where `beside` bytes may be taken by buffers.
    pub fn redo(&self, beside: u64) -> u64 {
        let least = Self::REDO_MIN.min(self.memory / 2);
        (self.memory - self.memory / Self::KEPT_SHARE).saturating_sub(beside).max(least)
    }

    /// For hardening a passphrase, for a moment before anything else is taken.
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
