//! Defines the one error that a user sees: a stable code, what happened and where, and what to do about it.

use std::fmt;

use super::show;

/// Result with the user-facing [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[doc = $doc:expr])+ $name:ident = $text:literal,)+) => {
        /// Stable error codes. Scripts match their text; a code is never given a new meaning.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code, in the order of the manual.
            pub const ALL: &[Code] = &[$(Code::$name),+];

            /// Returns the text that users see and scripts match.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)+ }
            }
        }
    };
}

codes! {
    /// The command line or an option file is wrong.
    Usage = "usage",
    /// The server can't be reached or refused the login.
    Connect = "connect",
    /// A privilege is missing.
    Privilege = "privilege",
    /// The server (version, family, setting) is one that can't be backed up.
    Unsupported = "unsupported-server",
    /// A statement failed, or the session was lost.
    Sql = "sql",
    /// A lock was not granted in time.
    LockTimeout = "lock-timeout",
    /// A file of the source can't be read.
    SourceIo = "source-io",
    /// The server knows of a tablespace whose file was not found, or files changed in a way that redo does
    /// not explain.
    SourceIncomplete = "source-incomplete",
    /// A page stayed corrupt.
    CorruptPage = "corrupt-page",
    /// Redo was overwritten before it was read.
    RedoOverrun = "redo-overrun",
    /// Redo logging is or was disabled.
    RedoDisabled = "redo-disabled",
    /// More redo waits to be sent than may be spooled.
    SpoolFull = "spool-full",
    /// The redo log can't be understood.
    CorruptRedo = "corrupt-redo",
    /// The other side of the pipe went away.
    BrokenPipe = "broken-pipe",
    /// The stream can't be written or read.
    StreamIo = "stream-io",
    /// There is no connection to the other side, or it was lost and not restored in time.
    LineLost = "line-lost",
    /// The other side of a connection is not who it should be, or rejects this side.
    LineRefused = "line-refused",
    /// The sender at the other end of a connection failed.
    Sender = "sender",
    /// The receiver at the other end of a connection failed.
    Receiver = "receiver",
    /// The stream ended before its manifest.
    StreamTruncated = "stream-truncated",
    /// The stream breaks the format.
    StreamCorrupt = "stream-corrupt",
    /// The stream holds something that must not be accepted (paths, sizes, unknown members).
    StreamRefused = "stream-refused",
    /// The data that must be kept of a stream exceeds the memory that it may take.
    TooLarge = "too-large",
    /// The stream is encrypted, and no key was given.
    NoKey = "no-key",
    /// The stream is encrypted, and none of the given keys decrypts it.
    WrongKey = "wrong-key",
    /// The stream has no manifest.
    NoManifest = "no-manifest",
    /// The manifest does not match what was received.
    ManifestMismatch = "manifest-mismatch",
    /// An increment does not fit the backup that it is to be laid over.
    WrongBase = "wrong-base",
    /// The target folder can't be used.
    Target = "target",
    /// A file of the target can't be written.
    TargetIo = "target-io",
    /// The target is full.
    DiskFull = "disk-full",
    /// A file that lay outside the source's datadir needs `--map`.
    Unmapped = "unmapped",
    /// Prepare failed.
    Prepare = "prepare",
    /// The copy holds encrypted pages or redo, which only a server with their keys can recover.
    Encrypted = "encrypted",
    /// No server binary was found to prepare with.
    NoServerBinary = "no-mysqld",
    /// Stopped by a signal.
    Interrupted = "interrupted",
    /// Another part of the program has failed and reports the reason. This code is shown only if that reason
    /// is lost.
    GivenUp = "given-up",
    /// A defect in xbpipe itself.
    Internal = "internal",
}

/// An error, for a person and for a script.
///
/// `Display` gives one line, `message: cause`, escaped and cut to a maximum length (`base::show`). The
/// command line shows the code and the hint beside it.
#[derive(Debug)]
pub struct Error {
    /// Stable code.
    pub code: Code,
    /// Message: what happened, and where (file, page, LSN, offset).
    pub message: String,
    /// Hint: what the user can do about it.
    pub hint: Option<String>,
    /// Error that caused this one.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error; `message` starts in lower case and has no full stop.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), hint: None, cause: None }
    }

    /// Adds a hint on what the user can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error that caused this one.
    pub fn cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Creates the error for a failed read or write of `what` (a path or the name of a stream) under `code`;
    /// a full disk gets a code of its own.
    pub fn io(code: Code, what: impl fmt::Display, cause: std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match cause.kind() {
            StorageFull | QuotaExceeded if code == Code::TargetIo => {
                Error::new(Code::DiskFull, format!("no room to write {what}"))
                    .hint("free space or choose another target; the target is as it was before")
                    .cause(cause)
            }
            FileTooLarge if code == Code::TargetIo => Error::new(
                code,
                format!("{what} would be larger than a file may be here"),
            )
            .hint(
                "neither the target's file system nor `ulimit -f` may allow less than the largest tablespace",
            )
            .cause(cause),
            _ => Error::new(code, what.to_string()).cause(cause),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = show::MESSAGE_MAX;
        show_part(f, &self.message, &mut left)?;
        let mut cause = self.cause.as_ref().map(|c| &**c as &dyn std::error::Error);
        while let Some(e) = cause {
            f.write_str(": ")?;
            show_part(f, &e.to_string(), &mut left)?;
            cause = e.source();
        }
        Ok(())
    }
}

/// Writes one part of a message, escaped, in at most `left` characters: messages quote names and lines of
/// other parties.
fn show_part(f: &mut fmt::Formatter<'_>, text: &str, left: &mut usize) -> fmt::Result {
    f.write_str(&show::shown_to(text, *left))?;
    *left = left.saturating_sub(text.len());
    Ok(())
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn an_error_is_one_line_that_shows_what_it_holds() {
        let e =
            Error::new(Code::Target, "member 'a\u{202e}\nxbrecv: OK'").cause("x\u{2028}y".repeat(1 << 20));
        let text = e.to_string();
        assert!(text.starts_with("member 'a\\u{202e}\\nxbrecv: OK': x\\u{2028}y"), "{}", &text[..80]);
        assert!(text.len() < 4 * 20 * show::MESSAGE_MAX && !text.contains(show::is_deceptive));
    }

    #[test]
    fn full_disk_has_its_own_code() {
        let full = std::io::Error::from_raw_os_error(28);
        assert_eq!(Error::io(Code::TargetIo, "t.ibd", full).code, Code::DiskFull);
        let large = Error::io(Code::TargetIo, "t.ibd", std::io::Error::from_raw_os_error(27));
        assert_eq!(large.code, Code::TargetIo);
        assert!(large.message.contains("larger than a file may be") && large.hint.is_some());
    }
}
