//! Escapes text of other parties for display: names and lines that come from a stream, a server, a folder or
//! the network.
//!
//! Characters that draw nothing, move the cursor, break the line or turn the direction of the text around
//! them are written as Rust escapes them (`\n`, `\u{202e}`); the rest stays. A backslash stays as well, so
//! that escaping twice gives the same as escaping once. Long text is cut, so that a quote is never larger
//! than a message.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Maximum number of characters of a text that [`shown`] quotes.
pub const SHOWN_MAX: usize = 160;
/// Maximum number of characters of a path that are shown; the longest path that a system call takes has 4095
/// bytes.
pub const PATH_MAX: usize = 4096;
/// Maximum number of characters of a whole message.
pub const MESSAGE_MAX: usize = 8192;

/// Returns the first [`SHOWN_MAX`] characters of `text`, escaped.
pub fn shown(text: &str) -> String {
    shown_to(text, SHOWN_MAX)
}

/// Returns `path`, escaped; bytes that are not UTF-8 appear as `\xNN`.
pub fn shown_path(path: &Path) -> String {
    shown_bytes(path.as_os_str().as_bytes(), PATH_MAX)
}

fn shown_bytes(bytes: &[u8], max: usize) -> String {
    // No character has more than four bytes.
    let head = &bytes[..bytes.len().min(4 * max)];
    let mut text = String::with_capacity(head.len());
    for chunk in head.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    let mut text = shown_to(&text, max);
    if head.len() < bytes.len() && !text.contains(CUT) {
        let _ = write!(text, "{CUT}{} bytes in all)", bytes.len());
    }
    text
}

/// Returns the first `max` characters of `text`, escaped; if it was cut, the full length is appended.
pub fn shown_to(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => escaped(text).into_owned(),
        Some((end, _)) => format!("{}{CUT}{} bytes in all)", escaped(&text[..end]), text.len()),
    }
}

const CUT: &str = "… (";

/// Returns `text` with every character escaped that could make a person see something else than is there.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            // `escape_debug` leaves some of these as they are.
            c if is_deceptive(c) && !c.is_ascii() => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c if is_deceptive(c) => escaped.extend(c.escape_debug()),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Returns whether a character is not what it looks like: controls, line and paragraph separators, marks of
/// direction, characters without width, and the tags.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;

    #[test]
    fn what_deceives_is_escaped_and_the_rest_stays() {
        assert_eq!(
            shown("a\u{202e}b\u{2066}\u{2028}\n\t\u{1b}[0m\0"),
            "a\\u{202e}b\\u{2066}\\u{2028}\\n\\t\\u{1b}[0m\\0"
        );
        assert_eq!(shown("Größe 表 'x' \\ \u{301}é"), "Größe 表 'x' \\ \u{301}é");
        assert_eq!(shown_path(Path::new(OsStr::from_bytes(b"/a/\xff\x80b"))), "/a/\\xff\\x80b");
    }

    #[test]
    fn long_text_is_cut() {
        let long = "ä".repeat(60 << 20);
        let text = shown(&long);
        assert_eq!(text.chars().filter(|c| *c == 'ä').count(), SHOWN_MAX);
        assert!(text.ends_with("… (125829120 bytes in all)"), "{text}");
        assert!(
            shown_bytes(&vec![b'x'; 1 << 20], SHOWN_MAX).ends_with("… (1048576 bytes in all)")
                || shown_bytes(&vec![b'x'; 1 << 20], SHOWN_MAX).len() < 300
        );
        assert_eq!(shown_to("abc", 3), "abc");
    }

    proptest! {
        #[test]
        fn escaping_is_whole_and_done_once(text in any::<String>()) {
            let once = escaped(&text).into_owned();
            prop_assert!(!once.contains(is_deceptive));
            let twice = escaped(&once).into_owned();
            prop_assert_eq!(twice, once);
        }

        #[test]
        fn bytes_of_any_kind_are_shown(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let text = shown_bytes(&bytes, SHOWN_MAX);
            prop_assert!(!text.contains(is_deceptive));
            prop_assert!(text.chars().count() <= 10 * SHOWN_MAX + 60);
        }
    }
}
