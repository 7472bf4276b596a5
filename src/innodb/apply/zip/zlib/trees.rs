//! Huffman trees and blocks: zlib's trees.c.

use super::bits::Bits;
use super::matcher::Symbol;

/// Literals, the end of the block, and lengths.
const L_CODES: usize = 286;
const D_CODES: usize = 30;
/// Codes for the lengths of codes.
const BL_CODES: usize = 19;
const END_BLOCK: usize = 256;
const LENGTHS_FROM: usize = 257;
const MAX_BITS: usize = 15;
const MAX_BL_BITS: usize = 7;

const EXTRA_L: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const EXTRA_D: [u8; D_CODES] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
const EXTRA_BL: [u8; BL_CODES] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7];
/// The order in which lengths of the third tree are sent: rare ones last, to be left out.
const BL_ORDER: [usize; BL_CODES] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Repeat the last length, many zeros, very many zeros.
const REP_3_6: usize = 16;
const REPZ_3_10: usize = 17;
const REPZ_11_138: usize = 18;

/// The code of a match length less 3, and the first length of that code.
fn length_code(len: usize) -> (usize, usize) {
    // The longest has a code of its own, though the one before could hold it.
    if len == 255 {
        return (28, 255);
    }
    code(len, &EXTRA_L[..28])
}

/// The code of a distance less 1, and the first distance of that code.
fn distance_code(distance: usize) -> (usize, usize) {
    code(distance, &EXTRA_D)
}

fn code(value: usize, extra: &[u8]) -> (usize, usize) {
    let mut base = 0;
    for (code, bits) in extra.iter().enumerate() {
        let next = base + (1 << bits);
        if value < next {
            return (code, base);
        }
        base = next;
    }
    unreachable!("no length or distance of a page is as large")
}

/// A tree: how often each code is used, and the code and its bits.
struct Tree {
    frequency: Vec<u32>,
    len: Vec<u8>,
    code: Vec<u16>,
    /// The highest code in use.
    max_code: usize,
}

impl Tree {
    fn new(codes: usize) -> Self {
        Tree { frequency: vec![0; codes], len: vec![0; codes], code: vec![0; codes], max_code: 0 }
    }

    /// The tree that fixed blocks use.
    fn fixed(lengths: Vec<u8>) -> Self {
        let max_code = lengths.len() - 1;
        let mut tree = Tree { len: lengths, max_code, ..Tree::new(max_code + 1) };
        tree.assign_codes();
        tree
    }

    /// Canonical codes for the lengths (`gen_codes`), lowest bit first.
    fn assign_codes(&mut self) {
        let mut counts = [0u16; MAX_BITS + 1];
        self.len[..=self.max_code].iter().for_each(|len| counts[usize::from(*len)] += 1);
        counts[0] = 0;
        let mut next = [0u16; MAX_BITS + 1];
        for bits in 1..=MAX_BITS {
            next[bits] = (next[bits - 1] + counts[bits - 1]) << 1;
        }
        for n in 0..=self.max_code {
            let len = usize::from(self.len[n]);
            if len != 0 {
                self.code[n] = next[len].reverse_bits() >> (16 - len);
                next[len] += 1;
            }
        }
    }

    fn put(&self, bits: &mut Bits, code: usize) {
        bits.put(u32::from(self.code[code]), u32::from(self.len[code]));
    }

    /// Bits that all uses take, extra bits included.
    fn cost(&self, lengths: &[u8], extra: &[u8], extra_from: usize) -> usize {
        let extra = |n: usize| n.checked_sub(extra_from).map_or(0, |i| usize::from(extra[i]));
        (0..=self.max_code).map(|n| self.frequency[n] as usize * (usize::from(lengths[n]) + extra(n))).sum()
    }
}

/// Building a tree from frequencies (`build_tree`).
struct Builder {
    frequency: Vec<u32>,
    depth: Vec<u8>,
    parent: Vec<usize>,
    len: Vec<u8>,
    /// From 1: nodes, the least frequent at the root.
    heap: Vec<usize>,
    /// Nodes in the order in which they were joined, the root last.
    order: Vec<usize>,
}

impl Builder {
    fn smaller(&self, n: usize, m: usize) -> bool {
        (self.frequency[n], self.depth[n]) <= (self.frequency[m], self.depth[m])
    }

    /// Moves the node at `k` of the heap down to its place (`pqdownheap`).
    fn sink(&mut self, mut k: usize) {
        let node = self.heap[k];
        let mut child = 2 * k;
        while child < self.heap.len() {
            if child + 1 < self.heap.len() && self.smaller(self.heap[child + 1], self.heap[child]) {
                child += 1;
            }
            if self.smaller(node, self.heap[child]) {
                break;
            }
            self.heap[k] = self.heap[child];
            (k, child) = (child, 2 * child);
        }
        self.heap[k] = node;
    }

    fn pop(&mut self) -> usize {
        let node = self.heap[1];
        let last = self.heap.pop().expect("the heap was not empty");
        if self.heap.len() > 1 {
            self.heap[1] = last;
            self.sink(1);
        }
        node
    }

    /// Joins the two least frequent nodes until one is left.
    fn join_all(&mut self) {
        while self.heap.len() > 2 {
            let (n, m) = (self.pop(), self.heap[1]);
            self.order.extend([n, m]);
            let node = self.frequency.len();
            self.frequency.push(self.frequency[n] + self.frequency[m]);
            self.depth.push(self.depth[n].max(self.depth[m]) + 1);
            self.parent.push(0);
            self.len.push(0);
            (self.parent[n], self.parent[m]) = (node, node);
            self.heap[1] = node;
            self.sink(1);
        }
        self.order.push(self.heap[1]);
    }

    /// Lengths of codes, none longer than `max` (`gen_bitlen`).
    fn lengths(&mut self, max: usize, codes: usize, max_code: usize) {
        let mut counts = [0usize; MAX_BITS + 1];
        let mut overflow = 0;
        for &n in self.order.iter().rev().skip(1) {
            let bits = usize::from(self.len[self.parent[n]]) + 1;
            overflow += usize::from(bits > max);
            self.len[n] = bits.min(max) as u8;
            if n < codes && n <= max_code {
                counts[bits.min(max)] += 1;
            }
        }
        if overflow > 0 {
            self.shorten(max, max_code, overflow, &mut counts);
        }
    }

    fn shorten(&mut self, max: usize, max_code: usize, mut overflow: usize, counts: &mut [usize]) {
        loop {
            let bits = (1..max).rev().find(|b| counts[*b] != 0).unwrap_or(0);
            counts[bits] -= 1;
            counts[bits + 1] += 2;
            counts[max] -= 1;
            // The brother of the one that was too long moves up with it.
            if overflow <= 2 {
                break;
            }
            overflow -= 2;
        }
        let mut leaves = self.order.iter().copied().filter(|n| *n <= max_code);
        for bits in (1..=max).rev() {
            for n in leaves.by_ref().take(counts[bits]) {
                self.len[n] = bits as u8;
            }
        }
    }
}

/// Gives `tree` the codes that its frequencies call for. At least two codes are used, since that is what some
/// decoders expect.
fn build(tree: &mut Tree, max_bits: usize) {
    let codes = tree.frequency.len();
    let mut heap = vec![0];
    heap.extend((0..codes).filter(|n| tree.frequency[*n] != 0));
    let mut max_code = heap.last().copied().filter(|_| heap.len() > 1);
    let mut frequency = tree.frequency.clone();
    while heap.len() < 3 {
        let node = match max_code {
            None => 0,
            Some(n) if n < 2 => n + 1,
            Some(_) => 0,
        };
        if max_code.is_none_or(|n| n < 2) {
            max_code = Some(node);
        }
        frequency[node] = 1;
        heap.push(node);
    }
    let max_code = max_code.unwrap_or(0);
    let mut builder = Builder {
        frequency,
        depth: vec![0; codes],
        parent: vec![0; codes],
        len: vec![0; codes],
        heap,
        order: Vec::new(),
    };
    for k in (1..builder.heap.len().div_ceil(2)).rev() {
        builder.sink(k);
    }
    builder.join_all();
    builder.lengths(max_bits, codes, max_code);
    tree.len.copy_from_slice(&builder.len[..codes]);
    tree.max_code = max_code;
    tree.assign_codes();
}

/// Lengths of codes as the third tree's codes, each with its extra value (`scan_tree`, `send_tree`).
fn run_lengths(lengths: &[u8], out: &mut Vec<(usize, u32)>) {
    let mut previous = None;
    let mut at = 0;
    while at < lengths.len() {
        let len = lengths[at];
        let (min, max) = match (len, previous == Some(len)) {
            (0, _) => (3, 138),
            (_, true) => (3, 6),
            (_, false) => (4, 7),
        };
        let run = lengths[at..].iter().take(max).take_while(|l| **l == len).count();
        at += run;
        let code = usize::from(len);
        if run < min {
            out.extend(std::iter::repeat_n((code, 0), run));
        } else if len != 0 {
            let repeats = if previous == Some(len) { run } else { run - 1 };
            if repeats < run {
                out.push((code, 0));
            }
            out.push((REP_3_6, repeats as u32 - 3));
        } else if run <= 10 {
            out.push((REPZ_3_10, run as u32 - 3));
        } else {
            out.push((REPZ_11_138, run as u32 - 11));
        }
        previous = Some(len);
    }
}

/// Writes one block with all of `symbols`, which stand for `input`, in the form that takes the fewest bits
/// (`_tr_flush_block`).
pub(super) fn write_block(bits: &mut Bits, symbols: &[Symbol], input: &[u8], last: bool) {
    let (mut literals, mut distances) = (Tree::new(L_CODES), Tree::new(D_CODES));
    literals.frequency[END_BLOCK] = 1;
    for symbol in symbols {
        match *symbol {
            Symbol::Literal(byte) => literals.frequency[usize::from(byte)] += 1,
            Symbol::Match { len, distance } => {
                literals.frequency[LENGTHS_FROM + length_code(usize::from(len) - 3).0] += 1;
                distances.frequency[distance_code(usize::from(distance) - 1).0] += 1;
            }
        }
    }
    build(&mut literals, MAX_BITS);
    build(&mut distances, MAX_BITS);
    let mut runs = Vec::new();
    run_lengths(&literals.len[..=literals.max_code], &mut runs);
    run_lengths(&distances.len[..=distances.max_code], &mut runs);
    let mut third = Tree::new(BL_CODES);
    runs.iter().for_each(|(code, _)| third.frequency[*code] += 1);
    build(&mut third, MAX_BL_BITS);
    let sent = (3..BL_CODES).rev().find(|n| third.len[BL_ORDER[*n]] != 0).unwrap_or(2) + 1;

    let (fixed_l, fixed_d) = fixed_trees();
    let cost = |l: &[u8], d: &[u8]| literals.cost(l, &EXTRA_L, LENGTHS_FROM) + distances.cost(d, &EXTRA_D, 0);
    let header = third.cost(&third.len, &EXTRA_BL, 0) + 3 * sent + 5 + 5 + 4;
    let dynamic_bytes = (cost(&literals.len, &distances.len) + header + 3).div_ceil(8);
    let fixed_bytes = (cost(&fixed_l.len, &fixed_d.len) + 3).div_ceil(8);
    let best = dynamic_bytes.min(fixed_bytes);
    if input.len() + 4 <= best {
        bits.stored_block(input, last);
    } else if fixed_bytes == best {
        bits.put(2 | u32::from(last), 3);
        write_symbols(bits, symbols, &fixed_l, &fixed_d);
    } else {
        bits.put(4 | u32::from(last), 3);
        bits.put((literals.max_code + 1 - 257) as u32, 5);
        bits.put((distances.max_code + 1 - 1) as u32, 5);
        bits.put((sent - 4) as u32, 4);
        BL_ORDER[..sent].iter().for_each(|code| bits.put(u32::from(third.len[*code]), 3));
        for (code, extra) in runs {
            third.put(bits, code);
            bits.put(extra, u32::from(EXTRA_BL[code]));
        }
        write_symbols(bits, symbols, &literals, &distances);
    }
}

fn fixed_trees() -> (Tree, Tree) {
    let lengths = (0..288).map(|n| match n {
        0..144 => 8,
        144..256 => 9,
        256..280 => 7,
        _ => 8,
    });
    (Tree::fixed(lengths.collect()), Tree::fixed(vec![5; D_CODES]))
}

fn write_symbols(bits: &mut Bits, symbols: &[Symbol], literals: &Tree, distances: &Tree) {
    for symbol in symbols {
        match *symbol {
            Symbol::Literal(byte) => literals.put(bits, usize::from(byte)),
            Symbol::Match { len, distance } => {
                let (len, distance) = (usize::from(len) - 3, usize::from(distance) - 1);
                let (code, base) = length_code(len);
                literals.put(bits, LENGTHS_FROM + code);
                bits.put((len - base) as u32, u32::from(EXTRA_L[code]));
                let (code, base) = distance_code(distance);
                distances.put(bits, code);
                bits.put((distance - base) as u32, u32::from(EXTRA_D[code]));
            }
        }
    }
    literals.put(bits, END_BLOCK);
}
