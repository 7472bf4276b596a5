//! Finding a server binary, and whether it can recover what a given server left.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::base::version::ServerVersion;
use crate::base::{Code, Error, Result};

/// Where packages and tarballs put the server, looked at after `PATH`.
const USUAL_PLACES: &[&str] = &[
    "/usr/sbin/mysqld",
    "/usr/libexec/mysqld",
    "/usr/bin/mysqld",
    "/usr/local/mysql/bin/mysqld",
    "/usr/local/bin/mysqld",
    "/usr/local/sbin/mysqld",
    "/opt/mysql/bin/mysqld",
];
/// The hint of a search that found nothing, or nothing that fits.
const HINT: &str = "install the server, or name its binary with --mysqld PATH; --prepare=native needs none, and with \
                    --prepare=none your own server recovers the copy at its first start";

/// A server binary.
#[derive(Clone, Debug)]
pub struct Mysqld {
    /// Its path.
    pub path: PathBuf,
    /// Its version.
    pub version: ServerVersion,
}

impl Mysqld {
    /// The binary at `given`, or the first MySQL server found in `PATH` and the usual places.
    ///
    /// # Errors
    /// [`Code::NoServerBinary`].
    pub fn find(given: Option<&Path>) -> Result<Mysqld> {
        if let Some(path) = given {
            return ask(path).map_err(|why| {
                Error::new(Code::NoServerBinary, format!("can't use {}: {why}", path.display())).hint(HINT)
            });
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut refused = Vec::new();
        for candidate in candidates(&path) {
            match ask(&candidate) {
                Ok(found) => return Ok(found),
                Err(why) => refused.push(format!("{}: {why}", candidate.display())),
            }
        }
        let found = match refused.is_empty() {
            true => "no mysqld was found in PATH or the usual places".to_owned(),
            false => format!("no usable mysqld was found ({})", refused.join("; ")),
        };
        Err(Error::new(Code::NoServerBinary, format!("{found}, and preparing the copy needs one")).hint(HINT))
    }

    /// Whether it can recover a datadir of a server with `version`.
    ///
    /// Crash recovery is promised within a release series only, and never by an older server: the dictionary would
    /// be upgraded before the data is consistent, or the redo not be understood.
    pub fn check_fits(&self, source: ServerVersion) -> Result<()> {
        let series = |v: ServerVersion| (v.major, v.minor);
        if series(self.version) == series(source) && self.version >= source {
            return Ok(());
        }
        let needed = format!("{}.{} at least {source}", source.major, source.minor);
        Err(Error::new(
            Code::NoServerBinary,
            format!(
                "{} is version {}, but the backup is of a server {source}: it can't recover that",
                self.path.display(),
                self.version
            ),
        )
        .hint(format!("name a mysqld of series {needed} with --mysqld PATH, or use --prepare=none")))
    }
}

/// Executable files of that name, in order.
fn candidates(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    let in_path: Vec<_> =
        std::env::split_paths(path).filter(|d| d.is_absolute()).map(|d| d.join("mysqld")).collect();
    in_path
        .into_iter()
        .chain(USUAL_PLACES.iter().map(PathBuf::from))
        .filter(|p| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

/// Asks a binary for its version: `… Ver 9.7.4 for Linux on x86_64 (…)`.
fn ask(path: &Path) -> Result<Mysqld, String> {
    let output = Command::new(path)
        .args(["--no-defaults", "--version"])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = version_of(&text)?;
    // Started later from another folder.
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    Ok(Mysqld { path, version })
}

fn version_of(text: &str) -> Result<ServerVersion, String> {
    let version = text.split_whitespace().skip_while(|w| *w != "Ver").nth(1).unwrap_or("");
    if text.contains("MariaDB") {
        return Err(format!("it is MariaDB {version}, which can't recover a MySQL datadir"));
    }
    ServerVersion::parse(version).ok_or_else(|| "it does not say its version".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let text = "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))\n";
        assert_eq!(version_of(text).unwrap(), ServerVersion::new(9, 7, 4));
        assert!(
            version_of("mysqld  Ver 10.11.6-MariaDB for debian-linux-gnu").unwrap_err().contains("MariaDB")
        );
        assert!(version_of("").is_err());
    }

    #[test]
    fn only_the_same_series_fits_and_not_an_older_one() {
        let mysqld = |v| Mysqld { path: "mysqld".into(), version: v };
        let v = ServerVersion::new;
        mysqld(v(8, 0, 40)).check_fits(v(8, 0, 36)).unwrap();
        mysqld(v(9, 7, 4)).check_fits(v(9, 7, 4)).unwrap();
        for (binary, source) in
            [(v(8, 0, 35), v(8, 0, 36)), (v(8, 4, 1), v(8, 0, 36)), (v(8, 0, 40), v(9, 7, 0))]
        {
            let e = mysqld(binary).check_fits(source).unwrap_err();
            assert_eq!(e.code, Code::NoServerBinary);
            assert!(e.message.contains(&source.to_string()) && e.hint.is_some());
        }
    }

    #[test]
    fn what_can_not_be_run_is_named() {
        let e = Mysqld::find(Some(Path::new("/nonexistent/mysqld"))).unwrap_err();
        assert_eq!(e.code, Code::NoServerBinary);
        assert!(e.message.contains("/nonexistent/mysqld"), "{e}");
        let e = Mysqld::find(Some(Path::new("/bin/true"))).unwrap_err();
        assert!(e.message.contains("version"), "{e}");
    }

    #[test]
    fn relative_folders_of_the_path_are_left_out() {
        assert!(candidates(OsStr::new(".:bin:")).all(|p| USUAL_PLACES.iter().any(|u| p == Path::new(u))));
    }
}
