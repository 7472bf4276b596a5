//! Quotes text for pasting, so that a shell or the server reads back exactly what it was.
//!
//! A command line that a person is asked to paste may hold text that came from a stream, a server or a
//! folder. All such text goes through one of these functions; nothing else in the program quotes.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use super::show::is_deceptive;

/// Quotes one word for a POSIX shell; leaves it plain if it needs no quotes.
///
/// Inside single quotes a shell interprets nothing. A word with bytes that could not be shown as they are
/// (control characters, marks of direction, invalid UTF-8) is produced by a call of `printf`, in octal.
pub fn shell(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.bytes().all(is_plain) => text.to_owned(),
        Ok(text) if !text.contains(is_deceptive) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => printed(bytes),
    }
}

/// Builds `--name=value` for a POSIX shell.
pub fn shell_option(name: &str, value: impl AsRef<OsStr>) -> String {
    let mut whole = std::ffi::OsString::from(format!("--{name}="));
    let quoted = shell(value.as_ref());
    // The name in front stays plain, so that it can be searched for.
    whole.push(quoted);
    whole.to_string_lossy().into_owned()
}

/// Builds a call of `printf` that prints `bytes`. A shell's command substitution removes line breaks from the
/// end, so those are put behind it.
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
        // Only bash and newer shells have this form; no other form can stand on one line.
        let _ = write!(text, "$'{}'", "\\n".repeat(breaks.len()));
    }
    text
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'_' | b'.' | b'/' | b':' | b'=' | b'@' | b'%' | b'+' | b',' | b'-')
}

/// Quotes a text literal for the server.
///
/// Quotes are doubled, so that the literal ends at the right place in every `sql_mode`; with
/// `NO_BACKSLASH_ESCAPES` a backslash in it is read as two. Control characters and NUL are escaped as the
/// server's manual lists them. Other characters that could not be shown are left out, since no text of a
/// server that is quoted here has them.
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

/// Quotes an identifier for the server.
pub fn sql_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quotes an account, given as `user@host` by `CURRENT_USER()`, for a `GRANT`. A user's name may hold an `@`,
/// a host's may not.
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
