//! Writes copies of metadata beside the stream, for the next increment and for users' scripts (`--extra-lsndir`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::base::{Code, Error, Result};

/// Writes these files into `dir`, which is made if it is not there. Each takes the place of an older one at once.
///
/// # Errors
/// [`Code::TargetIo`].
pub(super) fn write(dir: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let write = |name: &str, content: &[u8]| -> io::Result<()> {
        let new = dir.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, dir.join(name))
    };
    fs::create_dir_all(dir)
        .and_then(|()| files.iter().try_for_each(|(name, content)| write(name, content)))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(|e| {
            Error::io(Code::TargetIo, format!("the stream is whole, but {}", dir.display()), e).hint(
                "the next increment needs these files: make the folder writable, and run the backup again",
            )
        })
}
