//! Implements the decode stage, in which several threads remove one layer from the stream.
//!
//! One thread at a time takes the next piece of the layer from the stream reader below. Then the next thread
//! may, while this one decrypts or decompresses its piece. The results are passed on in the order of the
//! stream. The number of pieces in progress, undecoded or waiting to be read, is limited to the number of
//! threads plus two, and their bytes are limited to the room of the layer: this bounds the memory.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use crate::base::{Code, Error, PageBuffer, Result, Stop};
use crate::codec::{Decoder, Piece, PieceDecoder};
use crate::transport::StreamReader;

/// Divisor: unused buffers that are kept may take this share of the bytes that pieces in progress may take.
const SPARES_SHARE: usize = 2;

/// The stream reader of a layer's content.
pub(super) struct DecodeStage<'a> {
    shared: Arc<Shared<'a>>,
    /// Decoded piece that is being read.
    current: PageBuffer,
    read: usize,
}

struct Shared<'a> {
    intake: Mutex<Intake<'a>>,
    queue: Mutex<Queue>,
    /// Notified when a piece was decoded, or taken.
    moved: Condvar,
    quit: Arc<Stop>,
    /// Checked here too: a layer can make any number of bytes out of a few, so that the stream reader at the
    /// bottom, which also checks it, may never be called again.
    stop: &'a Stop,
}

/// The input of the layer.
struct Intake<'a> {
    stream_reader: Box<dyn StreamReader + 'a>,
    undo: Decoder,
    next: u64,
    ended: bool,
}

/// Pieces in progress, in the order of the stream.
struct Queue {
    /// Number of the first piece.
    first: u64,
    slots: VecDeque<Slot>,
    slots_max: usize,
    /// Number of bytes of all slots, and their limit; a single slot may exceed it.
    bytes: usize,
    bytes_max: usize,
    spares: Vec<PageBuffer>,
    /// True if nothing follows the last slot.
    ended: bool,
    /// True once nobody reads any more.
    closed: bool,
    /// Error that ended it. Every later call, from any thread, gets the same.
    failed: Option<Failure>,
}

struct Slot {
    /// Number of bytes of memory that the slot takes.
    bytes: usize,
    /// Decoded piece; `None` while it is being decoded.
    piece: Option<Result<PageBuffer>>,
}

struct Failure {
    code: Code,
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn error(&self) -> Error {
        Error { hint: self.hint.clone(), ..Error::new(self.code, self.message.clone()) }
    }
}

impl<'a> DecodeStage<'a> {
    /// Starts to remove the layer of the decoder `undo` from the bytes of `stream_reader`, with `threads`
    /// threads of `scope`. Pieces take some `room` bytes.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        stream_reader: Box<dyn StreamReader + 'a>,
        undo: Decoder,
        (threads, room): (usize, usize),
        stop: &'a Stop,
    ) -> Result<DecodeStage<'a>>
    where
        'a: 'scope,
    {
        let quit = stream_reader.quit();
        let queue = Queue {
            first: 0,
            slots: VecDeque::new(),
            slots_max: threads + 2,
            bytes: 0,
            bytes_max: room,
            spares: Vec::new(),
            ended: false,
            closed: false,
            failed: None,
        };
        let shared = Arc::new(Shared {
            intake: Mutex::new(Intake { stream_reader, undo, next: 0, ended: false }),
            queue: Mutex::new(queue),
            moved: Condvar::new(),
            quit,
            stop,
        });
        // From here on, dropping it ends its threads, even if not all of them could be started.
        let unwrap = DecodeStage { shared, current: PageBuffer::default(), read: 0 };
        for n in 0..threads {
            let shared = unwrap.shared.clone();
            std::thread::Builder::new()
                .name(format!("layer-{n}"))
                .spawn_scoped(scope, move || shared.work())
                .map_err(|e| Error::new(Code::Internal, "can't start a thread").cause(e))?;
        }
        Ok(unwrap)
    }
}

impl StreamReader for DecodeStage<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while self.read == self.current.len() {
            // Whatever `take` returns, the position is then at the start of the current piece.
            let spent = std::mem::take(&mut self.current);
            self.read = 0;
            match self.shared.take(spent)? {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let n = into.len().min(self.current.len() - self.read);
        into[..n].copy_from_slice(&self.current[self.read..][..n]);
        self.read += n;
        Ok(n)
    }

    fn quit(&self) -> Arc<Stop> {
        self.shared.quit.clone()
    }
}

impl Drop for DecodeStage<'_> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.closed = true;
        if !queue.ended {
            // One of the threads may be waiting for bytes that nobody needs any more.
            self.shared.quit.request("its end");
        }
        drop(queue);
        self.shared.moved.notify_all();
    }
}

impl Shared<'_> {
    /// Does the work of one thread.
    fn work(&self) {
        let mut opener = PieceDecoder::default();
        let mut spare = None;
        while let Some((number, piece)) = self.next(&mut spare) {
            let opened = piece.and_then(|piece| {
                let buffer = spare.take().unwrap_or_default();
                catch_unwind(AssertUnwindSafe(|| piece.open(&mut opener, buffer)))
                    .unwrap_or_else(|_| {
                        // A thread that waits for this piece must not wait forever.
                        Err(crate::codec::CodecError::Internal("opening a piece of a layer panicked".into()))
                    })
                    .map_err(Error::from)
            });
            self.put(number, opened);
        }
    }

    /// Returns the next piece, or its error; `None` if there is no more to do.
    fn next(&self, spare: &mut Option<PageBuffer>) -> Option<(u64, Result<Piece>)> {
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        if intake.ended {
            return None;
        }
        let mut queue = self.queue();
        while !queue.closed && queue.is_full() {
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return None;
        }
        if spare.is_none() {
            *spare = queue.spares.pop();
        }
        drop(queue);
        let piece = catch_unwind(AssertUnwindSafe(|| intake.next(spare, self)))
            .unwrap_or_else(|_| Err(Error::new(Code::Internal, "a layer's reader panicked")));
        intake.ended |= piece.is_err();
        let piece = piece.transpose();
        let mut queue = self.queue();
        match piece {
            Some(piece) => {
                intake.next += 1;
                let bytes = piece.as_ref().map_or(0, Piece::memory);
                queue.bytes += bytes;
                queue.slots.push_back(Slot { bytes, piece: None });
                // Nothing is to be expected behind a failure.
                queue.ended |= intake.ended;
                Some((intake.next - 1, piece))
            }
            None => {
                intake.ended = true;
                queue.ended = true;
                drop(queue);
                self.moved.notify_all();
                None
            }
        }
    }

    fn put(&self, number: u64, piece: Result<PageBuffer>) {
        let mut queue = self.queue();
        let slot = (number - queue.first) as usize;
        queue.slots[slot].piece = Some(piece);
        drop(queue);
        self.moved.notify_all();
    }

    /// Returns the next decoded piece; `None` at the end of the stream.
    fn take(&self, spent: PageBuffer) -> Result<Option<PageBuffer>> {
        self.stop.check()?;
        let mut queue = self.queue();
        queue.keep(spent);
        loop {
            if let Some(failure) = &queue.failed {
                return Err(failure.error());
            }
            if let Some(piece) = queue.pop() {
                drop(queue);
                self.moved.notify_all();
                return piece.map(Some);
            }
            if queue.ended && queue.slots.is_empty() {
                return Ok(None);
            }
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns whether no more bytes of the layer below are needed.
    fn is_over(&self) -> bool {
        self.stop.requested() || self.quit.requested()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_full(&self) -> bool {
        self.slots.len() >= self.slots_max || self.bytes >= self.bytes_max
    }

    /// Keeps a buffer for another piece.
    fn keep(&mut self, spent: PageBuffer) {
        let kept: usize = self.spares.iter().map(PageBuffer::capacity).sum();
        if spent.capacity() > 0
            && self.spares.len() < self.slots_max
            && kept + spent.capacity() <= self.bytes_max / SPARES_SHARE
        {
            self.spares.push(spent);
        }
    }

    /// Takes the first piece, if it was decoded.
    fn pop(&mut self) -> Option<Result<PageBuffer>> {
        let piece = self.slots.front_mut()?.piece.take()?;
        self.bytes -= self.slots.pop_front().map_or(0, |slot| slot.bytes);
        self.first += 1;
        if let Err(e) = &piece {
            // Data that follows a failure can't be trusted.
            self.closed = true;
            self.failed = Some(Failure { code: e.code, message: e.to_string(), hint: e.hint.clone() });
        }
        Some(piece)
    }
}

impl Intake<'_> {
    /// Reads up to the next piece; `None` at the end of the layer.
    fn next(&mut self, spare: &mut Option<PageBuffer>, shared: &Shared<'_>) -> Result<Option<Piece>> {
        if self.ended {
            return Ok(None);
        }
        loop {
            if shared.is_over() {
                // The reader learns the reason from whoever requested the stop.
                shared.stop.check()?;
                shared.quit.check()?;
            }
            if let Some(piece) = self.undo.poll(spare)? {
                return Ok(Some(piece));
            }
            match self.stream_reader.read(self.undo.space())? {
                0 => {
                    self.ended = true;
                    return Ok(self.undo.finish()?);
                }
                n => self.undo.filled(n),
            }
        }
    }
}
