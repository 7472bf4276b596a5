//! Reads and writes `backup-my.cnf`: the options that a server needs to start on the copy
//! (`write_backup_config_file` in XtraBackup).
//!
//! It is an option file with one group, `[mysqld]`, and `name=value` lines. Quotes, comments and escapes are
//! those of the server's option files (`search_default_file_with_ext` in mysys/my_default.cc): a value may
//! stand in `'…'` or `"…"`, outside of which `#` begins a comment; `\b \t \n \r \s \" \' \\` are escapes with
//! or without quotes. In names `-` and `_` are equivalent; here they are `_`.

use super::{MetadataError, text};

/// Name of the member.
pub const BACKUP_CNF: &str = "backup-my.cnf";
/// Maximum size in bytes of a member that is accepted, and maximum number of its options.
const LEN_MAX: usize = 256 << 10;
const OPTIONS_MAX: usize = 10_000;

/// The options of the group `[mysqld]`, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BackupCnf {
    options: Vec<(String, Option<String>)>,
}

impl BackupCnf {
    /// Creates an empty set of options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option.
    pub fn set(&mut self, name: &str, value: impl ToString) -> &mut Self {
        let name = name.replace('-', "_");
        let value = Some(value.to_string());
        match self.options.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.options.push((name, value)),
        }
        self
    }

    /// Returns the value of an option; empty for one that is present without a value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let option = self.options.iter().find(|(other, _)| other == name)?;
        Some(option.1.as_deref().unwrap_or_default())
    }

    /// Returns all options with their values, in order.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()))
    }

    /// Returns the content of the member.
    pub fn render(&self) -> String {
        let mut file = String::from("# Options that a server needs to start on this backup.\n\n[mysqld]\n");
        for (name, value) in &self.options {
            file.push_str(name);
            if let Some(value) = value {
                file.push('=');
                file.push_str(&quote(value));
            }
            file.push('\n');
        }
        file
    }

    /// Reads the content of the member; other groups are ignored. An option that occurs again replaces the
    /// earlier one, as in the server.
    pub fn parse(content: &[u8]) -> Result<Self, MetadataError> {
        let error =
            |line: &str, what: &str| Err(MetadataError::quoting(BACKUP_CNF, format!("{what} in"), line));
        if content.len() > LEN_MAX {
            let what = format!("{} bytes long, more than {LEN_MAX}", content.len());
            return Err(MetadataError::new(BACKUP_CNF, what));
        }
        let mut cnf = BackupCnf::new();
        let mut ours = false;
        for line in text(BACKUP_CNF, content)?.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(group) = line.strip_prefix('[') {
                let Some((group, _)) = group.split_once(']') else {
                    return error(line, "no end of the group");
                };
                ours = group.trim() == "mysqld";
                continue;
            }
            if !ours {
                continue;
            }
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name, Some(unquote(value))),
                None => (strip_comment(line), None),
            };
            let name = name.trim().replace('-', "_");
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b)) {
                return error(line, "no option");
            }
            cnf.options.retain(|(other, _)| *other != name);
            if cnf.options.len() == OPTIONS_MAX {
                return error(line, "too many options, ending");
            }
            cnf.options.push((name, value));
        }
        Ok(cnf)
    }
}

/// Returns a value in the syntax of an option file: quoted if it would be read differently without quotes.
fn quote(value: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:;,@+%=~".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let mut quoted = String::from('"');
    for c in value.chars() {
        match c {
            '\\' | '"' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Decodes the value that follows the `=` of a line.
fn unquote(value: &str) -> String {
    let value = strip_comment(value).trim();
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('t') => plain.push('\t'),
            Some('b') => plain.push('\u{8}'),
            Some('s') => plain.push(' '),
            Some(c @ ('\\' | '"' | '\'')) => plain.push(c),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

/// Returns the text before a `#`, unless that is inside quotes.
fn strip_comment(value: &str) -> &str {
    let mut open = None;
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match c {
            '\'' | '"' if !escaped && open.is_none() => open = Some(c),
            c if !escaped && open == Some(c) => open = None,
            '#' if open.is_none() => return &value[..at],
            _ => {}
        }
        escaped = open.is_some() && c == '\\' && !escaped;
    }
    value
}
