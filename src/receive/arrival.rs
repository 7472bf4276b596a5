//! Receives one stream whole: what arrived is written, and is what the stream's manifest says.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::progress::{Phase, Progress};
use crate::base::{Result, Stop};
use crate::codec::Layer;
use crate::restore::file_writer::Finished;
use crate::restore::{ExternalFiles, PathMap, Received};

use super::layers::Opened;
use super::receiver::{Place, Receiver, Written};

pub(super) use super::receiver::Hooks;
use super::stream_metadata::StreamMetadata;
use super::streaming_prepare::StreamingPrepare;
use super::{Memory, ReceiveOptions, workers};

/// A stream that has arrived whole, as its manifest says.
pub(super) struct Arrived {
    /// Sizes and digests of its members.
    pub(super) received: Received,
    /// What it says of itself.
    pub(super) book: StreamMetadata,
    /// Whether there was a manifest to verify against.
    pub(super) has_manifest: bool,
    /// Files outside the target, staged.
    pub(super) outside: ExternalFiles,
    /// Paths of files that lay outside the source's datadir: there, and where they are staged.
    pub(super) external: Vec<(PathBuf, PathBuf)>,
    /// The prepare that was begun.
    pub(super) early: Option<StreamingPrepare>,
    /// Layers around the stream, from the outside in.
    pub(super) layers: Vec<Layer>,
    /// Number of pages that were laid over the base's datafiles on the way; `None` if they stand in files.
    pub(super) overlaid: Option<u64>,
    /// Notes for the user.
    pub(super) notes: Vec<String>,
}

/// Receives the stream in `opened`.
///
/// # Errors
/// Whatever is wrong with it; what was written is to be thrown away then.
pub(super) fn receive(
    options: &ReceiveOptions,
    memory: &Memory<'_>,
    mut opened: Opened<'_>,
    place: Option<Place<'_>>,
    hooks: Hooks<'_>,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<Arrived> {
    let Hooks { fits, tap } = hooks;
    let hooks = Hooks {
        fits: &mut *fits,
        tap: match tap {
            Some(tap) => Some(&mut *tap),
            None => None,
        },
    };
    let mut receiver = Receiver::new(options, memory, place, &mut *opened.stream_reader, hooks, progress)?;
    receiver.demux.feed(&opened.head);
    let receiver = workers::run(receiver, options.parallel, stop)?;
    let Written { files, mut book, outside, external, early } = receiver.into_written();
    drop(opened.stream_reader);

    progress.enter(Phase::Finishing);
    let Finished { received, places, overlaid } = files.finish()?;
    let has_manifest = book.verify(&received, options.allow_no_manifest)?;
    let aside = places.iter().flat_map(PathMap::set_aside);
    let notes = aside
        .map(|(member, name)| format!("{member} was set aside as {name}: it would configure your server"))
        .collect();
    let layers = opened.layers;
    Ok(Arrived { received, book, has_manifest, outside, external, early, layers, notes, overlaid })
}
