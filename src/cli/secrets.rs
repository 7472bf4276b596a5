//! Secrets of users: files that hold them, and who else can read these; and that no core dump has what is in memory.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::DumpableBehavior;

use crate::base::{Code, Error, Result};

/// Bits of a mode that let others than the owner read.
const OTHERS_READ: u32 = 0o044;

/// Turns core dumps of this process off, which would have the keys and passwords in its memory. Programs that it starts are not
/// concerned.
pub(super) fn no_core_dumps() {
    if let Err(e) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("core dumps can't be turned off: {e}");
    }
}

/// Warns where others can read a file that was opened for a secret.
pub(super) fn warn_of(path: &Path, file: &File) {
    if let Ok(metadata) = file.metadata() {
        warn(path, &metadata);
    }
}

/// Warns if others can read a file with a secret that another library opens.
pub(super) fn warn_of_path(path: &Path) {
    if let Ok(metadata) = std::fs::metadata(path) {
        warn(path, &metadata);
    }
}

fn warn(path: &Path, metadata: &Metadata) {
    if let Some(who) = readers(metadata) {
        let path = path.display().to_string();
        tracing::warn!(
            "{who} can read {path}, which holds a secret: chmod 600 it",
            path = path.escape_debug()
        );
    }
}

/// Returns, in words, who can read the file beside its owner. Of pipes and devices nothing is said: whoever holds one end made
/// it.
fn readers(metadata: &Metadata) -> Option<&'static str> {
    match metadata.mode() & OTHERS_READ {
        _ if !metadata.is_file() => None,
        0 => None,
        0o040 => Some("the group"),
        _ => Some("everybody"),
    }
}

/// The content of a short file with a secret in it, and a warning where others can read it. `is_secret` tells whether there is
/// one after all.
///
/// # Errors
/// [`Code::Usage`]: it can't be read, or is longer than `max` bytes.
pub(super) fn read(path: &Path, max: u64, what: &str, is_secret: impl Fn(&str) -> bool) -> Result<String> {
    let unreadable = |e: io::Error| Error::io(Code::Usage, format!("can't read {}", path.display()), e);
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let n = (&file).take(max + 1).read_to_string(&mut text).map_err(unreadable)?;
    if n as u64 > max {
        return Err(Error::new(Code::Usage, format!("{} is too large for {what}", path.display())));
    }
    if is_secret(&text) {
        warn_of(path, &file);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_can_read_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, who) in [
            (0o600, None),
            (0o700, None),
            (0o622, None),
            (0o640, Some("the group")),
            (0o644, Some("everybody")),
            (0o604, Some("everybody")),
        ] {
            std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(readers(&file.as_file().metadata().unwrap()), who, "{mode:o}");
        }
        assert_eq!(readers(&std::fs::metadata("/dev/null").unwrap()), None);
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read(file.path(), 5, "it", |_| true).unwrap(), "12345");
        assert_eq!(read(file.path(), 4, "it", |_| true).unwrap_err().code, Code::Usage);
    }
}
