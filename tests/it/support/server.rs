//! One server: started, asked, stopped, killed, and gone with its datadir when it is dropped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};
use tokio::runtime::Runtime;

/// What `scripts/servers` can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Mysql97,
    Mysql56,
    Mariadb1011,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Mysql97 => "mysql-9.7",
            Kind::Mysql56 => "mysql-5.6",
            Kind::Mariadb1011 => "mariadb-10.11",
        }
    }
}

/// A running (or stopped) server. Its calls block; don't use it inside an async runtime.
pub struct Server {
    kind: Kind,
    name: String,
    facts: BTreeMap<String, String>,
    runtime: Runtime,
    /// Kept from query to query, so that session variables and locks last.
    connection: RefCell<Option<Conn>>,
}

impl Server {
    /// A new server with an empty datadir.
    pub fn start(kind: Kind, options: &[&str]) -> Server {
        Server::launch(kind, &[], options)
    }

    /// A server on a datadir that is there already, a restored backup for instance. The datadir is never removed.
    pub fn start_on(kind: Kind, datadir: &Path, options: &[&str]) -> Server {
        Server::launch(kind, &["--datadir", utf8(datadir)], options)
    }

    /// As `start_on`, for a datadir that is not expected to start: the end of the server's log if it does not.
    pub fn try_start_on(kind: Kind, datadir: &Path, options: &[&str]) -> Result<Server, String> {
        Server::try_launch(kind, &["--datadir", utf8(datadir)], options)
    }

    fn launch(kind: Kind, placing: &[&str], options: &[&str]) -> Server {
        Server::try_launch(kind, placing, options).unwrap_or_else(|log| {
            panic!(
                "{} did not start (if it is not installed, run `scripts/servers install`):\n{log}",
                kind.name()
            )
        })
    }

    fn try_launch(kind: Kind, placing: &[&str], options: &[&str]) -> Result<Server, String> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let me = std::process::id();
        let name = format!("test-{me}-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let owner = me.to_string();
        let mut arguments = vec!["start", kind.name(), &name, "--owner-pid", &owner];
        arguments.extend(placing);
        arguments.push("--");
        arguments.extend(options);
        let started = servers(&arguments);
        // From here on, dropping it cleans up, also after what a failed start left behind.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut server =
            Server { kind, name, facts: BTreeMap::new(), runtime, connection: RefCell::new(None) };
        server.facts = facts(&started?);
        Ok(server)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn socket(&self) -> &Path {
        Path::new(&self.facts["socket"])
    }

    pub fn datadir(&self) -> &Path {
        Path::new(&self.facts["datadir"])
    }

    /// On 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.facts["port"].parse().unwrap()
    }

    pub fn error_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.facts["error_log"]).unwrap_or_default()).into_owned()
    }

    /// Rows of one statement as root; NULL reads `NULL`. All queries of a server share one session.
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_query(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    pub fn try_query(&self, sql: &str) -> Result<Vec<Vec<String>>, mysql_async::Error> {
        let mut kept = self.connection.borrow_mut();
        self.runtime.block_on(async {
            if kept.is_none() {
                *kept = Some(Conn::new(self.options()).await?);
            }
            let rows: Vec<Row> = kept.as_mut().unwrap().query(sql).await?;
            Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
        })
    }

    /// The single value that a query gives.
    pub fn value(&self, sql: &str) -> String {
        let rows = self.query(sql);
        assert!(rows.len() == 1 && rows[0].len() == 1, "one value expected from {sql}, got {rows:?}");
        rows[0][0].clone()
    }

    /// One or more statements (separated by semicolons) whose rows don't matter.
    pub fn execute(&self, sql: &str) {
        let mut kept = self.connection.borrow_mut();
        let done: Result<(), mysql_async::Error> = self.runtime.block_on(async {
            if kept.is_none() {
                *kept = Some(Conn::new(self.options()).await?);
            }
            kept.as_mut().unwrap().query_drop(sql).await
        });
        done.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    }

    /// A script as the command line client reads it, with its DELIMITER lines.
    pub fn run_script(&self, sql: &str) {
        let mut client = Command::new(SCRIPT)
            .args(["query", &self.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect(SCRIPT);
        // What the client doesn't take tells less than its own words do.
        let _ = client.stdin.take().unwrap().write_all(sql.as_bytes());
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// For a connection of one's own.
    pub fn options(&self) -> OptsBuilder {
        OptsBuilder::default().user(Some("root")).socket(Some(utf8(self.socket())))
    }

    /// Clean shutdown.
    pub fn stop(&mut self) {
        self.end("stop");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.end("kill");
    }

    fn end(&mut self, how: &str) {
        self.disconnect();
        servers(&[how, &self.name]).unwrap();
        self.facts.insert("pid".to_owned(), String::new());
    }

    /// Starts it again after `stop` or `kill`, with its former options.
    pub fn restart(&mut self) {
        let owner = std::process::id().to_string();
        self.facts =
            facts(&servers(&["start", self.kind.name(), &self.name, "--owner-pid", &owner]).unwrap());
    }

    pub fn disconnect(&self) {
        if let Some(connection) = self.connection.borrow_mut().take() {
            // A server that is gone already can't be told goodbye.
            let _ = self.runtime.block_on(connection.disconnect());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() && self.facts.contains_key("error_log") {
            let log = self.error_log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!(
                "--- end of the log of {}\n{}",
                self.name,
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
        self.disconnect();
        if let Err(words) = servers(&["destroy", &self.name]) {
            eprintln!("{words}");
        }
    }
}

/// The runnable file of a tool that comes with the servers: `mysqld`, `mysql`, `mbstream`, `age`, `zstd`, ...
pub fn tool(name: &str) -> PathBuf {
    let of = match name {
        "mysqld" | "mysql" | "mysqldump" | "mysqladmin" | "mysqlbinlog" | "myisamchk"
        | "my_print_defaults" => "mysql-9.7",
        _ => "tools",
    };
    servers(&["install", of]).unwrap();
    PathBuf::from(servers(&["path", name]).unwrap().trim_end())
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers");

/// What it printed, or its complaint.
fn servers(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(SCRIPT).args(arguments).stdin(Stdio::null()).output().expect(SCRIPT);
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn facts(lines: &str) -> BTreeMap<String, String> {
    lines.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::NULL => "NULL".to_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    }
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
