//! The work of one kind: its tables, and what is done to them, statement by statement.

use super::super::random::Random;
use super::table::Table;

/// How transactions are made of statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Anything.
    Mixed,
    /// Many savepoints, most of them rolled back to.
    Savepoints,
    /// Long, and mostly rolled back.
    RolledBack,
    /// In two phases.
    Xa,
}

pub struct Work {
    pub kind: &'static str,
    pub random: Random,
    pub page_size: u32,
    pub manner: Manner,
    pub tables: Vec<Table>,
    /// Statements that make everything, tables apart.
    pub before_tables: Vec<String>,
    /// The same, once the tables have rows.
    pub after_rows: Vec<String>,
    /// A random change of the definitions.
    pub ddl: Option<fn(&mut Work) -> Vec<String>>,
    /// For names.
    pub serial: u64,
    /// What the kind's own DDL has to remember.
    pub names: Vec<String>,
}

impl Work {
    pub fn new(kind: &'static str, seed: u64, page_size: u32) -> Work {
        Work {
            kind,
            random: Random::new(seed),
            page_size,
            manner: Manner::Mixed,
            tables: Vec::new(),
            before_tables: vec![format!("CREATE DATABASE w_{kind}")],
            after_rows: Vec::new(),
            ddl: None,
            serial: 0,
            names: Vec::new(),
        }
    }

    /// The name of a table, with its schema.
    pub fn name(&self, table: &str) -> String {
        format!("w_{}.{table}", self.kind)
    }

    /// Makes all tables, with some rows in each.
    pub fn setup(&mut self) -> Vec<String> {
        let mut statements = std::mem::take(&mut self.before_tables);
        for table in &mut self.tables {
            statements.push(table.create());
            for _ in 0..2 {
                let rows = 50 + self.random.below(400);
                statements.push(table.insert(&mut self.random, rows));
            }
        }
        statements.append(&mut self.after_rows);
        statements
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    pub fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.random.below(choice.len() as u64) as usize]
    }

    /// A number that was not given before.
    pub fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The index of some table.
    pub fn some_table(&mut self) -> usize {
        self.random.below(self.tables.len() as u64) as usize
    }

    /// A statement that changes rows.
    pub fn change(&mut self) -> String {
        let table = self.some_table();
        self.tables[table].change(&mut self.random)
    }

    /// Statements that change rows, with those that begin and end their transaction.
    pub fn transaction(&mut self) -> Vec<String> {
        match self.manner {
            Manner::Xa => self.in_two_phases(),
            Manner::Savepoints => self.with_savepoints(12),
            Manner::RolledBack => self.rolled_back(),
            Manner::Mixed => match self.below(10) {
                0..5 => vec![self.change()],
                5 | 6 => self.with_savepoints(3),
                7 => self.rolled_back(),
                8 => self.in_two_phases(),
                _ => self.between("BEGIN", 4, "COMMIT"),
            },
        }
    }

    fn several(&mut self, first: &str, most: u64) -> Vec<String> {
        let mut statements = vec![first.to_owned()];
        for _ in 0..=self.below(most) {
            statements.push(self.change());
        }
        statements
    }

    fn between(&mut self, first: &str, most: u64, last: &str) -> Vec<String> {
        let mut statements = self.several(first, most);
        statements.push(last.to_owned());
        statements
    }

    fn rolled_back(&mut self) -> Vec<String> {
        let most = if self.manner == Manner::RolledBack { 8 } else { 3 };
        let mut statements = self.between("BEGIN", most, "ROLLBACK");
        if self.random.one_in(3) {
            let all = self.some_table();
            statements.insert(1, format!("DELETE FROM {}", self.tables[all].name));
        }
        statements
    }

    fn with_savepoints(&mut self, most: u64) -> Vec<String> {
        let mut statements = vec!["BEGIN".to_owned()];
        let mut points = Vec::new();
        for point in 0..=self.below(most) {
            statements.push(self.change());
            statements.push(format!("SAVEPOINT s{point}"));
            points.push(point);
            statements.push(self.change());
            if !self.random.one_in(3) {
                // Those behind it are gone with it.
                points.truncate(1 + self.random.below(points.len() as u64) as usize);
                statements.push(format!("ROLLBACK TO SAVEPOINT s{}", points[points.len() - 1]));
            }
        }
        statements.push(if self.random.one_in(4) { "ROLLBACK" } else { "COMMIT" }.to_owned());
        statements
    }

    fn in_two_phases(&mut self) -> Vec<String> {
        let (mut statements, id) = self.prepared();
        let end = if self.random.one_in(3) { "ROLLBACK" } else { "COMMIT" };
        statements.push(format!("XA {end} {id}"));
        statements
    }

    /// A transaction that is left prepared; and its id.
    pub fn prepared(&mut self) -> (Vec<String>, String) {
        let (kind, serial) = (self.kind, self.next());
        let id = format!("'{kind} {serial}', 'b'");
        let mut statements = self.between(&format!("XA START {id}"), 3, &format!("XA END {id}"));
        statements.push(format!("XA PREPARE {id}"));
        (statements, id)
    }

    /// A transaction that is left open.
    pub fn open(&mut self) -> Vec<String> {
        self.several("BEGIN", 3)
    }
}
