//! Takes a stream as a receiver would: demultiplexer, digests, manifest.

use std::collections::{BTreeMap, HashMap};

use xbpipe::base::{Code, Error};
use xbpipe::stream::digest::BlockDigest;
use xbpipe::stream::manifest::MANIFEST;
use xbpipe::stream::{Chunk, Demux, Event, Limits, Manifest, MemberName, Piece, Received};

/// What was in a stream that was taken.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    pub(crate) manifest: Manifest,
    /// Contents with zeros in place of holes; the manifest left out.
    pub(crate) members: BTreeMap<MemberName, Vec<u8>>,
}

#[derive(Default)]
struct Receiver {
    open: HashMap<MemberName, (BlockDigest, Vec<u8>)>,
    received: Received,
    members: BTreeMap<MemberName, Vec<u8>>,
    manifest: Option<Manifest>,
}

/// Receives `stream` in reads of `step` bytes.
pub(crate) fn receive(stream: &[u8], step: usize) -> Result<Taken, Error> {
    let mut demux = Demux::new(Limits::default());
    let mut receiver = Receiver::default();
    for mut piece in stream.chunks(step) {
        while !piece.is_empty() {
            let taken = demux.feed(piece);
            piece = &piece[taken..];
            while let Some(event) = demux.poll()? {
                receiver.take(event)?;
            }
        }
    }
    demux.finish()?;
    receiver.finish()
}

impl Receiver {
    fn take(&mut self, event: Event) -> Result<(), Error> {
        if self.manifest.is_some() {
            return Err(Error::new(Code::StreamCorrupt, "something follows the manifest"));
        }
        match event {
            Event::Chunk(chunk) => {
                chunk.verify()?;
                let (digest, content) = self.open.entry(chunk.member.clone()).or_default();
                chunk.update(digest);
                append(&chunk, content);
            }
            Event::End { member, size } => {
                let (digest, content) = self.open.remove(&member).unwrap_or_default();
                assert_eq!(content.len() as u64, size);
                let digest = digest.finish(size).expect("the demultiplexer lets no gap through");
                if member.as_str() == MANIFEST {
                    self.manifest = Some(Manifest::parse(&content)?);
                } else {
                    self.received.insert(member.clone(), (size, digest));
                    self.members.insert(member, content);
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Taken, Error> {
        let manifest = self.manifest.ok_or_else(|| Error::new(Code::NoManifest, "no manifest"))?;
        manifest.verify(&self.received)?;
        Ok(Taken { manifest, members: self.members })
    }
}

fn append(chunk: &Chunk, content: &mut Vec<u8>) {
    for (at, piece) in chunk.pieces() {
        assert_eq!(at, content.len() as u64);
        match piece {
            Piece::Hole(n) => content.resize(content.len() + n as usize, 0),
            Piece::Data(bytes) => content.extend_from_slice(bytes),
        }
    }
}
