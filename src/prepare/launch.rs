//! A child that never outlives its parent, however the parent ends.
//!
//! The kernel can kill a process when its parent dies (`PR_SET_PDEATHSIG`), but only the process itself can ask for
//! that, after its credentials are final. So the program is started through a second run of the own binary, which
//! asks and then becomes the program: [`command`] on the parent's side, [`run`] on the child's.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The first argument of a binary that is to call [`run`] with the rest.
pub const ARGUMENT: &str = "--become-private-child";
/// The running binary, whatever became of its path; also where its folder can't be entered after giving up root.
const OWN_BINARY: &str = "/proc/self/exe";

/// A command that starts `program` so that it is killed when this process ends. The thread that spawns it must live as
/// long: it is the parent in the kernel's eyes.
pub fn command(program: &OsStr) -> Command {
    let mut command = Command::new(OWN_BINARY);
    command.arg(ARGUMENT).arg(std::process::id().to_string()).arg(program);
    command
}

/// Becomes the program; what follows [`ARGUMENT`] on the command line is given. Returns only with an error.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> String {
    let parent = arguments.next().and_then(|p| p.to_str()?.parse::<i32>().ok()).and_then(Pid::from_raw);
    let (Some(parent), Some(program)) = (parent, arguments.next()) else {
        return format!("{ARGUMENT} is for internal use");
    };
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("can't tie the child to its parent: {e}");
    }
    // The parent may have died before the request.
    if getppid() != Some(parent) {
        return "the parent is gone".to_owned();
    }
    let e = Command::new(&program).args(arguments).exec();
    format!("can't run {}: {e}", program.to_string_lossy())
}
