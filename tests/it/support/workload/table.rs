//! A table, and random statements that change its rows.

use super::super::random::Random;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Small numbers, many of them equal.
    Int,
    /// Text of up to so many characters, which compresses well.
    Text(u64),
    /// Incompressible bytes, up to so many.
    Noise(u64),
    /// A document with about so much text in it.
    Json(u64),
    /// A few words.
    Words,
    /// A point of the plane.
    Point,
    /// A polygon.
    Area,
    /// The id of one of the first rows of another table.
    Parent,
    /// Computed by the server.
    Generated,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// Its type, as in CREATE TABLE.
    pub definition: String,
    pub value: Value,
}

impl Column {
    pub fn new(name: &str, definition: &str, value: Value) -> Column {
        Column { name: name.to_owned(), definition: definition.to_owned(), value }
    }
}

/// `id BIGINT` is the first column of every table.
#[derive(Debug, Clone)]
pub struct Table {
    /// With its schema.
    pub name: String,
    pub columns: Vec<Column>,
    /// What else stands between the parentheses of CREATE TABLE.
    pub keys: Vec<String>,
    /// What follows them.
    pub options: String,
    /// Ids up to this may be in use.
    pub id_max: u64,
    /// At most so many rows are inserted at once.
    pub rows_max: u64,
}

/// Rows of the table that others are filled from: 1, 2, 3, ...
pub const NUMBERS: u64 = 2000;

impl Table {
    pub fn new(name: String, columns: Vec<Column>, keys: &[&str], options: &str) -> Table {
        let keys = keys.iter().map(|&key| key.to_owned()).collect();
        Table { name, columns, keys, options: options.to_owned(), id_max: 0, rows_max: NUMBERS }
    }

    pub fn create(&self) -> String {
        let columns = self.columns.iter().map(|c| format!("{} {}", c.name, c.definition));
        let parts: Vec<_> = columns.chain(self.keys.iter().cloned()).collect();
        format!("CREATE TABLE {} (id BIGINT NOT NULL, {}) {}", self.name, parts.join(", "), self.options)
    }

    /// A statement that changes rows.
    pub fn change(&mut self, random: &mut Random) -> String {
        match random.below(10) {
            0..4 => {
                let rows = if random.one_in(3) { 1 } else { 1 + random.below(200) };
                self.insert(random, rows)
            }
            4..8 => self.update(random),
            _ => self.delete(random),
        }
    }

    /// New rows: at the end, in descending order, in between, or in the place of others.
    pub fn insert(&mut self, random: &mut Random, rows: u64) -> String {
        let rows = rows.min(self.rows_max);
        let from = random.below(NUMBERS - rows + 1);
        let last = from + rows;
        let appended = format!("{} + n", i128::from(self.id_max) - i128::from(from));
        let all_over = format!("(n * 7919 + {}) % {}", random.below(9999), self.id_max + rows);
        let (verb, id, order) = match random.below(5) {
            0 | 1 => ("INSERT", appended, ""),
            2 => ("INSERT", appended, " ORDER BY n DESC"),
            3 => ("INSERT IGNORE", all_over, ""),
            _ => ("REPLACE", all_over, ""),
        };
        self.id_max += rows;
        let filled: Vec<_> = self.columns.iter().filter(|c| c.value != Value::Generated).collect();
        let names: String = filled.iter().map(|c| format!(", {}", c.name)).collect();
        let values: String = filled.iter().map(|c| format!(", {}", c.value.of("n", random))).collect();
        format!(
            "{verb} INTO {} (id{names}) SELECT {id}{values} FROM base.numbers WHERE n > {from} AND n <= {last}{order}",
            self.name
        )
    }

    pub fn update(&self, random: &mut Random) -> String {
        let mut settings = Vec::new();
        for _ in 0..=random.below(2) {
            let column = &self.columns[random.below(self.columns.len() as u64) as usize];
            if column.value != Value::Generated {
                settings.push(format!("{} = {}", column.name, column.changed(random)));
            }
        }
        if settings.is_empty() || random.one_in(12) {
            settings = vec!["id = -id".to_owned()];
        }
        format!("UPDATE IGNORE {} SET {} WHERE {}", self.name, settings.join(", "), self.some_rows(random))
    }

    pub fn delete(&self, random: &mut Random) -> String {
        let which = self.some_rows(random);
        format!("DELETE FROM {} WHERE {which}", self.name)
    }

    /// One row, a range, or rows all over the table.
    fn some_rows(&self, random: &mut Random) -> String {
        let at = random.below(self.id_max.max(1));
        match random.below(6) {
            0 | 1 => format!("id = {at}"),
            2 | 3 => format!("id BETWEEN {at} AND {}", at + random.below(1 + self.id_max / 4)),
            4 => format!("id % {} = 1", 3 + random.below(40)),
            _ => format!("id >= {at} ORDER BY id DESC LIMIT {}", 1 + random.below(60)),
        }
    }
}

impl Column {
    /// An expression for the column in an UPDATE.
    fn changed(&self, random: &mut Random) -> String {
        let name = &self.name;
        match self.value {
            Value::Int if random.one_in(2) => format!("{name} + 1"),
            Value::Text(max) if random.one_in(3) => format!("LEFT(CONCAT({name}, 'x'), {max})"),
            Value::Text(_) | Value::Noise(_) if random.one_in(4) => {
                format!("LEFT({name}, LENGTH({name}) DIV 2)")
            }
            Value::Json(text) => match random.below(5) {
                0 => format!("JSON_SET({name}, '$.n', id + {})", random.below(1000)),
                1 => format!("JSON_REPLACE({name}, '$.text', REPEAT('z', {}))", random.below(text.max(1))),
                2 => format!("JSON_REMOVE({name}, '$.n')"),
                3 => format!("JSON_ARRAY_APPEND({name}, '$.tags', {})", random.below(50)),
                _ => self.value.of("id", random),
            },
            _ => self.value.of("id", random),
        }
    }
}

impl Value {
    /// An expression whose value depends on the number `x`.
    pub fn of(self, x: &str, random: &mut Random) -> String {
        let salt = random.below(1 << 32);
        let hash = format!("SHA2({x} * 31 + {salt}, 256)");
        let len = |max: u64, random: &mut Random| match random.below(4) {
            0 => "0".to_owned(),
            1 => (1 + random.below(max)).to_string(),
            2 => format!("({x} * 7 + {}) % {}", random.below(100), 1 + max / 8),
            _ => format!("({x} * 7919 + {}) % {}", random.below(9999), max + 1),
        };
        match self {
            Value::Int if random.one_in(8) => "NULL".to_owned(),
            Value::Int => format!("({x} * {}) % {}", 1 + random.below(9999), 2 + random.below(2000)),
            Value::Text(_) | Value::Noise(_) if random.one_in(12) => "NULL".to_owned(),
            Value::Text(max) => format!("LEFT(REPEAT({hash}, {}), {})", max / 64 + 1, len(max, random)),
            Value::Noise(max) => {
                let len = len(max, random);
                format!("LEFT(AES_ENCRYPT(REPEAT('.', {len}), {hash}, LEFT({hash}, 16)), {len})")
            }
            Value::Json(text) => format!(
                "JSON_OBJECT('name', LEFT({hash}, 12), 'n', {x}, 'tags', JSON_ARRAY({x} % 10, {x} % 7), \
                 'text', REPEAT({hash}, {} DIV 64))",
                len(text, random)
            ),
            Value::Words => format!(
                "CONCAT_WS(' ', ELT(1 + {x} % 5, 'lion', 'zebra', 'okapi', 'ибис', '熊猫'), LEFT({hash}, 4), \
                 LEFT({hash}, 2 + {x} % 5), 'keeper')"
            ),
            Value::Point => {
                let (a, b) = (1 + random.below(997), 1 + random.below(991));
                format!("ST_SRID(POINT(({x} * {a}) % 1000, ({x} * {b}) % 1000), 0)")
            }
            Value::Area => {
                let (a, b) = (1 + random.below(997), 1 + random.below(991));
                format!("ST_Buffer(POINT(({x} * {a}) % 1000, ({x} * {b}) % 1000), 1 + {x} % 50)")
            }
            Value::Parent => format!("1 + {x} % {}", 1 + random.below(50)),
            Value::Generated => "DEFAULT".to_owned(),
        }
    }
}
