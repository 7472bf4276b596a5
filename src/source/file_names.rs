//! How the server spells names of schemas and tables in the file system (`my_wc_mb_filename`).

/// Whether `file` is how the server spells `name`: letters, digits and `_` as they are, other ASCII characters as `@` and four
/// hexadecimal digits, and beyond ASCII that or `@` and two letters or digits. Which two is not looked at: two names that differ
/// in nothing else both have rows in the dictionary. Names that other systems reserve end in `@@@`, and those that were made
/// before there was this spelling have their ASCII characters as they are.
pub fn is_spelled(file: &[u8], name: &str) -> bool {
    let Some(c) = name.chars().next() else { return file.is_empty() || file == b"@@@" };
    let rest = &name[c.len_utf8()..];
    let as_it_is = c.is_ascii() && c != '@' && file.first() == Some(&(c as u8));
    if as_it_is && is_spelled(&file[1..], rest) {
        return true;
    }
    if c.is_ascii_alphanumeric() || c == '_' {
        return false;
    }
    let Some(code) = file.strip_prefix(b"@") else { return false };
    let hex = format!("{:04x}", u32::from(c));
    let four = code.get(..hex.len()).is_some_and(|found| found.eq_ignore_ascii_case(hex.as_bytes()));
    if four && is_spelled(&code[hex.len()..], rest) {
        return true;
    }
    !c.is_ascii()
        && code.len() >= 2
        && code[..2].iter().all(u8::is_ascii_alphanumeric)
        && is_spelled(&code[2..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_file_system() {
        for (file, name, same) in [
            ("t1", "t1", true),
            ("t1", "t", false),
            ("t", "t1", false),
            ("a@002d@0k@65e5x", "a-ä日x", true),
            ("a@002e", "a-", false),
            ("a-b", "a-b", true),
            ("con@@@", "con", true),
            ("@0ka", "äa", true),
            ("@0kab", "äa", false),
            ("d@", "d#", false),
            ("", "a", false),
            ("@", "ä", false),
            ("e@002em@0020pty", "e.m pty", true),
            ("d@0p@0023x", "dé#x", true),
            ("@65e5@672c", "日本", true),
        ] {
            assert_eq!(is_spelled(file.as_bytes(), name), same, "{file} {name}");
        }
    }

    #[test]
    fn hostile_names_take_no_time() {
        let name = "é".repeat(64);
        assert!(!is_spelled("@00".repeat(64).as_bytes(), &format!("{name}x")));
        assert!(!is_spelled("@0000".repeat(64).as_bytes(), &name));
    }
}
