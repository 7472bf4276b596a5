"""scripts/bench incremental: an increment, by LSN and by page tracking, beside a full backup, a plain read of the files, and
mariadb-backup's increment on a MariaDB with the same rows; then a chain of increments, restored.

Between two backups one row is changed on every so many pages. All files are in the page cache, and all changed pages are
written before an increment begins. Streams of increments go to files and are kept for the restore.
"""
# SPDX-License-Identifier: GPL-2.0-or-later
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Callable, Dict, List

from . import data, measure, report, servers
from .common import CACHE, BenchError, say, size_of
from .data import Shape
from .measure import Command
from .rows import Settings
from .servers import MARIADB, MYSQL, Server

# Rows of a sysbench table on a page, about.
ROWS_A_PAGE = 70
TRACKED_GOAL, SCAN_GOAL, CHAIN_GOAL, MARIADB_GOAL = 0.1, 1.1, 1.3, 0.4


def incremental(options, settings: Settings) -> int:
    shape = Shape(options.tables, options.rows)
    kinds = [MYSQL] if options.without_mariadb else [MYSQL, MARIADB]
    data.ensure(kinds, shape)
    home = (options.target_dir or CACHE / "bench") / f"incremental-{os.getpid()}"
    (home / "logs").mkdir(parents=True)
    times: Dict[str, List[float]] = {}
    try:
        for kind in kinds:
            bench = Bench(kind, shape, settings, home, times)
            try:
                bench.run(options.rounds, options.chain, options.changed)
            finally:
                bench.source.destroy()
        print(table(times, shape, options), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


class Bench:
    """The measurements of one server."""

    def __init__(self, kind: str, shape: Shape, settings: Settings, home: Path, times: Dict[str, List[float]]):
        self.kind, self.shape, self.settings, self.home, self.times = kind, shape, settings, home, times
        datadir = data.copy(kind, shape, home / f"source-{kind}")
        self.source = Server(kind, f"incremental-{kind}", servers.options_of(kind, settings.buffer_pool), datadir=datadir)
        self.logs = home / "logs"
        self.turn = 0

    def run(self, rounds: int, chain: int, changed: float) -> None:
        if self.kind == MYSQL:
            self.source.query("INSTALL COMPONENT 'file://component_mysqlbackup'")
            self.run_mysql(rounds, chain, changed)
        else:
            self.run_mariadb(rounds, chain, changed)

    def change(self, percent: float) -> None:
        """Changes a row on every so many pages, another one each time, and has all of it written."""
        step = int(ROWS_A_PAGE * 100 / percent)
        self.turn += 1
        for n in range(1, self.shape.tables + 1):
            self.source.query(f"UPDATE sbtest.sbtest{n} SET c = REVERSE(c) WHERE id % {step} = {self.turn * 37 % step}")
        if self.kind == MYSQL:
            self.source.query("DO innodb_redo_log_sharp_checkpoint()")
        else:
            self.source.query("SET GLOBAL innodb_max_dirty_pages_pct = 0")
            for _ in range(600):
                if self.source.query("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1] == "0":
                    break
                time.sleep(0.1)
            self.source.query("SET GLOBAL innodb_max_dirty_pages_pct = 90")

    def measured(self, key: str, command: Callable[[], Command]) -> None:
        say(f"{self.kind}: {key}")
        prepared = command()
        # What was written before is not written while this one runs.
        os.sync()
        usage = measure.pipe([prepared], self.logs)
        self.times.setdefault(key, []).append(usage.wall)

    # --- xbpipe ---

    def xbsend(self, *options: str) -> Command:
        return Command("xbsend", [str(self.settings.programs / "xbsend"), "--no-defaults", f"--socket={self.source.socket}",
                                  "--user=root", "--progress=none", f"--parallel={self.settings.parallel}", *options])

    def xbrecv(self, target: Path, *streams: Path) -> Command:
        return Command("xbrecv", [str(self.settings.programs / "xbrecv"), "--progress=none", f"--parallel={self.settings.parallel}",
                                  f"--use-memory={self.settings.use_memory}", str(target), *map(str, streams)])

    def to_file(self, command: Command) -> Command:
        """The same program with its output in a file, as most people keep a backup."""
        kept = self.home / "kept.xb"
        kept.unlink(missing_ok=True)
        return Command(command.name, ["sh", "-c", 'exec "$@" > "$0"', str(kept), *command.argv])

    def send_to(self, stream: Path, *options: str) -> None:
        command = self.xbsend(f"--extra-lsndir={self.home / 'lsn'}", *options)
        with open(stream, "wb") as out, open(self.logs / "keep.log", "wb") as log:
            import subprocess
            if subprocess.run(command.argv, stdout=out, stderr=log, check=False).returncode != 0:
                raise BenchError((self.logs / "keep.log").read_text(errors="replace"))

    def run_mysql(self, rounds: int, chain: int, changed: float) -> None:
        full, since = self.home / "full.xb", f"--since={self.home / 'lsn'}"
        self.send_to(full, "--page-tracking=on")
        self.change(changed)
        files = [str(file) for file in self.source.datafiles()]
        self.times["bytes"] = [size_of(files)]
        for _ in range(rounds):
            self.measured("cat", lambda: Command("cat", ["cat", *files]))
            self.measured("full", lambda: self.xbsend())
            self.measured("by LSN", lambda: self.xbsend(since, "--page-tracking=off"))
            self.measured("by page tracking", lambda: self.xbsend(since, "--page-tracking=on"))
            self.measured("full, into a file", lambda: self.to_file(self.xbsend()))
            self.measured("by page tracking, into a file", lambda: self.to_file(self.xbsend(since, "--page-tracking=on")))
            words = (self.logs / "xbsend.log").read_text(errors="replace")
            if "found by page tracking" not in words:
                raise BenchError(f"page tracking was not used:\n{words}")
        streams = []
        for n in range(chain):
            self.change(changed)
            streams.append(self.home / f"{n}.xb")
            self.send_to(streams[-1], since)
        self.times["increments, bytes"] = [size_of(streams)]
        for _ in range(rounds):
            for key, given in [("full restored", [full]), ("chain restored", [full, *streams])]:
                target = self.home / "restored"
                self.measured(key, lambda: self.xbrecv(target, *given))
                shutil.rmtree(target)
            self.measured("increments read", lambda: Command("cat", ["cat", *map(str, streams)]))

    # --- mariadb-backup ---

    def mariadb_backup(self, target: Path, *options: str) -> Command:
        return Command("mariadb-backup", [servers.tool("mariadb-backup"), "--no-defaults", "--backup", f"--socket={self.source.socket}",
                                          "--user=root", f"--parallel={self.settings.parallel}", f"--target-dir={target}", *options])

    def mariadb_prepare(self, base: Path, *options: str) -> Command:
        return Command("mariadb-backup-prepare", [servers.tool("mariadb-backup"), "--no-defaults", "--prepare", f"--target-dir={base}",
                                                  f"--use-memory={self.settings.use_memory}", *options])

    def run_mariadb(self, rounds: int, chain: int, changed: float) -> None:
        base = self.home / "mb-base"
        measure.pipe([self.mariadb_backup(base)], self.logs)
        self.change(changed)
        for n in range(rounds):
            target = self.home / f"mb-{n}"
            self.measured("mariadb-backup increment", lambda: self.mariadb_backup(target, f"--incremental-basedir={base}"))
            shutil.rmtree(target)
        before, folders = base, []
        for n in range(chain):
            self.change(changed)
            folders.append(self.home / f"mb-chain-{n}")
            measure.pipe([self.mariadb_backup(folders[-1], f"--incremental-basedir={before}")], self.logs)
            before = folders[-1]
        say(f"{self.kind}: chain prepared")
        began = time.monotonic()
        measure.pipe([self.mariadb_prepare(base)], self.logs)
        for folder in folders:
            measure.pipe([self.mariadb_prepare(base, f"--incremental-dir={folder}")], self.logs)
        self.times.setdefault("mariadb-backup chain prepared", []).append(time.monotonic() - began)


def table(times: Dict[str, List[float]], shape: Shape, options) -> str:
    middle = {key: statistics.median(values) for key, values in times.items()}
    lines = [f"{shape}, {options.changed:g} % of the pages changed, {options.rounds} rounds; {report.machine()}",
             f"datafiles {middle['bytes'] / 1e9:.2f} GB; {options.chain} increments, {middle['increments, bytes'] / 1e6:.0f} MB"]
    for key, values in times.items():
        if "bytes" not in key:
            lines.append(f"  {key:32}{statistics.median(values):8.2f} s   ({min(values):.2f} to {max(values):.2f})")

    def goal(words: str, over: float, under: float, wanted: float) -> None:
        mark = "met" if over / under <= wanted else "NOT met"
        lines.append(f"  {words:64}{over / under:6.2f}   at most {wanted:g}: {mark}")

    for where in ["", ", into a file"]:
        tracked, full = middle[f"by page tracking{where}"], middle[f"full{where}"]
        goal(f"increment by page tracking / full backup{where}", tracked, full, TRACKED_GOAL)
    goal("increment by LSN / cat of the files", middle["by LSN"], middle["cat"], SCAN_GOAL)
    rest = middle["increments read"]
    goal("chain restored less reading its increments / full restored", middle["chain restored"] - rest, middle["full restored"], CHAIN_GOAL)
    if "mariadb-backup increment" in middle:
        ours = middle["by LSN"] + middle["chain restored"] - middle["full restored"]
        theirs = middle["mariadb-backup increment"] + middle["mariadb-backup chain prepared"]
        goal("increment by LSN and chain laid on / mariadb-backup's", ours, theirs, MARIADB_GOAL)
    return "\n".join(lines)
