//! Reads what an increment builds on, as the user names it: a folder, a file or an LSN.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::base::{Code, Error, Lsn, Result};
use crate::source::server_facts::ServerFacts;
use crate::source::session::Session;
use crate::stream::chain::Lineage;
use crate::stream::manifest::{MANIFEST, MANIFEST_MAX, Manifest};
use crate::stream::metadata::{CHECKPOINTS, Checkpoints};

const HINT: &str = "give the folder of a backup, its xbpipe_manifest, its xtrabackup_checkpoints, what \
                    `xbrecv info --json` printed of it, or an LSN";

/// Reads the base that `text` names.
///
/// # Errors
/// [`Code::Usage`] if it is none of them.
pub fn read(text: &str) -> Result<Lineage> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let lsn = Lsn(text.parse().map_err(|_| unknown(text, "the number is too large"))?);
        return Ok(Lineage { to_lsn: lsn, end_lsn: lsn, ..Lineage::default() });
    }
    let path = Path::new(text);
    if !path.is_dir() {
        let lineage = parse(&content(path).map_err(|e| failed(path, e))?).map_err(|e| unknown(text, &e))?;
        return Ok(manifest_beside(path, &lineage).unwrap_or(lineage));
    }
    let read = |name: &str| match content(&path.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(&path.join(name), e)),
    };
    let manifest = read(MANIFEST)?.map(|bytes| parse(&bytes).map_err(|e| unknown(text, &e))).transpose()?;
    let checkpoints =
        read(CHECKPOINTS)?.map(|bytes| parse(&bytes).map_err(|e| unknown(text, &e))).transpose()?;
    match (manifest, checkpoints) {
        // Another program may have brought the folder forward since: it knows nothing of the manifest.
        (Some(manifest), Some(checkpoints)) if manifest.end_lsn < checkpoints.end_lsn => Ok(checkpoints),
        (Some(lineage), _) | (None, Some(lineage)) => Ok(lineage),
        (None, None) => Err(unknown(text, &format!("it has neither {MANIFEST} nor {CHECKPOINTS}"))),
    }
}

/// Reads the manifest of the same backup beside a checkpoints file, which says much less: not, say, when the server was started.
fn manifest_beside(path: &Path, lineage: &Lineage) -> Option<Lineage> {
    if path.file_name()? != CHECKPOINTS {
        return None;
    }
    let manifest = parse(&content(&path.with_file_name(MANIFEST)).ok()?).ok()?;
    (manifest.to_lsn == lineage.to_lsn && manifest.end_lsn == lineage.end_lsn).then_some(manifest)
}

/// Understands what a receiver says of the backup that it wants an increment of.
///
/// # Errors
/// [`Code::Receiver`].
pub fn of_receiver(text: &str) -> Result<Lineage> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(Code::Receiver, "the receiver wants an increment of a backup that was not understood")
            .cause(e)
    })
}

/// Understands a manifest, a checkpoints file, or a lineage as `xbrecv info` prints it.
fn parse(bytes: &[u8]) -> std::result::Result<Lineage, String> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        let checkpoints = Checkpoints::parse(bytes).map_err(|e| e.to_string())?;
        return Ok(Lineage {
            to_lsn: checkpoints.to_lsn,
            end_lsn: checkpoints.last_lsn,
            ..Lineage::default()
        });
    }
    match Manifest::parse(bytes) {
        Ok(manifest) => Ok(Lineage::of_manifest(&manifest, bytes)),
        Err(e) => serde_json::from_slice(bytes).map_err(|_| e.to_string()),
    }
}

fn content(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MANIFEST_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks that the server is the one that the base is a backup of, and that it has gone on since.
///
/// # Errors
/// [`Code::WrongBase`].
pub(super) fn check(
    base: &Lineage,
    facts: &ServerFacts,
    selection: Option<&String>,
    redo_uuid: Option<u32>,
    now: Lsn,
) -> Result<()> {
    let wrong = |what: String| {
        Error::new(Code::WrongBase, format!("the increment would not fit its base: {what}"))
            .hint("take a full backup")
    };
    if let Some(uuid) = base.server_uuid.as_ref().filter(|uuid| **uuid != facts.server_uuid) {
        return Err(wrong(format!(
            "that is a backup of server {uuid}, and this is server {}",
            facts.server_uuid
        )));
    }
    let page_size = facts.page_size()?;
    if let Some(size) = base.page_size.filter(|size| *size != page_size) {
        return Err(wrong(format!("it has pages of {size} bytes, and this server of {page_size}")));
    }
    if base.identity.is_some() && base.selection.as_ref() != selection {
        let shown = |selection: Option<&String>| selection.cloned().unwrap_or_else(|| "all".to_owned());
        let (base, wanted) = (shown(base.selection.as_ref()), shown(selection));
        return Err(wrong(format!("that has the tables '{base}', and this one would have '{wanted}'"))
            .hint("choose the same tables, or take a full backup"));
    }
    if let (Some(base), Some(server)) = (base.redo_uuid, redo_uuid)
        && base != server
    {
        return Err(wrong(format!(
            "it was made from redo log {base:08x}, and this server writes {server:08x}: it was restored or initialised \
             since"
        )));
    }
    if base.to_lsn > now {
        return Err(wrong(format!("it begins at LSN {}, and this server is at LSN {now}", base.to_lsn)));
    }
    Ok(())
}

/// Checks whether the server has run ever since the base was taken: in a crash it forgets some of the pages that it wrote.
///
/// # Errors
/// Why that can't be said.
pub(super) fn check_running(base: &Lineage, started: Option<u64>) -> std::result::Result<(), String> {
    match (base.server_started, started) {
        (Some(then), Some(now)) if then == now => Ok(()),
        (Some(_), Some(_)) => Err("the server was restarted since the base was taken".into()),
        _ => Err("the base does not say when the server was started".into()),
    }
}

/// Asks for the time at which the server was started, in seconds since 1970. It is exact, so that even a restart within a
/// second or two is seen: the server counts its whole seconds from a whole second, both by its own clock.
///
/// # Errors
/// Those of the session.
pub(super) fn server_started(session: &mut Session) -> Result<Option<u64>> {
    /// The clock may strike between two questions.
    const ATTEMPTS: u32 = 10;
    let mut number = |query: &str, column: usize| -> Result<Option<u64>> {
        Ok(session.query(query)?.first().and_then(|row| row.get(column)?.as_deref()?.parse().ok()))
    };
    for _ in 0..ATTEMPTS {
        let before = number("SELECT UNIX_TIMESTAMP()", 0)?;
        let uptime = number("SHOW GLOBAL STATUS LIKE 'Uptime'", 1)?;
        if before == number("SELECT UNIX_TIMESTAMP()", 0)? {
            return Ok(before.zip(uptime).and_then(|(now, uptime)| now.checked_sub(uptime)));
        }
    }
    Ok(None)
}

fn unknown(text: &str, why: &str) -> Error {
    Error::new(Code::Usage, format!("the base '{}' was not understood: {why}", text.escape_debug()))
        .hint(HINT)
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io(Code::Usage, format!("can't read the base {}", path.display()), e).hint(HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_named_in_many_ways() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let write = |name: &str, content: &str| std::fs::write(at(name), content).unwrap();
        assert_eq!(read("123").unwrap().to_lsn, Lsn(123));
        for bad in ["", "123456789012345678901234567890", "-1", "/no/such", dir.path().to_str().unwrap()] {
            assert_eq!(read(bad).unwrap_err().code, Code::Usage, "{bad}");
        }
        let text = "backup_type = full-prepared\nfrom_lsn = 0\nto_lsn = 7\nlast_lsn = 9\n";
        write(CHECKPOINTS, text);
        for base in [at(CHECKPOINTS), dir.path().to_str().unwrap().to_owned()] {
            let base = read(&base).unwrap();
            assert_eq!((base.to_lsn, base.end_lsn, base.identity), (Lsn(7), Lsn(9), None));
        }
        let manifest = |to: u64| {
            let text = r#"{"to_lsn":TO,"end_lsn":9,"server_started":77}"#;
            write(MANIFEST, &text.replace("TO", &to.to_string()));
            read(&at(CHECKPOINTS)).unwrap().server_started
        };
        assert_eq!((manifest(7), manifest(8)), (Some(77), None), "only a manifest of the same backup counts");
        write("lineage", &serde_json::to_string(&read("5").unwrap()).unwrap());
        assert_eq!(read(&at("lineage")).unwrap(), read("5").unwrap());
        write("strange", "{\"format\":1}");
        assert_eq!(read(&at("strange")).unwrap_err().code, Code::Usage);
    }
}
