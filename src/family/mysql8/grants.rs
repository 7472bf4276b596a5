//! Parses lines of `SHOW GRANTS`.

use std::collections::BTreeSet;

/// The scope of a grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// `*.*`
    Global,
    /// A pattern for names of schemas.
    Schema(String),
    /// Schema and table.
    Table(String, String),
}

/// A line that says `GRANT … ON … TO …` or `REVOKE … ON … FROM …`.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// In upper case. One on some columns only is left out.
    pub(super) privileges: BTreeSet<String>,
    pub(super) scope: Scope,
    pub(super) revoked: bool,
}

impl Grant {
    /// Reads a line; `None` for roles, routines and proxies.
    pub(super) fn parse(line: &str) -> Option<Grant> {
        let (rest, revoked, end) = match (line.strip_prefix("GRANT "), line.strip_prefix("REVOKE ")) {
            (Some(rest), _) => (rest, false, " TO "),
            (None, Some(rest)) => (rest, true, " FROM "),
            (None, None) => return None,
        };
        let (list, rest) = split_outside(rest, " ON ")?;
        let (on, _) = split_outside(rest, end)?;
        let scope = if on == "*.*" {
            Scope::Global
        } else {
            let (schema, rest) = identifier(on)?;
            match rest.strip_prefix('.')? {
                "*" => Scope::Schema(schema),
                table => Scope::Table(schema, identifier(table).filter(|(_, rest)| rest.is_empty())?.0),
            }
        };
        let mut privileges = BTreeSet::new();
        let mut left = Some(list);
        while let Some(list) = left {
            let (one, rest) = split_outside(list, ",").map_or((list, None), |(one, rest)| (one, Some(rest)));
            if !one.contains('(') {
                privileges.insert(one.trim().to_ascii_uppercase());
            }
            left = rest;
        }
        Some(Grant { privileges, scope, revoked })
    }

    /// Whether it is of this privilege.
    pub(super) fn gives(&self, privilege: &str) -> bool {
        self.privileges.contains(privilege) || self.privileges.contains("ALL PRIVILEGES")
    }

    /// Whether it holds for this table.
    pub(super) fn covers(&self, schema: &str, table: &str, literal: bool) -> bool {
        match &self.scope {
            Scope::Global => true,
            Scope::Schema(pattern) if literal => pattern == schema,
            Scope::Schema(pattern) => {
                let (pattern, schema): (Vec<_>, Vec<_>) =
                    (pattern.chars().collect(), schema.chars().collect());
                is_like(&pattern, &schema)
            }
            Scope::Table(s, t) => s == schema && t == table,
        }
    }
}

/// As SQL's LIKE. The server sees to it that no pattern has more than 64 characters.
fn is_like(pattern: &[char], text: &[char]) -> bool {
    // Position in the pattern behind the newest `%`, and in the text where its run began.
    let (mut p, mut t, mut retry) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('%') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('\\') if pattern.get(p + 1) == Some(&text[t]) => {
                (p, t) = (p + 2, t + 1);
                continue;
            }
            Some('_') => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            Some(c) if *c != '\\' && *c == text[t] => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = retry else { return false };
        (p, t, retry) = (after, from + 1, Some((after, from + 1)));
    }
    pattern[p..].iter().all(|c| *c == '%')
}

/// Splits at the first `mark` that is not inside backticks or parentheses.
fn split_outside<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let (mut quoted, mut depth) = (false, 0usize);
    for (at, c) in text.char_indices() {
        if !quoted && depth == 0 && text[at..].starts_with(mark) {
            return Some((&text[..at], &text[at + mark.len()..]));
        }
        match c {
            '`' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// A quoted name at the start, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('`')?;
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once('`')?;
        name.push_str(part);
        match behind.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Grant {
        Grant::parse(line).unwrap_or_else(|| panic!("{line}"))
    }

    #[test]
    fn odd_names_are_read() {
        let grant = one(
            "GRANT SELECT, INSERT (`a ON b`, `c`), LOCK TABLES ON `x`` TO y`.* TO `u`@`%` WITH GRANT OPTION",
        );
        assert_eq!(grant.scope, Scope::Schema("x` TO y".into()));
        assert!(grant.gives("SELECT") && grant.gives("LOCK TABLES") && !grant.gives("INSERT"));
        let grant = one("GRANT SELECT (`a`) ON `d`.`t` TO `u`@`%`");
        assert!(!grant.gives("SELECT"));
        assert!(one("REVOKE SELECT ON `d`.* FROM `u`@`%`").revoked);
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "GRANT `r1`@`%` TO `low`@`localhost`",
            "GRANT EXECUTE ON PROCEDURE `d`.`p` TO `u`@`%`",
            "GRANT PROXY ON ``@`` TO `root`@`localhost` WITH GRANT OPTION",
            "",
            "GRANT `",
        ] {
            assert!(Grant::parse(line).is_none(), "{line}");
        }
    }

    #[test]
    fn schemas_are_patterns_where_they_are_not_literal() {
        for (pattern, schema, like) in [
            ("d", "d", true),
            ("d_1", "dx1", true),
            ("d\\_1", "dx1", false),
            ("d\\_1", "d_1", true),
            ("a%c%", "abcd", true),
            ("a%c", "abcdc", true),
            ("%", "", true),
            ("a%", "b", false),
            ("a%b", "ab", true),
            ("é_", "éx", true),
        ] {
            let grant = one(&format!("GRANT SELECT ON `{pattern}`.* TO `u`@`%`"));
            assert_eq!(grant.covers(schema, "t", false), like, "{pattern} {schema}");
        }
        assert!(!one("GRANT SELECT ON `d_1`.* TO `u`@`%`").covers("dx1", "t", true));
    }
}
