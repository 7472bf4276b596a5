//! Shares the memory of native prepare between records that wait for their page and those that are applied.

use crate::prepare::Resources;

/// What of the memory is not for records that wait, but for those being applied, for the segments of the log at hand, and for
/// the program: a share, but not less than so many bytes if that leaves half. That is enough for two threads; each has a segment
/// of the log, and what was parsed from it, some MiB in all.
const WORK_SHARE: u64 = 8;
const WORK_MIN: u64 = 20 << 20;
/// A thread's index over the records that it applies, and the records, take so much more than their length at most.
const INDEX_SHARE: u64 = 8;

/// Bytes for records that wait.
pub(crate) fn store_memory(memory: u64) -> u64 {
    memory - (memory / WORK_SHARE).max(WORK_MIN.min(memory / 2))
}

/// Bytes that a batch of records may have that one thread applies.
pub(crate) fn batch_len(means: &Resources<'_>) -> usize {
    let each = (means.memory - store_memory(means.memory)) / means.threads.max(1) as u64;
    usize::try_from(each / INDEX_SHARE).unwrap_or(usize::MAX)
}
