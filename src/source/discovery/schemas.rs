//! Schemas, and which folder of the datadir is whose.

use crate::base::Result;
use crate::source::session::Session;

/// The schemas that the account sees.
#[derive(Debug)]
pub(super) struct Schemas {
    names: Vec<String>,
    /// Whether these are all.
    complete: bool,
}

impl Schemas {
    pub(super) fn read(session: &mut Session) -> Result<Schemas> {
        let rows = session.query("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")?;
        let names: Vec<String> = rows.into_iter().flatten().flatten().collect();
        // Only who has one of these everywhere, and nothing of it taken back, sees all. (What comes from a role is not listed.)
        let global = session.scalar(
            "SELECT COUNT(*) > 0 AND @@GLOBAL.partial_revokes = 0 FROM information_schema.USER_PRIVILEGES \
             WHERE PRIVILEGE_TYPE IN ('SELECT', 'SHOW DATABASES') \
             AND GRANTEE = CONCAT(CHAR(39), SUBSTRING_INDEX(CURRENT_USER(), '@', 1), CHAR(39), '@', \
             CHAR(39), SUBSTRING_INDEX(CURRENT_USER(), '@', -1), CHAR(39))",
        )?;
        let complete = global.as_deref() == Some("1");
        Ok(Schemas { names, complete })
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
        self.names.iter().any(|name| is_folder_of(folder, name))
    }
}

/// Whether `folder` is how the server spells `schema` on disk: letters, digits and the underscore as they are, other
/// characters as `@` and four hex digits, some letters (of a table in the server) as `@` and two characters.
fn is_folder_of(folder: &str, schema: &str) -> bool {
    fn matches(folder: &[u8], schema: &[char]) -> bool {
        let Some((&c, rest)) = schema.split_first() else { return folder.is_empty() };
        if c.is_ascii_alphanumeric() || c == '_' {
            return folder.first().is_some_and(|b| char::from(*b) == c) && matches(&folder[1..], rest);
        }
        // A few servers' schemas were made before names were spelled in this way.
        if c.is_ascii() && folder.first() == Some(&(c as u8)) && c != '@' && matches(&folder[1..], rest) {
            return true;
        }
        if folder.first() != Some(&b'@') {
            return false;
        }
        let hex = format!("{:04x}", u32::from(c));
        let long = folder.get(1..5).is_some_and(|code| code.eq_ignore_ascii_case(hex.as_bytes()));
        (long && matches(&folder[5..], rest))
            || (!c.is_ascii() && folder.len() >= 3 && matches(&folder[3..], rest))
    }
    matches(folder.as_bytes(), &schema.chars().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_odd_names() {
        // As a server spelled them.
        for (schema, folder) in [
            ("e.m pty", "e@002em@0020pty"),
            ("dé#x", "d@0p@0023x"),
            ("日本", "@65e5@672c"),
            ("plain_1", "plain_1"),
        ] {
            assert!(is_folder_of(folder, schema), "{schema}");
            assert!(!is_folder_of(&folder[1..], schema), "{schema}");
            assert!(!is_folder_of(&format!("{folder}x"), schema), "{schema}");
        }
        assert!(!is_folder_of("d@", "d#"));
        assert!(!is_folder_of("", "d"));
    }

    #[test]
    fn who_sees_all_knows_what_is_foreign() {
        let names = ["sys", "mysql", "d"].map(str::to_owned).to_vec();
        let all = Schemas { names: names.clone(), complete: true };
        assert!(all.have("d") && !all.have("backup_of_d"));
        let some = Schemas { names, complete: false };
        assert!(some.have("backup_of_d") && !some.have("lost+found") && !some.have("two words"));
    }
}
