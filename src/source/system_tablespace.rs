//! The system tablespace: the files of `innodb_data_file_path`, which all families have, and their sizes.

use std::os::unix::fs::FileExt;

use crate::base::{Code, Error, Result, SpaceId};
use crate::innodb::page::PageFormat;

use super::corrupt::{CORRUPT_HINT, too_short};
use super::files;
use super::inventory::{Datafile, Inventory};
use super::server_facts::ServerFacts;

/// Bytes of page 0 at the most.
const HEAD: u64 = 64 << 10;

impl Inventory {
    /// The system tablespace is the concatenation of the files of `innodb_data_file_path`, in that order.
    ///
    /// # Errors
    /// [`Code::Unsupported`] for a raw device, [`Code::SourceIncomplete`] for a file that is too short, [`Code::CorruptPage`],
    /// [`Code::SourceIo`].
    pub fn add_system_tablespace(&mut self, facts: &ServerFacts, format: &dyn PageFormat) -> Result<()> {
        let home = facts.resolve(facts.variable("innodb_data_home_dir"));
        let spec = facts.variable("innodb_data_file_path");
        for (part, entry) in spec.split(';').filter(|e| !e.trim().is_empty()).enumerate() {
            let (name, size) = entry.split_once(':').unwrap_or((entry, ""));
            let name = name.trim();
            if entry.ends_with("raw") {
                return Err(Error::new(
                    Code::Unsupported,
                    format!("system tablespace file {name} is a raw device"),
                )
                .hint("raw devices can't be backed up by xbsend"));
            }
            let path = home.join(name.trim_start_matches("./"));
            let bytes = self.add(path.clone(), SpaceId::SYSTEM, part, "innodb_system", "system")?;
            let least = least(size);
            if bytes < least {
                return Err(too_short(&path, bytes, least));
            }
        }
        check_size(facts, format, &self.datafiles)
    }
}

/// The least bytes of a file whose entry of `innodb_data_file_path` goes on with `size` after its name: `12M:autoextend`.
/// Never 0: the server makes no empty file.
fn least(size: &str) -> u64 {
    let size = size.split(':').next().unwrap_or("").trim();
    let (digits, unit) = match size.bytes().last().map(|b| b.to_ascii_uppercase()) {
        Some(b'K') => (&size[..size.len() - 1], 1 << 10),
        Some(b'M') => (&size[..size.len() - 1], 1 << 20),
        Some(b'G') => (&size[..size.len() - 1], 1 << 30),
        _ => (size, 1),
    };
    digits.parse::<u64>().unwrap_or(0).saturating_mul(unit).max(1)
}

/// Whether all files together are as long as page 0 of the first says.
fn check_size(facts: &ServerFacts, format: &dyn PageFormat, parts: &[Datafile]) -> Result<()> {
    let Some(first) = parts.first() else { return Ok(()) };
    let failed = |e| files::failed(&first.path, e);
    let file = files::open(&first.path, facts.owner).map_err(failed)?;
    let mut head = vec![0; file.metadata().map_err(failed)?.len().min(HEAD) as usize];
    for attempt in 0.. {
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        match format.page0(&head) {
            Ok(page0) => {
                let mut bytes = 0;
                for part in parts {
                    bytes += part.path.metadata().map_err(|e| files::failed(&part.path, e))?.len();
                }
                let needed = u64::from(page0.size) * page0.layout.physical() as u64;
                let last = parts.last().unwrap_or(first);
                return if bytes < needed { Err(too_short(&last.path, bytes, needed)) } else { Ok(()) };
            }
            // It may be written just now.
            Err(_) if attempt < 20 => std::thread::sleep(std::time::Duration::from_millis(20)),
            Err(e) => {
                let what = format!("page 0 of {} is corrupt", first.path.display());
                return Err(Error::new(Code::CorruptPage, what).hint(CORRUPT_HINT).cause(e));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::least;

    #[test]
    fn sizes_as_the_server_reads_them() {
        assert_eq!(least("12M:autoextend"), 12 << 20);
        assert_eq!(least("12m"), 12 << 20);
        assert_eq!(least(" 5242880 :autoextend:max:1G"), 5 << 20);
        assert_eq!(least("1G"), 1 << 30);
        assert_eq!(least(""), 1);
        assert_eq!(least("é"), 1);
    }
}
