//! Random numbers that a printed seed brings back.

/// Steps between the states of SplitMix64.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64: small, and good enough to make rows with.
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Hexadecimal digits, from 1 to `longest` of them.
    pub fn text(&mut self, longest: u64) -> String {
        let length = self.below(longest) as usize + 1;
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(length);
        text
    }
}

/// A new seed, or the one in XBPIPE_SEED, printed either way: run again with it what failed.
pub fn seed() -> u64 {
    let seed = match std::env::var("XBPIPE_SEED") {
        Ok(text) => text.parse().expect("XBPIPE_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64,
    };
    eprintln!("XBPIPE_SEED={seed}");
    seed
}
