//! The trait for reading a stream.

use std::sync::Arc;

use crate::base::{Result, Stop};

/// The source of a stream's bytes. Layers (decryption, decompression) read from one and are one.
pub trait StreamReader: Send {
    /// Reads some bytes; 0 is the end.
    ///
    /// # Errors
    /// [`Code::StreamIo`](crate::base::Code::StreamIo) and what the line has to say;
    /// [`Code::Interrupted`](crate::base::Code::Interrupted) once a stop was asked for.
    fn read(&mut self, into: &mut [u8]) -> Result<usize>;

    /// Ends a wait for bytes as a stop request does, but for this stream only: what it brings is of no use any more.
    fn quit(&self) -> Arc<Stop>;
}
