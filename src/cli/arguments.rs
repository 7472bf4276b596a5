//! Arguments that `xbrecv` and `xbrecv prepare` both take.

use crate::base::{Code, Error, Result};

/// The program's name.
pub(super) const XBRECV: &str = "xbrecv";
/// Least memory for applying redo: below it, chunks of kept records are too small to be read back at speed.
const NATIVE_MEMORY_MIN: u64 = 32 << 20;
/// Most memory for applying redo where none is asked for: what exceeds it goes through a file, at little cost.
const NATIVE_MEMORY_DEFAULT_MAX: u64 = 512 << 20;
/// Most memory a private server gets where none is asked for.
const MEMORY_DEFAULT_MAX: u64 = 4 << 30;

/// `--parallel`, or as many as there are cores.
pub(super) fn threads(asked: Option<usize>) -> Result<usize> {
    match asked {
        Some(0) => Err(Error::new(Code::Usage, "--parallel must be at least 1")),
        Some(n) => Ok(n),
        None => Ok(std::thread::available_parallelism().map_or(2, usize::from)),
    }
}

/// Memory for applying redo.
pub(super) fn native_memory(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| default_memory().min(NATIVE_MEMORY_DEFAULT_MAX)).max(NATIVE_MEMORY_MIN)
}

/// A quarter of the memory that is free now.
pub(super) fn default_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0);
    (kib * 1024 / 4).min(MEMORY_DEFAULT_MAX)
}

/// A number of bytes with an optional K, M, G or T, as MySQL's options have it.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        None => (text, 1),
        Some(at) => {
            let power = match text[at..].to_ascii_uppercase().as_str() {
                "K" => 1,
                "M" => 2,
                "G" => 3,
                "T" => 4,
                _ => return Err("expected a number, with K, M, G or T behind it".to_owned()),
            };
            (&text[..at], 1u64 << (10 * power))
        }
    };
    let number: u64 = number.parse().map_err(|_| "expected a number".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read() {
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("2g"), Ok(2 << 30));
        assert_eq!(bytes("1000"), Ok(1000));
        for bad in ["", "x", "1X", "1GB", "-1", "99999999999999T", "G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(default_memory() <= MEMORY_DEFAULT_MAX);
    }
}
