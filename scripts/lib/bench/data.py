"""Datadirs with sysbench's tables, the same rows in each server. A loaded one is kept in the cache; runs work on copies."""
# SPDX-License-Identifier: GPL-2.0-or-later
import fcntl
import os
import random
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Iterator, List, NamedTuple

from . import servers
from .common import CACHE, BenchError, run, say
from .servers import MARIADB, MYSQL, Server

# Raised when other rows, or another layout, come out of this.
DATA_VERSION = 1
CHUNK_ROWS = 20_000
# A column c has ten groups of eleven digits, and pad has five.
GROUP, C_GROUPS, GROUPS = 11, 10, 15

TABLE = """CREATE TABLE sbtest{n} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL DEFAULT 0,
    c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '') ENGINE = InnoDB CHARACTER SET latin1"""
LOADING_OPTIONS = ["--local-infile=ON", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--skip-log-bin"]
# What is kept and copied need not have the redo log of a server at work.
SHRINK_REDO = {MYSQL: "SET GLOBAL innodb_redo_log_capacity = 8388608", MARIADB: "SET GLOBAL innodb_log_file_size = 16777216"}
CLIENT = {MYSQL: "mysql", MARIADB: "mariadb"}


class Shape(NamedTuple):
    tables: int
    rows: int

    def __str__(self) -> str:
        return f"{self.tables} sysbench tables of {self.rows:,} rows"


def cached(kind: str, shape: Shape) -> Path:
    return CACHE / "bench" / f"{kind}-{shape.tables}x{shape.rows}-v{DATA_VERSION}"


def ensure(kinds: List[str], shape: Shape) -> None:
    """Loads what is not in the cache yet, one run at a time."""
    (CACHE / "bench").mkdir(parents=True, exist_ok=True)
    with open(CACHE / "bench" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ensure_locked(kinds, shape)


def ensure_locked(kinds: List[str], shape: Shape) -> None:
    missing = [kind for kind in kinds if not cached(kind, shape).is_dir()]
    if not missing:
        return
    say(f"loading {shape} into {' and '.join(missing)}; this is done once")
    loaders = [start_loader(kind, shape) for kind in missing]
    try:
        load(loaders, shape)
        for server in loaders:
            server.query(f"SET GLOBAL innodb_fast_shutdown = 0; {SHRINK_REDO[server.kind]}")
            server.stop()
            (server.datadir / "auto.cnf").unlink(missing_ok=True)
            server.datadir.rename(cached(server.kind, shape))
    finally:
        for server in loaders:
            server.destroy()


def start_loader(kind: str, shape: Shape) -> Server:
    folder = cached(kind, shape).with_suffix(f".loading-{os.getpid()}")
    options = [*servers.options_of(kind, "1G"), *LOADING_OPTIONS]
    server = Server(kind, f"load-{kind}", options, folder=folder)
    server.query("CREATE DATABASE sbtest")
    for n in range(1, shape.tables + 1):
        server.query(f"USE sbtest; {TABLE.format(n=n)}")
    return server


def load(loaders: List[Server], shape: Shape) -> None:
    clients = [(servers.tool(CLIENT[server.kind]), server.socket) for server in loaders]
    with ProcessPoolExecutor() as pool:
        tables = [pool.submit(load_table, n, shape.rows, clients) for n in range(1, shape.tables + 1)]
        for table in tables:
            table.result()
    # The same rows everywhere, or nothing of this means anything.
    for n in range(1, shape.tables + 1):
        sums = {server.kind: server.query(f"SELECT COUNT(*), SUM(k), SUM(CRC32(c)), SUM(CRC32(pad)) FROM sbtest.sbtest{n}")
                for server in loaders}
        found = list(sums.values())
        if any(one != found[0] or one[0][0] != str(shape.rows) for one in found):
            raise BenchError(f"the servers hold different rows in sbtest{n}: {sums}")


def load_table(n: int, rows: int, clients: list) -> None:
    for first in range(0, rows, CHUNK_ROWS):
        chunk = "".join(lines(n, first, min(rows, first + CHUNK_ROWS), rows)).encode()
        talk(clients, f"LOAD DATA LOCAL INFILE '/dev/stdin' INTO TABLE sbtest{n} (id, k, c, pad)", chunk)
    talk(clients, f"ALTER TABLE sbtest{n} ADD KEY k_{n} (k); ANALYZE TABLE sbtest{n}", b"")


def lines(n: int, first: int, end: int, rows: int) -> Iterator[str]:
    digits = random.Random(f"sbtest{n}/{first}")
    for row in range(first, end):
        text = str(digits.getrandbits(600)).zfill(GROUP * GROUPS)
        groups = [text[-GROUP * i - GROUP:-GROUP * i or None] for i in range(GROUPS)]
        c, pad = "-".join(groups[:C_GROUPS]), "-".join(groups[C_GROUPS:])
        yield f"{row + 1}\t{digits.randrange(rows) + 1}\t{c}\t{pad}\n"


def talk(clients: list, sql: str, standard_input: bytes) -> None:
    """The same statement and data to every server, at the same time."""
    running = []
    for client, socket in clients:
        argv = [client, "--no-defaults", "--user=root", f"--socket={socket}", "--local-infile=1", "sbtest", f"--execute={sql}"]
        running.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    for process in running:
        process.stdin.write(standard_input)
        process.stdin.close()
    for process in running:
        words = process.stderr.read().decode()
        if process.wait() != 0:
            raise BenchError(f"{sql}: {words}")


def copy(kind: str, shape: Shape, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(to, ignore_errors=True)
    run(["cp", "-a", "--reflink=auto", cached(kind, shape), to])
    return to
