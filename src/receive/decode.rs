//! The decode stage: several threads take one layer off the stream.
//!
//! One at a time takes the next piece of the layer from the stream reader below; then the next one may, while this one decrypts or
//! decompresses its piece. What they make is given on in the order of the stream. No more pieces than there are threads (and
//! two), and of no more bytes than the layer has room for, are on their way at once, whether they are waited for or wait for who
//! reads: memory is bounded by that.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use crate::base::{Code, Error, PageBuffer, Result, Stop};
use crate::codec::{Decoder, Piece, PieceDecoder};
use crate::transport::StreamReader;

/// What is kept of buffers that are not in use, as a share of what pieces on their way may take.
const SPARES_SHARE: usize = 2;

/// The reader under a layer.
pub(super) struct DecodeStage<'a> {
    shared: Arc<Shared<'a>>,
    /// The reader below.
    current: PageBuffer,
    read: usize,
}

struct Shared<'a> {
    intake: Mutex<Intake<'a>>,
    queue: Mutex<Queue>,
    /// A piece was opened, or taken.
    moved: Condvar,
    quit: Arc<Stop>,
    /// Layers can make any number of bytes of a few: the stream reader at the bottom, which looks at it too, may never be asked again.
    stop: &'a Stop,
}

/// The layer as it comes in.
struct Intake<'a> {
    stream_reader: Box<dyn StreamReader + 'a>,
    undo: Decoder,
    next: u64,
    ended: bool,
}

/// Pieces on their way, in the order of the stream.
struct Queue {
    /// Number of the first.
    first: u64,
    slots: VecDeque<Slot>,
    slots_max: usize,
    /// Bytes of all slots, and what they may be; one slot may have more.
    bytes: usize,
    bytes_max: usize,
    spares: Vec<PageBuffer>,
    /// Nothing follows the last slot.
    ended: bool,
    /// Nobody reads any more.
    closed: bool,
    /// The error that ended it. Every later call, from any thread, gets the same.
    failed: Option<Failure>,
}

struct Slot {
    /// Bytes of memory that it takes.
    bytes: usize,
    /// `None` while it is being opened.
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
    /// Takes `undo`'s layer off what `stream_reader` brings, with `threads` threads of `scope`. Pieces take some `room` bytes.
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
        // From here on it is dropped, and so ends its threads, also where not all could be started.
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
            // All three ways out of this leave the position at the start of what is there.
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
            // One of the threads may wait for bytes that nobody wants any more.
            self.shared.quit.request("its end");
        }
        drop(queue);
        self.shared.moved.notify_all();
    }
}

impl Shared<'_> {
    /// One thread's share.
    fn work(&self) {
        let mut opener = PieceDecoder::default();
        let mut spare = None;
        while let Some((number, piece)) = self.next(&mut spare) {
            let opened = piece.and_then(|piece| {
                let buffer = spare.take().unwrap_or_default();
                catch_unwind(AssertUnwindSafe(|| piece.open(&mut opener, buffer)))
                    .unwrap_or_else(|_| {
                        // Whoever waits for this piece must not wait for good.
                        Err(crate::codec::CodecError::Internal("opening a piece of a layer panicked".into()))
                    })
                    .map_err(Error::from)
            });
            self.put(number, opened);
        }
    }

    /// The next piece, or what is wrong with it; `None` if there is no more to do.
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

    /// The next opened piece; `None` at the end of the stream.
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

    /// Whether nothing more is wanted of the layer below.
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

    /// The first piece, if it was opened.
    fn pop(&mut self) -> Option<Result<PageBuffer>> {
        let piece = self.slots.front_mut()?.piece.take()?;
        self.bytes -= self.slots.pop_front().map_or(0, |slot| slot.bytes);
        self.first += 1;
        if let Err(e) = &piece {
            // What follows a failure is nothing that anybody sent.
            self.closed = true;
            self.failed = Some(Failure { code: e.code, message: e.to_string(), hint: e.hint.clone() });
        }
        Some(piece)
    }
}

impl Intake<'_> {
    /// Reads on to the next piece; `None` at the end of the layer.
    fn next(&mut self, spare: &mut Option<PageBuffer>, shared: &Shared<'_>) -> Result<Option<Piece>> {
        if self.ended {
            return Ok(None);
        }
        loop {
            if shared.is_over() {
                // Whoever reads is told the reason by the one who asked for it.
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
