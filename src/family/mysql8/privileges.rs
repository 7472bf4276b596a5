//! Checks the privileges of the account, before anything is locked or read.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Code, Error, Result, quote};

use crate::family::mysql8::grants::{Grant, Scope};
use crate::source::session::Session;
use crate::source::sql_error::SqlFailure;

/// Global privileges that every backup needs, and what for.
const NEEDED: [(&str, &str); 3] = [
    ("BACKUP_ADMIN", "LOCK INSTANCE FOR BACKUP, performance_schema.log_status, the redo consumer"),
    ("PROCESS", "information_schema.FILES"),
    ("RELOAD", "FLUSH TABLES … WITH READ LOCK, FLUSH ENGINE LOGS"),
];
/// Privileges that are needed to see, flush and lock a table of another engine.
const NEEDED_ON_TABLES: [&str; 2] = ["SELECT", "LOCK TABLES"];

/// The privileges of an account that matter for a backup.
#[derive(Debug, Default)]
pub(super) struct Privileges {
    account: String,
    global: BTreeSet<String>,
    /// Privileges that `partial_revokes` takes away again, by schema.
    revoked: BTreeMap<String, BTreeSet<String>>,
    /// Grants on schemas and tables.
    narrower: Vec<Grant>,
    /// Whether names of schemas in grants are taken literally.
    literal: bool,
    /// The server checks nothing.
    unchecked: bool,
}

impl Privileges {
    /// Reads `SHOW GRANTS`, in which every active role counts; a session of ours has all of its roles active.
    pub(super) fn of_session(session: &mut Session) -> Result<Privileges> {
        /// ER_OPTION_PREVENTS_STATEMENT: the server was started with `--skip-grant-tables`.
        const NO_GRANT_TABLES: SqlFailure = SqlFailure::Refused(1290);
        let account = session.scalar("SELECT CURRENT_USER()")?.unwrap_or_default();
        let grants = match session.attempt("SHOW GRANTS") {
            Err(e) if e.kind == NO_GRANT_TABLES => {
                return Ok(Privileges { account, unchecked: true, ..Default::default() });
            }
            other => other?,
        };
        let literal = session.scalar("SELECT @@GLOBAL.partial_revokes")?.as_deref() == Some("1");
        let lines: Vec<String> = grants.into_iter().flatten().flatten().collect();
        Ok(Privileges { literal, ..Self::parse(account, lines.iter().map(String::as_str)) })
    }

    fn parse<'a>(account: String, lines: impl Iterator<Item = &'a str>) -> Privileges {
        let mut found = Privileges { account, ..Default::default() };
        for grant in lines.filter_map(Grant::parse) {
            match (&grant.scope, grant.revoked) {
                (Scope::Global, false) => found.global.extend(grant.privileges),
                (Scope::Schema(schema), true) => {
                    found.revoked.entry(schema.clone()).or_default().extend(grant.privileges);
                }
                (_, false) => found.narrower.push(grant),
                (_, true) => {}
            }
        }
        found
    }

    fn has(&self, privilege: &str) -> bool {
        // Dynamic privileges are listed by name even for an account with ALL PRIVILEGES.
        self.unchecked
            || self.global.contains(privilege)
            || (self.global.contains("ALL PRIVILEGES") && !privilege.contains('_'))
            || (privilege == "RELOAD" && self.global.contains("FLUSH_TABLES"))
    }

    fn has_on(&self, privilege: &str, schema: &str, table: &str) -> bool {
        let revoked =
            self.revoked.get(schema).is_some_and(|r| r.contains(privilege) || r.contains("ALL PRIVILEGES"));
        (self.has(privilege) && !revoked)
            || self.narrower.iter().any(|g| g.gives(privilege) && g.covers(schema, table, self.literal))
    }

    /// Whether no table can be hidden from this account: then a file that belongs to no table it sees belongs to none.
    pub(super) fn sees_every_table(&self) -> bool {
        self.has("SELECT") && self.revoked.values().all(|r| !r.contains("SELECT"))
    }

    /// Whether no schema can be hidden from this account.
    pub(super) fn sees_every_schema(&self) -> bool {
        let everywhere =
            |privilege: &str| self.has(privilege) && self.revoked.values().all(|r| !r.contains(privilege));
        everywhere("SELECT") || everywhere("SHOW DATABASES")
    }

    /// Fails with the GRANT that mends it.
    ///
    /// # Errors
    /// [`Code::Privilege`].
    pub(super) fn check(&self) -> Result<()> {
        let missing: Vec<_> = NEEDED.iter().filter(|(name, _)| !self.has(name)).collect();
        let log_status = self.has_on("SELECT", "performance_schema", "log_status");
        if missing.is_empty() && log_status {
            return Ok(());
        }
        let account = self.quoted_account();
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

    /// Fails with the GRANT that mends it where one of these tables of other engines (schema, name) can't be locked or,
    /// if it is among `unseen`, was not even seen.
    ///
    /// # Errors
    /// [`Code::Privilege`].
    pub(super) fn check_tables(&self, seen: &[(String, String)], unseen: &[(String, String)]) -> Result<()> {
        /// Tables, and GRANTs, that are named.
        const NAMED: usize = 5;
        let mut lacking: BTreeSet<&str> = BTreeSet::new();
        let (mut tables, mut schemas) = (Vec::new(), BTreeSet::new());
        let all = seen.iter().map(|t| (t, false)).chain(unseen.iter().map(|t| (t, true)));
        for ((schema, table), hidden) in all {
            let mut missing: Vec<_> =
                NEEDED_ON_TABLES.into_iter().filter(|p| !self.has_on(p, schema, table)).collect();
            if hidden && missing.is_empty() {
                missing.extend(NEEDED_ON_TABLES);
            }
            if !missing.is_empty() {
                lacking.extend(missing);
                tables.push(format!("`{schema}`.`{table}`"));
                schemas.insert(schema);
            }
        }
        if tables.is_empty() {
            return Ok(());
        }
        let account = self.quoted_account();
        let privileges: Vec<_> = NEEDED_ON_TABLES.into_iter().filter(|p| lacking.contains(p)).collect();
        let privileges = privileges.join(", ");
        let more =
            if tables.len() > NAMED { format!(" and {} more", tables.len() - NAMED) } else { String::new() };
        tables.truncate(NAMED);
        let grants: Vec<_> = match schemas.len() > NAMED && self.revoked.is_empty() {
            true => vec![format!("GRANT {privileges} ON *.* TO {account};")],
            false => schemas
                .iter()
                .map(|s| format!("GRANT {privileges} ON {}.* TO {account};", quote::sql_name(s)))
                .collect(),
        };
        Err(Error::new(
            Code::Privilege,
            format!(
                "{account} lacks {privileges} on {}{more}: not InnoDB's, and to be locked while it is copied",
                tables.join(", ")
            ),
        )
        .hint(format!("as an administrator run: {}", grants.join(" "))))
    }

    fn quoted_account(&self) -> String {
        quote::sql_account(&self.account)
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

    fn table(schema: &str, name: &str) -> (String, String) {
        (schema.into(), name.into())
    }

    #[test]
    fn tables_that_cannot_be_locked_are_named_with_their_grant() {
        let some = parsed(&[
            "GRANT SELECT, RELOAD ON *.* TO `bkp`@`localhost`",
            "GRANT LOCK TABLES ON `d\\_1`.* TO `bkp`@`localhost`",
        ]);
        some.check_tables(&[table("d_1", "m")], &[]).unwrap();
        let e = some.check_tables(&[table("d_1", "m"), table("dx1", "m")], &[]).unwrap_err();
        assert!(e.message.contains("lacks LOCK TABLES on `dx1`.`m`"), "{e}");
        assert_eq!(
            e.hint.unwrap(),
            "as an administrator run: GRANT LOCK TABLES ON `dx1`.* TO 'bkp'@'localhost';"
        );
        let e = parsed(&[]).check_tables(&[], &[table("d", "m")]).unwrap_err();
        assert!(e.message.contains("lacks SELECT, LOCK TABLES on `d`.`m`"), "{e}");
    }

    #[test]
    fn what_is_revoked_is_not_held() {
        let revoked = parsed(&[
            "GRANT SELECT, LOCK TABLES ON *.* TO `bkp`@`localhost`",
            "REVOKE SELECT ON `d`.* FROM `bkp`@`localhost`",
        ]);
        assert!(!revoked.sees_every_table());
        revoked.check_tables(&[table("e", "m")], &[]).unwrap();
        assert!(revoked.check_tables(&[table("d", "m")], &[]).is_err());
    }
}
