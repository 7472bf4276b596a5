//! Provides relative paths that can't leave the folder that they are joined to.
//!
//! A name of a file that did not come from the user (of a member, or in a line of metadata, a redo record, an
//! entry of a folder) is turned into such a path before a file is touched. [`super::nofollow`] then reaches
//! files by these paths.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A path with at least one component, all of which are names: no `..`, no `.`, no root, no NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Confined(PathBuf);

/// Error: the path is empty, absolute, or leads upwards.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{0}' is no path below a folder")]
pub struct NotConfined(String);

impl Confined {
    /// Takes `path` if it is confined. Doubled separators and `.` between names are left out.
    ///
    /// # Errors
    /// [`NotConfined`].
    pub fn parse(path: impl AsRef<Path>) -> Result<Confined, NotConfined> {
        let path = path.as_ref();
        let refused = || NotConfined(path.to_string_lossy().escape_debug().to_string());
        let mut kept = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) if !name.as_bytes().contains(&0) => kept.push(name),
                _ => return Err(refused()),
            }
        }
        match kept.as_os_str().is_empty() {
            true => Err(refused()),
            false => Ok(Confined(kept)),
        }
    }

    /// Returns the path before the last name; `None` if there is only one name.
    pub fn parent(&self) -> Option<Confined> {
        self.0
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map(|parent| Confined(parent.to_owned()))
    }
}

impl AsRef<Path> for Confined {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl fmt::Debug for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Normalises an absolute path by its text alone: without doubled separators, `.` and `..`. Two spellings of
/// one file then compare equal, as long as no symbolic link is followed by `..`. Used to compare paths of
/// another machine, never to open them.
pub fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // `..` at the root stays at the root: `pop` does nothing there.
            Component::ParentDir if plain.has_root() => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_names_below_are_taken() {
        for good in ["a", "a/b", "a//b", "a/./b", "a/", "...", "..a/b.."] {
            assert!(Confined::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "..", ".", "./a", "../a", "a/..", "a/../b", "a/../../b", "//a", "a\0b"] {
            assert!(Confined::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Confined::parse("a//b/./c").unwrap().0, Path::new("a/b/c"));
    }

    #[test]
    fn spellings_of_one_path_are_one() {
        for (text, plain) in [
            ("/ext//a/./b/../c", "/ext/a/c"),
            ("/../x", "/x"),
            ("/a/b/../..", "/"),
            ("a/./b", "a/b"),
            ("../x", "../x"),
        ] {
            assert_eq!(lexical(Path::new(text)), Path::new(plain), "{text}");
        }
    }

    proptest! {
        #[test]
        fn joined_it_stays_below(path in r"(/|\.|\.\.|a|b|\x00){0,12}") {
            if let Ok(confined) = Confined::parse(&path) {
                let joined = Path::new("/base").join(&confined);
                prop_assert!(lexical(&joined).starts_with("/base") && lexical(&joined) != Path::new("/base"));
                prop_assert_eq!(Confined::parse(&confined.0).unwrap(), confined);
            }
        }
    }
}
