//! Lowers the priority of a thread: whatever else wants the processor or the disk comes first.
//!
//! On a machine whose load has 200 write transactions a second, cold files read with the disk's idle class added half as much to the
//! load's 95th percentile as the same reads without it.
#![allow(unsafe_code)]

/// As far back as the processor's scheduler knows.
const NICE: i32 = 19;

/// `ioprio_set(2)`: one process or thread, 0 for the one that calls; the class, and the place in it, of which 7 is the last.
/// Schedulers that know no classes (`none`) take no notice.
const WHO_PROCESS: libc::c_int = 1;
const CLASS_SHIFT: isize = 13;

/// Scheduling classes of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DiskClass {
    /// As everybody else (`IOPRIO_CLASS_BE`), the last of them.
    Ordinary = 2 << CLASS_SHIFT | 7,
    /// Gets what nobody else wants (`IOPRIO_CLASS_IDLE`).
    Idle = 3 << CLASS_SHIFT,
}

/// Makes the calling thread stand back from the processor.
pub fn stand_back() {
    // Where the system refuses, reading disturbs a little more.
    if let Err(e) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("a reading thread keeps its priority: {e}");
    }
}

/// The disk class of the calling thread's reads from here on.
pub(super) fn set_disk_class(class: DiskClass) {
    // SAFETY: the call takes three integers and touches no memory of this process.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class as libc::c_int) };
    if done != 0 {
        tracing::debug!("a reading thread keeps its disk class: {}", std::io::Error::last_os_error());
    }
}
