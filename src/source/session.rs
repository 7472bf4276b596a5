//! One blocking SQL session. Locks and the redo consumer live and die with it, so a backup holds exactly one.

use std::path::PathBuf;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, SslOpts, Value};

use crate::base::{Code, Error, Result};

/// How far TLS is asked for on a TCP connection, as the mysql client's `--ssl-mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SslMode {
    /// Never.
    Disabled,
    /// Where the server offers it; its certificate is not checked.
    #[default]
    Preferred,
    /// Always; its certificate is not checked.
    Required,
    /// Always, and the certificate must come from the given authority. The TLS library in use holds the certificate's
    /// names against the host all the same, so that this is no weaker than [`SslMode::VerifyIdentity`].
    VerifyCa,
    /// The same; the host must be named in the certificate.
    VerifyIdentity,
}

/// Where the server is and who asks.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Unix socket; taken before host and port.
    pub socket: Option<PathBuf>,
    /// Host for TCP.
    pub host: Option<String>,
    /// Port for TCP.
    pub port: Option<u16>,
    /// Account name.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// TLS on TCP connections.
    pub ssl_mode: SslMode,
    /// Certificate authority (PEM).
    pub ssl_ca: Option<PathBuf>,
    /// Client certificate (PEM).
    pub ssl_cert: Option<PathBuf>,
    /// Its key (PEM).
    pub ssl_key: Option<PathBuf>,
    /// How long connecting may take.
    pub timeout: Option<Duration>,
}

impl ConnectOptions {
    /// The default port of MySQL.
    pub const PORT: u16 = 3306;
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Sockets tried when neither socket nor host is given.
    pub const USUAL_SOCKETS: &[&str] =
        &["/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"];

    /// What these options point at, for messages.
    pub fn describe(&self) -> String {
        match (&self.socket, &self.host) {
            (Some(socket), _) => format!("socket {}", socket.display()),
            (None, host) => {
                format!("{}:{}", host.as_deref().unwrap_or("localhost"), self.port.unwrap_or(Self::PORT))
            }
        }
    }

    fn builder(&self) -> OptsBuilder {
        OptsBuilder::default()
            .user(self.user.clone())
            .pass(self.password.clone())
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .stmt_cache_size(0)
            // The session idles while the files are read; nothing must time it out.
            .setup(vec!["SET SESSION wait_timeout=2147483, net_write_timeout=600, sql_mode='', autocommit=1"])
    }

    fn tcp(&self) -> OptsBuilder {
        self.builder()
            .ip_or_hostname(self.host.clone().unwrap_or_else(|| "localhost".into()))
            .tcp_port(self.port.unwrap_or(Self::PORT))
    }

    fn tls(&self) -> SslOpts {
        let verify = matches!(self.ssl_mode, SslMode::VerifyCa | SslMode::VerifyIdentity);
        let mut tls = SslOpts::default()
            .with_danger_accept_invalid_certs(!verify)
            .with_danger_skip_domain_validation(self.ssl_mode != SslMode::VerifyIdentity);
        if let Some(ca) = &self.ssl_ca {
            tls = tls.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true);
        }
        if let (Some(cert), Some(key)) = (&self.ssl_cert, &self.ssl_key) {
            tls = tls.with_client_identity(Some(mysql_async::ClientIdentity::new(
                cert.clone().into(),
                key.clone().into(),
            )));
        }
        tls
    }

    /// The ways to try, first one first.
    fn ways(&self) -> Vec<OptsBuilder> {
        let socket = |path: &str| self.builder().socket(Some(path.to_owned()));
        if let Some(path) = &self.socket {
            return vec![socket(&path.to_string_lossy())];
        }
        let local = self.host.as_deref().is_none_or(|h| h == "localhost") && self.port.is_none();
        if local {
            let found = Self::USUAL_SOCKETS.iter().filter(|p| std::path::Path::new(p).exists());
            let ways: Vec<_> = found.map(|p| socket(p)).collect();
            if !ways.is_empty() {
                return ways;
            }
        }
        match self.ssl_mode {
            SslMode::Disabled => vec![self.tcp()],
            SslMode::Preferred => vec![self.tcp().ssl_opts(self.tls()), self.tcp()],
            _ => vec![self.tcp().ssl_opts(self.tls())],
        }
    }
}

/// A row of text values; `None` is SQL NULL.
pub type TextRow = Vec<Option<String>>;

/// One SQL session.
pub struct Session {
    // Declared before the runtime: the connection is dropped while its runtime still stands.
    conn: Conn,
    runtime: tokio::runtime::Runtime,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// [`Code::Connect`], with the way out.
    pub fn connect(options: &ConnectOptions) -> Result<Session> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::io(Code::Internal, "can't start the SQL runtime", e))?;
        let timeout = options.timeout.unwrap_or(ConnectOptions::TIMEOUT);
        let mut last = None;
        for way in options.ways() {
            let opts = Opts::from(way);
            let attempt = runtime.block_on(async { tokio::time::timeout(timeout, Conn::new(opts)).await });
            match attempt {
                Ok(Ok(conn)) => return Ok(Session { conn, runtime }),
                Ok(Err(e)) => {
                    // A refused login stays refused over another way.
                    let refused = matches!(e, mysql_async::Error::Server(_));
                    last = Some(e.to_string());
                    if refused {
                        break;
                    }
                }
                Err(_) => last = Some(format!("no answer within {} s", timeout.as_secs())),
            }
        }
        let cause = last.unwrap_or_else(|| "no way to connect".into());
        Err(Error::new(Code::Connect, format!("can't connect to MySQL at {}", options.describe()))
            .hint("check --socket, or --host and --port, and --user and --password (or the [client] and [xbsend] groups of my.cnf)")
            .cause(cause))
    }

    /// Runs a statement and gives its rows as text.
    ///
    /// # Errors
    /// [`Code::Sql`] with the statement; [`Code::LockTimeout`] for the server's lock wait errors.
    pub fn query(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        let rows: Vec<Row> = self.runtime.block_on(self.conn.query(sql)).map_err(|e| Self::failed(sql, e))?;
        Ok(rows.into_iter().map(text_row).collect())
    }

    /// Runs a statement without a result.
    pub fn execute(&mut self, sql: &str) -> Result<()> {
        self.runtime.block_on(self.conn.query_drop(sql)).map_err(|e| Self::failed(sql, e))
    }

    /// The first value of the first row; `None` for NULL or no row.
    pub fn scalar(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.query(sql)?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Whether the server still answers.
    pub fn ping(&mut self) -> Result<()> {
        self.runtime.block_on(self.conn.ping()).map_err(|e| Self::failed("ping", e))
    }

    /// The server's id of this session.
    pub fn id(&self) -> u32 {
        self.conn.id()
    }

    /// Says goodbye; the server releases every lock of the session.
    pub fn close(self) {
        let Session { conn, runtime } = self;
        // The locks go with the socket either way: a failed goodbye changes nothing.
        let _ =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), conn.disconnect()).await });
    }

    fn failed(sql: &str, e: mysql_async::Error) -> Error {
        /// ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_QUERY_TIMEOUT.
        const LOCK_ERRORS: [u16; 3] = [1205, 1213, 3024];
        let statement: String = sql.chars().take(120).collect();
        match &e {
            mysql_async::Error::Server(s) if LOCK_ERRORS.contains(&s.code) => {
                Error::new(Code::LockTimeout, format!("`{statement}` was not granted in time")).cause(e)
            }
            mysql_async::Error::Server(_) => {
                Error::new(Code::Sql, format!("`{statement}` failed")).cause(e)
            }
            _ => Error::new(Code::Sql, format!("the SQL session was lost at `{statement}`"))
                .hint("the backup is not usable: its locks were released; look into the server's error log, then run it again")
                .cause(e),
        }
    }
}

fn text_row(row: Row) -> TextRow {
    row.unwrap()
        .into_iter()
        .map(|value| match value {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
        })
        .collect()
}
