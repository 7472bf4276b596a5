//! One blocking SQL session. Locks and the redo consumer live and die with it, so a backup holds exactly one.

use std::path::PathBuf;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, SslOpts, Value};

use crate::base::{Code, Error, Result};

use super::catch_panic::quietly;
use super::session_variables::{self, Setting};
use super::sql_error::{SqlError, SqlFailure};

/// The use of TLS on a TCP connection, as of the mysql client's `--ssl-mode`.
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

/// The address of the server, and the account.
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
    /// Time that connecting may take.
    pub timeout: Option<Duration>,
    /// Time that the server may take to answer a statement, beside what it waits for locks.
    pub statement_timeout: Option<Duration>,
}

impl ConnectOptions {
    /// The default port of MySQL.
    pub const PORT: u16 = 3306;
    const TIMEOUT: Duration = Duration::from_secs(10);
    /// Long enough for the dictionary of a million tables.
    const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

    /// Sockets tried when neither socket nor host is given.
    pub const USUAL_SOCKETS: &[&str] =
        &["/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"];

    /// Describes the server that these options point at, for messages.
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
            // Given, so that the client asks nothing before the session is what it should be.
            .max_allowed_packet(Some(ANSWER_BYTES))
            .wait_timeout(Some(2_147_483))
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

/// Most bytes of one answer: more than the dictionary of a million tables takes.
const ANSWER_BYTES: usize = 256 << 20;
/// What a row costs beside its values.
const ROW_COST: usize = 64;
/// Most bytes of one statement of ours, where the server takes as many.
const STATEMENT_BYTES: usize = 1 << 20;
/// What every server takes: no `max_allowed_packet` is less than 1024.
const STATEMENT_BYTES_LEAST: usize = 1000;

/// A row of text values; `None` is SQL NULL.
pub type TextRow = Vec<Option<String>>;

/// One SQL session.
pub struct Session {
    // Declared before the runtime: the connection is dropped while its runtime still stands.
    conn: Conn,
    runtime: tokio::runtime::Runtime,
    statement_timeout: Duration,
    statement_bytes: usize,
    /// An answer was not read to its end: what comes next would not be the answer to what is asked next.
    over: bool,
}

impl Session {
    /// Connects, and gives the session its variables and roles.
    ///
    /// # Errors
    /// [`Code::Connect`], with the way out; [`Code::Privilege`] where the server's defaults would change what is backed
    /// up and the account may not set them for itself.
    pub fn connect(options: &ConnectOptions) -> Result<Session> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::io(Code::Internal, "can't start the SQL runtime", e))?;
        let timeout = options.timeout.unwrap_or(ConnectOptions::TIMEOUT);
        let mut last = None;
        for way in options.ways() {
            let opts = Opts::from(way);
            let attempt =
                quietly(|| runtime.block_on(async { tokio::time::timeout(timeout, Conn::new(opts)).await }));
            match attempt {
                Some(Ok(Ok(conn))) => {
                    let statement_timeout =
                        options.statement_timeout.unwrap_or(ConnectOptions::STATEMENT_TIMEOUT);
                    let statement_bytes = STATEMENT_BYTES_LEAST;
                    let mut session =
                        Session { conn, runtime, statement_timeout, statement_bytes, over: false };
                    session.settle().map_err(|e| Self::not_settled(options, e))?;
                    return Ok(session);
                }
                Some(Ok(Err(e))) => {
                    // A refused login stays refused over another way.
                    let refused = matches!(e, mysql_async::Error::Server(_));
                    last = Some(e.to_string());
                    if refused {
                        break;
                    }
                }
                Some(Err(_)) => last = Some(format!("no answer within {} s", timeout.as_secs())),
                None => last = Some("what answers there does not speak MySQL's protocol".into()),
            }
        }
        let cause: String = last.unwrap_or_else(|| "no way to connect".into()).chars().take(600).collect();
        Err(Error::new(Code::Connect, format!("can't connect to MySQL at {}", options.describe()))
            .hint("check --socket, or --host and --port, and --user and --password (or the [client] and [xbsend] groups of my.cnf)")
            .cause(cause))
    }

    fn not_settled(options: &ConnectOptions, e: Error) -> Error {
        match e.code {
            Code::Privilege => e,
            _ => Error::new(
                Code::Connect,
                format!("connected to {}, but the session can't be set up", options.describe()),
            )
            .hint(
                e.hint
                    .clone()
                    .unwrap_or_else(|| "look into the server's error log, and at its init_connect".into()),
            )
            .cause(e),
        }
    }

    /// Makes the session the same on every server.
    fn settle(&mut self) -> Result<()> {
        // What `init_connect` has begun, locked, set or created is undone. Older servers can't; they are refused later.
        const RESET: &str = "reset connection";
        let Session { conn, runtime, statement_timeout: limit, .. } = self;
        match quietly(|| runtime.block_on(async { tokio::time::timeout(*limit, conn.reset()).await })) {
            Some(Ok(Ok(_))) => {}
            Some(Ok(Err(e))) => return Err(SqlError::from_client(RESET, e).into()),
            Some(Err(_)) => return Err(SqlError::new(SqlFailure::Silent, RESET, "no answer").into()),
            None => {
                return Err(SqlError::new(SqlFailure::Nonsense, RESET, "a packet breaks the protocol").into());
            }
        }
        self.execute(session_variables::NAMES)?;
        for setting in session_variables::FIRST {
            self.set(setting, "its default")?;
        }
        let found: std::collections::BTreeMap<String, String> = self
            .query("SHOW SESSION VARIABLES")?
            .into_iter()
            .filter_map(|row| <[Option<String>; 2]>::try_from(row).ok())
            .filter_map(|[name, value]| Some((name?, value.unwrap_or_default())))
            .collect();
        let get = |name: &str| found.get(name).map_or("", String::as_str);
        let settings = session_variables::settings(get("version"), get("version_comment"));
        self.statement_bytes = get("max_allowed_packet")
            .parse::<usize>()
            .map_or(0, |bytes| bytes.saturating_sub(24))
            .clamp(STATEMENT_BYTES_LEAST, STATEMENT_BYTES);
        for setting in settings {
            match found.get(setting.name) {
                Some(value) if !setting.is(value) => self.set(setting, value)?,
                _ => {}
            }
        }
        for statement in session_variables::LAST {
            match self.attempt(statement) {
                Err(e) if e.ends_session() => return Err(e.into()),
                // A server without grant tables has no roles.
                Err(e) => tracing::debug!("{statement}: {e:?}"),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn set(&mut self, setting: &Setting, found: &str) -> Result<()> {
        let Err(e) = self.attempt(&setting.statement()) else { return Ok(()) };
        match e.kind {
            SqlFailure::NoSuchVariable => Ok(()),
            SqlFailure::Denied if setting.needed => Err(Error::new(
                Code::Privilege,
                format!(
                    "{} is {found} on this server, which could change what is backed up, and the account may not set it",
                    setting.name
                ),
            )
            .hint("as an administrator run: GRANT SESSION_VARIABLES_ADMIN ON *.* TO the account, or set it back globally")
            .cause(Error::from(e))),
            _ if setting.needed || e.ends_session() => Err(e.into()),
            _ => {
                tracing::debug!("{} stays {found}: {e:?}", setting.name);
                Ok(())
            }
        }
    }

    /// Most bytes that a statement may have whose length depends on the server's data.
    pub fn statement_bytes(&self) -> usize {
        self.statement_bytes
    }

    /// Runs a statement and gives its rows as text.
    ///
    /// # Errors
    /// [`Code::Sql`] with the statement; [`Code::LockTimeout`] for the server's lock wait errors.
    pub fn query(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        Ok(self.attempt(sql)?)
    }

    /// Runs a statement without a result.
    pub fn execute(&mut self, sql: &str) -> Result<()> {
        self.query(sql).map(drop)
    }

    /// The first value of the first row; `None` for NULL or no row.
    pub fn scalar(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.query(sql)?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Runs a statement; how it failed is told by variant.
    pub fn attempt(&mut self, sql: &str) -> Result<Vec<TextRow>, SqlError> {
        self.attempt_within(sql, Duration::ZERO)
    }

    /// Runs a statement that may wait `lock_wait` for locks before it is answered.
    pub fn attempt_within(&mut self, sql: &str, lock_wait: Duration) -> Result<Vec<TextRow>, SqlError> {
        if self.over {
            return Err(SqlError::new(SqlFailure::Lost, sql, "an earlier answer was not read to its end"));
        }
        let limit = self.statement_timeout.saturating_add(lock_wait);
        let Session { conn, runtime, .. } = self;
        let answer =
            quietly(|| runtime.block_on(async { tokio::time::timeout(limit, rows(conn, sql)).await }));
        let answer = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(_)) => Err(SqlError::new(
                SqlFailure::Silent,
                sql,
                format!("nothing came within {} s", limit.as_secs()),
            )),
            None => Err(SqlError::new(SqlFailure::Nonsense, sql, "a packet breaks the protocol")),
        };
        self.over = answer.as_ref().is_err_and(SqlError::ends_session);
        answer
    }

    /// Whether the server still answers.
    pub fn ping(&mut self) -> Result<()> {
        self.execute("DO 1")
    }

    /// Says goodbye; the server releases every lock of the session.
    pub fn close(self) {
        let Session { conn, runtime, over, .. } = self;
        if over {
            return;
        }
        // The locks go with the socket either way: a failed goodbye changes nothing.
        let _ = quietly(|| {
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), conn.disconnect()).await })
        });
    }
}

/// The rows of one statement, as many as an answer may have.
async fn rows(conn: &mut Conn, sql: &str) -> Result<Vec<TextRow>, SqlError> {
    let mut result = conn.query_iter(sql).await.map_err(|e| SqlError::from_client(sql, e))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = result.next().await.map_err(|e| SqlError::from_client(sql, e))? {
        let row = text_row(row);
        bytes += ROW_COST + row.iter().map(|v| ROW_COST + v.as_ref().map_or(0, String::len)).sum::<usize>();
        if bytes > ANSWER_BYTES {
            return Err(SqlError::new(
                SqlFailure::Nonsense,
                sql,
                format!("more than {ANSWER_BYTES} bytes of rows"),
            ));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn text_row(row: Row) -> TextRow {
    row.unwrap_raw()
        .into_iter()
        .map(|value| match value {
            None | Some(Value::NULL) => None,
            Some(Value::Bytes(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Some(other) => Some(other.as_sql(true).trim_matches('\'').to_owned()),
        })
        .collect()
}
