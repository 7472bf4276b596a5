//! Defines the trait for reading a stream.

use std::sync::Arc;

use crate::base::{Result, Stop};

/// A source of a stream's bytes. Layers (decryption, decompression) read from one and implement it too.
pub trait StreamReader: Send {
    /// Reads some bytes; 0 is the end.
    ///
    /// # Errors
    /// [`Code::StreamIo`](crate::base::Code::StreamIo) and those of the connection;
    /// [`Code::Interrupted`](crate::base::Code::Interrupted) once a stop was requested.
    fn read(&mut self, into: &mut [u8]) -> Result<usize>;

    /// Returns a request that ends a wait for bytes as a stop request does, but for this stream only: its
    /// further bytes are not needed.
    fn quit(&self) -> Arc<Stop>;
}
