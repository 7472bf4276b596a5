//! Scans the mini-transactions of a log in order: collects their file events, and finds the last one that is complete.

use std::collections::VecDeque;

use super::lengths::Growth;
use crate::base::{Budget, Charge, Lsn};
use crate::innodb::redo::{BLOCK_LEN, FileEvent, ScanError, Scanner, file_events, lsn};

/// Ends of groups that are kept: logs that go on beyond the end of their backup do so by little.
const ENDS_MAX: usize = 1 << 16;

/// Looks for events in blocks of redo.
pub struct MiniTransactionScan {
    scanner: Scanner,
    events: Vec<FileEvent>,
    kept: Charge,
    encrypted: bool,
    /// Where the backup ends, if that is known: a group must end there.
    end: Option<Lsn>,
    /// A group that begins before that and ends behind it.
    crossing: Option<(Lsn, Lsn)>,
    /// Where the last groups end, the last one first, if it was not said where the backup does.
    ends: VecDeque<Lsn>,
    checkpoint: Lsn,
    growth: Growth,
    growth_len: usize,
}

impl MiniTransactionScan {
    /// Creates a scan that begins at the checkpoint.
    pub fn new(checkpoint: Lsn, budget: &Budget) -> MiniTransactionScan {
        let kept = budget.charged("what redo says of files");
        MiniTransactionScan {
            scanner: Scanner::new(checkpoint),
            events: Vec::new(),
            kept,
            encrypted: false,
            end: None,
            crossing: None,
            ends: [lsn::next_payload(checkpoint)].into(),
            checkpoint: lsn::next_payload(checkpoint),
            growth: Growth::default(),
            growth_len: 0,
        }
    }

    /// Looks for a group that lies on both sides of `end`.
    pub fn ending_at(self, end: Option<Lsn>) -> MiniTransactionScan {
        MiniTransactionScan { end, ..self }
    }

    /// Begin and end of that group.
    pub fn crossing(&self) -> Option<(Lsn, Lsn)> {
        self.crossing
    }

    /// Takes the block at `lsn`.
    pub fn block(&mut self, lsn: Lsn, block: &[u8; BLOCK_LEN]) -> Result<(), ScanError> {
        if self.encrypted || lsn < self.scanner.next_block() {
            return Ok(());
        }
        match self.scanner.feed(block) {
            // Without the key nothing is known; the server, which has it, will see for itself.
            Err(ScanError::Encrypted { .. }) => {
                self.encrypted = true;
                return Ok(());
            }
            fed => fed?,
        };
        while let Some(group) = self.scanner.poll()? {
            match self.end {
                // What happened behind the end is not in the backup.
                Some(end) if end < group.end_lsn => {
                    if lsn::next_payload(group.start_lsn) < end {
                        self.crossing = Some((group.start_lsn, group.end_lsn));
                    }
                    continue;
                }
                Some(_) => {}
                // Groups before the checkpoint come along with the block that it is in.
                None if lsn::next_payload(group.end_lsn) <= self.checkpoint => {}
                None => {
                    self.ends.truncate(ENDS_MAX - 1);
                    self.ends.push_front(lsn::next_payload(group.end_lsn));
                }
            }
            self.growth.note_group(&group);
            let growth_len = std::mem::replace(&mut self.growth_len, self.growth.memory());
            self.kept.grow((self.growth_len - growth_len) as u64)?;
            for event in file_events(&group) {
                // Its fate, and that of its file, are found out from it.
                self.kept.grow(3 * event.memory() as u64)?;
                self.events.push(event);
            }
        }
        Ok(())
    }

    /// The end of the last whole group; `None` where redo is encrypted, or no group was found.
    pub fn recovered(&self) -> Option<Lsn> {
        self.scanner.recovered_lsn().filter(|_| !self.encrypted)
    }

    /// Whether its content can't be read.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Where the last groups end, the last one first, if it was not said where the backup does.
    pub fn ends(&mut self) -> VecDeque<Lsn> {
        std::mem::take(&mut self.ends)
    }

    /// The places in redo at which tablespaces grow.
    pub fn growth(&mut self) -> Growth {
        std::mem::take(&mut self.growth)
    }

    /// The events in order; `None` where redo is encrypted.
    pub fn events(self) -> Option<Vec<FileEvent>> {
        (!self.encrypted).then_some(self.events)
    }
}
