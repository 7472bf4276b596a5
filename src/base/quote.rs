//! Words for pasting: as a shell, or the server, reads them back to what they were.
//!
//! A line that a person is to paste may hold words that came from a stream, a server or a folder. Every such word goes through
//! one of these functions, and nothing else quotes.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use super::show::is_deceptive;

/// One word for a POSIX shell, plain where it needs no quotes.
///
/// In single quotes a shell takes everything for itself. A word with bytes that could not be shown as they are (control
/// characters, marks of direction, what is no UTF-8) is made by `printf`, in octal.
pub fn shell(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.bytes().all(is_plain) => text.to_owned(),
        Ok(text) if !text.contains(is_deceptive) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => printed(bytes),
    }
}

/// `--name=value` for a POSIX shell.
pub fn shell_option(name: &str, value: impl AsRef<OsStr>) -> String {
    let mut whole = std::ffi::OsString::from(format!("--{name}="));
    let quoted = shell(value.as_ref());
    // The name in front stays plain, so that it can be searched for.
    whole.push(quoted);
    whole.to_string_lossy().into_owned()
}

/// A shell's command substitution takes line breaks from the end, hence the mark behind the word, and that it is taken off.
fn printed(bytes: &[u8]) -> String {
    let trailing = bytes.iter().rev().take_while(|b| **b == b'\n').count();
    let (body, breaks) = bytes.split_at(bytes.len() - trailing);
    let mut text = String::from("\"$(printf '");
    for byte in body {
        match *byte {
            b if b.is_ascii_alphanumeric() || matches!(b, b' ' | b'/' | b'.' | b'_' | b'=' | b',' | b':') => {
                text.push(char::from(b));
            }
            b => {
                let _ = write!(text, "\\{b:03o}");
            }
        }
    }
    text.push_str("')\"");
    if !breaks.is_empty() {
        // Only bash and newer shells have this form; no other can stand on one line.
        let _ = write!(text, "$'{}'", "\\n".repeat(breaks.len()));
    }
    text
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'_' | b'.' | b'/' | b':' | b'=' | b'@' | b'%' | b'+' | b',' | b'-')
}

/// A text literal for the server.
///
/// Quotes are doubled, so that the literal ends where it should in every `sql_mode`; with `NO_BACKSLASH_ESCAPES` a backslash in
/// it is read as two. Control characters and NUL are escaped as the server's manual lists them; what else could not be shown is
/// left out, since no text of a server that is quoted here has it.
pub fn sql_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0' => quoted.push_str("\\0"),
            '\u{1a}' => quoted.push_str("\\Z"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// An identifier for the server.
pub fn sql_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// An account as `CURRENT_USER()` gives it, `user@host`, for a `GRANT`. A user's name may hold an `@`, a host's may not.
pub fn sql_account(account: &str) -> String {
    match account.rsplit_once('@') {
        Some((user, host)) => format!("{}@{}", sql_text(user), sql_text(host)),
        None => sql_text(account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_stay_and_others_are_quoted() {
        assert_eq!(shell("/var/lib/mysql-8.0"), "/var/lib/mysql-8.0");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("~root"), "'~root'");
        assert_eq!(shell("b$(touch x)"), "'b$(touch x)'");
        assert_eq!(shell("a'b"), r"'a'\''b'");
        assert_eq!(shell("a\u{202e}b"), "\"$(printf 'a\\342\\200\\256b')\"");
        assert_eq!(shell_option("log-bin", "b`id`"), "--log-bin='b`id`'");
        assert_eq!(sql_text(r"a'\b"), r"'a''\\b'");
        assert_eq!(sql_name("a`b"), "`a``b`");
        assert_eq!(sql_account("o'x@y@%.host"), "'o''x@y'@'%.host'");
    }
}
