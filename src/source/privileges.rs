//! What the account must be allowed, checked before anything is locked or read.

use std::collections::BTreeSet;

use crate::base::{Code, Error, Result};

use super::session::Session;

/// Global privileges that every backup needs, and what for.
const NEEDED: [(&str, &str); 3] = [
    ("BACKUP_ADMIN", "LOCK INSTANCE FOR BACKUP, performance_schema.log_status, the redo consumer"),
    ("PROCESS", "information_schema.FILES"),
    ("RELOAD", "FLUSH TABLES … WITH READ LOCK, FLUSH ENGINE LOGS"),
];

/// What an account holds, as far as a backup cares.
#[derive(Debug, Default, PartialEq)]
pub struct Privileges {
    account: String,
    global: BTreeSet<String>,
    performance_schema: bool,
}

impl Privileges {
    /// Reads `SHOW GRANTS` with every role that the account may take active.
    pub fn of_session(session: &mut Session) -> Result<Privileges> {
        // Roles that are not active by default would otherwise be missing from the picture.
        session.execute("SET ROLE ALL")?;
        let account = session.scalar("SELECT CURRENT_USER()")?.unwrap_or_default();
        let grants = session.query("SHOW GRANTS")?;
        let roles = session.scalar("SELECT CURRENT_ROLE()")?.unwrap_or_default();
        let mut lines: Vec<String> = grants.into_iter().flatten().flatten().collect();
        if !roles.is_empty() && roles != "NONE" {
            let of_roles = session.query(&format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"))?;
            lines.extend(of_roles.into_iter().flatten().flatten());
        }
        Ok(Self::parse(account, lines.iter().map(String::as_str)))
    }

    fn parse<'a>(account: String, grants: impl Iterator<Item = &'a str>) -> Privileges {
        let mut found = Privileges { account, ..Default::default() };
        for line in grants {
            let Some(rest) = line.strip_prefix("GRANT ") else { continue };
            let Some((list, on)) = rest.split_once(" ON ") else { continue };
            let scope = on.split(" TO ").next().unwrap_or("");
            let names = list.split(',').map(|p| p.trim().to_ascii_uppercase());
            if scope == "*.*" {
                found.global.extend(names);
            } else if matches!(scope, "`performance_schema`.*" | "`performance_schema`.`log_status`") {
                found.performance_schema |= names.into_iter().any(|n| n == "SELECT" || n == "ALL PRIVILEGES");
            }
        }
        found
    }

    fn has(&self, privilege: &str) -> bool {
        // Dynamic privileges are listed by name even for an account with ALL PRIVILEGES.
        self.global.contains(privilege)
            || (self.global.contains("ALL PRIVILEGES") && !privilege.contains('_'))
            || (privilege == "RELOAD" && self.global.contains("FLUSH_TABLES"))
    }

    /// Fails with the GRANT that mends it.
    ///
    /// # Errors
    /// [`Code::Privilege`].
    pub fn check(&self) -> Result<()> {
        let missing: Vec<_> = NEEDED.iter().filter(|(name, _)| !self.has(name)).collect();
        let log_status = self.performance_schema || self.has("SELECT");
        if missing.is_empty() && log_status {
            return Ok(());
        }
        let account = match self.account.split_once('@') {
            Some((user, host)) => format!("'{user}'@'{host}'"),
            None => format!("'{}'", self.account),
        };
        let mut why: Vec<String> = missing.iter().map(|(name, why)| format!("{name} (for {why})")).collect();
        let mut grants = Vec::new();
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
            grants.push(format!("GRANT {} ON *.* TO {account};", names.join(", ")));
        }
        if !log_status {
            why.push("SELECT on performance_schema.log_status".into());
            grants.push(format!("GRANT SELECT ON performance_schema.log_status TO {account};"));
        }
        Err(Error::new(Code::Privilege, format!("{account} lacks {}", why.join(", ")))
            .hint(format!("as an administrator run: {}", grants.join(" "))))
    }

    /// Fails with the GRANT that mends it where tables of other engines must be locked and can't be.
    pub fn check_table_locks(&self, schemas: &BTreeSet<String>) -> Result<()> {
        if self.has("SELECT") && self.has("LOCK TABLES") {
            return Ok(());
        }
        let list: Vec<_> = schemas.iter().cloned().collect();
        Err(Error::new(
            Code::Privilege,
            format!(
                "{} may lack SELECT and LOCK TABLES on the non-InnoDB tables of {}",
                self.account,
                list.join(", ")
            ),
        )
        .hint("grant SELECT, LOCK TABLES ON *.* (or on those schemas) to the account"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lines: &[&str]) -> Privileges {
        Privileges::parse("bkp@localhost".into(), lines.iter().copied())
    }

    #[test]
    fn the_missing_grant_is_named() {
        let e = parsed(&["GRANT RELOAD ON *.* TO `bkp`@`localhost`"]).check().unwrap_err();
        assert_eq!(e.code, Code::Privilege);
        assert_eq!(
            e.hint.unwrap(),
            "as an administrator run: GRANT BACKUP_ADMIN, PROCESS ON *.* TO 'bkp'@'localhost'; \
             GRANT SELECT ON performance_schema.log_status TO 'bkp'@'localhost';"
        );
    }

    #[test]
    fn enough_is_enough() {
        parsed(&[
            "GRANT RELOAD, PROCESS ON *.* TO `bkp`@`localhost`",
            "GRANT BACKUP_ADMIN ON *.* TO `bkp`@`localhost`",
            "GRANT SELECT ON `performance_schema`.`log_status` TO `bkp`@`localhost`",
        ])
        .check()
        .unwrap();
        parsed(&[
            "GRANT SELECT, RELOAD, PROCESS ON *.* TO `root`@`localhost` WITH GRANT OPTION",
            "GRANT BACKUP_ADMIN,CLONE_ADMIN ON *.* TO `root`@`localhost`",
        ])
        .check()
        .unwrap();
    }

    #[test]
    fn grants_on_one_schema_are_not_global() {
        assert!(
            parsed(&["GRANT BACKUP_ADMIN, PROCESS, RELOAD ON `x`.* TO `bkp`@`localhost`"]).check().is_err()
        );
    }
}
