//! Recognises the layers around a stream by their first bytes, and sets up the stages that remove them.

use std::sync::Arc;
use std::thread::Scope;

use crate::base::progress::Progress;
use crate::base::{Budget, Code, Error, Result, Stop};
use crate::codec::age::{ARMOR_MAGIC, Keys};
use crate::codec::zstd::WINDOW_LOG_MAX;
use crate::codec::{self, Decoder, Layer, MAGIC_MAX, PIECE_MAX, SKIPPABLE_HEAD};
use crate::stream::frame::MAGIC;
use crate::transport::StreamReader;

use super::decode::DecodeStage;

/// Maximum number of layers around each other: more than anybody has a use for.
const LAYERS_MAX: usize = 4;
/// Number of bytes that the pieces of a layer may take, by the depth of the layer. It is enough for
/// `ROOM_THREADS` threads; each further thread adds `ROOM_EACH` bytes.
const ROOM: [usize; LAYERS_MAX] = [16 << 20, 16 << 20, 4 << 20, 4 << 20];
const ROOM_THREADS: usize = 8;
const ROOM_EACH: usize = 2 << 20;
/// Number of bytes that all windows of compressed frames may take together when the layers are opened: one of
/// the greatest accepted length, and one of the usual length.
pub(super) const WINDOWS_MAX: u64 = (1 << WINDOW_LOG_MAX) + (9 << 20);
/// Returns the number of bytes that the layers take at most: pieces in progress, pieces that are being read,
/// unused buffers, and input that was read and not parsed yet.
pub(super) fn memory(layers: usize, threads: usize) -> u64 {
    let pieces: usize = (0..layers).map(|depth| room(depth, threads)).sum();
    (pieces + pieces / 2 + layers * 4 * PIECE_MAX) as u64
}

fn room(depth: usize, threads: usize) -> usize {
    ROOM[depth.min(LAYERS_MAX - 1)] + threads.min(THREADS_MAX).saturating_sub(ROOM_THREADS) * ROOM_EACH
}

/// Maximum number of threads; more gain nothing for one layer.
const THREADS_MAX: usize = 16;
/// Number of bytes that are discarded at a time from a frame that is to be skipped.
const SKIP_LEN: usize = 64 << 10;
/// Maximum number of bytes of such frames before a layer: the content of them costs the author of an
/// enclosing layer nothing.
const SKIPPED_MAX: u64 = 64 << 20;

/// Formats that can't be decoded here: first bytes, description, and the command to put before xbrecv.
const OTHERS: &[(&[u8], &str, &str)] = &[
    (ARMOR_MAGIC, "an armored age file", "age -d -i KEYFILE"),
    (b"\x02\x21\x4C\x18", "compressed with lz4 in its old format", "lz4 -d"),
    (b"\x1F\x8B", "compressed with gzip", "gzip -d"),
    (b"\xFD7zXZ\x00", "compressed with xz", "xz -d"),
    (b"BZh", "compressed with bzip2", "bzip2 -d"),
];

/// An xbstream, with all layers removed.
pub(super) struct Opened<'a> {
    /// Reader of the rest of the stream.
    pub(super) stream_reader: Box<dyn StreamReader + 'a>,
    /// First bytes of the stream.
    pub(super) head: Vec<u8>,
    /// Layers around the stream, from the outside in.
    pub(super) layers: Vec<Layer>,
}

/// The resources that removing layers may use, and the request that ends it.
pub(super) struct Resources<'a> {
    pub(super) threads: usize,
    /// Budget for windows of compressed frames.
    pub(super) budget: &'a Budget,
    /// Number of bytes that deriving a key from a passphrase may take.
    pub(super) hardening: u64,
    pub(super) stop: &'a Stop,
}

/// Removes all layers from the stream that `stream_reader` brings.
///
/// # Errors
/// [`Code::StreamTruncated`] if nothing comes; [`Code::StreamCorrupt`], with a hint, if the content is not an
/// xbstream; [`Code::NoKey`] and [`Code::WrongKey`] if the stream is encrypted.
pub(super) fn open<'scope, 'a: 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut stream_reader: Box<dyn StreamReader + 'a>,
    keys: &Keys,
    means: &Resources<'a>,
) -> Result<Opened<'a>> {
    let mut layers = Vec::new();
    loop {
        let head = first_bytes(&mut *stream_reader)?;
        let Some(layer) = Layer::of(&head) else {
            check(&head)?;
            return Ok(Opened { stream_reader, head, layers });
        };
        if layers.len() == LAYERS_MAX {
            let message = format!("there are more than {LAYERS_MAX} layers of compression and encryption");
            return Err(Error::new(Code::StreamRefused, message));
        }
        let threads = means.threads.clamp(1, THREADS_MAX);
        let means_of_layer = (threads, room(layers.len(), threads));
        layers.push(layer);
        let mut undo = Decoder::new(layer, keys).within(means.budget, means.hardening);
        undo.space()[..head.len()].copy_from_slice(&head);
        undo.filled(head.len());
        stream_reader = Box::new(DecodeStage::start(scope, stream_reader, undo, means_of_layer, means.stop)?);
    }
}

/// Returns the first bytes, behind frames that are to be skipped.
fn first_bytes(stream_reader: &mut dyn StreamReader) -> Result<Vec<u8>> {
    let (mut head, mut skipped) = (Vec::new(), 0);
    loop {
        fill(stream_reader, &mut head)?;
        let Some(len) = codec::skippable(&head) else { return Ok(head) };
        skipped += SKIPPABLE_HEAD as u64 + len;
        if skipped > SKIPPED_MAX {
            let message =
                format!("the stream begins with more than {SKIPPED_MAX} bytes that are to be skipped");
            return Err(Error::new(Code::StreamRefused, message));
        }
        skip(stream_reader, &mut head, SKIPPABLE_HEAD as u64 + len)?;
    }
}

/// Reads until `head` has as many bytes as are needed, or the stream ends.
fn fill(stream_reader: &mut dyn StreamReader, head: &mut Vec<u8>) -> Result<()> {
    let mut filled = head.len();
    head.resize(MAGIC_MAX, 0);
    while filled < head.len() {
        match stream_reader.read(&mut head[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    head.truncate(filled);
    Ok(())
}

/// Skips `len` bytes, of which the first are in `head`.
fn skip(stream_reader: &mut dyn StreamReader, head: &mut Vec<u8>, len: u64) -> Result<()> {
    let known = (head.len() as u64).min(len);
    head.drain(..known as usize);
    let mut left = len - known;
    let mut buffer = vec![0; SKIP_LEN];
    while left > 0 {
        let wanted = left.min(SKIP_LEN as u64) as usize;
        match stream_reader.read(&mut buffer[..wanted])? {
            0 => {
                return Err(Error::new(
                    Code::StreamTruncated,
                    "the stream ends in a frame that is to be skipped",
                ));
            }
            n => left -= n as u64,
        }
    }
    Ok(())
}

fn check(head: &[u8]) -> Result<()> {
    if head.is_empty() {
        return Err(Error::new(Code::StreamTruncated, "nothing came on standard input")
            .hint("the sender failed before it sent anything: look at its messages"));
    }
    let begins = |magic: &[u8]| head.starts_with(magic) || magic.starts_with(head);
    if begins(&MAGIC) {
        return Ok(());
    }
    match OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        Some((_, what, tool)) => {
            Err(Error::new(Code::StreamCorrupt, format!("the stream is {what}, which is not undone here"))
                .hint(format!("put the tool in front: {tool} | xbrecv DIR")))
        }
        None => Err(Error::new(
            Code::StreamCorrupt,
            format!(
                "this is no xbstream (it begins with '{}')",
                head[..head.len().min(MAGIC.len())].escape_ascii()
            ),
        )
        .hint("xbrecv reads what xbsend writes, or mbstream -c and xbstream -c with --allow-no-manifest")),
    }
}

/// A stream reader that counts the bytes that come in.
pub(super) struct Counted<'a> {
    stream_reader: &'a mut dyn StreamReader,
    progress: &'a Progress,
}

impl<'a> Counted<'a> {
    pub(super) fn new(stream_reader: &'a mut dyn StreamReader, progress: &'a Progress) -> Counted<'a> {
        Counted { stream_reader, progress }
    }
}

impl StreamReader for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let n = self.stream_reader.read(into)?;
        Progress::add(&self.progress.bytes_wire, n as u64);
        Ok(n)
    }

    fn quit(&self) -> Arc<Stop> {
        self.stream_reader.quit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_undone_is_named_with_its_tool() {
        for (head, tool) in [
            (&b"-----BEGIN AGE ENCRYPTED FILE-----\n"[..], "age -d"),
            (b"\x02\x21\x4C\x18\x64\x40\xA7\x00", "lz4 -d"),
            (b"\x1F\x8B\x08\x00", "gzip -d"),
        ] {
            let e = check(head).unwrap_err();
            assert_eq!(e.code, Code::StreamCorrupt);
            assert!(e.hint.unwrap().contains(tool));
        }
    }

    #[test]
    fn only_xbstreams_pass() {
        check(b"XBSTCK01\0P").unwrap();
        // The stream is cut short; the demuxer says where.
        check(b"XBST").unwrap();
        assert_eq!(check(b"").unwrap_err().code, Code::StreamTruncated);
        assert_eq!(check(b"CREATE TABLE t").unwrap_err().code, Code::StreamCorrupt);
    }
}
