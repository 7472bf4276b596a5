//! Reports how a connection ended: as an error for the user of this side, and as a message for the other
//! side.

use std::time::Duration;

use crate::base::{Code, Error};
use crate::session::message::{Failure, Reason};
use crate::session::{receiver, sender};

/// Converts an error of this side to the message that the other side gets.
pub(super) fn failure(error: &Error) -> Failure {
    Failure::new(error.code.as_str(), &error.to_string(), error.hint.as_deref().unwrap_or_default())
}

/// Returns the error that a session's outcome means for the sender; `None` if the receiver has taken the
/// whole stream.
pub(super) fn of_sender(outcome: &sender::Outcome, was_up: bool, problem: &str) -> Option<Error> {
    Some(match outcome {
        sender::Outcome::Done => return None,
        sender::Outcome::Failed(failure) => told(Code::Receiver, "the receiver failed", failure),
        sender::Outcome::Refused(reason) => refused(*reason),
        sender::Outcome::Lost(time) if was_up => lost(*time, problem),
        sender::Outcome::Lost(_) => {
            Error::new(Code::LineLost, format!("can't reach the receiver: {problem}"))
                .hint("is xbrecv --from waiting there, and does the firewall let its port through?")
        }
        sender::Outcome::Gone(time) => gone(*time, problem),
        sender::Outcome::Aborted => Error::new(Code::GivenUp, "the stream was closed"),
    })
}

/// Returns the error that a session's outcome means for the receiver, before the stream was complete.
pub(super) fn of_receiver(outcome: &receiver::Outcome) -> Error {
    match outcome {
        receiver::Outcome::Aborted(failure) => told(Code::Sender, "the sender failed", failure),
        receiver::Outcome::Lost(time) => lost(*time, "the sender did not come back"),
        receiver::Outcome::Settled => {
            Error::new(Code::Internal, "the stream was settled before it was whole")
        }
    }
}

fn told(code: Code, what: &str, failure: &Failure) -> Error {
    let error = Error::new(code, format!("{what} [{}]: {}", failure.code, failure.message));
    if failure.hint.is_empty() { error } else { error.hint(failure.hint.clone()) }
}

fn lost(time: Duration, problem: &str) -> Error {
    let message = format!("the line was cut and could not be mended for {} s: {problem}", time.as_secs_f64());
    Error::new(Code::LineLost, message).hint(
        "what was received is not a backup: run both sides again; --reconnect-timeout gives it more time",
    )
}

fn gone(time: Duration, problem: &str) -> Error {
    let what = match time.is_zero() {
        true => "another one has taken its place".to_owned(),
        false => format!("{problem}, for {} s", time.as_secs_f64()),
    };
    Error::new(Code::LineLost, format!("the receiver's process has ended ({what})"))
        .hint("look at what xbrecv said last: unless that was OK, what it received is no backup, and both sides must be run again")
}

fn refused(reason: Reason) -> Error {
    let (message, hint) = match reason {
        Reason::Used => (
            "the receiver refuses: the ticket was used by another sender",
            "a ticket is good for one session: start xbrecv again and use the line that it prints",
        ),
        Reason::Over => (
            "the receiver refuses: the session is over there",
            "look at what xbrecv says, start it again and use the line that it prints",
        ),
        Reason::Version => (
            "the receiver refuses: it speaks another version of the conversation",
            "use the same version of xbpipe on both sides",
        ),
        Reason::Token | Reason::Unspecified => (
            "the receiver refuses: the ticket is not the one that it printed",
            "use the whole line that xbrecv prints, in quotes",
        ),
    };
    Error::new(Code::LineRefused, message).hint(hint)
}

/// Returns the error that the other side is not who it should be.
pub(super) fn stranger(address: &str, cause: &str, pinned: bool) -> Error {
    let error = Error::new(Code::LineRefused, format!("{address} is not who it should be: {cause}"));
    error.hint(if pinned {
        "the ticket belongs to another xbrecv: use the line that the waiting one prints"
    } else {
        "compare --tls-cert, --tls-key, --tls-ca and --tls-peer-name of both sides, and the host's name in the certificate"
    })
}
