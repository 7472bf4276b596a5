//! Control messages and frames: whatever comes, split anywhere, is a frame or refused; a sender and a receiver that are fed
//! with it keep their promises.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use xbpipe::session::{Frame, Frames, Message, Timeouts, Receiver, Sender, Standing};

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let mut sender = Sender::new(None, [1; 32], Timeouts::default(), Duration::ZERO);
    sender.connected(Duration::ZERO);
    sender.write(1 << 20);
    let mut receiver = Receiver::new(None, Timeouts::default());
    // A name that the sender did not make proves nothing; what it says of a failure can be shown.
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(receiver.standing(&text), Standing::Spoke);
    assert_eq!(receiver.standing(&format!("p{text}")), Standing::Spoke);
    let mut frames = Frames::of_control();
    frames.trust(true);
    let (a, b) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let mut now = Duration::ZERO;
    for part in [a, b] {
        frames.buffer().extend_from_slice(part);
        while let Ok(Some(frame)) = frames.poll() {
            now += Duration::from_millis(1);
            match frame {
                Frame::Control(Message::Hello(hello)) => drop(receiver.hello(now, 1, &hello)),
                Frame::Control(message) => {
                    if let Message::Abort(failure) = &message {
                        let shown = failure.sanitized();
                        assert!(!shown.message.contains(char::is_control) && shown.message.len() <= 2000);
                    }
                    drop(receiver.receive(now, message.clone()));
                    drop(sender.receive(now, message));
                }
                Frame::Data { offset, bytes } => drop(receiver.took(now, offset..offset + bytes.len() as u64)),
            }
            while let Some(range) = sender.poll_segment(now, |_| 65_536) {
                assert!(range.end <= 1 << 20);
            }
            while sender.poll_message(now).is_some() {}
            while receiver.poll_message(now).is_some() {}
            assert!(sender.released() <= 1 << 20);
            assert!(receiver.total().is_none_or(|total| receiver.held_upto() <= total));
        }
    }
});
