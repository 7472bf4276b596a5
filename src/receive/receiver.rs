//! Receives one stream into files: bytes become frames, and their chunks are written to files in a folder that nobody
//! else uses yet. At the end, the statements in the stream are compared with the data that arrived.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::progress::Progress;
use crate::base::{Code, Error, Result};
use crate::prepare::Prepare;
use crate::restore::overlay::BaseFiles;
use crate::restore::{ExternalFiles, FileWriter, Mapping, Owner, PathMap, WriteTask, external_files};
use crate::stream::chain::{Fit, INCREMENT, Lineage};
use crate::stream::metadata::{BINLOG_KEY, ExternalTablespace, KEYS, LOGFILE, TABLESPACES, TablespaceType};
use crate::stream::{Chunk, Demux, Event, Limits, MemberName};
use crate::transport::StreamReader;

use super::stream_metadata::StreamMetadata;
use super::streaming_prepare::StreamingPrepare;
use super::{Memory, ReceiveOptions};

/// The state of receiving a stream into files.
pub(super) struct Receiver<'a> {
    options: &'a ReceiveOptions,
    progress: &'a Progress,
    pub(super) demux: Demux,
    files: FileWriter,
    book: StreamMetadata,
    place: Option<Place<'a>>,
    outside: ExternalFiles,
    /// Files that lay outside the source's datadir: their paths there, and where they are staged.
    external: Vec<(PathBuf, PathBuf)>,
    /// Streaming prepare: the part of preparing that is done while the stream arrives.
    early: Option<StreamingPrepare>,
    pub(super) stream_reader: &'a mut dyn StreamReader,
    hooks: Hooks<'a>,
    ended: bool,
}

/// An event of a stream, in its order, for whoever listens in.
#[derive(Clone, Copy)]
pub(super) enum Passing<'a> {
    /// A chunk. Its checksum is verified later; a wrong one fails the whole stream.
    Chunk(&'a Chunk),
    /// The end of a member.
    End(&'a MemberName),
}

/// Callbacks that are called while a stream arrives.
pub(super) struct Hooks<'a> {
    /// Is told, before any data, what the stream says that it builds on. Says how it fits that, if it is there.
    pub(super) fits: &'a mut (dyn FnMut(&Lineage) -> Result<Option<Fit>> + Send),
    /// Sees all that passes.
    pub(super) tap: Option<Tap<'a>>,
}

/// Sees what passes.
type Tap<'a> = &'a mut (dyn FnMut(Passing<'_>) -> Result<()> + Send);

/// Where the members of a stream are written.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The folder, empty.
    pub(super) data: &'a Path,
    /// Path that the finished datadir will have.
    pub(super) target: &'a Path,
    /// User and group that files are given to.
    pub(super) owner: Option<Owner>,
    /// True if the copy is made of this stream alone: files that lay outside the datadir go to their places, and the redo is
    /// applied while it arrives. In a chain, both wait for its end.
    pub(super) alone: bool,
    /// The datafiles, in a folder that nobody needs if the stream is bad, that an increment's pages may be laid over at once.
    pub(super) base: Option<&'a BaseFiles>,
}

/// The files of a stream that has ended, not compared with its manifest yet.
pub(super) struct Written {
    pub(super) files: FileWriter,
    pub(super) book: StreamMetadata,
    pub(super) outside: ExternalFiles,
    pub(super) external: Vec<(PathBuf, PathBuf)>,
    pub(super) early: Option<StreamingPrepare>,
}

impl<'a> Receiver<'a> {
    /// Creates the receiver of a stream of which nothing was read; without `place` it is only verified.
    ///
    /// # Errors
    /// If a thread can't be started.
    pub(super) fn new(
        options: &'a ReceiveOptions,
        memory: &Memory<'_>,
        place: Option<Place<'a>>,
        stream_reader: &'a mut dyn StreamReader,
        hooks: Hooks<'a>,
        progress: &'a Arc<Progress>,
    ) -> Result<Receiver<'a>> {
        let book = match place {
            Some(_) => StreamMetadata::new(memory.budget),
            None => StreamMetadata::verifying(memory.budget),
        };
        let early = match (&options.prepare, place) {
            (Prepare::Native, Some(place)) if place.alone => {
                Some(StreamingPrepare::start(options, memory.redo, memory.budget, place.data, progress)?)
            }
            _ => None,
        };
        Ok(Receiver {
            options,
            progress,
            demux: Demux::new(Limits::default()).charging(memory.budget),
            files: FileWriter::new(place.map(|place| PathMap::new(place.data)), progress.clone())?,
            book,
            place,
            outside: ExternalFiles::new(place.and_then(|place| place.owner)),
            external: Vec::new(),
            early,
            stream_reader,
            hooks,
            ended: false,
        })
    }

    /// Returns what was written, once the stream has ended.
    pub(super) fn into_written(self) -> Written {
        let Receiver { files, book, outside, external, early, .. } = self;
        Written { files, book, outside, external, early }
    }

    /// Reads up to the next chunk, which any thread may then write; `None` at the end of the stream.
    pub(super) fn next(&mut self) -> Result<Option<WriteTask>> {
        while !self.ended {
            if let Some(event) = self.demux.poll()? {
                if let Some(work) = self.event(event)? {
                    return Ok(Some(work));
                }
                continue;
            }
            match self.stream_reader.read(self.demux.space())? {
                0 => {
                    self.demux.finish()?;
                    self.book.at_end(self.options.allow_no_manifest)?;
                    self.ended = true;
                }
                n => self.demux.filled(n),
            }
        }
        Ok(None)
    }

    fn event(&mut self, event: Event) -> Result<Option<WriteTask>> {
        match event {
            Event::Chunk(chunk) => {
                self.book.chunk(&chunk)?;
                if let Some(version) = self.book.early_version()
                    && let Prepare::Server(mysqld) = &self.options.prepare
                    && self.options.target.is_some()
                {
                    mysqld.check_fits(version)?;
                }
                if let Some(tap) = &mut self.hooks.tap {
                    tap(Passing::Chunk(&chunk))?;
                }
                let serial = chunk.member == LOGFILE;
                if serial {
                    Progress::set(&self.progress.redo_bytes, chunk.end());
                }
                let (member, from, to) = (chunk.member.clone(), chunk.offset, chunk.end());
                if let Some(early) = &mut self.early {
                    early.chunk(&chunk)?;
                }
                if let Some(meta) = self.book.delta_meta(&chunk.member) {
                    self.files.begin_delta(&chunk.member, meta)?;
                }
                let mut work = self.files.chunk(chunk, serial)?;
                if let Some(early) = &self.early {
                    early.attach(&mut work, &member, from, to);
                }
                Ok(Some(work))
            }
            Event::End { member, size } => {
                self.files.end(&member, size)?;
                self.book.end(&member)?;
                if let Some(tap) = &mut self.hooks.tap {
                    tap(Passing::End(&member))?;
                }
                if [KEYS, BINLOG_KEY].contains(&member.as_str()) {
                    let content = self.book.take_text(&member);
                    self.options.keyring.add(member.as_str(), &content, &self.options.keys)?;
                }
                if member == INCREMENT {
                    let fit = (self.hooks.fits)(&self.book.lineage()?)?;
                    if let Some(base) =
                        self.place.and_then(|place| place.base).filter(|_| fit == Some(Fit::Datafiles))
                    {
                        self.files.lay_over(base.clone());
                    }
                }
                if let Some(early) = &mut self.early {
                    early.end(&member, size);
                }
                if member == TABLESPACES {
                    self.place_external()?;
                }
                Ok(None)
            }
        }
    }

    /// Places the files that lay outside the source's datadir, as the mappings say, or refuses them before
    /// any data is written.
    fn place_external(&mut self) -> Result<()> {
        let Some(Place { data: root, target, alone: true, .. }) = self.place else { return Ok(()) };
        let mut taken: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        for external in self.book.tablespaces()?.external {
            let path = Path::new(&external.file_name);
            let mappings = &self.options.mappings;
            let (place, member) = external_place(&external, mappings, root, target, &mut self.outside)?;
            if let Some(other) = taken.insert(place.clone(), path.to_owned()) {
                return Err(external_files::same_place(&other, path));
            }
            if self.files.has_begun(&member) && place != root.join(member.as_str()) {
                let message = format!("the stream lists {} only after its data", path.display());
                return Err(Error::new(Code::Unmapped, message)
                    .hint(format!("map it to the place it has in the stream: the target's {member}")));
            }
            self.external.push((path.to_owned(), place.clone()));
            if let Some(places) = self.files.places() {
                places.place(member, place);
            }
        }
        Ok(())
    }
}

/// Decides where a file goes that lay outside the source's datadir; returns also the member that it travels as. `root` is the
/// staged datadir, which will be at `target`.
///
/// # Errors
/// [`Code::Unmapped`] if no mapping says it.
pub(super) fn external_place(
    external: &ExternalTablespace,
    mappings: &[Mapping],
    root: &Path,
    target: &Path,
    outside: &mut ExternalFiles,
) -> Result<(PathBuf, MemberName)> {
    let path = Path::new(&external.file_name);
    let member = external.member().map_err(|e| Error::new(Code::StreamRefused, e.to_string()))?;
    let place = match external_files::destination(path, &member, is_general(external), mappings, target)? {
        external_files::FileLocation::Inside(name) => root.join(name.as_str()),
        external_files::FileLocation::ExternalFiles(dir, rest) => outside.stage(&dir, &rest)?,
    };
    Ok((place, member))
}

/// Returns whether it is a general tablespace: neither a table's own (`db/t`), nor undo, nor the system's.
fn is_general(external: &ExternalTablespace) -> bool {
    const SYSTEM: &str = "innodb_system";
    let name = external.tablespace_name.as_str();
    external.tablespace_type == TablespaceType::Tables && !name.contains('/') && name != SYSTEM
}
