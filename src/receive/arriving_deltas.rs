//! Checks the parts of an increment as they arrive: every tablespace has its description and its changed pages, no two
//! have the same id, and those without which no server starts are present.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Code, Error, Result, SpaceId};
use crate::prepare::checks;
use crate::prepare::options::SystemFile;
use crate::restore::Received;
use crate::stream::delta::{DELTA, META};
use crate::stream::metadata::DeltaMeta;
use crate::stream::{Chunk, MemberName};

use super::tablespaces::Spaces;

/// Maximum length in bytes of a description.
const META_MAX: u64 = 4096;

/// The descriptions of datafiles that have arrived, by the name of the datafile.
#[derive(Default)]
pub(super) struct ArrivingDeltas {
    found: BTreeMap<String, DeltaMeta>,
    /// The first defect; it counts if the stream is an increment.
    defect: Option<Error>,
}

impl ArrivingDeltas {
    /// Bytes of memory that each takes.
    pub(super) const EACH: u64 = 256;

    /// Examines a chunk as it passes; returns whether something is kept of it.
    pub(super) fn chunk(&mut self, chunk: &Chunk) -> bool {
        let Some(datafile) = chunk.member.as_str().strip_suffix(META) else { return false };
        match read(chunk) {
            Ok(Some(meta)) => {
                self.found.insert(datafile.to_owned(), meta);
                true
            }
            Ok(None) => false,
            Err(e) => {
                self.defect.get_or_insert(e);
                false
            }
        }
    }

    /// Returns the description that has arrived of the datafile whose `.delta` the member is.
    pub(super) fn of(&self, member: &MemberName) -> Option<&DeltaMeta> {
        self.found.get(member.as_str().strip_suffix(DELTA)?)
    }

    /// Checks all after they have arrived.
    pub(super) fn check(
        &self,
        received: &Received,
        system: &[SystemFile],
        page_size: Option<u64>,
    ) -> Result<Spaces> {
        if let Some(e) = &self.defect {
            return Err(Error::new(e.code, e.message.clone()));
        }
        let mut ids: BTreeMap<SpaceId, &str> = BTreeMap::new();
        for (datafile, meta) in &self.found {
            let size = received.get(&*format!("{datafile}{DELTA}")).map(|(size, _)| *size);
            let pages = u64::from(meta.page_size);
            if !size.is_some_and(|size| size > 0 && size.is_multiple_of(pages)) {
                return Err(Error::new(
                    Code::StreamRefused,
                    format!(
                        "member '{datafile}{DELTA}' is missing, or does not consist of pages of {pages} bytes"
                    ),
                ));
            }
            if page_size.is_some_and(|size| pages > size || !meta.is_zip && pages != size) {
                return Err(Error::new(
                    Code::StreamRefused,
                    format!(
                        "member '{datafile}{META}' has pages of {pages}, which the source's files can't have"
                    ),
                ));
            }
            let is_system = system.iter().any(|file| file.member.as_str() == datafile);
            if is_system != (meta.space == SpaceId::SYSTEM) {
                let what = format!("'{datafile}' has tablespace id {}", meta.space);
                return Err(Error::new(Code::StreamRefused, what));
            }
            if let Some(other) = ids.insert(meta.space, datafile).filter(|_| !is_system) {
                let what = format!("'{datafile}' has tablespace id {}, and so has '{other}'", meta.space);
                return Err(Error::new(Code::StreamRefused, what));
            }
        }
        let orphan = received.keys().find(|name| {
            name.as_str().strip_suffix(DELTA).is_some_and(|datafile| !self.found.contains_key(datafile))
        });
        if let Some(orphan) = orphan {
            return Err(defect(orphan, "has no description (.meta)"));
        }
        if let Some(lost) = system.iter().find(|file| !self.found.contains_key(file.member.as_str())) {
            return Err(Error::new(
                Code::Prepare,
                format!("the increment lacks {}, a file of the system tablespace", lost.member),
            ));
        }
        let ids: BTreeSet<SpaceId> = ids.into_keys().collect();
        checks::check_spaces(ids.contains(&SpaceId::DICTIONARY), &checks::UNDO_NUMBERS.into())?;
        Ok(Spaces { ids, short: Vec::new() })
    }
}

/// Reads a description; `None` for a chunk without content.
fn read(chunk: &Chunk) -> Result<Option<DeltaMeta>> {
    if chunk.offset != 0 || chunk.logical_len() > META_MAX {
        return Err(defect(&chunk.member, "is no description of a datafile: it is too long"));
    }
    if chunk.logical_len() == 0 {
        return Ok(None);
    }
    chunk.verify()?;
    let mut text = vec![0; chunk.logical_len() as usize];
    chunk.copy(0, &mut text);
    Ok(Some(DeltaMeta::parse(&text)?))
}

fn defect(member: &MemberName, what: &str) -> Error {
    Error::new(Code::StreamRefused, format!("member '{member}' {what}"))
}
