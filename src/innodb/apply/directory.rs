//! The page directory: every slot points to a record that owns itself and those between it and the slot before
//! (`page_dir_find_owner_slot`, `page_dir_split_slot`, `page_dir_balance_slot`).

use super::index_page::IndexPage;
use super::page_header::{HEAP_TOP, N_SLOTS};
use super::{Applied, Corruption};

/// Most records that a slot owns, but for supremum's (`PAGE_DIR_SLOT_MAX_N_OWNED`).
pub(super) const OWNED_MAX: usize = 8;
/// Fewest records that a slot owns, but for infimum's and supremum's (`PAGE_DIR_SLOT_MIN_N_OWNED`).
pub(super) const OWNED_MIN: usize = 4;

impl IndexPage<'_> {
    /// The record that owns `rec`: itself, or the next one that has a slot.
    pub(super) fn owner(&self, rec: usize) -> Applied<usize> {
        let mut owner = rec;
        // No slot ever owns more than 15 records: the field has four bits.
        for _ in 0..=usize::from(u8::MAX) {
            if self.n_owned(owner) != 0 {
                return Ok(owner);
            }
            owner = self.next(owner)?;
        }
        Err(Corruption("records that no directory slot owns"))
    }

    /// The slot that owns `rec`.
    pub(super) fn owner_slot(&self, rec: usize) -> Applied<usize> {
        let owner = self.owner(rec)?;
        let slots = self.get(N_SLOTS);
        // The last slot comes first.
        let (directory, _) = self.b[self.directory_start()?..].as_chunks::<2>();
        let found = position(&directory[..slots.min(directory.len())], (owner as u16).to_be_bytes());
        found
            .map(|from_last| slots - 1 - from_last)
            .ok_or(Corruption("an owning record that no directory slot points to"))
    }

    /// The record before `rec`, which is not infimum.
    pub(super) fn previous(&self, rec: usize) -> Applied<usize> {
        let slot = self.owner_slot(rec)?;
        let mut before =
            self.slot(slot.checked_sub(1).ok_or(Corruption("no record lies before infimum"))?)?;
        for _ in 0..self.steps_max() {
            let next = self.next(before)?;
            if next == rec {
                return Ok(before);
            }
            before = next;
        }
        Err(Corruption("a record that its directory slot does not lead to"))
    }

    /// Splits a slot that owns nine records.
    pub(super) fn split_slot(&mut self, slot: usize) -> Applied {
        let owner = self.slot(slot)?;
        let owned = self.n_owned(owner);
        let mut middle = self.slot(slot.checked_sub(1).ok_or(Corruption("infimum's slot owns too much"))?)?;
        for _ in 0..owned / 2 {
            middle = self.next(middle)?;
        }
        self.add_slot(slot)?;
        self.set_slot(slot, middle)?;
        self.set_n_owned(middle, owned / 2)?;
        self.set_n_owned(owner, owned - owned / 2)?;
        Ok(())
    }

    /// Makes room for a slot before `slot`.
    fn add_slot(&mut self, slot: usize) -> Applied {
        let slots = self.get(N_SLOTS);
        self.set(N_SLOTS, slots + 1);
        if self.directory_start()? < self.get(HEAP_TOP) {
            return Err(Corruption("no room for another directory slot"));
        }
        self.move_slots(slot..slots, slot + 1)
    }

    /// Balances `slot` after it fell to three records: takes one over from the slot above, or merges the two.
    pub(super) fn balance_slot(&mut self, slot: usize) -> Applied {
        let slots = self.get(N_SLOTS);
        if slot + 1 >= slots {
            return Ok(());
        }
        let (owner, upper) = (self.slot(slot)?, self.slot(slot + 1)?);
        let (owned, upper_owned) = (self.n_owned(owner), self.n_owned(upper));
        self.set_n_owned(owner, 0)?;
        if upper_owned > OWNED_MIN {
            let next = self.next(owner)?;
            self.set_n_owned(next, owned + 1)?;
            self.set_slot(slot, next)?;
            self.set_n_owned(upper, upper_owned - 1)?;
            return Ok(());
        }
        self.set_n_owned(upper, owned + upper_owned)?;
        self.move_slots(slot + 1..slots, slot)?;
        self.set_slot(slots - 1, 0)?;
        self.set(N_SLOTS, slots - 1);
        Ok(())
    }
}

/// Where `wanted` first is. Compares many at a time, so that the compiler can do that with one instruction.
fn position(slots: &[[u8; 2]], wanted: [u8; 2]) -> Option<usize> {
    const MANY: usize = 16;
    let (many, _) = slots.as_chunks::<MANY>();
    let is_in = |slots: &[[u8; 2]; MANY]| slots.iter().fold(false, |is_in, slot| is_in | (*slot == wanted));
    let before = many.iter().position(is_in).unwrap_or(many.len()) * MANY;
    slots[before..].iter().position(|slot| *slot == wanted).map(|found| before + found)
}
