//! Streams in their layers, as a sender wraps them.

use std::io::IoSlice;
use std::sync::{Arc, Mutex};

use xbpipe::base::Error;
use xbpipe::codec::age::{self, Recipient};
use xbpipe::transport::stream_writer::Sink;
use xbpipe::transport::{LayerOptions, StreamWriter};

/// Made by age-keygen, for tests only.
pub const RECIPIENT: &str = "age1nyyjgn2j9plgxztywpq6qj9srcmqdrv07jke04tpzgf24nzt7ctqvy08w3";
pub const SECRET: &str = "AGE-SECRET-KEY-1H6WCTZG9EDY89493YKQ3LPAJ4578P838Z0890S04NHQFHMU2U2LST0J2FH";
/// Everything that is written, in memory.
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

pub fn to_recipient() -> Option<age::StreamEncryption> {
    Some(age::cover(&[Recipient::parse(RECIPIENT).unwrap()]).unwrap())
}

/// `pieces`, written by several threads, each in its turn.
pub fn wrap(wraps: LayerOptions, pieces: &[Vec<u8>]) -> Vec<u8> {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let outlet = StreamWriter::wrapped(Box::new(Memory(bytes.clone())), wraps).unwrap();
    const THREADS: usize = 3;
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let outlet = &outlet;
            scope.spawn(move || {
                let mut lane = outlet.lane().unwrap();
                for (ticket, piece) in pieces.iter().enumerate().skip(n).step_by(THREADS) {
                    let (head, tail) = piece.split_at(piece.len() / 3);
                    lane.write_in_turn(ticket as u64, &mut [IoSlice::new(head), IoSlice::new(tail)]).unwrap();
                }
            });
        }
    });
    outlet.finish().unwrap();
    drop(outlet);
    Arc::into_inner(bytes).unwrap().into_inner().unwrap()
}
