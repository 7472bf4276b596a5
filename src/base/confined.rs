//! Relative paths that can't leave the folder that they are joined to.
//!
//! Whatever names a file and was not given by the user (a member, a line of metadata, a redo record, an entry of a folder)
//! becomes one of these before a file is touched. How files are reached by them: [`super::nofollow`].

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A path with at least one component, all of them names: no `..`, no `.`, no root, no NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Confined(PathBuf);

/// The path is empty, absolute, or leads upwards.
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

    /// What lies before the last name; `None` if there is only one.
    pub fn parent(&self) -> Option<Confined> {
        self.0
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map(|parent| Confined(parent.to_owned()))
    }

    /// The last name.
    pub fn file_name(&self) -> &OsStr {
        self.0.file_name().unwrap_or_default()
    }

    /// The names, outermost first.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter()
    }

    /// This, with `rest` below it.
    pub fn join(&self, rest: &Confined) -> Confined {
        Confined(self.0.join(&rest.0))
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

/// An absolute path without doubled separators, `.` and `..`, by its text alone: two spellings of one file compare equal, as
/// long as no symbolic link is followed by `..`. Used to compare paths of another machine, never to open them.
pub fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // At the root this leaves the root.
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
