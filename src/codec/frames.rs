//! Splits a layer into frames of zstd or lz4, one behind the other.
//!
//! The end of a frame follows from the lengths of its blocks, without decompressing it. Frames whose headers
//! say that they are small are gathered and given out whole, for any thread to decompress. All others (a
//! whole stream in one frame, as the zstd and lz4 programs make it) are decompressed here, as their bytes
//! arrive.

use crate::base::{Budget, Charge, PageBuffer};

use super::input_buffer::InputBuffer;
use super::{CodecError, Layer, PIECE_MAX, SKIPPABLE_HEAD, may_be_skippable, skippable};

/// Content, and bytes, of the frames that are given out together, if so many are available.
const BATCH: usize = 1 << 20;
/// Number of bytes without content (empty frames and blocks, frames to be skipped) that are accepted, beyond
/// `BARREN_SHARE` times the content of all frames. In a layer within a layer, such bytes cost the author of
/// the stream nothing.
const BARREN_MAX: u64 = 64 << 20;
const BARREN_SHARE: u64 = 16;
/// Name of the charge for the memory of frames that are decompressed as they arrive.
const WINDOWS: &str = "the windows of compressed frames";

/// Checks that `bytes`, as far as they are there, begin with a frame's magic number.
pub(super) fn check_magic(bytes: &[u8], magic: u32) -> Result<(), Fault> {
    let magic = magic.to_le_bytes();
    let known = bytes.len().min(magic.len());
    match bytes[..known] == magic[..known] {
        true => Ok(()),
        false => Err(Fault::corrupt("what follows is no frame")),
    }
}

/// The format of a layer's frames.
pub(super) trait FrameFormat {
    /// Layer that the frames belong to.
    const LAYER: Layer;
    /// The header of a frame, decoded.
    type Head: Head;
    /// Decompressor of a frame as its bytes arrive.
    type Stream: Stream;

    /// Reads a frame's header; `None` if more bytes are needed.
    fn head(bytes: &[u8]) -> Result<Option<Self::Head>, Fault>;
    /// Returns the distance from the first byte of a block to what follows the block; `None` if more bytes
    /// are needed.
    fn block(head: &Self::Head, bytes: &[u8]) -> Result<Option<Block>, Fault>;
    /// Returns the number of bytes of memory that decompressing a frame as it arrives takes.
    fn memory(head: &Self::Head) -> u64;
    /// Begins to decompress from the first byte of the frame.
    fn stream(head: &Self::Head) -> Result<Self::Stream, Fault>;
}

/// The header of a frame.
pub(super) trait Head {
    /// Returns the length of the header in bytes.
    fn len(&self) -> usize;
    /// Returns the length of the frame's content, if the header holds it.
    fn content(&self) -> Option<u64>;
}

/// The distance from a block to the next part of the frame.
pub(super) enum Block {
    /// Distance to another block, or to the mark that there is none.
    Next(usize),
    /// Distance to the end of the frame.
    End(usize),
}

/// A part of a layer, as it was found.
pub(super) enum Found {
    /// Content of a frame that is too long to be kept whole.
    Plain(PageBuffer),
    /// Whole frames.
    Frames(Batch),
}

/// Looks for the end of a frame, from its first byte on.
struct Scan<F: FrameFormat> {
    head: Option<F::Head>,
    /// Offset of the next block.
    at: usize,
    end: Option<usize>,
}

impl<F: FrameFormat> Scan<F> {
    fn new() -> Self {
        Scan { head: None, at: 0, end: None }
    }

    /// Looks at the bytes of the frame that are present (`bytes` only gets longer from call to call); returns
    /// the frame's length once it is known.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let head = match &self.head {
            Some(head) => head,
            None => {
                let Some(head) = F::head(bytes)? else { return Ok(None) };
                self.at = head.len();
                self.head.insert(head)
            }
        };
        while self.end.is_none() {
            match F::block(head, bytes.get(self.at..).unwrap_or_default())? {
                None => return Ok(None),
                Some(Block::Next(len)) => self.at += len,
                Some(Block::End(len)) => self.end = Some(self.at + len),
            }
        }
        Ok(self.end.filter(|end| *end <= bytes.len()))
    }
}

/// Decompresses a frame as it arrives.
pub(super) trait Stream {
    /// Takes some of `bytes` and writes to `out`.
    fn run(&mut self, bytes: &[u8], out: &mut PageBuffer) -> Result<Ran, Fault>;
}

/// Result of one step of a [`Stream`].
pub(super) struct Ran {
    /// Number of bytes taken.
    pub(super) taken: usize,
    /// Number of bytes written.
    pub(super) written: usize,
    /// True once the frame has ended.
    pub(super) ended: bool,
}

/// Defects of a frame.
#[derive(Debug)]
pub(super) enum Fault {
    /// The frame breaks the format.
    Corrupt(String),
    /// The frame exceeds a limit.
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
    /// Offset of the first frame.
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// Length of their content, according to their headers.
    pub(super) content: usize,
}

/// Splits a layer into frames.
pub(super) struct Frames<F: FrameFormat> {
    state: State<F>,
    /// Offset of the current frame.
    frame_at: u64,
    /// Whole frames at the start of the unread bytes: their bytes, and their content.
    whole: (usize, usize),
    /// Number of bytes of the layer that are processed, and of the content that they gave.
    taken: u64,
    given: u64,
    window: Charge,
}

enum State<F: FrameFormat> {
    Frame(Scan<F>),
    Skipping(u64),
    Streaming(F::Stream),
}

impl<F: FrameFormat> Frames<F> {
    pub(super) fn new() -> Self {
        let window = Budget::new(u64::MAX).charged(WINDOWS);
        Frames { state: State::Frame(Scan::new()), frame_at: 0, whole: (0, 0), taken: 0, given: 0, window }
    }

    /// Charges windows to `budget`.
    pub(super) fn within(&mut self, budget: &Budget) {
        self.window = budget.charged(WINDOWS);
    }

    pub(super) fn poll(
        &mut self,
        feed: &mut InputBuffer,
        spare: &mut Option<PageBuffer>,
    ) -> Result<Option<Found>, CodecError> {
        loop {
            self.check_barren()?;
            let step = match &mut self.state {
                State::Frame(_) => self.gather(feed)?,
                State::Skipping(left) => {
                    let n = (feed.unread().len() as u64).min(*left);
                    feed.take(n as usize);
                    self.taken += n;
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
                Step::Give(found) => return Ok(Some(found)),
            }
        }
    }

    pub(super) fn finish(&self, feed: &InputBuffer) -> Result<(), CodecError> {
        match &self.state {
            State::Frame(_) if feed.unread().is_empty() => Ok(()),
            State::Skipping(0) => Ok(()),
            _ => Err(CodecError::Cut { layer: F::LAYER, at: feed.end(), unit: "frame" }),
        }
    }

    fn check_barren(&self) -> Result<(), CodecError> {
        match self.taken > BARREN_MAX + self.given.saturating_mul(BARREN_SHARE) {
            false => Ok(()),
            true => {
                let what =
                    format!("there are {} bytes without content", self.taken - self.given.min(self.taken));
                Err(CodecError::Refused { layer: F::LAYER, at: self.frame_at, what })
            }
        }
    }

    fn next_frame(&mut self) -> Step {
        self.state = State::Frame(Scan::new());
        Step::Go
    }

    /// Looks for the end of the current frame. Whole frames are given out once there are enough of them, or
    /// when no more can be added.
    fn gather(&mut self, feed: &mut InputBuffer) -> Result<Step, CodecError> {
        let State::Frame(scan) = &mut self.state else { return Ok(Step::Go) };
        let (whole, content) = self.whole;
        let bytes = &feed.unread()[whole..];
        self.frame_at = feed.at() + whole as u64;
        if let Some(len) = skippable(bytes) {
            if whole > 0 {
                return Ok(self.give(feed));
            }
            feed.take(SKIPPABLE_HEAD);
            self.taken += SKIPPABLE_HEAD as u64;
            self.state = State::Skipping(len);
            return Ok(Step::Go);
        }
        if may_be_skippable(bytes) {
            return Ok(if whole > 0 { self.give(feed) } else { Step::Wait });
        }
        let end = scan.advance(bytes).map_err(|f| f.at(F::LAYER, self.frame_at))?;
        let content_said = scan.head.as_ref().and_then(Head::content);
        let small = content_said.is_some_and(|c| c <= PIECE_MAX as u64);
        if let Some(head) = &scan.head
            && (!small || bytes.len() > PIECE_MAX && end.is_none())
        {
            if whole > 0 {
                return Ok(self.give(feed));
            }
            let stream = F::stream(head).map_err(|f| f.at(F::LAYER, self.frame_at))?;
            let memory = F::memory(head).max(self.window.bytes());
            let too_large = |over| CodecError::TooLarge { layer: F::LAYER, at: self.frame_at, over };
            self.window.set(memory).map_err(too_large)?;
            self.state = State::Streaming(stream);
            return Ok(Step::Go);
        }
        match (end, content_said) {
            (Some(len), Some(more)) if content + more as usize <= PIECE_MAX => {
                self.whole = (whole + len, content + more as usize);
                self.state = State::Frame(Scan::new());
                Ok(if self.whole.0.max(self.whole.1) >= BATCH { self.give(feed) } else { Step::Go })
            }
            (Some(_), Some(_)) => {
                self.state = State::Frame(Scan::new());
                Ok(self.give(feed))
            }
            _ if whole > 0 => Ok(self.give(feed)),
            _ => Ok(Step::Wait),
        }
    }

    fn give(&mut self, feed: &mut InputBuffer) -> Step {
        let (whole, content) = std::mem::take(&mut self.whole);
        let at = feed.at();
        self.taken += whole as u64;
        self.given += content as u64;
        Step::Give(Found::Frames(Batch { at, bytes: feed.take(whole).to_vec(), content }))
    }

    /// Continues decompressing the current frame.
    fn run(&mut self, feed: &mut InputBuffer, spare: &mut Option<PageBuffer>) -> Result<Step, CodecError> {
        let State::Streaming(stream) = &mut self.state else { return Ok(Step::Go) };
        let mut out = spare.take().unwrap_or_default();
        let ran = stream.run(feed.unread(), &mut out).map_err(|f| f.at(F::LAYER, self.frame_at))?;
        feed.take(ran.taken);
        self.taken += ran.taken as u64;
        self.given += ran.written as u64;
        let mut step = if ran.taken > 0 { Step::Go } else { Step::Wait };
        if ran.ended {
            step = self.next_frame();
        }
        if ran.written == 0 {
            *spare = Some(out);
            return Ok(step);
        }
        out.resize(ran.written);
        Ok(Step::Give(Found::Plain(out)))
    }
}

enum Step {
    Go,
    Wait,
    Give(Found),
}
