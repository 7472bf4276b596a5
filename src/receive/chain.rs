//! Receives a chain of backups: a full one, then increments, into one folder that stands for the last of them.
//!
//! Each stream arrives whole in a staged folder of its own and is compared with its manifest; only then are the datafiles
//! before it moved there, and its pages laid over them ([`overlay`]). Since an increment holds all pages that the redo of the
//! backup before it would have changed ([`crate::stream::chain`]), redo is applied once, at the end.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::base::budget::Shares;
use crate::base::nofollow;
use crate::base::progress::{Phase, Progress};
use crate::base::{Budget, Code, Error, Lsn, Result, Stop};
use crate::family;
use crate::prepare::{self, Datadir, Prepare, Resources};
use crate::restore::overlay::{self, Fetch};
use crate::restore::owner::FILE_MODE;
use crate::restore::{ExternalFiles, Mapping, Staging, Target, clone_file, external_files};
use crate::session::message::BASE_MAX;
use crate::stream::chain::{Fit, INCREMENT, Lineage};
use crate::stream::manifest::LeftOut;
use crate::stream::metadata::{BackupType, CHECKPOINTS, Checkpoints, INFO, Info, METADATA_MAX};
use crate::transport::StreamReader;

use super::arrival::{self, Arrived, Hooks};
use super::base_folder::{self, Access, BaseFolder, base_files};
use super::receiver::{self, Place};
use super::stream_metadata::StreamMetadata;
use super::{Memory, ReceiveOptions, ReceiveSummary, Staged, with_stream};

/// Name of the staged folder in which an increment arrives.
const ARRIVING: &str = "increment";

/// One stream of a chain.
pub struct Link<'a> {
    /// What to call it in messages: the name of its file.
    pub name: String,
    /// Opens it.
    pub open: Box<dyn FnOnce() -> Result<Box<dyn StreamReader>> + 'a>,
}

/// Returns the description of the backup in the folder `base`, for a sender: JSON text.
///
/// # Errors
/// [`Code::WrongBase`] if no increment can be laid over it.
pub fn describe_base(base: &Path, mappings: &[Mapping]) -> Result<String> {
    let folder = BaseFolder::open(base, mappings, Access::Shared)?;
    let text = serde_json::to_string(&folder.lineage)
        .map_err(|e| Error::new(Code::Internal, "a lineage is JSON").cause(e))?;
    if text.len() > BASE_MAX {
        let what = "the base has too many chosen tables to be described to a sender";
        return Err(Error::new(Code::Usage, what)
            .hint("give xbsend the base's xbpipe_manifest with --since, and xbrecv no --base; then use xbrecv merge"));
    }
    Ok(text)
}

/// Returns the error for an increment that came without its base.
pub(super) fn needs_base(lineage: &Lineage) -> Error {
    let from =
        lineage.increment.as_ref().map_or_else(String::new, |i| format!(", from LSN {} on", i.from_lsn));
    Error::new(
        Code::WrongBase,
        format!("the stream is an increment{from}: it is no copy without the backup before it"),
    )
    .hint("give that as well: xbrecv --base FOLDER DIR, or xbrecv DIR full.xb increment.xb …")
}

/// Receives a chain into `options.target`, or verifies it if there is none. The first link is a full backup, unless the
/// folder `base` has one.
///
/// # Errors
/// [`Code::WrongBase`] if a link does not fit the one before it. Whatever goes wrong, the target and the base are as they were.
pub fn run(
    options: &ReceiveOptions,
    base: Option<&Path>,
    links: Vec<Link<'_>>,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<ReceiveSummary> {
    let started = Instant::now();
    progress.enter(Phase::Copying);
    let base = base.map(|dir| BaseFolder::open(dir, &options.mappings, Access::Shared)).transpose()?;
    let staging = options.target.as_ref().map(Target::stage).transpose()?;
    let mut chain = Chain {
        options,
        staging: staging.as_ref(),
        before: base.as_ref().map(|base| Before { lineage: base.lineage.clone(), prepared: base.prepared }),
        base: base.as_ref(),
        left_out: Vec::new(),
        summary: ReceiveSummary::default(),
        progress,
        stop,
    };
    let mut last = None;
    let count = links.len();
    for (n, link) in links.into_iter().enumerate() {
        let name = link.name.clone();
        last = Some(chain.receive(link).map_err(|e| of_link(e, &name, n, count))?);
    }
    let mut summary = std::mem::take(&mut chain.summary);
    let arrived = Instant::now();
    let Some(last) = last else { return Err(Error::new(Code::Usage, "no stream was given")) };
    summary.lineage = Some(last.lineage()?);
    if let Some(staging) = staging {
        finish(options, staging, last, &mut summary, progress, stop)?;
    }
    summary.time = started.elapsed();
    summary.after_arrival = arrived.elapsed();
    summary.wire_bytes = Progress::get(&progress.bytes_wire);
    progress.enter(Phase::Done);
    Ok(summary)
}

/// Says in an error which stream of several it is about.
fn of_link(e: Error, name: &str, n: usize, count: usize) -> Error {
    if count == 1 {
        return e;
    }
    let message = format!("stream {} of {count} ({}): {}", n + 1, name.escape_debug(), e.message);
    Error { message, ..e }
}

/// The backup that the next link is laid over.
struct Before {
    lineage: Lineage,
    /// Whether its redo was applied.
    prepared: bool,
}

struct Chain<'a> {
    options: &'a ReceiveOptions,
    staging: Option<&'a Staging>,
    before: Option<Before>,
    /// The folder that the first increment is laid over; its files are copied.
    base: Option<&'a BaseFolder>,
    /// Tablespaces that the last backup does not have.
    left_out: Vec<LeftOut>,
    summary: ReceiveSummary,
    progress: &'a Arc<Progress>,
    stop: &'a Stop,
}

impl Chain<'_> {
    /// Receives one link, and lays it over what is there.
    fn receive(&mut self, link: Link<'_>) -> Result<StreamMetadata> {
        let mut stream_reader = (link.open)()?;
        let is_first = self.before.is_none();
        let data = self.staging.map(|staging| match is_first {
            true => staging.data().to_owned(),
            false => staging.hidden().path().join(ARRIVING),
        });
        if let (Some(data), false) = (&data, is_first) {
            nofollow::create_dir(data, crate::restore::owner::DIR_MODE)
                .map_err(|e| Error::io(Code::TargetIo, data.display(), e))?;
        }
        // Pages are laid over a folder of the user's only when their stream has proved to be whole.
        let base = match (self.staging, self.base) {
            (Some(staging), None) if !is_first => Some(base_files(staging.data(), &[])?),
            _ => None,
        };
        let place = self.staging.zip(data.as_ref()).map(|(staging, data)| Place {
            data,
            target: staging.target(),
            owner: staging.owner(),
            alone: false,
            base: base.as_ref(),
        });
        let mut fits = |lineage: &Lineage| self.fit(lineage);
        let arrived =
            with_stream(self.options, &mut *stream_reader, self.progress, self.stop, |memory, opened| {
                let hooks = Hooks { fits: &mut fits, tap: None };
                arrival::receive(self.options, memory, opened, place, hooks, self.progress, self.stop)
            })?;
        let lineage = arrived.book.lineage()?;
        let fit = self.fit(&lineage)?;
        self.note(&arrived)?;
        match (fit, &data, arrived.overlaid) {
            (Some(Fit::Datafiles), Some(data), Some(pages)) => self.take_place(data, pages)?,
            (Some(Fit::AfterRedo), _, Some(_)) => {
                let what = "the stream says two things of the backup that it builds on";
                return Err(Error::new(Code::StreamRefused, what));
            }
            (Some(fit), Some(data), None) => self.lay_over(data, fit)?,
            _ => {}
        }
        let prepared = false;
        self.before = Some(Before { lineage, prepared });
        self.left_out = arrived.book.left_out().to_vec();
        Ok(arrived.book)
    }

    /// Checks whether a stream can be the next link; `None` for the first, a full backup.
    fn fit(&self, lineage: &Lineage) -> Result<Option<Fit>> {
        match &self.before {
            None if lineage.increment.is_some() => Err(needs_base(lineage)),
            None => Ok(None),
            Some(before) => match before.lineage.takes(lineage)? {
                Fit::AfterRedo if before.prepared => Ok(Some(Fit::Datafiles)),
                fit => Ok(Some(fit)),
            },
        }
    }

    /// Keeps what the summary says of the stream.
    fn note(&mut self, arrived: &Arrived) -> Result<()> {
        let new = ReceiveSummary::of(arrived)?;
        let old = std::mem::take(&mut self.summary);
        self.summary = ReceiveSummary {
            bytes: old.bytes + new.bytes,
            members: old.members + new.members,
            streams: old.streams + 1,
            has_manifest: new.has_manifest && (old.streams == 0 || old.has_manifest),
            pages: old.pages,
            notes: old.notes.into_iter().chain(new.notes.iter().cloned()).collect(),
            steps: old.steps,
            ..new
        };
        Ok(())
    }

    /// Lays the increment in `arriving` over the datafiles before it; the folder then is the datadir.
    fn lay_over(&mut self, arriving: &Path, fit: Fit) -> Result<()> {
        let Some(staging) = self.staging else { return Ok(()) };
        let begun = Instant::now();
        let (base, fetch) = match self.base.take() {
            Some(base) if fit == Fit::AfterRedo => {
                return Err(Error::new(
                    Code::WrongBase,
                    format!(
                        "the redo of {} must be applied before this increment is laid over it",
                        base.root().display()
                    ),
                )
                .hint(format!("xbrecv prepare {}", base.root().display())));
            }
            Some(base) => (base.files()?, Fetch::Copy),
            None => {
                if fit == Fit::AfterRedo {
                    self.apply_redo(staging.data())?;
                }
                (base_files(staging.data(), &[])?, Fetch::Move)
            }
        };
        let files = overlay::find(arriving)?;
        let done = overlay::lay_over(
            arriving,
            &files,
            &base,
            fetch,
            self.options.parallel,
            self.progress,
            self.stop,
        )?;
        tracing::info!("{} datafiles kept, {} new, {} pages laid over", done.kept, done.made, done.pages);
        overlay::remove_deltas(arriving, &files)?;
        self.take_place(arriving, done.pages)?;
        self.summary.steps.push(("overlay", begun.elapsed()));
        Ok(())
    }

    /// Makes the folder `arriving`, over whose datafiles `pages` pages were laid, the datadir.
    fn take_place(&mut self, arriving: &Path, pages: u64) -> Result<()> {
        let Some(staging) = self.staging else { return Ok(()) };
        self.summary.pages += pages;
        let failed = |e| Error::io(Code::TargetIo, arriving.display(), e);
        match nofollow::remove_file(&arriving.join(INCREMENT)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        say_full(arriving)?;
        nofollow::remove_all(staging.data()).map_err(failed)?;
        nofollow::rename(arriving, staging.data()).map_err(failed)
    }

    /// Applies the redo of a backup whose successor does not hold all pages that it changes.
    fn apply_redo(&self, root: &Path) -> Result<()> {
        let shares = Shares::of(self.options.use_memory);
        let budget = Budget::new(shares.kept());
        let means = Resources {
            memory: shares.redo(0),
            budget: &budget,
            threads: self.options.parallel,
            progress: self.progress,
            stop: self.stop,
        };
        let cnf = base_folder::member(root, crate::stream::metadata::BACKUP_CNF, METADATA_MAX)?
            .map(|text| crate::stream::metadata::BackupCnf::parse(&text))
            .transpose()?
            .unwrap_or_default();
        let run = prepare::run_folder(root);
        let datadir = Datadir {
            keyring: self.options.keyring.clone(),
            redo: family::redo_of_copies(),
            root,
            left_out: &self.left_out,
            run: &run,
            external: &[],
            owner: None,
            cnf: &cnf,
            gtid_executed: None,
            end_lsn: self.before.as_ref().map(|before| before.lineage.end_lsn),
            server_version: None,
        };
        prepare::prepare(&Prepare::Native, &datadir, None, &means).map(drop)
    }
}

/// Says in the metadata that the folder holds a full backup by now.
pub(super) fn say_full(root: &Path) -> Result<()> {
    if let Some(text) = base_folder::member(root, INFO, METADATA_MAX)? {
        let info = Info { incremental: false, innodb_from_lsn: Lsn(0), ..Info::parse(&text)? };
        replace(&root.join(INFO), info.render().as_bytes())
            .map_err(|e| Error::io(Code::TargetIo, root.join(INFO).display(), e))?;
    }
    let Some(text) = base_folder::member(root, CHECKPOINTS, METADATA_MAX)? else { return Ok(()) };
    let checkpoints = Checkpoints::parse(&text)?;
    let full = Checkpoints { backup_type: BackupType::FullBackuped, from_lsn: Lsn(0), ..checkpoints };
    prepare::native::replace_checkpoints(root, &full)
}

/// Puts a file with this content in the place of another.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    match nofollow::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    nofollow::create_new(&new, FILE_MODE)?.write_all(content)?;
    nofollow::rename(&new, path)
}

/// Prepares what the chain came to, and puts it in its place.
fn finish(
    options: &ReceiveOptions,
    staging: Staging,
    book: StreamMetadata,
    summary: &mut ReceiveSummary,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<()> {
    let shares = Shares::of(options.use_memory);
    let budget = Budget::new(shares.kept());
    let memory = Memory { budget: &budget, redo: shares.redo(0) };
    let (outside, external) = place_external(options, &staging, &book, stop)?;
    let staged = Staged { staging, outside, external, early: None };
    staged.finish(options, &book, &memory.means(options, progress, stop), summary)
}

/// Moves the files that lay outside the source's datadir to where the mappings say.
fn place_external(
    options: &ReceiveOptions,
    staging: &Staging,
    book: &StreamMetadata,
    stop: &Stop,
) -> Result<(ExternalFiles, Vec<(PathBuf, PathBuf)>)> {
    let mut outside = ExternalFiles::new(staging.owner());
    let mut placed: Vec<(PathBuf, PathBuf)> = Vec::new();
    for external in book.tablespaces()?.external {
        let (place, member) = receiver::external_place(
            &external,
            &options.mappings,
            staging.data(),
            staging.target(),
            &mut outside,
        )?;
        let there = PathBuf::from(&external.file_name);
        if let Some((other, _)) = placed.iter().find(|(_, taken)| *taken == place) {
            return Err(external_files::same_place(other, &there));
        }
        clone_file::move_to(&staging.data().join(member.as_str()), &place, stop)
            .map_err(|e| Error::io(Code::TargetIo, place.display(), e))?;
        placed.push((there, place));
    }
    Ok((outside, placed))
}
