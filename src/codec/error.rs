//! Defines the errors of the layers around a stream.

use crate::base::{self, Code, OverBudget};

use super::Layer;

/// Error: a layer can't be decoded, or made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    /// The input ended inside of a unit of the layer.
    #[error("the {layer} stream ends after {at} bytes, in the middle of a {unit}")]
    Cut {
        /// Layer.
        layer: Layer,
        /// Number of bytes of the layer that came.
        at: u64,
        /// Kind of the unit: a frame, a header, …
        unit: &'static str,
    },
    /// The input ended behind a whole chunk that was not the last.
    #[error("the encrypted stream was cut off behind chunk {chunk}: its last chunk is missing")]
    CutChunks {
        /// Number of the last chunk that came; the first is 0.
        chunk: u64,
    },
    /// The input ended in a chunk that can't be authenticated as the last.
    #[error(
        "the encrypted stream ends with chunk {chunk}, which is not its last as it was sent: it was cut there, or changed"
    )]
    CutChunk {
        /// Number of the chunk; the first is 0.
        chunk: u64,
    },
    /// A chunk is not what the sender wrote at this place.
    #[error(
        "chunk {chunk} of the encrypted stream is not what its sender wrote there: it was changed, dropped or moved"
    )]
    Forged {
        /// Number of the chunk; the first is 0.
        chunk: u64,
    },
    /// Bytes break the format.
    #[error("{layer} stream, offset {at}: {what}")]
    Corrupt {
        /// Layer.
        layer: Layer,
        /// Offset of the affected frame in the layer's own bytes.
        at: u64,
        /// Description of the defect.
        what: String,
    },
    /// The data is valid, but exceeds a limit.
    #[error("{layer} stream, offset {at}: {what}")]
    Refused {
        /// Layer.
        layer: Layer,
        /// Offset in the layer's own bytes.
        at: u64,
        /// Description of the limit.
        what: String,
    },
    /// There is no key at all of the kind that the stream needs.
    #[error("the stream is encrypted {0}, and no key was given")]
    NoKey(Lock),
    /// None of the keys decrypts the stream.
    #[error("the stream is encrypted {0}, and none of the keys that were given opens it")]
    WrongKey(Lock),
    /// The passphrase is wrong.
    #[error("the stream is encrypted with a passphrase, and the one that was given does not open it")]
    WrongPassphrase,
    /// The passphrase was hardened with a greater work factor than is accepted.
    #[error(
        "the stream's passphrase was hardened with a work factor of {required}, which takes {} of memory; {max} is let in",
        hardening(*required)
    )]
    Work {
        /// Work factor of the stream.
        required: u8,
        /// Greatest work factor that is accepted.
        max: u8,
    },
    /// The layer takes more memory than there is for a stream.
    #[error("{layer} stream, offset {at}: {over}")]
    TooLarge {
        /// Layer.
        layer: Layer,
        /// Offset in the layer's own bytes.
        at: u64,
        /// Refusal, which names what would take so much memory.
        over: OverBudget,
    },
    /// A recipient or identity can't be parsed.
    #[error("{0}")]
    BadKey(String),
    /// A library failed where it must not.
    #[error("{0}")]
    Internal(String),
}

/// The kind of key that a stream needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lock {
    /// Keys of recipients.
    Recipients,
    /// A passphrase.
    Passphrase,
}

impl std::fmt::Display for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Lock::Recipients => "to the keys of recipients",
            Lock::Passphrase => "with a passphrase",
        })
    }
}

/// Returns the memory that a work factor takes, as text: 1 KiB for each of its 2^n rounds.
fn hardening(factor: u8) -> String {
    match factor {
        0..20 => format!("{} MiB", (1u64 << factor) >> 10),
        20..64 => format!("{} GiB", (1u64 << factor) >> 20),
        _ => "more than all".to_owned(),
    }
}

impl CodecError {
    /// Returns the code that a user sees.
    pub fn code(&self) -> Code {
        match self {
            CodecError::Cut { .. } | CodecError::CutChunks { .. } | CodecError::CutChunk { .. } => {
                Code::StreamTruncated
            }
            CodecError::Forged { .. } | CodecError::Corrupt { .. } => Code::StreamCorrupt,
            CodecError::Refused { .. } => Code::StreamRefused,
            CodecError::Work { .. } | CodecError::TooLarge { .. } => Code::TooLarge,
            CodecError::NoKey(_) => Code::NoKey,
            CodecError::WrongKey(_) | CodecError::WrongPassphrase => Code::WrongKey,
            CodecError::BadKey(_) => Code::Usage,
            CodecError::Internal(_) => Code::Internal,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            CodecError::Cut { .. } | CodecError::CutChunks { .. } | CodecError::CutChunk { .. } => Some(
                "the sender failed or the line was cut: look at the sender's messages, then run it again; of a file, \
                 compare its size with the one that was written",
            ),
            CodecError::Forged { .. } => Some(
                "the key fits, so the stream was damaged or tampered with on its way: take another copy of it, or run \
                 the backup again",
            ),
            CodecError::Corrupt { .. } => {
                Some("the stream was damaged on its way: take another copy of it, or run the backup again")
            }
            CodecError::NoKey(Lock::Recipients) => Some(
                "give the file with the secret key of one of its recipients, as age-keygen wrote it: --identity FILE",
            ),
            CodecError::NoKey(Lock::Passphrase) => {
                Some("give the file with its passphrase: --passphrase-file FILE")
            }
            CodecError::WrongKey(_) => Some(
                "the key must belong to one of the recipients that xbsend was given; age-keygen -y FILE shows which \
                 recipient a key file belongs to",
            ),
            CodecError::WrongPassphrase => Some(
                "the file must hold the very passphrase that the stream was made with; a line break at its end does \
                 not count, any other character does",
            ),
            CodecError::Work { .. } | CodecError::TooLarge { .. } => Some(
                "if the sender is who it should be, give more memory with --use-memory: a passphrase may take half of it",
            ),
            _ => None,
        }
    }
}

impl From<CodecError> for base::Error {
    fn from(e: CodecError) -> Self {
        let error = base::Error::new(e.code(), e.to_string());
        match e.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
