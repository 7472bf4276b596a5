//! Decides which tables a partial backup has, by the options that XtraBackup's users know.
//!
//! Names are compared as the server spells them in the file system (`a@002db` for `a-b`). Patterns are regular expressions that
//! are looked for anywhere in `schema.table`, spelled so, of a partition both with `#p#p0` and without. In this order
//! (`check_if_skip_table` in XtraBackup): a schema that is left out as a whole; one that the list of schemas does not have; a table
//! that is left out; one that is chosen; one of a schema that is chosen as a whole; and, if anything was chosen, everything else is
//! left out.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use regex::Regex;

use super::file_names::is_spelled;
use super::inventory::Inventory;
use crate::base::{Code, Error, Result};
use crate::stream::manifest::LeftOut;

/// Schemas that a server does not start without, or not in order.
const SYSTEM: [&str; 3] = ["mysql", "sys", "performance_schema"];

/// The kinds of patterns.
#[derive(Clone, Debug)]
enum Pattern {
    /// A whole schema.
    Schema(String),
    /// One table.
    Table(String, String),
    /// Tables that a regular expression matches.
    Expression(Regex),
}

/// A pattern, and whether it has matched anything.
#[derive(Debug)]
struct Item {
    text: String,
    pattern: Pattern,
    matched: AtomicBool,
}

/// Which tables a backup has.
#[derive(Debug, Default)]
pub struct Selection {
    include: Vec<Item>,
    exclude: Vec<Item>,
}

impl Selection {
    /// Chooses schemas and tables: `schema` or `schema.table` each.
    ///
    /// # Errors
    /// [`Code::Usage`] for a name that is none.
    pub fn include_names(&mut self, names: &[String]) -> Result<()> {
        let items = names.iter().map(|name| Item::name(name)).collect::<Result<Vec<_>>>()?;
        self.include.extend(items);
        Ok(())
    }

    /// Leaves schemas and tables out.
    ///
    /// # Errors
    /// As [`Selection::include_names`].
    pub fn exclude_names(&mut self, names: &[String]) -> Result<()> {
        let items = names.iter().map(|name| Item::name(name)).collect::<Result<Vec<_>>>()?;
        self.exclude.extend(items);
        Ok(())
    }

    /// Chooses tables by regular expressions.
    ///
    /// # Errors
    /// [`Code::Usage`] for what is no regular expression.
    pub fn include_matching(&mut self, patterns: &[String]) -> Result<()> {
        let items = patterns.iter().map(|pattern| Item::expression(pattern)).collect::<Result<Vec<_>>>()?;
        self.include.extend(items);
        Ok(())
    }

    /// Leaves tables out by regular expressions.
    ///
    /// # Errors
    /// As [`Selection::include_matching`].
    pub fn exclude_matching(&mut self, patterns: &[String]) -> Result<()> {
        let items = patterns.iter().map(|pattern| Item::expression(pattern)).collect::<Result<Vec<_>>>()?;
        self.exclude.extend(items);
        Ok(())
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Returns what identifies the selection: two backups with the same have the same tables of the same server.
    pub fn describe(&self) -> Option<String> {
        let side = |items: &[Item]| {
            let texts: BTreeSet<&str> = items.iter().map(|item| item.text.as_str()).collect();
            texts.into_iter().collect::<Vec<_>>().join(" ")
        };
        let (include, exclude) = (side(&self.include), side(&self.exclude));
        (!self.is_everything()).then(|| format!("include: {include}; exclude: {exclude}"))
    }

    /// Whether a table is taken, spelled as in the file system; `table` may end in the name of a partition.
    fn takes(&self, schema: &str, table: &str) -> bool {
        let in_schema = |item: &&Item| match &item.pattern {
            Pattern::Schema(name) | Pattern::Table(name, _) => is_spelled(schema.as_bytes(), name),
            Pattern::Expression(_) => false,
        };
        let whole = |items: &[Item]| {
            let found: Vec<_> = items
                .iter()
                .filter(in_schema)
                .filter(|item| matches!(item.pattern, Pattern::Schema(_)))
                .collect();
            found.iter().for_each(|item| item.hit());
            !found.is_empty()
        };
        let single = |items: &[Item]| {
            let found: Vec<_> = items.iter().filter(|item| item.matches(schema, table)).collect();
            found.iter().for_each(|item| item.hit());
            !found.is_empty()
        };
        if whole(&self.exclude) {
            return false;
        }
        let is_system = SYSTEM.contains(&schema);
        let lists_schemas = self.include.iter().any(|item| !matches!(item.pattern, Pattern::Expression(_)));
        if lists_schemas && !self.include.iter().any(|item| in_schema(&item)) && !is_system {
            return false;
        }
        if single(&self.exclude) {
            return false;
        }
        single(&self.include) || whole(&self.include) || self.include.is_empty() || is_system
    }

    /// Takes what is not chosen out of `inventory`; `tables` are all tables of the server by schema and name. The system tablespace,
    /// the dictionary, undo tablespaces and general tablespaces stay. Returns the tablespaces that were left out.
    ///
    /// # Errors
    /// [`Code::Usage`] for a pattern that nothing matches.
    pub fn apply(&self, inventory: &mut Inventory, tables: &[(String, String)]) -> Result<Vec<LeftOut>> {
        let mut left_out = Vec::new();
        inventory.datafiles.retain(|file| {
            let Some((schema, table)) = file.tablespace.split_once('/').filter(|_| file.kind == "single")
            else {
                return true;
            };
            let taken = self.takes(schema, table);
            if !taken {
                let bare = without_partition(table);
                let named = |(s, t): &&(String, String)| {
                    is_spelled(schema.as_bytes(), s) && is_spelled(bare.as_bytes(), t)
                };
                let (schema, table) = match tables.iter().find(named) {
                    Some((schema, table)) => (schema.clone(), table.clone()),
                    None => (schema.to_owned(), bare.to_owned()),
                };
                left_out.push(LeftOut { space: file.space.0, schema, table });
            }
            taken
        });
        let kept: BTreeSet<&str> = inventory.datafiles.iter().map(|file| file.member.as_str()).collect();
        inventory.external.retain(|file| kept.contains(file.member.as_str()));
        let takes_file = |member: &str| match member.split_once('/') {
            Some((schema, file)) => self.takes(schema, table_of(file)),
            None => true,
        };
        inventory.plain.retain(|file| takes_file(&file.member));
        inventory.locked.retain(|file| takes_file(&file.member));
        let locked = &inventory.locked;
        inventory.locked_tables.retain(|(schema, table)| {
            locked.iter().any(|file| {
                file.member.split_once('/').is_some_and(|(s, f)| {
                    is_spelled(s.as_bytes(), schema) && is_spelled(table_of(f).as_bytes(), table)
                })
            })
        });
        inventory.empty_schemas.retain(|schema| self.takes(schema, ""));
        match self.unmatched() {
            None => Ok(left_out),
            Some(text) => Err(Error::new(
                Code::Usage,
                format!("nothing on this server matches '{}'", text.escape_debug()),
            )
            .hint("names and patterns are schema, schema.table, or a regular expression on schema.table")),
        }
    }

    /// Returns a name or pattern that has matched nothing so far.
    pub fn unmatched(&self) -> Option<&str> {
        let mut items = self.include.iter().chain(&self.exclude);
        items.find(|item| !item.matched.load(Ordering::Relaxed)).map(|item| item.text.as_str())
    }

    /// Whether a user's table is taken; both names are spelled as in the file system, and `table` may end in the name of a partition.
    pub fn takes_users(&self, schema: &str, table: &str) -> bool {
        !SYSTEM.contains(&schema) && self.takes(schema, table)
    }
}

/// The name of a table without that of a partition (`t#p#p0#sp#s0`).
fn without_partition(table: &str) -> &str {
    let at = table.find("#p#").or_else(|| table.find("#P#"));
    &table[..at.unwrap_or(table.len())]
}

/// The table that a file of another engine belongs to: without suffix, and without the number in the name of a description
/// (`t_376.sdi`).
fn table_of(file: &str) -> &str {
    let (stem, suffix) = file.rsplit_once('.').unwrap_or((file, ""));
    match stem.rsplit_once('_') {
        Some((table, number)) if suffix == "sdi" && number.bytes().all(|b| b.is_ascii_digit()) => table,
        _ => stem,
    }
}

impl Item {
    fn name(text: &str) -> Result<Item> {
        let bad = |c: char| matches!(c, '/' | '\\' | '~') || c.is_control();
        let pattern = match text.split_once('.') {
            _ if text.is_empty() || text.contains(bad) => None,
            Some((schema, table)) if !schema.is_empty() && !table.is_empty() => {
                Some(Pattern::Table(schema.to_owned(), table.to_owned()))
            }
            Some(_) => None,
            None => Some(Pattern::Schema(text.to_owned())),
        };
        let pattern = pattern.ok_or_else(|| {
            Error::new(Code::Usage, format!("'{}' is no name of a schema or table", text.escape_debug()))
        })?;
        Ok(Item { text: text.to_owned(), pattern, matched: AtomicBool::new(false) })
    }

    fn expression(text: &str) -> Result<Item> {
        let expression = Regex::new(text).map_err(|e| {
            Error::new(Code::Usage, format!("'{}' is no regular expression", text.escape_debug())).cause(e)
        })?;
        let pattern = Pattern::Expression(expression);
        Ok(Item { text: format!("/{text}/"), pattern, matched: AtomicBool::new(false) })
    }

    /// Whether it is about this table by itself.
    fn matches(&self, schema: &str, table: &str) -> bool {
        let bare = without_partition(table);
        match &self.pattern {
            Pattern::Schema(_) => false,
            Pattern::Table(s, t) => {
                is_spelled(schema.as_bytes(), s)
                    && (is_spelled(bare.as_bytes(), t) || table.eq_ignore_ascii_case(t))
            }
            Pattern::Expression(expression) => {
                !table.is_empty()
                    && (expression.is_match(&format!("{schema}.{table}"))
                        || expression.is_match(&format!("{schema}.{bare}")))
            }
        }
    }

    fn hit(&self) {
        self.matched.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn tables_are_chosen_in_xtrabackups_order() {
        let mut s = Selection::default();
        assert!(s.is_everything() && s.takes("a", "t"));
        s.include_names(&names(&["a", "b.t", "c-d.t"])).unwrap();
        s.exclude_names(&names(&["a.no", "x"])).unwrap();
        for (schema, table, taken) in [
            ("a", "t", true),
            ("a", "no", false),
            ("a", "no#p#p0", false),
            ("b", "t", true),
            ("b", "t#p#p1#sp#s0", true),
            ("b", "u", false),
            ("c@002dd", "t", true),
            ("e", "t", false),
            ("x", "t", false),
            ("mysql", "general_log", true),
            ("sys", "sys_config", true),
        ] {
            assert_eq!(s.takes(schema, table), taken, "{schema}.{table}");
        }
        let mut s = Selection::default();
        s.include_matching(&names(&["^a[.]t", "[.]u$"])).unwrap();
        s.exclude_matching(&names(&["t2"])).unwrap();
        for (schema, table, taken) in [
            ("a", "t1", true),
            ("a", "t2", false),
            ("b", "u", true),
            ("b", "u#p#p0", true),
            ("b", "v", false),
        ] {
            assert_eq!(s.takes(schema, table), taken, "{schema}.{table}");
        }
        assert_eq!(s.describe().unwrap(), "include: /[.]u$/ /^a[.]t/; exclude: /t2/");
    }

    #[test]
    fn what_is_no_name_or_expression_is_refused() {
        for bad in ["", "a/b", ".t", "a.", "a~"] {
            assert!(Selection::default().include_names(&names(&[bad])).is_err(), "{bad}");
        }
        assert!(Selection::default().include_matching(&names(&["("])).is_err());
        assert_eq!((table_of("m_376.sdi"), table_of("a_b.MYD"), table_of("x_y.sdi")), ("m", "a_b", "x_y"));
    }
}
