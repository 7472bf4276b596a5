//! MySQL option files (`my.cnf`), read as the mysql client reads them.
//!
//! Groups in brackets, `key`, `key = value`, `-` and `_` alike in keys, quotes, the escapes of the reference manual
//! (4.2.2.2 "Using Option Files"), `#` and `;` comments, `!include` and `!includedir`. Later files win.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::secrets;
use crate::base::{Code, Error, Result};

/// How deep `!include` may go.
const INCLUDE_DEPTH_MAX: usize = 10;

/// The bit of a mode that lets everybody write.
const OTHERS_WRITE: u32 = 0o002;

/// The option that nobody else is to read.
const PASSWORD: &str = "password";

/// The choice of option files.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Read only this file.
    pub only: Option<PathBuf>,
    /// Read this file after the usual ones.
    pub extra: Option<PathBuf>,
    /// Read none.
    pub none: bool,
    /// Groups are read with this suffix too.
    pub group_suffix: Option<String>,
}

/// Options by key (with `-`); a key without a value has `None`.
pub type Options = BTreeMap<String, Option<String>>;

/// Reads `groups` of the chosen files.
///
/// # Errors
/// [`Code::Usage`] for a named file that can't be read, or a line that is not understood.
pub fn read(choice: &Choice, groups: &[&str]) -> Result<Options> {
    let mut wanted: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
    if let Some(suffix) = &choice.group_suffix {
        wanted.extend(groups.iter().map(|g| format!("{g}{suffix}")));
    }
    let mut options = Options::new();
    if choice.none {
        return Ok(options);
    }
    if let Some(only) = &choice.only {
        read_file(only, &wanted, &mut options, 0)?;
        return Ok(options);
    }
    for usual in usual_files() {
        if usual.is_file() {
            read_file(&usual, &wanted, &mut options, 0)?;
        }
    }
    if let Some(extra) = &choice.extra {
        read_file(extra, &wanted, &mut options, 0)?;
    }
    Ok(options)
}

fn usual_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/my.cnf"), PathBuf::from("/etc/mysql/my.cnf")];
    if let Some(home) = std::env::var_os("HOME") {
        files.push(Path::new(&home).join(".my.cnf"));
    }
    files
}

fn read_file(path: &Path, wanted: &[String], options: &mut Options, depth: usize) -> Result<()> {
    if depth > INCLUDE_DEPTH_MAX {
        return Err(Error::new(Code::Usage, format!("{} is included too deeply", path.display())));
    }
    let failed = |e| Error::io(Code::Usage, format!("can't read the option file {}", path.display()), e);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && metadata.mode() & OTHERS_WRITE != 0 {
        // As the mysql client does: whoever wrote it could send the backup, and the password, elsewhere.
        tracing::warn!("everybody can write to the option file {}: it is not read", path.display());
        return Ok(());
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let (mut inside, mut has_password) = (false, false);
    for (number, line) in text.lines().enumerate() {
        match parse_line(line) {
            Ok(Line::Nothing) => {}
            Ok(Line::Group(name)) => inside = wanted.iter().any(|w| w == name),
            Ok(Line::Include(file)) => read_file(&dir.join(file), wanted, options, depth + 1)?,
            Ok(Line::IncludeDir(folder)) => {
                for file in cnf_files(&dir.join(folder))? {
                    read_file(&file, wanted, options, depth + 1)?;
                }
            }
            Ok(Line::Option(key, value)) => {
                if inside {
                    has_password |= key == PASSWORD && value.is_some();
                    options.insert(key, value);
                }
            }
            Err(what) => {
                let at = format!("{}, line {}: {what}", path.display(), number + 1);
                return Err(Error::new(Code::Usage, at)
                    .hint("mend the option file, or leave it out with --no-defaults"));
            }
        }
    }
    if has_password {
        secrets::warn_of(path, &file);
    }
    Ok(())
}

fn cnf_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .map_err(|e| Error::io(Code::Usage, format!("can't list {}", folder.display()), e))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "cnf"))
        .collect();
    files.sort();
    Ok(files)
}

#[derive(Debug, PartialEq)]
enum Line<'a> {
    Nothing,
    Group(&'a str),
    Include(&'a str),
    IncludeDir(&'a str),
    Option(String, Option<String>),
}

fn parse_line(line: &str) -> Result<Line<'_>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(Line::Nothing);
    }
    if let Some(rest) = line.strip_prefix("!includedir") {
        return Ok(Line::IncludeDir(rest.trim()));
    }
    if let Some(rest) = line.strip_prefix("!include") {
        return Ok(Line::Include(rest.trim()));
    }
    if let Some(rest) = line.strip_prefix('[') {
        return rest.split_once(']').map(|(name, _)| Line::Group(name.trim())).ok_or("`]` is missing".into());
    }
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key.trim(), Some(unquote(value))),
        None => (line.split('#').next().unwrap_or("").trim(), None),
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(format!("`{key}` is no option"));
    }
    Ok(Line::Option(key.trim_start_matches("--").replace('_', "-"), value))
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = match quote {
        Some(q) if value.len() > 1 => {
            let body = &value[1..];
            closing(body, q).map_or(value, |end| &body[..end])
        }
        _ => comment_start(value).map_or(value, |at| value[..at].trim_end()),
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('s') => out.push(' '),
            Some(c @ ('\\' | '"' | '\'')) => out.push(c),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

fn closing(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// A `#` in the middle of a line begins a comment when white space is before it.
fn comment_start(value: &str) -> Option<usize> {
    value.match_indices('#').map(|(at, _)| at).find(|&at| at == 0 || value[..at].ends_with([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> Option<String> {
        match parse_line(line) {
            Ok(Line::Option(_, value)) => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_are_read_as_the_client_does() {
        assert_eq!(value("password = s3cret"), Some("s3cret".into()));
        assert_eq!(value("password=\"a b # c\" # comment"), Some("a b # c".into()));
        assert_eq!(value("password='it\\'s'"), Some("it's".into()));
        assert_eq!(value("password=a#b"), Some("a#b".into()));
        assert_eq!(value("password=a #b"), Some("a".into()));
        assert_eq!(value("socket=C:\\\\x\\sy"), Some("C:\\x y".into()));
        assert_eq!(value("password="), Some(String::new()));
        assert_eq!(value("password"), None);
    }

    #[test]
    fn groups_includes_and_precedence() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        std::fs::write(dir.path().join("conf.d/b.cnf"), "[xbsend]\nuser = second\n").unwrap();
        std::fs::write(dir.path().join("conf.d/ignored.txt"), "nonsense without sense\n").unwrap();
        let main = dir.path().join("my.cnf");
        std::fs::write(
            &main,
            "[mysqld]\nuser=mysql\n[client]\nuser = first # c\nssl_mode=required\n!includedir conf.d\n[client-x]\nport=7\n",
        )
        .unwrap();
        let mut choice = Choice { only: Some(main.clone()), ..Default::default() };
        let options = read(&choice, &["client", "xbsend"]).unwrap();
        assert_eq!(options["user"].as_deref(), Some("second"));
        assert_eq!(options["ssl-mode"].as_deref(), Some("required"));
        assert!(!options.contains_key("port"));
        choice.group_suffix = Some("-x".into());
        assert_eq!(read(&choice, &["client"]).unwrap()["port"].as_deref(), Some("7"));
    }

    #[test]
    fn what_everybody_can_write_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (main, more) = (dir.path().join("my.cnf"), dir.path().join("more.cnf"));
        std::fs::write(&main, "[client]\nuser=u\n!include more.cnf\n").unwrap();
        std::fs::write(&more, "[client]\nport=7\n").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let choice = Choice { only: Some(main.clone()), ..Default::default() };
        for (of_main, of_more, keys) in [
            (0o600, 0o664, vec!["port", "user"]),
            (0o644, 0o666, vec!["user"]),
            (0o644, 0o602, vec!["user"]),
            (0o646, 0o600, vec![]),
            (0o777, 0o600, vec![]),
        ] {
            mode(&main, of_main);
            mode(&more, of_more);
            let read = read(&choice, &["client"]).unwrap();
            assert_eq!(read.keys().collect::<Vec<_>>(), keys, "{of_main:o} {of_more:o}");
        }
    }

    #[test]
    fn a_strange_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.cnf");
        std::fs::write(&file, "[client]\nuser x\n").unwrap();
        let e = read(&Choice { only: Some(file), ..Default::default() }, &["client"]).unwrap_err();
        assert_eq!(e.code, Code::Usage);
        assert!(e.message.contains("line 2"), "{e}");
        let missing = Choice { only: Some(dir.path().join("no.cnf")), ..Default::default() };
        assert!(read(&missing, &["client"]).is_err());
    }
}
