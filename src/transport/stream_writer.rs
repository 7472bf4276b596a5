//! Implements the stream writer: many threads write frames into one stream, each in its turn and from its own
//! buffer.
//!
//! A thread that takes a piece of work takes a ticket with it. Reading, checking and hashing go on in
//! parallel; the write itself is done in the order of the tickets, by the thread whose core still has the
//! bytes in its cache, without a copy and without a queue: memory is bounded by one buffer per thread. Redo
//! has no ticket: it is written before the next turn, so that it never waits behind datafiles.
//!
//! Layers around the stream ([`LayerOptions`]) are applied by the same threads. A [`Lane`] compresses the
//! data of its thread into frames of their own, before its turn. Encryption works on chunks of the whole
//! stream, which don't end where a thread's bytes do. So there are two turns. In the first, a thread takes
//! over the bytes that the previous thread left, and leaves those that do not fill a chunk; this also fixes
//! its place in the stream. Then it encrypts its chunks, in parallel with the others. In the second turn it
//! writes them, when their place is reached.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ticket_lock::TicketLock;
use crate::base::{Code, Error, Result, Stop};
use crate::codec::age::{Body, Carry, Sealer, StreamEncryption, TAG};
use crate::codec::{Compression, FrameCompressor};

/// The receiver of the stream's bytes.
pub trait Sink: Send {
    /// Writes some of `parts`, as `writev` does; at least one byte.
    ///
    /// # Errors
    /// [`Code::BrokenPipe`], [`Code::StreamIo`], and those of the connection or the other side.
    fn write_some(&mut self, parts: &[IoSlice<'_>]) -> Result<usize>;

    /// Ends the stream after everything was written: makes it as durable as this sink can, or waits for the
    /// other side's verdict.
    ///
    /// # Errors
    /// Those of [`Sink::write_some`].
    fn finish(&mut self) -> Result<()>;

    /// Returns a request that ends a wait inside this sink from outside, if that is possible; the stream will
    /// then not be finished.
    fn quit(&self) -> Option<Arc<Stop>> {
        None
    }
}

/// The layers around a stream.
#[derive(Default)]
pub struct LayerOptions {
    /// Compression, if there is any.
    pub compression: Option<Compression>,
    /// Encryption around it, if there is any.
    pub cover: Option<StreamEncryption>,
}

/// A stream that several threads write to.
pub struct StreamWriter {
    line: TicketLock<Line>,
    written: Arc<AtomicU64>,
    quit: Option<Arc<Stop>>,
    compression: Option<Compression>,
    seal: Option<Seal>,
}

/// State for cutting the stream into encrypted chunks.
struct Seal {
    entry: TicketLock<Entry>,
    sealer: Sealer,
}

/// State that is handed on from turn to turn.
#[derive(Default)]
struct Entry {
    carry: Carry,
    /// Number of the next place in the stream, which is the ticket for the second turn.
    place: u64,
}

/// One thread's access to the stream.
pub struct Lane<'a> {
    stream_writer: &'a StreamWriter,
    packer: Option<FrameCompressor>,
    body: Body,
    tags: Vec<[u8; TAG]>,
}

impl StreamWriter {
    /// Creates a stream writer whose first turn is ticket 0.
    pub fn new(sink: Box<dyn Sink>) -> StreamWriter {
        let written = Arc::new(AtomicU64::new(0));
        StreamWriter {
            quit: sink.quit(),
            line: TicketLock::new(Line { sink, written: written.clone() }),
            written,
            compression: None,
            seal: None,
        }
    }

    /// Creates a stream writer with layers around its stream.
    ///
    /// # Errors
    /// Those of [`Lane::write_now`]: the header of an encrypted stream is written.
    pub fn wrapped(sink: Box<dyn Sink>, wraps: LayerOptions) -> Result<StreamWriter> {
        let mut stream_writer = StreamWriter::new(sink);
        stream_writer.compression = wraps.compression;
        if let Some(StreamEncryption { head, sealer }) = wraps.cover {
            stream_writer.line.pass(None, |line| line.write(&mut [IoSlice::new(&head)]))?;
            stream_writer.seal = Some(Seal { entry: TicketLock::new(Entry::default()), sealer });
        }
        Ok(stream_writer)
    }

    /// Returns the number of bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Creates access to the stream for one thread.
    ///
    /// # Errors
    /// [`Code::Internal`] if memory is short.
    pub fn lane(&self) -> Result<Lane<'_>> {
        let packer = self.compression.map(FrameCompressor::new).transpose()?;
        Ok(Lane { stream_writer: self, packer, body: Body::default(), tags: Vec::new() })
    }

    /// Prevents all further writes: the stream so far stays without an end.
    pub fn close(&self) {
        // A thread that is inside the sink holds the lock, so the sink's wait is ended by its own request.
        if let Some(quit) = &self.quit {
            quit.request("an error");
        }
        if let Some(seal) = &self.seal {
            seal.entry.close();
        }
        self.line.close();
    }

    /// Ends the stream after all frames were written.
    ///
    /// # Errors
    /// Those of [`Lane::write_now`].
    pub fn finish(&self) -> Result<()> {
        if let Some(Seal { entry, sealer }) = &self.seal {
            let last = entry.finish(|entry| Ok(entry.carry.finish(sealer)?))?;
            self.line.pass(None, |line| line.write(&mut [IoSlice::new(&last)]))?;
        }
        self.line.finish(|line| line.sink.finish())
    }
}

impl Lane<'_> {
    /// Writes all of `parts` when it is `ticket`'s turn, and passes the turn on.
    ///
    /// # Errors
    /// [`Code::BrokenPipe`], [`Code::StreamIo`]; [`Code::GivenUp`] after [`StreamWriter::close`]: another
    /// thread has the reason.
    pub fn write_in_turn(&mut self, ticket: u64, parts: &mut [IoSlice<'_>]) -> Result<()> {
        self.write(Some(ticket), parts)
    }

    /// Writes all of `parts` before the next turn.
    ///
    /// # Errors
    /// Those of [`Lane::write_in_turn`].
    pub fn write_now(&mut self, parts: &mut [IoSlice<'_>]) -> Result<()> {
        self.write(None, parts)
    }

    fn write(&mut self, ticket: Option<u64>, parts: &mut [IoSlice<'_>]) -> Result<()> {
        let stream_writer = self.stream_writer;
        if self.packer.is_none() && stream_writer.seal.is_none() {
            return stream_writer.line.pass(ticket, |line| line.write(parts));
        }
        self.body.clear();
        let bytes = parts.iter().map(|part| &**part);
        match &mut self.packer {
            Some(packer) => packer.pack(bytes, &mut self.body)?,
            None => bytes.for_each(|part| self.body.extend(part)),
        }
        match &stream_writer.seal {
            None => {
                stream_writer.line.pass(ticket, |line| line.write(&mut [IoSlice::new(self.body.bytes())]))
            }
            Some(seal) => self.write_sealed(seal, ticket),
        }
    }

    /// Encrypts and writes the thread's bytes. Bytes that do not fill a chunk are left for the next turn.
    fn write_sealed(&mut self, seal: &Seal, ticket: Option<u64>) -> Result<()> {
        let taken = seal.entry.pass(ticket, |entry| {
            let Some(run) = entry.carry.take(&mut self.body) else { return Ok(None) };
            entry.place += 1;
            Ok(Some((run, entry.place - 1)))
        })?;
        let Some((run, place)) = taken else { return Ok(()) };
        seal.sealer.seal(run, &mut self.body, &mut self.tags)?;
        let mut parts: Vec<_> = self
            .body
            .chunks()
            .zip(&self.tags)
            .flat_map(|(c, tag)| [IoSlice::new(c), IoSlice::new(tag)])
            .collect();
        self.stream_writer.line.pass(Some(place), |line| line.write(&mut parts))
    }
}

/// The sink, with a count of the bytes written to it.
struct Line {
    sink: Box<dyn Sink>,
    written: Arc<AtomicU64>,
}

impl Line {
    fn write(&mut self, parts: &mut [IoSlice<'_>]) -> Result<()> {
        let mut parts = parts;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.sink.write_some(parts)? {
                0 => return Err(Error::new(Code::StreamIo, "the stream takes no more bytes")),
                n => {
                    self.written.fetch_add(n as u64, Ordering::Relaxed);
                    IoSlice::advance_slices(&mut parts, n);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A sink that takes at most three bytes at a time.
    struct Slow(Arc<Mutex<Vec<u8>>>);

    impl Sink for Slow {
        fn write_some(&mut self, parts: &[IoSlice<'_>]) -> Result<usize> {
            let part = parts.iter().find(|p| !p.is_empty()).expect("never called without bytes");
            let n = part.len().min(3);
            self.0.lock().unwrap().extend_from_slice(&part[..n]);
            Ok(n)
        }
        fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn turns_are_kept_and_partial_writes_completed() {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let stream_writer = StreamWriter::new(Box::new(Slow(bytes.clone())));
        std::thread::scope(|scope| {
            for ticket in (0..20u64).rev() {
                let stream_writer = &stream_writer;
                scope.spawn(move || {
                    let text = format!("<{ticket:02}:abcdefg>");
                    let (head, tail) = text.as_bytes().split_at(4);
                    let mut lane = stream_writer.lane().unwrap();
                    lane.write_in_turn(
                        ticket,
                        &mut [IoSlice::new(head), IoSlice::new(b""), IoSlice::new(tail)],
                    )
                    .unwrap();
                });
            }
        });
        stream_writer.finish().unwrap();
        let expected: String = (0..20).map(|t| format!("<{t:02}:abcdefg>")).collect();
        assert_eq!(String::from_utf8(bytes.lock().unwrap().clone()).unwrap(), expected);
        assert_eq!(stream_writer.written(), expected.len() as u64);
    }

    #[test]
    fn a_closed_outlet_frees_who_waits() {
        let stream_writer = StreamWriter::new(Box::new(Slow(Arc::default())));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stream_writer.lane()?.write_in_turn(7, &mut [IoSlice::new(b"x")]));
            stream_writer.close();
            assert_eq!(waiting.join().unwrap().unwrap_err().code, Code::GivenUp);
        });
        assert_eq!(stream_writer.written(), 0);
        assert!(stream_writer.finish().is_err());
    }
}
