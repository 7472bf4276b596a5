//! Checks tablespace files as they arrive. Each must begin with its own header page and be as long as that
//! says; no two may have the same id; all must have the same page size; and those without which no server
//! starts must be present.
//!
//! Only page 0 of each file is examined. The sender has verified the other pages, and a stream whose digests
//! are right is what its sender wrote.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Code, Error, Lsn, PageNo, Result, SpaceId};
use crate::family;
use crate::innodb::page::{Expected, LOGICAL_MAX, PageLayout, Scratch, Verdict};
use crate::prepare::checks;
use crate::prepare::datafiles::HeaderSize;
use crate::prepare::options::SystemFile;
use crate::restore::Received;
use crate::stream::{Chunk, MemberName};

/// The first page of each tablespace file, decoded.
#[derive(Default)]
pub(super) struct ArrivingTablespaces {
    found: BTreeMap<MemberName, std::result::Result<Header, String>>,
}

struct Header {
    layout: PageLayout,
    header_size: HeaderSize,
}

/// The result of checking the files.
pub(super) struct Spaces {
    /// Ids of the tablespaces.
    pub(super) ids: BTreeSet<SpaceId>,
    /// Files that are shorter than their header says, with the member's name and the number of bytes that
    /// came. The redo tells whether that is allowed.
    pub(super) short: Vec<(MemberName, HeaderSize, u64)>,
}

/// The facts that the files are checked against.
pub(super) struct Against<'a> {
    /// Sizes of all members.
    pub(super) received: &'a Received,
    /// Files of the system tablespace.
    pub(super) system: &'a [SystemFile],
    /// `innodb_page_size` of the source, if it is known.
    pub(super) page_size: Option<u64>,
    /// LSN at which the redo begins, if it is known.
    pub(super) checkpoint: Option<Lsn>,
}

impl ArrivingTablespaces {
    /// Examines a chunk as it passes.
    pub(super) fn chunk(&mut self, chunk: &Chunk) {
        if chunk.offset == 0 && may_be_tablespace(&chunk.member) && !self.found.contains_key(&chunk.member) {
            let mut first = vec![0; chunk.end().min(LOGICAL_MAX as u64) as usize];
            chunk.copy(0, &mut first);
            self.found.insert(chunk.member.clone(), header(&first));
        }
    }

    /// Checks the files after all have arrived.
    pub(super) fn check(&self, against: &Against<'_>) -> Result<Spaces> {
        self.check_system(against)?;
        let mut ids: BTreeMap<SpaceId, &MemberName> = BTreeMap::new();
        let mut short = Vec::new();
        for (member, (size, _)) in against.received {
            let Some((header_size, length)) = self.file(member, *size, against)? else { continue };
            let space = header_size.space;
            if length < header_size.bytes {
                short.push((member.clone(), header_size, length));
            }
            if let Some(other) = ids.insert(space, member) {
                return Err(defect(member, format!("has tablespace id {space}, and so has member {other}")));
            }
        }
        if ids.get(&SpaceId::DICTIONARY).is_some_and(|member| *member != "mysql.ibd") {
            return Err(defect(ids[&SpaceId::DICTIONARY], "has the id of mysql.ibd".to_owned()));
        }
        checks::check_spaces(ids.contains_key(&SpaceId::DICTIONARY), &checks::UNDO_NUMBERS.into())?;
        Ok(Spaces { ids: ids.into_keys().collect(), short })
    }

    /// Returns the statements in page 0 of a file, and the length of its tablespace in bytes, if it is the
    /// first file of one.
    fn file(
        &self,
        member: &MemberName,
        size: u64,
        against: &Against<'_>,
    ) -> Result<Option<(HeaderSize, u64)>> {
        let system = against.system.iter().position(|file| file.member == *member);
        if system.is_none() && !is_tablespace(member) {
            return Ok(None);
        }
        if system.is_some_and(|part| part > 0) {
            return Ok(None);
        }
        let header = match self.found.get(member) {
            Some(Ok(header)) => header,
            Some(Err(what)) => return Err(defect(member, what.clone())),
            None => return Err(defect(member, "is empty".to_owned())),
        };
        let Header { layout, header_size } = header;
        if (header_size.space == SpaceId::SYSTEM) != system.is_some() {
            return Err(defect(member, format!("has tablespace id {}", header_size.space)));
        }
        if let Some(page_size) = against.page_size.filter(|size| *size != layout.logical() as u64) {
            return Err(defect(
                member,
                format!("has pages of {}, the source's have {page_size}", layout.logical()),
            ));
        }
        if !size.is_multiple_of(layout.physical() as u64) {
            return Err(defect(
                member,
                format!("has {size} bytes, not whole pages of {}", layout.physical()),
            ));
        }
        let rest: u64 = match system {
            // The size in the header is that of all files together.
            Some(_) => against.system[1..]
                .iter()
                .filter_map(|f| against.received.get(&f.member))
                .map(|(n, _)| n)
                .sum(),
            None => 0,
        };
        // A server makes the file longer before its header says so. If that happened since the checkpoint,
        // redo makes up for it; the size that the header gave before must be there.
        let settled = against.checkpoint.is_some_and(|checkpoint| header_size.lsn < checkpoint);
        let length = size.saturating_add(rest);
        if settled && length < header_size.bytes {
            let promised = header_size.bytes;
            return Err(defect(member, format!("has {size} bytes, by its own header at least {promised}")));
        }
        Ok(Some((*header_size, length)))
    }

    /// Checks that the files of the system tablespace are present with their sizes.
    fn check_system(&self, against: &Against<'_>) -> Result<()> {
        for file in against.system {
            let Some((size, _)) = against.received.get(&file.member) else {
                return Err(Error::new(
                    Code::Prepare,
                    format!("the backup lacks {}, a file of the system tablespace", file.member),
                )
                .hint("no server recovers a copy without it: take the backup again"));
            };
            if let Some(wanted) = file.size.filter(|wanted| wanted != size) {
                let what = format!("has {size} bytes, by innodb_data_file_path in backup-my.cnf {wanted}");
                return Err(defect(&file.member, what));
            }
            let page_size = against.page_size.unwrap_or(1);
            if *size == 0 || !size.is_multiple_of(page_size) {
                return Err(defect(
                    &file.member,
                    format!("has {size} bytes, not whole pages of {page_size}"),
                ));
            }
        }
        Ok(())
    }
}

fn header(first: &[u8]) -> std::result::Result<Header, String> {
    let said = |e: &dyn std::fmt::Display| format!("does not begin with the first page of a tablespace: {e}");
    let format = family::redo_of_copies().pages();
    let page0 = format.page0(first).map_err(|e| said(&e))?;
    let page = &first[..page0.layout.physical()];
    let expected = Expected { space: page0.space, page: PageNo(0) };
    match format.verify(page, &page0.layout, expected, &mut Scratch::new()) {
        Ok(Verdict::Ok) => {}
        Ok(Verdict::AllZero | Verdict::Encrypted) => return Err(said(&"it has no checksum")),
        Err(e) => return Err(said(&e)),
    }
    Ok(Header { layout: page0.layout, header_size: HeaderSize::of(page, &page0) })
}

/// Returns whether a server takes the member for a tablespace, by its name (`Tablespace_dirs::scan`).
fn is_tablespace(member: &MemberName) -> bool {
    let name = member.as_str();
    let last = name.rsplit('/').next().unwrap_or(name);
    let is_undo = |number: &str| number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit());
    last.ends_with(".ibd") || last.ends_with(".ibu") || last.strip_prefix("undo_").is_some_and(is_undo)
}

/// Does the same, and includes possible files of the system tablespace, whose names are known only at the
/// end: they usually have no suffix.
fn may_be_tablespace(member: &MemberName) -> bool {
    is_tablespace(member) || member.as_str().starts_with("ibdata") || !member.as_str().contains('/')
}

fn defect(member: &MemberName, what: String) -> Error {
    Error::new(Code::CorruptPage, format!("member '{member}' {what}"))
        .hint("a server would not start on it: look at the file on the source, and take the backup again")
}
