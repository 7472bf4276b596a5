"""scripts/bench prepare: the same redo over the same pages, applied by xbrecv, by a starting mysqld, by mariadb-backup.

A backup is taken around a write load: the tool has read the beginning of the redo, its reader rests until the server has
logged as much as was asked for (and flushed nothing of it), then the pages are read. What comes out is kept, and every run
works on a copy. MariaDB's own backup of as much redo stands beside it; its redo is another format, with more changes in a byte.
"""
# SPDX-License-Identifier: GPL-2.0-or-later
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from . import data, measure, report, servers
from .common import CACHE, BenchError, run, say, size_of
from .data import Shape
from .load import Load
from .measure import Command
from .rows import Settings
from .servers import MARIADB, MYSQL, Server

# Raised when other backups come out of this.
VERSION = 1
# So much of the stream is taken before the load: the tailing of redo has begun by then.
TAKE_FIRST = 1 << 20
PIECE = 1 << 20
# More than can be done: as fast as the server goes.
RATE = 1_000_000.0
# Nothing is flushed but by need, and no log file is overwritten.
NO_FLUSHING = ["--innodb-max-dirty-pages-pct=99", "--innodb-max-dirty-pages-pct-lwm=0", "--innodb-adaptive-flushing=OFF",
               "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--innodb-buffer-pool-size=6G"]
ROOMY_LOG = {MYSQL: ["--innodb-redo-log-capacity=8G", "--innodb-idle-flush-pct=0"], MARIADB: ["--innodb-log-file-size=8G"]}
LSN = {MYSQL: "Innodb_redo_log_current_lsn", MARIADB: "Innodb_lsn_current"}
# A server that starts on the prepared copy takes this pool; mysqld recovers best with all pages in it.
BEST_POOL = "6G"
MEMORY_GOAL = 512 << 20
MYSQLD_GOAL, MARIADB_GOAL, SMALL_GOAL = 10.0, 3.0, 2.0


class Outcome(NamedTuple):
    wall: float
    durable: float
    peak: Optional[int]
    words: str


def prepare(options, settings: Settings) -> int:
    shape, redo = Shape(options.tables, options.rows), int(options.redo * 1e9)
    rows = [row for row in ROWS if not options.only or row.key in options.only.split(",")]
    kinds = sorted({row.kind for row in rows}, reverse=True)
    data.ensure(kinds, shape)
    for kind in kinds:
        ensure_backup(kind, shape, redo, settings)
    home = (options.target_dir or CACHE / "bench") / f"prepare-{os.getpid()}"
    home.mkdir(parents=True)
    outcomes: Dict[str, List[Outcome]] = {}
    try:
        for number in range(options.rounds):
            for row in rows:
                say(f"round {number + 1} of {options.rounds}: {row.title}")
                outcomes.setdefault(row.key, []).append(measured(row, shape, redo, settings, home))
        print(table(rows, outcomes, shape, redo), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


# --- backups ---

def backup_of(kind: str, shape: Shape, redo: int) -> Path:
    return CACHE / "bench" / f"backup-{kind}-{shape.tables}x{shape.rows}-{redo // 1_000_000}M-v{VERSION}"


def ensure_backup(kind: str, shape: Shape, redo: int, settings: Settings) -> None:
    place = backup_of(kind, shape, redo)
    if place.is_dir():
        return
    say(f"taking a backup of {kind} with {redo / 1e9:g} GB of redo; this is done once")
    home = place.with_suffix(f".making-{os.getpid()}")
    shutil.rmtree(home, ignore_errors=True)
    logs = home / "logs"
    logs.mkdir(parents=True)
    datadir = data.copy(kind, shape, home / "source")
    source = Server(kind, f"prepare-{kind}", [*servers.options_of(kind, "1G"), *ROOMY_LOG[kind], *NO_FLUSHING], datadir=datadir)
    try:
        take(source, home / "backup", logs, shape, redo, settings)
        source.destroy()
        (home / "backup").rename(place)
    finally:
        source.destroy()
        shutil.rmtree(home, ignore_errors=True)


def take(source: Server, target: Path, logs: Path, shape: Shape, redo: int, settings: Settings) -> None:
    sender, extractor = programs(source, target, logs, settings)
    with open(logs / "send.log", "wb") as words:
        sending = subprocess.Popen(sender, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words)
    with open(logs / "extract.log", "wb") as words:
        extracting = subprocess.Popen(extractor, stdin=subprocess.PIPE, stderr=words)
    extracting.stdin.write(sending.stdout.read(TAKE_FIRST))
    begin = lsn(source)
    load = Load(source, shape, RATE, logs)
    while lsn(source) - begin < redo:
        time.sleep(0.5)
    load.stop()
    shutil.copyfileobj(sending.stdout, extracting.stdin, PIECE)
    extracting.stdin.close()
    for process, log in ((sending, "send.log"), (extracting, "extract.log")):
        if process.wait() != 0:
            raise BenchError(f"the backup failed:\n{(logs / log).read_text(errors='replace')[-2000:]}")


def programs(source: Server, target: Path, logs: Path, settings: Settings) -> tuple:
    if source.kind == MYSQL:
        return ([settings.programs / "xbsend", "--no-defaults", f"--socket={source.socket}", "--user=root", "--progress=none"],
                [settings.programs / "xbrecv", "--progress=none", "--prepare=none", target])
    target.mkdir()
    scratch = logs / "scratch"
    scratch.mkdir()
    return ([servers.tool("mariadb-backup"), "--no-defaults", "--backup", "--stream=mbstream", f"--socket={source.socket}",
             "--user=root", f"--target-dir={scratch}"],
            [servers.tool("mbstream"), "-x", "-C", target])


def lsn(source: Server) -> int:
    return int(source.query(f"SHOW GLOBAL STATUS LIKE '{LSN[source.kind]}'")[0][1])


# --- rows ---

class Row(NamedTuple):
    key: str
    title: str
    kind: str
    # Gives what was measured, on the folder it is given.
    run: object


def native(memory: str):
    def measure_it(folder: Path, settings: Settings, logs: Path) -> Outcome:
        command = Command("xbrecv", [str(settings.programs / "xbrecv"), "prepare", "--progress=none", f"--use-memory={memory}",
                                     f"--parallel={settings.parallel}", str(folder)])
        usage = measure.pipe([command], logs)
        return Outcome(usage.wall, usage.wall, usage.memory.get("xbrecv"), command.log(logs).read_text())
    return measure_it


def mariadb(folder: Path, settings: Settings, logs: Path) -> Outcome:
    command = Command("mariadb-backup", [servers.tool("mariadb-backup"), "--no-defaults", "--prepare", "--use-memory=6G",
                                         f"--target-dir={folder}"])
    usage = measure.pipe([command], logs)
    return Outcome(usage.wall, synced(usage.wall), usage.memory.get("mariadb-backup"), "")


def mysqld(folder: Path, settings: Settings, logs: Path) -> Outcome:
    """Start to first answer, less the same on what it then left."""
    first = start(folder)
    second = start(folder)
    wall = first - second
    return Outcome(wall, synced(wall), None, f"first start {first:.2f} s, second {second:.2f} s")


def start(folder: Path) -> float:
    began = time.monotonic()
    options = [*servers.options_of(MYSQL, BEST_POOL), "--skip-log-bin", "--innodb-redo-log-capacity=2G"]
    server = Server(MYSQL, "recover", options, datadir=folder)
    try:
        server.value("SELECT k FROM sbtest.sbtest1 WHERE id = 1")
        took = time.monotonic() - began
        server.stop()
    finally:
        server.destroy()
    return took


def synced(wall: float) -> float:
    began = time.monotonic()
    os.sync()
    return wall + time.monotonic() - began


ROWS = [
    Row("native", "xbrecv prepare --use-memory=512M", MYSQL, native("512M")),
    Row("native-64M", "xbrecv prepare --use-memory=64M", MYSQL, native("64M")),
    Row("mysqld", f"mysqld's recovery, buffer pool {BEST_POOL}", MYSQL, mysqld),
    Row("mariadb", "mariadb-backup --prepare --use-memory=6G", MARIADB, mariadb),
]


def measured(row: Row, shape: Shape, redo: int, settings: Settings, home: Path) -> Outcome:
    folder, logs = home / "copy", home / "logs"
    logs.mkdir(exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    run(["cp", "-a", "--sparse=always", backup_of(row.kind, shape, redo), folder])
    os.sync()
    try:
        return row.run(folder, settings, logs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- words ---

def table(rows: List[Row], outcomes: Dict[str, List[Outcome]], shape: Shape, redo: int) -> str:
    machine = report.machine()
    lines = [f"{shape}, {redo / 1e9:g} GB of redo; {machine['cores']} cores, load average {machine['load_average'][0]:.1f}",
             f"{'':44} {'wall s':>8} {'on disk':>8} {'redo MB/s':>10} {'peak MiB':>9}"]
    best = {key: min(some, key=lambda o: o.wall) for key, some in outcomes.items()}
    for row in rows:
        o = best[row.key]
        peak = f"{o.peak / 2**20:9.0f}" if o.peak else f"{'-':>9}"
        lines.append(f"{row.title:44} {o.wall:8.2f} {o.durable:8.2f} {redo / o.wall / 1e6:10.0f} {peak}")
        lines += [f"    {line}" for line in steps(o.words)]
    lines += goals(best)
    return "\n".join(lines)


def steps(words: str) -> List[str]:
    """xbrecv's summary says where its time went."""
    found = re.findall(r"^xbrecv: +((?:steps|notes) .*)$", words, re.MULTILINE)
    return found or ([words] if words and "\n" not in words else [])


def goals(best: Dict[str, Outcome]) -> List[str]:
    lines = []

    def goal(over: str, under: str, wanted: float, words: str, at_least: bool = True) -> None:
        if over in best and under in best:
            value = best[over].wall / best[under].wall
            met = value >= wanted if at_least else value <= wanted
            lines.append(f"  {value:5.2f}  {words} (goal: {'at least' if at_least else 'at most'} {wanted:g}, {'met' if met else 'MISSED'})")

    goal("mysqld", "native", MYSQLD_GOAL, "times as fast as mysqld")
    goal("mariadb", "native", MARIADB_GOAL, "times as fast as mariadb-backup")
    goal("native-64M", "native", SMALL_GOAL, "times as long with 64 MiB", at_least=False)
    if "native" in best and best["native"].peak:
        peak = best["native"].peak
        lines.append(f"  {peak / 2**20:5.0f}  MiB at most (goal: {MEMORY_GOAL >> 20}, {'met' if peak <= MEMORY_GOAL else 'MISSED'})")
    return lines
