//! The ways to a server, as the mysql client has them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::{Command, Stdio};

use crate::support::pipe::into_nothing;
use crate::support::{Kind, Server};

fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbsend"));
    command.args(["--progress", "none"]).stdin(Stdio::null()).stderr(Stdio::piped());
    command.env_remove("MYSQL_PWD").env("HOME", "/nonexistent");
    command
}

#[test]
fn tcp_with_and_without_tls_and_its_verification() {
    let server = Server::start(Kind::Mysql97, &[]);
    server.execute(
        "CREATE USER b@'%' IDENTIFIED WITH caching_sha2_password BY 'pa ss'; GRANT ALL ON *.* TO b@'%'",
    );
    let tcp = |arguments: &[&str]| {
        // The server forgets that it has seen the password, so that the whole exchange is made.
        server.execute("FLUSH PRIVILEGES");
        let mut command = bare();
        command.args(["--no-defaults", "--host=127.0.0.1", "-u", "b", "-ppa ss"]);
        command.arg(format!("--port={}", server.port())).args(arguments);
        into_nothing(command)
    };
    for mode in ["DISABLED", "preferred", "REQUIRED"] {
        tcp(&["--ssl-mode", mode]).ok();
    }
    // The certificate that a server makes for itself names no host.
    let own = server.datadir().join("ca.pem");
    tcp(&["--ssl-mode=VERIFY_IDENTITY", "--ssl-ca", own.to_str().unwrap()])
        .failed("connect")
        .says("not valid for");

    let dir = tempfile::tempdir().unwrap();
    let ca = make_certificates(dir.path());
    let files =
        ["ca", "cert", "key"].map(|f| format!("--ssl-{f}={}", dir.path().join(format!("{f}.pem")).display()));
    let named = Server::start(Kind::Mysql97, &files.each_ref().map(String::as_str));
    named.execute("CREATE USER b@'%' IDENTIFIED BY 'b'; GRANT ALL ON *.* TO b@'%'");
    for (authority, expected) in [(&ca, true), (&own, false)] {
        for mode in ["VERIFY_CA", "VERIFY_IDENTITY"] {
            let mut command = bare();
            command.args(["--no-defaults", "--host=127.0.0.1", "-ub", "-pb", "--ssl-mode", mode, "--ssl-ca"]);
            command.arg(authority).arg(format!("--port={}", named.port()));
            let said = into_nothing(command);
            if expected {
                said.ok();
            } else {
                said.failed("connect").says("UnknownIssuer");
            }
        }
    }
    // Only what may be unencrypted falls back to that.
    server.execute("ALTER USER b@'%' REQUIRE SSL");
    tcp(&["--ssl-mode=disabled"]).failed("connect");
    tcp(&[]).ok();
}

#[test]
fn option_files_and_environment() {
    let server = Server::start(Kind::Mysql97, &[]);
    server.execute("CREATE USER b@localhost IDENTIFIED BY 'p#w'; GRANT ALL ON *.* TO b@localhost");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.cnf");
    let socket = server.socket().display();
    std::fs::write(
        &file,
        format!(
            "[client]\nsocket = {socket}\nuser = nobody\n[xbsend]\nuser=b\npassword=\"p#w\"\nparallel=1\n"
        ),
    )
    .unwrap();
    let with_file = |arguments: &[&str]| {
        let mut command = bare();
        command.arg(format!("--defaults-file={}", file.display())).args(arguments);
        into_nothing(command)
    };
    with_file(&[]).ok();
    with_file(&["-pwrong"]).failed("connect");
    let mut environment = bare();
    environment.args(["--no-defaults", "--user=b", "--socket"]).arg(server.socket()).env("MYSQL_PWD", "p#w");
    into_nothing(environment).ok();
    let mut nobody = bare();
    nobody.args(["--no-defaults", "--socket", "/nonexistent/mysql.sock"]);
    into_nothing(nobody).failed("connect").says("--socket");
}

/// An authority, and a certificate of it for 127.0.0.1; the path of the authority.
fn make_certificates(dir: &std::path::Path) -> std::path::PathBuf {
    let script = "set -e; cd \"$0\"; \
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -days 30 -subj /CN=test-authority \
            -addext basicConstraints=critical,CA:TRUE; \
        openssl req -newkey rsa:2048 -nodes -keyout key.pem -out req.pem -subj /CN=server; \
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > ext; \
        openssl x509 -req -in req.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out cert.pem -days 30 -extfile ext";
    let made = Command::new("sh").args(["-c", script]).arg(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir.join("ca.pem")
}
