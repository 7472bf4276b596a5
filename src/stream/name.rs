//! Defines the names of members: relative paths with `/`, safe to join to a target folder.
//!
//! XtraBackup's xbstream refuses absolute names only (`extract_worker_thread_func`). All other checks here
//! protect the receiver: a name that was parsed can't leave the folder that it is joined to, and can be
//! printed as it is.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Maximum length of a name in bytes; XtraBackup and its relatives read names into 512 bytes with a closing
/// NUL (`FN_REFLEN`).
pub const NAME_MAX: usize = 511;
/// Maximum length of a component in bytes, as on every usual file system.
pub const COMPONENT_MAX: usize = 255;

/// A valid name of a member. It is cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(Arc<str>);

impl MemberName {
    /// Accepts `name` if it is relative, UTF-8, not too long, and has no empty, `.` or `..` component, no
    /// backslash and no control character.
    pub fn parse(name: impl AsRef<[u8]>) -> Result<Self, NameError> {
        check(name.as_ref()).map(Self::of_checked)
    }

    pub(super) fn of_checked(name: &str) -> Self {
        MemberName(Arc::from(name))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the part before the last component, if there is more than one.
    pub fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(parent, _)| parent)
    }
}

/// Returns the name as read from the stream, without the `./` that `mbstream -c ./a` leaves in front. It is
/// removed before names are compared, so that `a` and `./a` are one member.
pub(super) fn from_wire(name: &[u8]) -> Result<&str, NameError> {
    check(name.strip_prefix(b"./").unwrap_or(name))
}

fn check(name: &[u8]) -> Result<&str, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong);
    }
    let name = std::str::from_utf8(name).map_err(|_| NameError::NotUtf8)?;
    if name.starts_with('/') {
        return Err(NameError::Absolute);
    }
    if name.contains('\\') {
        return Err(NameError::Backslash);
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    for component in name.split('/') {
        match component {
            "" => return Err(NameError::EmptyComponent),
            "." | ".." => return Err(NameError::Dots),
            c if c.len() > COMPONENT_MAX => return Err(NameError::ComponentTooLong),
            _ => {}
        }
    }
    Ok(name)
}

impl AsRef<str> for MemberName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<std::path::Path> for MemberName {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&*self.0)
    }
}

// `str` and `Arc<str>` hash and compare alike, so maps keyed by names can be searched with a `&str`.
impl Borrow<str> for MemberName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for MemberName {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for MemberName {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl serde::Serialize for MemberName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for MemberName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        MemberName::parse(&*name).map_err(serde::de::Error::custom)
    }
}

/// The reason why a name was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// The name has no bytes.
    #[error("the name is empty")]
    Empty,
    /// The name has more than [`NAME_MAX`] bytes.
    #[error("the name is longer than {NAME_MAX} bytes")]
    TooLong,
    /// A component has more than [`COMPONENT_MAX`] bytes.
    #[error("a part of the name is longer than {COMPONENT_MAX} bytes")]
    ComponentTooLong,
    /// The name is not UTF-8.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// The name has a leading `/`.
    #[error("the name is an absolute path")]
    Absolute,
    /// The name has `//`, or a `/` at its end.
    #[error("the name has an empty part")]
    EmptyComponent,
    /// The name has a component `.` or `..`.
    #[error("the name has a part '.' or '..'")]
    Dots,
    /// The name has a backslash, which some programs take for a separator, and which no name made by a server
    /// has.
    #[error("the name has a backslash")]
    Backslash,
    /// The name has NUL, line breaks, or escapes.
    #[error("the name has a control character")]
    Control,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_taken() {
        for name in [
            "ibdata1",
            "mysql.ibd",
            "test/t#p#p0#sp#s0.ibd",
            "test/@0053pace@0020d.ibd",
            "a/b/c",
            "…/x",
            "...",
            ".hidden",
        ] {
            let parsed = MemberName::parse(name).unwrap();
            assert_eq!(parsed, name);
            assert_eq!(MemberName::parse(name.as_bytes()).unwrap(), parsed);
        }
        assert_eq!(MemberName::parse("a/b/c.ibd").unwrap().file_name(), "c.ibd");
        assert_eq!(MemberName::parse("a/b/c.ibd").unwrap().parent(), Some("a/b"));
        assert_eq!(MemberName::parse("c.ibd").unwrap().parent(), None);
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "x".repeat(COMPONENT_MAX);
        let too_long_part = "x".repeat(COMPONENT_MAX + 1);
        let longest = format!("{long}/{long}");
        assert_eq!(longest.len(), NAME_MAX);
        assert!(MemberName::parse(&longest).is_ok());
        let too_long = format!("{longest}x");
        let cases: &[(&[u8], NameError)] = &[
            (b"", NameError::Empty),
            (b"/", NameError::Absolute),
            (b"/etc/passwd", NameError::Absolute),
            (b"//x", NameError::Absolute),
            (b"..", NameError::Dots),
            (b".", NameError::Dots),
            (b"./a", NameError::Dots),
            (b"../x", NameError::Dots),
            (b"a/../../x", NameError::Dots),
            (b"a/..", NameError::Dots),
            (b"a/./b", NameError::Dots),
            (b"a//b", NameError::EmptyComponent),
            (b"a/", NameError::EmptyComponent),
            (b"a\\..\\b", NameError::Backslash),
            (b"a\0b", NameError::Control),
            (b"a\nb", NameError::Control),
            (b"a\x1b[2J", NameError::Control),
            (b"a\x7f", NameError::Control),
            ("a\u{85}b".as_bytes(), NameError::Control),
            (b"a\xff", NameError::NotUtf8),
            (b"\xc0\xae\xc0\xae/x", NameError::NotUtf8),
            (too_long_part.as_bytes(), NameError::ComponentTooLong),
            (too_long.as_bytes(), NameError::TooLong),
        ];
        for (name, error) in cases {
            assert_eq!(MemberName::parse(name), Err(*error), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn one_leading_dot_is_taken_off_on_the_wire() {
        assert_eq!(from_wire(b"./a/b"), Ok("a/b"));
        assert_eq!(from_wire(b"a"), Ok("a"));
        for name in [&b"././a"[..], b"./", b".//a", b"./../a"] {
            assert!(from_wire(name).is_err(), "{}", name.escape_ascii());
        }
    }
}
