//! A buffer of many byte rows that grow at their ends: one row holds the records of one page range.
//!
//! All rows share an [`Arena`]: large regions of memory, cut into pieces. A row takes pieces that are each twice as long as the
//! one before, up to 16 KiB, so nothing is ever copied and little stays unused. The log goes from row to row with each of its
//! records; the kernel is therefore asked for huge pages, without which most accesses would miss in the processor's
//! address cache, and which cost a fifth when they are touched first (0.08 and 0.4 s for half a GiB, measured on an AMD EPYC).

use std::io;

use memmap2::{Advice, MmapMut};

use super::run::RunHeader;

/// The shortest piece. All positions in an arena are multiples of it.
const PIECE_MIN: usize = 64;
/// How many lengths there are.
const CLASSES: usize = 9;
/// What is asked of the system at a time: some huge pages.
const REGION_LEN: usize = 4 << 20;

/// The memory of rows.
#[derive(Default)]
pub(crate) struct Arena {
    regions: Vec<MmapMut>,
    /// How much of all the regions was given out.
    taken: usize,
    /// Segments that were given back, by length.
    free: [Vec<ArenaPiece>; CLASSES],
}

/// A piece of an arena.
#[derive(Clone, Copy, Debug)]
struct ArenaPiece {
    /// In units of [`PIECE_MIN`].
    at: u32,
    /// Twice as long for each.
    class: u8,
}

/// Bytes, in an arena.
#[derive(Default)]
pub(crate) struct RecordBuffer {
    pieces: Vec<ArenaPiece>,
    len: usize,
    /// Bytes that are free in the last piece.
    room: usize,
}

impl ArenaPiece {
    /// What one costs beside its bytes.
    const COST: usize = size_of::<ArenaPiece>();

    fn len(self) -> usize {
        PIECE_MIN << self.class
    }
}

impl Arena {
    fn take(&mut self, class: usize) -> io::Result<ArenaPiece> {
        if let Some(piece) = self.free[class].pop().or_else(|| self.split(class)) {
            return Ok(piece);
        }
        let len = PIECE_MIN << class;
        if REGION_LEN - self.taken % REGION_LEN < len {
            // None lies in two regions.
            self.taken = self.taken.next_multiple_of(REGION_LEN);
        }
        if self.taken == self.regions.len() * REGION_LEN {
            let region = MmapMut::map_anon(REGION_LEN)?;
            // A kernel that has none gives small ones.
            let _ = region.advise(Advice::HugePage);
            self.regions.push(region);
        }
        let at = u32::try_from(self.taken / PIECE_MIN).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.taken += len;
        Ok(ArenaPiece { at, class: class as u8 })
    }

    /// A piece cut from a longer one that was given back.
    fn split(&mut self, class: usize) -> Option<ArenaPiece> {
        let longer = (class + 1..CLASSES).find(|longer| !self.free[*longer].is_empty())?;
        let piece = self.free[longer].pop()?;
        for half in (class..longer).rev() {
            let at = piece.at + (1 << half);
            self.free[half].push(ArenaPiece { at, class: half as u8 });
        }
        Some(ArenaPiece { class: class as u8, ..piece })
    }

    /// Forgets all rows, whose memory is used again.
    pub(crate) fn clear(&mut self) {
        self.taken = 0;
        self.free.iter_mut().for_each(Vec::clear);
    }

    /// Takes back the memory of a row.
    pub(crate) fn recycle(&mut self, row: RecordBuffer) {
        row.pieces.iter().for_each(|piece| self.free[usize::from(piece.class)].push(*piece));
    }

    fn bytes(&self, piece: ArenaPiece) -> &[u8] {
        let at = piece.at as usize * PIECE_MIN;
        &self.regions[at / REGION_LEN][at % REGION_LEN..][..piece.len()]
    }

    fn bytes_mut(&mut self, piece: ArenaPiece) -> &mut [u8] {
        let at = piece.at as usize * PIECE_MIN;
        &mut self.regions[at / REGION_LEN][at % REGION_LEN..][..piece.len()]
    }
}

impl RecordBuffer {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a run; gives how much more memory the row takes.
    #[inline]
    pub(crate) fn push(&mut self, head: &RunHeader, bytes: &[u8], arena: &mut Arena) -> io::Result<usize> {
        let head = head.bytes();
        if let Some(piece) = self.pieces.last()
            && head.len() + bytes.len() <= self.room
        {
            let whole = arena.bytes_mut(*piece);
            let (into, _) = whole[piece.len() - self.room..].split_at_mut(head.len() + bytes.len());
            let (into_head, into_bytes) = into.split_at_mut(head.len());
            into_head.copy_from_slice(head);
            into_bytes.copy_from_slice(bytes);
            self.room -= into.len();
            self.len += head.len() + bytes.len();
            return Ok(0);
        }
        Ok(self.extend(head, arena)? + self.extend(bytes, arena)?)
    }

    fn extend(&mut self, mut bytes: &[u8], arena: &mut Arena) -> io::Result<usize> {
        let mut more = 0;
        while !bytes.is_empty() {
            let piece = match self.pieces.last() {
                Some(piece) if self.room > 0 => *piece,
                last => {
                    let class = last.map_or(0, |last| usize::from(last.class) + 1).min(CLASSES - 1);
                    let piece = arena.take(class)?;
                    self.pieces.push(piece);
                    self.room = piece.len();
                    more += piece.len() + ArenaPiece::COST;
                    piece
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(self.room));
            arena.bytes_mut(piece)[piece.len() - self.room..][..now.len()].copy_from_slice(now);
            self.room -= now.len();
            self.len += now.len();
            bytes = later;
        }
        Ok(more)
    }

    /// The memory that it takes.
    pub(crate) fn cost(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len() + ArenaPiece::COST).sum()
    }

    /// Returns the bytes of a run, one part after the other; a run may lie in several of them.
    pub(crate) fn parts<'a>(&'a self, arena: &'a Arena) -> impl Iterator<Item = &'a [u8]> {
        let last = self.pieces.len().wrapping_sub(1);
        self.pieces.iter().enumerate().map(move |(n, piece)| {
            let unused = if n == last { self.room } else { 0 };
            &arena.bytes(*piece)[..piece.len() - unused]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Lsn;
    use crate::prepare::native::records::run::RecordRun;

    #[test]
    fn rows_keep_what_they_are_given() {
        let mut arena = Arena::default();
        let (mut rows, mut wanted): (Vec<RecordBuffer>, Vec<Vec<u8>>) = Default::default();
        // Twice, since the memory is used again; the longest run is longer than all pieces.
        for round in 0..2 {
            let mut cost = 0;
            rows = (0..40).map(|_| RecordBuffer::default()).collect();
            wanted = vec![Vec::new(); rows.len()];
            for n in 0..20_000 {
                let len = if n % 5000 == 4999 { 100_000 } else { n * 7 % 300 };
                let (bytes, of) = (vec![(n + round) as u8; len], n * n % rows.len());
                let run = RecordRun {
                    start_lsn: Lsn(n as u64),
                    end_lsn: Lsn(n as u64),
                    records: 1,
                    index: None,
                    bytes: &bytes,
                };
                let head = RunHeader::of(&run, 5, Lsn(0));
                cost += rows[of].push(&head, &bytes, &mut arena).unwrap();
                wanted[of].extend([head.bytes(), &bytes].concat());
            }
            assert_eq!(cost, rows.iter().map(RecordBuffer::cost).sum::<usize>());
            if round == 0 {
                arena.clear();
            }
        }
        let regions = arena.regions.len();
        let bytes = |row: &RecordBuffer, arena: &Arena| row.parts(arena).collect::<Vec<_>>().concat();
        for (row, wanted) in rows.iter().zip(&wanted) {
            assert_eq!((bytes(row, &arena), row.len()), (wanted.clone(), wanted.len()));
        }
        // What one gives back another one has.
        let mut kept = rows.split_off(20);
        rows.into_iter().for_each(|row| arena.recycle(row));
        for (row, wanted) in kept.iter_mut().zip(&mut wanted[20..]) {
            row.extend(&[7; 5000], &mut arena).unwrap();
            wanted.extend([7; 5000]);
            assert!(bytes(row, &arena) == *wanted);
        }
        assert_eq!(arena.regions.len(), regions);
    }
}
