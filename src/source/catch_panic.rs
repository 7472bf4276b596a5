//! Catches panics of a library that meets input it did not expect.
//!
//! The MySQL client reads the first byte of packets that may be empty, and reserves room for as many columns as a packet
//! says. A server that breaks the protocol would end the program with a panic's words; here it becomes an error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// Does `work`; `None` where it panicked. What `work` was given must not be used any more then.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| if QUIET.get() { tracing::debug!("{info}") } else { usual(info) }));
    });
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_none() {
        assert_eq!(quietly(|| 1), Some(1));
        assert_eq!(quietly(|| -> i32 { panic!("a library's") }), None);
        assert!(catch_unwind(|| panic!("our own goes on")).is_err());
    }
}
