//! Looks whether a text of SQL that a backup brings (a type, an expression) stays inside of the parentheses that it is put in.
//!
//! Who makes a backup chooses these texts, and somebody else runs the statements that are made of them, with the rights of an
//! administrator. So no text may end the statement, hide the rest of it in a comment, or be a command of the client.

/// Whether `text` has balanced parentheses and closed quotes, and outside of quotes no semicolon, comment, backslash or line break.
pub(super) fn is_confined(text: &str) -> bool {
    let mut rest = text.chars().peekable();
    let mut depth = 0usize;
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' | '`' => loop {
                match rest.next() {
                    None => return false,
                    Some('\\') if c != '`' => drop(rest.next()),
                    // A doubled quote closes and opens again.
                    Some(quote) if quote == c => break,
                    Some(_) => {}
                }
            },
            '(' => depth += 1,
            ')' if depth == 0 => return false,
            ')' => depth -= 1,
            ';' | '#' | '\\' | '\n' | '\r' | '\0' => return false,
            '-' if rest.peek() == Some(&'-') => return false,
            '/' if rest.peek() == Some(&'*') => return false,
            '*' if rest.peek() == Some(&'/') => return false,
            _ => {}
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_lead_out_are_found() {
        for sound in [
            "int unsigned",
            "enum('one','two''s','thr\\\\ee')",
            "concat(`b`,_utf8mb4'\\'x;--')",
            "(`a ``;` + -(1))",
            "",
            "'a\nb'",
        ] {
            assert!(is_confined(sound), "{sound}");
        }
        for hostile in [
            "int); DROP DATABASE d; --",
            "int) , (",
            "'x",
            "'x\\'",
            "`x",
            "1 -- ",
            "1 # ",
            "1 /* ",
            "1 */ ",
            "(1",
            "1\n\\! sh",
            "1 \\! sh",
            "1;",
        ] {
            assert!(!is_confined(hostile), "{hostile}");
        }
    }
}
