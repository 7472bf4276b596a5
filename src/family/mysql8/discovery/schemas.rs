//! Schemas, and which folder of the datadir is whose.

use crate::base::Result;
use crate::family::mysql8::privileges::Privileges;
use crate::source::file_names::is_spelled;
use crate::source::session::Session;

/// The schemas that the account sees.
#[derive(Debug)]
pub(super) struct Schemas {
    names: Vec<String>,
    /// Whether these are all.
    complete: bool,
}

impl Schemas {
    pub(super) fn read(session: &mut Session, privileges: &Privileges) -> Result<Schemas> {
        let rows = session.query("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")?;
        let names: Vec<String> = rows.into_iter().flatten().flatten().collect();
        Ok(Schemas { names, complete: privileges.sees_every_schema() })
    }

    /// Whether a folder of this name is a schema's. An account that does not see all of them gets the benefit of the doubt
    /// for names that a schema's folder can have.
    pub(super) fn have(&self, folder: &str) -> bool {
        let could_be =
            || folder.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'@' | b'$' | b'-'));
        self.name(folder) || (!self.complete && could_be())
    }

    /// Whether a schema that the account sees has this folder.
    pub(super) fn name(&self, folder: &str) -> bool {
        self.names.iter().any(|name| is_spelled(folder.as_bytes(), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sees_all_knows_what_is_foreign() {
        let names = ["sys", "mysql", "d"].map(str::to_owned).to_vec();
        let all = Schemas { names: names.clone(), complete: true };
        assert!(all.have("d") && !all.have("backup_of_d"));
        let some = Schemas { names, complete: false };
        assert!(some.have("backup_of_d") && !some.have("lost+found") && !some.have("two words"));
    }
}
