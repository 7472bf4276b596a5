//! Adds entries to a keyring file of `component_keyring_file`: whole, or not at all, and all other entries stay.

use std::io::{self, Write};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, Stat, fchmod};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Owner;
use crate::base::nofollow;
use crate::base::{Code, Error, Result};
use crate::innodb::encryption::key_info::MasterKey;
use crate::innodb::encryption::keyring_file::KEYRING_MAX;

const PRIVATE_MODE: u32 = 0o600;
/// What the name of the new file ends with until it takes the old one's place.
const NEW: &str = ".xbrecv-new";

/// A keyring file that was read and understood, or is to be made.
#[derive(Debug)]
pub struct KeyringTarget {
    path: PathBuf,
}

impl KeyringTarget {
    /// Checks that entries can be added to the file `path`, which may be absent.
    ///
    /// # Errors
    /// [`Code::Usage`] if it is none of `component_keyring_file`, or its folder is not there.
    pub fn check(path: &Path) -> Result<KeyringTarget> {
        let target = KeyringTarget { path: path.to_owned() };
        target.read()?;
        let folder = target.folder();
        if !nofollow::is_dir(folder) {
            return Err(target.refused(&format!("{} is no folder", folder.display())));
        }
        Ok(target)
    }

    /// Adds entries, durably. A new file belongs to `owner`.
    ///
    /// # Errors
    /// [`Code::Usage`] as before, [`Code::TargetIo`].
    pub fn add(&self, entries: &[(String, MasterKey)], owner: Option<Owner>) -> Result<()> {
        let mut content = self.read()?;
        let elements = content.entry("elements").or_insert_with(|| json!([]));
        let Value::Array(elements) = elements else { return Err(self.refused("it has no list of elements")) };
        for (name, key) in entries {
            if elements.iter().any(|element| element["data_id"] == name.as_str()) {
                continue;
            }
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            elements.push(json!({
                "user": "", "data_id": name, "data_type": "AES", "data": hex, "extension": []
            }));
        }
        let failed = |e: io::Error| Error::io(Code::TargetIo, self.path.display(), e);
        let text = serde_json::to_string(&content).map_err(|e| failed(e.into()))?;
        self.replace(&Zeroizing::new(text), owner).map_err(failed)
    }

    fn read(&self) -> Result<Map<String, Value>> {
        let unreadable =
            |e: io::Error| Error::io(Code::Usage, format!("can't read {}", self.path.display()), e);
        let text = match nofollow::read(&self.path, KEYRING_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
            read => Zeroizing::new(read.map_err(unreadable)?),
        };
        if text.is_empty() {
            return Ok(Map::from_iter([("version".into(), json!("1.0")), ("elements".into(), json!([]))]));
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(content)) => Ok(content),
            _ => Err(self
                .refused("it is no keyring file of component_keyring_file")
                .hint("mysql_migrate_keyring makes one of the file of the plugin keyring_file")),
        }
    }

    fn replace(&self, text: &str, owner: Option<Owner>) -> io::Result<()> {
        let old = match nofollow::stat(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            old => Some(old?),
        };
        let mut name = self.path.as_os_str().to_owned();
        name.push(NEW);
        let new = PathBuf::from(name);
        match nofollow::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let written = self.write(&new, text, old.as_ref(), owner);
        if written.is_err() {
            // It has keys in it.
            let _ = nofollow::remove_file(&new);
        }
        written
    }

    /// Writes the new file, and puts it in the place of the old one, whose owner and mode it gets.
    fn write(&self, new: &Path, text: &str, old: Option<&Stat>, owner: Option<Owner>) -> io::Result<()> {
        let mut file = nofollow::create_new(new, PRIVATE_MODE)?;
        match (old, owner) {
            (Some(old), _) => {
                fchmod(&file, Mode::from_raw_mode(old.st_mode & 0o777))?;
                fchown(&file, Some(old.st_uid), Some(old.st_gid))?;
            }
            (None, Some(owner)) => fchown(&file, Some(owner.uid), Some(owner.gid))?,
            (None, None) => {}
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        nofollow::rename(new, &self.path)?;
        nofollow::sync_dir(self.folder())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn refused(&self, what: &str) -> Error {
        Error::new(Code::Usage, format!("{}: {what}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn key(byte: u8) -> MasterKey {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn entries_are_added_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        let target = KeyringTarget::check(&path).unwrap();
        target.add(&[("INNODBKey-a-1".into(), key(1))], None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, PRIVATE_MODE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        target.add(&[("INNODBKey-b-1".into(), key(2)), ("INNODBKey-a-1".into(), key(3))], None).unwrap();
        let content: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let element =
            |n: usize| (content["elements"][n]["data_id"].clone(), content["elements"][n]["data"].clone());
        assert_eq!(element(0), (json!("INNODBKey-a-1"), json!("01".repeat(32))));
        assert_eq!(element(1), (json!("INNODBKey-b-1"), json!("02".repeat(32))));
        assert_eq!(content["elements"].as_array().unwrap().len(), 2);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_keyring_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        for bad in ["Keyring file version:2.0", "[]", "{\"elements\"", "x"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(KeyringTarget::check(&path).unwrap_err().code, Code::Usage, "{bad}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
        std::fs::write(&path, r#"{"elements": 3}"#).unwrap();
        assert!(KeyringTarget::check(&path).unwrap().add(&[("x".into(), key(1))], None).is_err());
        assert!(KeyringTarget::check(dir.path()).is_err());
        assert!(KeyringTarget::check(&dir.path().join("none/keyring")).is_err());
    }
}
