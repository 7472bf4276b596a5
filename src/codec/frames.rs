//! Frames of zstd or lz4, one behind the other.
//!
//! Where a frame ends can be seen from the lengths of its blocks, without decompressing it. Frames that say that they are
//! small are gathered and given out whole, for any thread to decompress. All others (a whole stream in one frame, as the
//! zstd and lz4 programs make it) are decompressed here, as their bytes come.

use crate::base::PageBuffer;

use super::feed::Feed;
use super::{CodecError, Layer, PIECE_MAX, Piece, SKIPPABLE_HEAD, skippable};

/// Content, and bytes, of the frames that are given out together, if there are that many at hand.
const BATCH: usize = 1 << 20;

/// Looks at a frame from its first byte on. The default is one that has seen nothing.
pub(super) trait Scan: Default {
    /// Which layer it is.
    const LAYER: Layer;
    /// Decompresses a frame as its bytes come.
    type Stream: Stream;

    /// Looks at what is there of the frame (`bytes` only get longer from call to call); says where it ends, once that is
    /// known.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault>;
    /// Whether the head was seen, and then what it says of the size of the content.
    fn content(&self) -> Option<Option<u64>>;
    /// Begins to decompress from the first byte of the frame.
    fn stream(&self) -> Result<Self::Stream, Fault>;
    /// A piece of whole frames.
    fn piece(batch: Batch) -> Piece;
}

/// A frame that is decompressed as it comes.
pub(super) trait Stream {
    /// Takes some of `bytes` and writes to `out`.
    fn run(&mut self, bytes: &[u8], out: &mut PageBuffer) -> Result<Ran, Fault>;
}

/// How far a [`Stream`] came.
pub(super) struct Ran {
    /// Bytes taken.
    pub(super) taken: usize,
    /// Bytes written.
    pub(super) written: usize,
    /// The frame is at its end.
    pub(super) ended: bool,
}

/// What is wrong with a frame.
#[derive(Debug)]
pub(super) enum Fault {
    /// It breaks the format.
    Corrupt(String),
    /// It is beyond a limit.
    Refused(String),
}

impl Fault {
    pub(super) fn corrupt(what: impl ToString) -> Fault {
        Fault::Corrupt(what.to_string())
    }

    pub(super) fn at(self, layer: Layer, at: u64) -> CodecError {
        match self {
            Fault::Corrupt(what) => CodecError::Corrupt { layer, at, what },
            Fault::Refused(what) => CodecError::Refused { layer, at, what },
        }
    }
}

/// Whole frames whose content is [`PIECE_MAX`] bytes at most.
pub struct Batch {
    /// Offset of the first.
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// What they say their content has.
    pub(super) content: usize,
}

/// A stream of frames.
pub(super) struct Frames<S: Scan> {
    state: State<S>,
    /// Offset of the frame in hand.
    frame_at: u64,
    /// Whole frames at the start of what is unread: their bytes, and their content.
    whole: (usize, usize),
}

enum State<S: Scan> {
    Frame(S),
    Skipping(u64),
    Streaming(S::Stream),
}

impl<S: Scan> Frames<S> {
    pub(super) fn new() -> Self {
        Frames { state: State::Frame(S::default()), frame_at: 0, whole: (0, 0) }
    }

    pub(super) fn poll(
        &mut self,
        feed: &mut Feed,
        spare: &mut Option<PageBuffer>,
    ) -> Result<Option<Piece>, CodecError> {
        loop {
            let step = match &mut self.state {
                State::Frame(_) => self.gather(feed)?,
                State::Skipping(left) => {
                    let n = (feed.unread().len() as u64).min(*left);
                    feed.take(n as usize);
                    *left -= n;
                    match (*left, n) {
                        (0, _) => self.next_frame(),
                        (_, 0) => Step::Wait,
                        _ => Step::Go,
                    }
                }
                State::Streaming(_) => self.run(feed, spare)?,
            };
            match step {
                Step::Go => {}
                Step::Wait => return Ok(None),
                Step::Give(piece) => return Ok(Some(piece)),
            }
        }
    }

    pub(super) fn finish(&self, feed: &Feed) -> Result<(), CodecError> {
        match &self.state {
            State::Frame(_) if feed.unread().is_empty() => Ok(()),
            State::Skipping(0) => Ok(()),
            _ => Err(CodecError::Cut { layer: S::LAYER, at: feed.end(), unit: "frame" }),
        }
    }

    fn next_frame(&mut self) -> Step {
        self.state = State::Frame(S::default());
        Step::Go
    }

    /// Looks for the end of the frame in hand; whole ones are given out when there are enough, or no more.
    fn gather(&mut self, feed: &mut Feed) -> Result<Step, CodecError> {
        let State::Frame(scan) = &mut self.state else { return Ok(Step::Go) };
        let (whole, content) = self.whole;
        let bytes = &feed.unread()[whole..];
        self.frame_at = feed.at() + whole as u64;
        if let Some(len) = skippable(bytes) {
            if whole > 0 {
                return Ok(self.give(feed));
            }
            feed.take(SKIPPABLE_HEAD);
            self.state = State::Skipping(len);
            return Ok(Step::Go);
        }
        let end = scan.advance(bytes).map_err(|f| f.at(S::LAYER, self.frame_at))?;
        let said = scan.content();
        let small = said.is_none_or(|c| c.is_some_and(|c| c <= PIECE_MAX as u64));
        if !small || bytes.len() > PIECE_MAX && end.is_none() {
            if whole > 0 {
                return Ok(self.give(feed));
            }
            let stream = scan.stream().map_err(|f| f.at(S::LAYER, self.frame_at))?;
            self.state = State::Streaming(stream);
            return Ok(Step::Go);
        }
        match (end, said.flatten()) {
            (Some(len), Some(more)) if content + more as usize <= PIECE_MAX => {
                self.whole = (whole + len, content + more as usize);
                self.state = State::Frame(S::default());
                Ok(if self.whole.0.max(self.whole.1) >= BATCH { self.give(feed) } else { Step::Go })
            }
            (Some(_), Some(_)) => {
                self.state = State::Frame(S::default());
                Ok(self.give(feed))
            }
            _ if whole > 0 => Ok(self.give(feed)),
            _ => Ok(Step::Wait),
        }
    }

    fn give(&mut self, feed: &mut Feed) -> Step {
        let (whole, content) = std::mem::take(&mut self.whole);
        let at = feed.at();
        Step::Give(S::piece(Batch { at, bytes: feed.take(whole).to_vec(), content }))
    }

    /// Decompresses on.
    fn run(&mut self, feed: &mut Feed, spare: &mut Option<PageBuffer>) -> Result<Step, CodecError> {
        let State::Streaming(stream) = &mut self.state else { return Ok(Step::Go) };
        let mut out = spare.take().unwrap_or_default();
        let ran = stream.run(feed.unread(), &mut out).map_err(|f| f.at(S::LAYER, self.frame_at))?;
        feed.take(ran.taken);
        let mut step = if ran.taken > 0 { Step::Go } else { Step::Wait };
        if ran.ended {
            step = self.next_frame();
        }
        if ran.written == 0 {
            *spare = Some(out);
            return Ok(step);
        }
        out.resize(ran.written);
        Ok(Step::Give(Piece::Plain(out)))
    }
}

enum Step {
    Go,
    Wait,
    Give(Piece),
}
