"""Servers, by way of scripts/servers. They end with this process, whatever becomes of it."""
# SPDX-License-Identifier: GPL-2.0-or-later
import os
from pathlib import Path
from typing import List, Optional

from .common import ROOT, run

SCRIPT = ROOT / "scripts/servers"
MYSQL, MARIADB = "mysql-9.7", "mariadb-10.11"

# Both families do the same work: redo and binlog are synced at each commit, pages go past the page cache.
COMMON_OPTIONS = ["--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1", "--innodb-flush-method=O_DIRECT"]
REDO_OPTION = {MYSQL: "--innodb-redo-log-capacity=1G", MARIADB: "--innodb-log-file-size=1G"}
DATAFILES = ("*.ibd", "ibdata*", "undo_*", "undo0*")


def tool(name: str) -> str:
    return run([SCRIPT, "path", name]).strip()


def install() -> None:
    run([SCRIPT, "install", MYSQL, MARIADB, "tools"])


def options_of(kind: str, buffer_pool: str) -> List[str]:
    return [*COMMON_OPTIONS, REDO_OPTION[kind], f"--innodb-buffer-pool-size={buffer_pool}"]


class Server:
    """A running server whose name has this process in it."""

    def __init__(self, kind: str, role: str, options: List[str], datadir: Optional[Path] = None, folder: Optional[Path] = None):
        self.kind, self.name = kind, f"bench-{role}-{os.getpid()}"
        placing = ["--datadir", datadir] if datadir else []
        placing += ["--dir", folder] if folder else []
        answer = run([SCRIPT, "start", kind, self.name, "--owner-pid", os.getpid(), *placing, "--", *options])
        facts = dict(line.split("=", 1) for line in answer.splitlines())
        self.socket, self.port, self.version = facts["socket"], int(facts["port"]), facts["version"]
        self.folder, self.datadir = Path(facts["dir"]), Path(facts["datadir"])

    def query(self, sql: str) -> List[List[str]]:
        lines = run([SCRIPT, "query", self.name, "--no-names", sql]).splitlines()
        return [line.split("\t") for line in lines]

    def value(self, sql: str) -> str:
        return self.query(sql)[0][0]

    def pid(self) -> int:
        """Of the present process: CLONE makes a server start again."""
        return int((self.folder / "pid").read_text().split()[0])

    def datafiles(self) -> List[Path]:
        found = {file for pattern in DATAFILES for file in self.datadir.rglob(pattern) if "#innodb_temp" not in str(file)}
        return sorted(file for file in found if file.name != "ibtmp1")

    def cpu_seconds(self) -> float:
        """User and system time of its processes so far, those that were started again included."""
        supervisor = int((self.folder / "supervisor").read_text().split()[0])
        return sum(times(supervisor)[2:]) + sum(times(self.pid()))

    def reset_binlog(self) -> None:
        self.query("RESET BINARY LOGS AND GTIDS" if self.kind == MYSQL else "RESET MASTER")

    def stop(self) -> None:
        run([SCRIPT, "stop", self.name])

    def destroy(self) -> None:
        run([SCRIPT, "destroy", self.name])


def times(pid: int) -> List[float]:
    """Own user and system time in seconds, then those of reaped children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return [int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:15]]
