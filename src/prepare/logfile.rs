//! The member `xtrabackup_logfile`, checked as it is read: the header blocks of a redo file, then log blocks from the
//! checkpoint's on.

use std::collections::VecDeque;

use super::checks;
use super::lengths::Growth;
use super::mini_transactions::MiniTransactionScan;
use crate::base::{Budget, Code, Error, Lsn, Result};
use crate::innodb::redo::{
    BLOCK_LEN, Block, BlockState, FileEvent, HEAD_LEN, RedoFile, RedoHead, ScanError, lsn,
};

/// Checks a member `xtrabackup_logfile` whose bytes are given in their order, whatever the cuts: the header, every block
/// (number, checksum, first record), and that its groups of records can be parsed. What it keeps are file events, and a
/// group that is not whole.
pub struct RedoStream {
    budget: Budget,
    /// Bytes of a header or block that are not complete.
    rest: Vec<u8>,
    log: Option<Blocks>,
}

struct Blocks {
    head: RedoHead,
    checkpoint: Lsn,
    walk: MiniTransactionScan,
    /// The block that is expected next.
    next: Lsn,
    /// The log has ended there: blocks behind that mean nothing.
    end: Option<Lsn>,
}

/// The content of a member `xtrabackup_logfile`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedoRead {
    /// Its header.
    pub head: RedoHead,
    /// Recovery begins here.
    pub checkpoint: Lsn,
    /// The last byte lies before this: with a group that is not whole, and where redo is encrypted.
    pub scanned: Lsn,
    /// The last whole group ends here; where redo is encrypted, the same as `scanned`.
    pub end: Lsn,
    /// A group that lies on both sides of the backup's end.
    crossing: Option<(Lsn, Lsn)>,
    /// Where the last groups end, the last one first, if the backup's end was not known.
    ends: VecDeque<Lsn>,
    /// What it says about files; `None` where it is encrypted.
    pub events: Option<Vec<FileEvent>>,
    /// The places in redo at which tablespaces grow.
    pub growth: Growth,
}

impl RedoStream {
    /// Creates the reader; memory that it keeps is charged to `budget`.
    pub fn new(budget: &Budget) -> RedoStream {
        RedoStream { budget: budget.clone(), rest: Vec::new(), log: None }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Code::CorruptRedo`], [`Code::RedoDisabled`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.push_until(bytes, None)
    }

    pub(super) fn push_until(&mut self, bytes: &[u8], end: Option<Lsn>) -> Result<()> {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let wanted = if self.log.is_none() { HEAD_LEN } else { BLOCK_LEN };
            if self.rest.is_empty() && self.log.is_some() {
                // Most bytes need not be moved.
                let (blocks, tail) = bytes.as_chunks::<BLOCK_LEN>();
                for block in blocks {
                    self.block(block)?;
                }
                self.rest.extend_from_slice(tail);
                return Ok(());
            }
            let (now, later) = bytes.split_at((wanted - self.rest.len()).min(bytes.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() == wanted {
                let whole = std::mem::take(&mut self.rest);
                match <&[u8; BLOCK_LEN]>::try_from(&whole[..]) {
                    Ok(block) => self.block(block)?,
                    Err(_) => self.log = Some(Blocks::of(&whole, end, &self.budget)?),
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, block: &[u8; BLOCK_LEN]) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.take(block))
    }

    /// Ends the stream: there are no more bytes. Returns what was read.
    ///
    /// # Errors
    /// [`Code::CorruptRedo`].
    pub fn finish(self) -> Result<RedoRead> {
        let mut log = self.log.ok_or_else(|| corrupt("it is too short"))?;
        if log.end.is_none() && !self.rest.is_empty() {
            return Err(corrupt("it ends inside a block"));
        }
        let (checkpoint, scanned) = (log.checkpoint, lsn::next_payload(log.end.unwrap_or(log.next)));
        if scanned < checkpoint {
            return Err(corrupt(&format!("it ends at LSN {scanned}, before its checkpoint {checkpoint}")));
        }
        let end = match log.walk.is_encrypted() {
            true => scanned,
            false => log.walk.recovered().map_or(checkpoint, |end| end.max(checkpoint)),
        };
        let (crossing, ends, growth) = (log.walk.crossing(), log.walk.ends(), log.walk.growth());
        let events = log.walk.events();
        Ok(RedoRead { head: log.head, checkpoint, scanned, end, crossing, ends, events, growth })
    }
}

impl Blocks {
    fn of(head: &[u8], end: Option<Lsn>, budget: &Budget) -> Result<Blocks> {
        let head = RedoHead::read_logfile(head).map_err(|e| corrupt(&e.to_string()))?;
        checks::check_head(&head)?;
        // Of the checkpoints that lie in the log, of whose length nothing is known yet.
        let redo_file = RedoFile { head: head.clone(), len: u64::MAX };
        let checkpoint = redo_file.checkpoint().ok_or_else(|| corrupt("it has no valid checkpoint"))?;
        let walk = MiniTransactionScan::new(checkpoint, budget).ending_at(end.map(lsn::next_payload));
        Ok(Blocks { next: head.start_lsn, checkpoint, walk, head, end: None })
    }

    fn take(&mut self, block: &[u8; BLOCK_LEN]) -> Result<()> {
        if self.end.is_some() {
            return Ok(());
        }
        let lsn = self.next;
        match Block::of(block).check(lsn) {
            BlockState::Full => {}
            BlockState::Encrypted(used) if usize::from(used) == BLOCK_LEN => {}
            BlockState::Partial(used) | BlockState::Encrypted(used) => self.end = Some(lsn.plus(used.into())),
            BlockState::NotWritten => {
                self.end = Some(lsn);
                return Ok(());
            }
            BlockState::BadChecksum | BlockState::Malformed => {
                return Err(corrupt(&format!("the block at LSN {lsn} is damaged")));
            }
        }
        self.walk.block(lsn, block).map_err(|e| match e {
            ScanError::TooLarge(over) => over.into(),
            e => corrupt(&e.to_string()),
        })?;
        self.next = lsn.plus(BLOCK_LEN as u64);
        Ok(())
    }
}

impl RedoRead {
    /// Makes sure that no whole group lies behind the end of the backup, as in a stream with a manifest.
    ///
    /// # Errors
    /// [`Code::CorruptRedo`].
    pub fn ends_at(&self, promised: Option<Lsn>) -> Result<()> {
        match promised.map(lsn::next_payload).filter(|promised| self.events.is_some() && self.end > *promised)
        {
            Some(_) => Err(corrupt(&format!("it goes on to LSN {}, beyond the backup's end", self.end))),
            None => Ok(()),
        }
    }

    /// Makes sure that whole groups of records reach the end of the backup, and that one ends there.
    ///
    /// # Errors
    /// [`Code::CorruptRedo`].
    pub fn reaches(&self, promised: Option<Lsn>) -> Result<()> {
        let Some(promised) = promised.map(lsn::next_payload) else { return Ok(()) };
        if promised > self.scanned {
            let end = self.scanned;
            return Err(corrupt(&format!("it ends at LSN {end}, before the backup's end {promised}")));
        }
        if promised > self.end {
            return Err(corrupt(&format!(
                "it ends inside a group of records that begins at LSN {}, before the backup's end {promised}",
                self.end
            )));
        }
        let before = self.ends.iter().position(|end| *end <= promised);
        let around = before.filter(|at| *at > 0).map(|at| (self.ends[at], self.ends[at - 1]));
        match self.crossing.or(around.filter(|(from, _)| *from != promised)) {
            Some((from, to)) => Err(corrupt(&format!(
                "a group of records from LSN {from} to {to} lies on both sides of the backup's end {promised}"
            ))),
            None => Ok(()),
        }
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(Code::CorruptRedo, format!("the backup's redo can't be used: {what}"))
        .hint("take the backup again; if it happens again, report it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::redo::{BlockWriter, RedoFlags};

    /// `WRITE_STRING` that stands alone, for space 9, page 5, offset 100, of so many bytes.
    fn group(len: u16) -> Vec<u8> {
        [&[0x80 | 30, 9, 5, 0, 100][..], &len.to_be_bytes(), &vec![7; usize::from(len)]].concat()
    }

    #[test]
    fn a_backup_ends_where_a_group_does() {
        const START: u64 = 20 * BLOCK_LEN as u64;
        let checkpoint = Lsn(START + 12);
        let mut writer = BlockWriter::new(Lsn(START));
        let mut ends = vec![checkpoint];
        for len in [10, 600, 477, 20, 1] {
            writer.push_group(&group(len));
            ends.push(lsn::advance(*ends.last().unwrap(), u64::from(len) + 7));
        }
        let (blocks, end) = writer.finish();
        assert_eq!(ends.last(), Some(&end));
        let head = RedoHead {
            uuid: 7,
            start_lsn: Lsn(START),
            creator: "MySQL 9.7.4".into(),
            flags: RedoFlags(0),
            checkpoints: [Some(checkpoint); 2],
            encryption: None,
        };
        let bytes = [&head.build()[..], blocks.as_flattened()].concat();
        let budget = Budget::new(1 << 20);
        for at in checkpoint.0..end.0 + 600 {
            let promised = Lsn(at);
            let whole = ends.contains(&lsn::next_payload(promised));
            // Known before, as where a folder is prepared, and at the end only, as where a stream is verified.
            for known in [None, Some(promised)] {
                let mut stream = RedoStream::new(&budget);
                stream.push_until(&bytes, known).unwrap();
                let found = stream.finish().unwrap().reaches(Some(promised));
                assert_eq!(found.is_ok(), whole, "{at} {known:?}: {found:?}");
            }
        }
    }
}
