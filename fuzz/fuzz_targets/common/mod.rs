//! What the targets of all layers do.

use std::io::IoSlice;
use std::sync::{Arc, Mutex};

use xbpipe::base::Error;
use xbpipe::codec::age::Keys;
use xbpipe::codec::{CodecError, Layer, PieceDecoder, PIECE_MAX, Decoder};
use xbpipe::transport::stream_writer::Sink;
use xbpipe::transport::{StreamWriter, LayerOptions};

/// More than this is not asked of a bomb: the target would only be slow.
const PLAIN_MAX: usize = 32 << 20;

/// Takes a layer off, `step` bytes at a time; gives what came out, and how it ended.
pub fn undo(layer: Layer, keys: &Keys, bytes: &[u8], step: usize) -> (Vec<u8>, Result<(), CodecError>) {
    let mut plain = Vec::new();
    let mut undo = Decoder::new(layer, keys);
    let mut opener = PieceDecoder::default();
    let mut rest = bytes;
    let mut go = |plain: &mut Vec<u8>| {
        loop {
            while let Some(piece) = undo.poll(&mut None)? {
                let opened = piece.open(&mut opener, Default::default())?;
                assert!(opened.len() <= PIECE_MAX);
                plain.extend_from_slice(&opened);
                if plain.len() > PLAIN_MAX {
                    return Ok(());
                }
            }
            if rest.is_empty() {
                break;
            }
            let space = undo.space();
            let n = step.clamp(1, space.len()).min(rest.len());
            space[..n].copy_from_slice(&rest[..n]);
            undo.filled(n);
            rest = &rest[n..];
        }
        if let Some(piece) = undo.finish()? {
            plain.extend_from_slice(&piece.open(&mut opener, Default::default())?);
        }
        Ok(())
    };
    let done = go(&mut plain);
    (plain, done)
}

struct Memory(Arc<Mutex<Vec<u8>>>);

impl Sink for Memory {
    fn write_some(&mut self, parts: &[IoSlice<'_>]) -> Result<usize, Error> {
        let mut bytes = self.0.lock().unwrap();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// `plain` in layers.
pub fn wrap(wraps: LayerOptions, plain: &[u8]) -> Vec<u8> {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let outlet = StreamWriter::wrapped(Box::new(Memory(bytes.clone())), wraps).unwrap();
    outlet.lane().unwrap().write_now(&mut [IoSlice::new(plain)]).unwrap();
    outlet.finish().unwrap();
    drop(outlet);
    Arc::into_inner(bytes).unwrap().into_inner().unwrap()
}

/// Frames: whatever comes, at any split, gives the same; what is made comes back.
pub fn frames(layer: Layer, compression: xbpipe::codec::Compression, data: &[u8]) {
    let Some((&step, data)) = data.split_first() else { return };
    let none = Keys::default();
    let whole = undo(layer, &none, data, usize::MAX);
    let split = undo(layer, &none, data, usize::from(step));
    if whole.0.len() <= PLAIN_MAX {
        // Where a frame is broken, more or less of what is before it may have come out.
        assert_eq!(whole.1.is_ok(), split.1.is_ok());
        assert!(whole.0.starts_with(&split.0) || split.0.starts_with(&whole.0));
    }
    let made = wrap(LayerOptions { compression: Some(compression), cover: None }, data);
    let (plain, done) = undo(layer, &none, &made, usize::from(step) * 7 + 1);
    done.unwrap();
    assert!(plain == data);
}
