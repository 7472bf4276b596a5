//! Finding repetitions: zlib's `deflate_fast` (levels 1 to 3), `deflate_slow` (4 to 9) and `longest_match`.

/// A literal byte, or a repetition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Symbol {
    Literal(u8),
    /// `len` (3 to 258) bytes from `distance` bytes before.
    Match {
        len: u16,
        distance: u16,
    },
}

const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
/// Bytes that zlib wants ahead; matches reach back so much less than a window.
const MIN_LOOKAHEAD: usize = MAX_MATCH + MIN_MATCH + 1;
/// A match of three bytes from farther away costs more than the bytes.
const TOO_FAR: usize = 4096;
/// With memory level 9.
const HASH_BITS: usize = 16;
const HASH_SHIFT: usize = HASH_BITS.div_ceil(MIN_MATCH);

/// How hard a level tries (`configuration_table`).
#[derive(Clone, Copy)]
struct Effort {
    /// A previous match of so many bytes cuts the search to a quarter.
    good: usize,
    /// No lazy search beyond a match of so many bytes; levels 1 to 3: strings inside longer matches aren't indexed.
    lazy: usize,
    /// A match of so many bytes is taken at once.
    nice: usize,
    /// Candidates looked at.
    chain: usize,
}

const fn effort(good: usize, lazy: usize, nice: usize, chain: usize) -> Effort {
    Effort { good, lazy, nice, chain }
}

const EFFORTS: [Effort; 9] = [
    effort(4, 4, 8, 4),
    effort(4, 5, 16, 8),
    effort(4, 6, 32, 32),
    effort(4, 4, 16, 16),
    effort(8, 16, 32, 32),
    effort(8, 16, 128, 128),
    effort(8, 32, 128, 256),
    effort(32, 128, 258, 1024),
    effort(32, 258, 258, 4096),
];
/// From this level on matches are chosen lazily.
const FIRST_LAZY_LEVEL: u8 = 4;

/// The symbols of `input` at `level` (1 to 9).
pub(super) fn symbols(input: &[u8], level: u8, window_bits: u32) -> Vec<Symbol> {
    let matcher = Matcher::new(input, EFFORTS[usize::from(level) - 1], window_bits);
    if level < FIRST_LAZY_LEVEL { matcher.fast() } else { matcher.slow() }
}

struct Matcher<'i> {
    /// The input, and zeros after it that searches may look at.
    window: Vec<u8>,
    input: &'i [u8],
    effort: Effort,
    distance_max: usize,
    /// The last position of each hash; 0: none (so that position 0 is never found).
    head: Vec<u16>,
    /// The position before with the same hash.
    previous: Vec<u16>,
    out: Vec<Symbol>,
}

/// A match found: its length and where it starts.
#[derive(Clone, Copy)]
struct Found {
    len: usize,
    start: usize,
}

impl<'i> Matcher<'i> {
    fn new(input: &'i [u8], effort: Effort, window_bits: u32) -> Self {
        let mut window = input.to_vec();
        window.resize(input.len() + MIN_LOOKAHEAD, 0);
        Matcher {
            window,
            input,
            effort,
            distance_max: (1 << window_bits) - MIN_LOOKAHEAD,
            head: vec![0; 1 << HASH_BITS],
            previous: vec![0; input.len()],
            out: Vec::with_capacity(input.len() / 2),
        }
    }

    fn lookahead(&self, at: usize) -> usize {
        self.input.len() - at
    }

    /// Indexes the string at `at`; the last one with the same hash.
    fn index(&mut self, at: usize) -> usize {
        let hash = self.window[at..at + MIN_MATCH]
            .iter()
            .fold(0, |h: usize, b| (h << HASH_SHIFT ^ usize::from(*b)) & ((1 << HASH_BITS) - 1));
        let before = std::mem::replace(&mut self.head[hash], at as u16);
        self.previous[at] = before;
        usize::from(before)
    }

    /// The longest match of more than `least` bytes for the string at `at`, from the candidate `candidate` on.
    fn longest(&self, at: usize, mut candidate: usize, least: usize, kept: Found) -> Found {
        let mut chain = if least >= self.effort.good { self.effort.chain >> 2 } else { self.effort.chain };
        let lookahead = self.lookahead(at);
        let nice = self.effort.nice.min(lookahead);
        let limit = at.saturating_sub(self.distance_max);
        let scan = &self.window[at..at + MAX_MATCH];
        let mut best = Found { len: least, ..kept };
        loop {
            let other = &self.window[candidate..candidate + MAX_MATCH];
            if other[best.len.min(MAX_MATCH - 1)] == scan[best.len.min(MAX_MATCH - 1)]
                && other[best.len - 1] == scan[best.len - 1]
                && other[..2] == scan[..2]
            {
                let len = scan.iter().zip(other).take_while(|(a, b)| a == b).count();
                if len > best.len {
                    best = Found { len, start: candidate };
                    if len >= nice {
                        break;
                    }
                }
            }
            candidate = usize::from(self.previous[candidate]);
            chain -= 1;
            if candidate <= limit || chain == 0 {
                break;
            }
        }
        Found { len: best.len.min(lookahead), ..best }
    }

    fn literal(&mut self, at: usize) {
        self.out.push(Symbol::Literal(self.window[at]));
    }

    fn found(&mut self, len: usize, distance: usize) {
        self.out.push(Symbol::Match { len: len as u16, distance: distance as u16 });
    }

    fn fast(mut self) -> Vec<Symbol> {
        let mut at = 0;
        let mut found = Found { len: MIN_MATCH - 1, start: 0 };
        while self.lookahead(at) > 0 {
            let candidate = if self.lookahead(at) >= MIN_MATCH { self.index(at) } else { 0 };
            if candidate != 0 && at - candidate <= self.distance_max {
                found = self.longest(at, candidate, MIN_MATCH - 1, found);
            }
            if found.len < MIN_MATCH {
                self.literal(at);
                at += 1;
                continue;
            }
            self.found(found.len, at - found.start);
            let end = at + found.len;
            if found.len <= self.effort.lazy && self.lookahead(end) >= MIN_MATCH {
                for inner in at + 1..end {
                    self.index(inner);
                }
            }
            (at, found.len) = (end, 0);
        }
        self.out
    }

    fn slow(mut self) -> Vec<Symbol> {
        let mut at = 0;
        let mut found = Found { len: MIN_MATCH - 1, start: 0 };
        let mut pending = false;
        while self.lookahead(at) > 0 {
            let candidate = if self.lookahead(at) >= MIN_MATCH { self.index(at) } else { 0 };
            let before = found;
            found.len = MIN_MATCH - 1;
            if candidate != 0 && before.len < self.effort.lazy && at - candidate <= self.distance_max {
                found = self.longest(at, candidate, before.len, found);
                if found.len == MIN_MATCH && at - found.start > TOO_FAR {
                    found.len = MIN_MATCH - 1;
                }
            }
            if before.len >= MIN_MATCH && found.len <= before.len {
                // The match found one byte earlier is the better one.
                let last_indexed = self.input.len() - MIN_MATCH;
                self.found(before.len, at - 1 - before.start);
                let end = at - 1 + before.len;
                for inner in at + 1..end {
                    if inner <= last_indexed {
                        self.index(inner);
                    }
                }
                (at, found.len, pending) = (end, MIN_MATCH - 1, false);
            } else {
                if pending {
                    self.literal(at - 1);
                }
                (at, pending) = (at + 1, true);
            }
        }
        if pending {
            self.literal(at - 1);
        }
        self.out
    }
}
