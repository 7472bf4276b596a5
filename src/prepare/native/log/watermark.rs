//! A watermark: how far a file is written, for a thread that reads behind those who write it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::base::sync::lock;
use crate::base::{Code, Error, Result};

/// Told of by those who write, waited for by the one who reads.
#[derive(Default)]
pub struct Watermark {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    supplied: Readable,
    /// What was written behind a gap: from, to.
    ahead: BTreeMap<u64, u64>,
    size: Option<u64>,
    is_given_up: bool,
}

/// The part of the file that may be read.
#[derive(Clone, Copy, Default)]
pub(crate) struct Readable {
    pub(crate) until: u64,
    /// There will be no more.
    pub(crate) ended: bool,
}

impl Watermark {
    /// These bytes are written.
    pub(crate) fn written(&self, from: u64, to: u64) {
        let mut state = lock(&self.state);
        state.ahead.insert(from, to);
        state.go_on();
        self.changed.notify_all();
    }

    /// The file has this size in the end.
    pub(crate) fn ended(&self, size: u64) {
        let mut state = lock(&self.state);
        state.size = Some(size);
        state.go_on();
        self.changed.notify_all();
    }

    /// Ends the wait of readers: the file will not be completed.
    pub(crate) fn give_up(&self) {
        lock(&self.state).is_given_up = true;
        self.changed.notify_all();
    }

    /// Waits until the file is written up to `wanted`, or ended.
    pub(crate) fn wait(&self, wanted: u64) -> Result<Readable> {
        let state = lock(&self.state);
        let waits = |s: &mut State| !s.is_given_up && !s.supplied.ended && s.supplied.until < wanted;
        let state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        match state.is_given_up {
            true => Err(Error::new(Code::GivenUp, "receiving was given up")),
            false => Ok(state.supplied),
        }
    }
}

impl State {
    fn go_on(&mut self) {
        while let Some(entry) = self.ahead.first_entry().filter(|e| *e.key() <= self.supplied.until) {
            self.supplied.until = self.supplied.until.max(entry.remove());
        }
        self.supplied.ended = self.size.is_some_and(|size| size <= self.supplied.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_gap_before_it_may_be_read() {
        let watermark = Watermark::default();
        watermark.written(10, 20);
        watermark.written(0, 5);
        assert_eq!(watermark.wait(5).unwrap().until, 5);
        watermark.written(5, 10);
        let supplied = watermark.wait(6).unwrap();
        assert_eq!((supplied.until, supplied.ended), (20, false));
        watermark.ended(30);
        assert!(!watermark.wait(20).unwrap().ended);
        watermark.written(20, 30);
        let supplied = watermark.wait(1000).unwrap();
        assert_eq!((supplied.until, supplied.ended), (30, true));
    }

    #[test]
    fn a_reader_is_let_go() {
        let watermark = Watermark::default();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| watermark.wait(1).map(|s| s.until));
            watermark.give_up();
            assert_eq!(reader.join().unwrap().unwrap_err().code, Code::GivenUp);
        });
    }
}
