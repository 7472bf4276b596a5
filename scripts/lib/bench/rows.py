"""What is measured: each row runs the programs as a user would, on its own empty target."""
# SPDX-License-Identifier: GPL-2.0-or-later
import re
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

from . import measure, servers
from .common import BenchError
from .measure import Command
from .servers import MARIADB, MYSQL, Server

CLONE_ACCOUNT, CLONE_PASSWORD = "clone", "clone"
CLONE_TIMEOUT_SECONDS = 1800
# As long as a backup takes.
NOTHING_SECONDS = "8"
# A server that is not there yet is asked again after this.
ASK_AGAIN_SECONDS = 0.01
# The step of xbrecv that follows the stream, in its own words.
AFTER = "after the last byte"


class Settings(NamedTuple):
    """What is the same for every row."""
    programs: Path
    parallel: int
    use_memory: str
    buffer_pool: str
    # Reads a second of the row with a fixed throttle.
    throttle: int = 100


@dataclass
class Trial:
    """One run of one row: what it works with, and what it has measured."""
    settings: Settings
    source: Server
    target: Path
    logs: Path
    # Seconds of each step, in order; their sum is what the user waits for.
    parts: Dict[str, float] = field(default_factory=dict)
    cpu: float = 0.0
    memory: Dict[str, int] = field(default_factory=dict)
    servers: List[Server] = field(default_factory=list)

    def pipe(self, part: str, *commands: Command) -> None:
        self.note(part, measure.pipe(list(commands), self.logs))

    def line(self, part: str, sender: Command, receiver: Command) -> None:
        self.note(part, measure.line(sender, receiver, self.logs))

    def note(self, part: str, usage: measure.Usage) -> None:
        self.parts[part] = usage.wall
        self.cpu += usage.cpu
        for name, peak in usage.memory.items():
            self.memory[name] = max(peak, self.memory.get(name, 0))

    def start_server(self) -> None:
        """A server of the source's kind on the target, up to its first answer."""
        began = time.monotonic()
        options = servers.options_of(self.source.kind, self.settings.buffer_pool)
        server = Server(self.source.kind, "copy", options, datadir=self.target)
        self.servers.append(server)
        server.value("SELECT k FROM sbtest.sbtest1 WHERE id = 1")
        self.parts["start"] = time.monotonic() - began
        self.cpu += server.cpu_seconds()

    def clean_up(self) -> None:
        for server in self.servers:
            server.destroy()

    # --- programs ---

    def xbsend(self, *options: str) -> Command:
        return Command("xbsend", [str(self.settings.programs / "xbsend"), "--no-defaults", f"--socket={self.source.socket}",
                                  "--user=root", "--progress=none", f"--parallel={self.settings.parallel}", *options])

    def xbrecv(self, *options: str) -> Command:
        return Command("xbrecv", [str(self.settings.programs / "xbrecv"), "--progress=none", f"--parallel={self.settings.parallel}",
                                  f"--use-memory={self.settings.use_memory}", *options, str(self.target)])

    def mariadb_backup(self) -> Command:
        scratch = self.logs / "scratch"
        scratch.mkdir(exist_ok=True)
        return Command("mariadb-backup", [servers.tool("mariadb-backup"), "--no-defaults", "--backup", "--stream=mbstream",
                                          f"--socket={self.source.socket}", "--user=root", f"--parallel={self.settings.parallel}",
                                          f"--target-dir={scratch}"])

    def mbstream(self) -> Command:
        self.target.mkdir()
        return Command("mbstream", [servers.tool("mbstream"), "-x", f"--parallel={self.settings.parallel}", "-C", str(self.target)])

    def mariadb_prepare(self) -> Command:
        return Command("mariadb-backup-prepare", [servers.tool("mariadb-backup"), "--no-defaults", "--prepare",
                                                  f"--use-memory={self.settings.use_memory}", f"--target-dir={self.target}"])


@dataclass
class Row:
    key: str
    title: str
    source: str
    run: Callable[[Trial], None]
    before: Optional[Callable[[Trial], None]] = None


def read(trial: Trial) -> None:
    trial.pipe("read", Command("cat", ["cat", *map(str, trial.source.datafiles())]))


def send(trial: Trial) -> None:
    trial.pipe("copy", trial.xbsend())


def send_auto(trial: Trial) -> None:
    trial.pipe("copy", trial.xbsend("--throttle=auto"))


def send_fixed(trial: Trial) -> None:
    trial.pipe("copy", trial.xbsend(f"--throttle={trial.settings.throttle}"))


def land(trial: Trial) -> None:
    trial.pipe("copy", trial.xbsend(), trial.xbrecv("--prepare=none"))


def ready(trial: Trial) -> None:
    receiver = trial.xbrecv()
    trial.pipe("copy", trial.xbsend(), receiver)
    # What the receiver had left to do then is a step of its own.
    last = after_the_last_byte(receiver.log(trial.logs).read_text(errors="replace"))
    trial.parts["copy"] -= last
    trial.parts[AFTER] = last
    trial.start_server()


def after_the_last_byte(words: str) -> float:
    """The seconds that xbrecv gives as the first of its steps."""
    found = re.search(rf"^xbrecv: +steps +{AFTER} (?:(\d+) min (\d+) s|([\d.]+) (s|ms|µs))", words, re.MULTILINE)
    if not found:
        raise BenchError(f"xbrecv does not say how long it took after the last byte:\n{words[-2000:]}")
    minutes, seconds, value, unit = found.groups()
    return int(minutes) * 60 + int(seconds) if minutes else float(value) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]


def mb_send(trial: Trial) -> None:
    trial.pipe("copy", trial.mariadb_backup())


def mb_land(trial: Trial) -> None:
    trial.pipe("copy", trial.mariadb_backup(), trial.mbstream())


def mb_ready(trial: Trial) -> None:
    mb_land(trial)
    trial.pipe("prepare", trial.mariadb_prepare())
    trial.start_server()


def start_recipient(trial: Trial) -> None:
    """CLONE needs a server at the far end first; its own start is not counted."""
    trial.target.mkdir()
    options = servers.options_of(MYSQL, trial.settings.buffer_pool)
    recipient = Server(MYSQL, "recipient", options, folder=trial.target)
    trial.servers.append(recipient)
    recipient.query("INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
    recipient.query(f"SET GLOBAL clone_valid_donor_list = '127.0.0.1:{trial.source.port}'")


def clone(trial: Trial) -> None:
    recipient = trial.servers[0]
    before, cpu = recipient.pid(), recipient.cpu_seconds()
    began = time.monotonic()
    # How the client ends tells nothing: the server goes away under it.
    subprocess.run([servers.tool("mysql"), "--no-defaults", "--user=root", f"--socket={recipient.socket}", "--execute",
                    f"CLONE INSTANCE FROM '{CLONE_ACCOUNT}'@'127.0.0.1':{trial.source.port} IDENTIFIED BY '{CLONE_PASSWORD}'"],
                   stdin=subprocess.DEVNULL, capture_output=True)
    trial.parts["copy"] = time.monotonic() - began
    wait_for_restart(recipient, before)
    recipient.value("SELECT k FROM sbtest.sbtest1 WHERE id = 1")
    trial.parts["restart"] = time.monotonic() - began - trial.parts["copy"]
    trial.cpu += recipient.cpu_seconds() - cpu
    state = recipient.query("SELECT state, error_message FROM performance_schema.clone_status")
    if state[0][0] != "Completed":
        raise BenchError(f"CLONE INSTANCE: {state}")


def wait_for_restart(server: Server, old_pid: int) -> None:
    deadline = time.monotonic() + CLONE_TIMEOUT_SECONDS
    while server.pid() == old_pid or not is_listening(server.socket):
        if time.monotonic() > deadline:
            raise BenchError(f"{server.name} did not come back after CLONE INSTANCE")
        time.sleep(ASK_AGAIN_SECONDS)


def is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as attempt:
        try:
            attempt.connect(path)
            return bool(attempt.recv(1))
        except OSError:
            return False


def prepare_source(source: Server) -> None:
    """What the rows need on a source, once."""
    if source.kind == MYSQL:
        source.query(f"INSTALL PLUGIN clone SONAME 'mysql_clone.so'; CREATE USER {CLONE_ACCOUNT}@'127.0.0.1' "
                     f"IDENTIFIED BY '{CLONE_PASSWORD}'; GRANT BACKUP_ADMIN ON *.* TO {CLONE_ACCOUNT}@'127.0.0.1'")


# "answers": until a server on the copy has answered a query.
ROWS = [
    Row("read", "plain read of the files (cat)", MYSQL, read),
    Row("send", "xbsend > /dev/null", MYSQL, send),
    Row("land", "xbsend | xbrecv --prepare=none", MYSQL, land),
    Row("ready", "xbsend | xbrecv, answers", MYSQL, ready),
    Row("mb-send", "mariadb-backup > /dev/null", MARIADB, mb_send),
    Row("mb-land", "mariadb-backup | mbstream -x", MARIADB, mb_land),
    Row("mb-ready", "mariadb-backup | mbstream, prepared, answers", MARIADB, mb_ready),
    Row("clone", "CLONE INSTANCE, answers", MYSQL, clone, start_recipient),
]


def nothing(trial: Trial) -> None:
    """How much the load's latency changes by itself."""
    trial.pipe("copy", Command("sleep", ["sleep", NOTHING_SECONDS]))


# What scripts/bench throttle holds against each other: how a backup disturbs the load, and how long it takes.
GENTLE = [
    Row("nothing", "no backup at all", MYSQL, nothing),
    Row("send-fixed", "xbsend --throttle=N > /dev/null", MYSQL, send_fixed),
    Row("send-auto", "xbsend --throttle=auto > /dev/null", MYSQL, send_auto),
]
DISTURBING = ["nothing", "send", "send-fixed", "send-auto", "mb-send", "clone"]


class Ratio(NamedTuple):
    over: str
    under: str
    goal: Optional[float] = None


# Time per byte of the source's datafiles, so that servers whose files differ in size can be compared.
RATIOS = [
    Ratio("send", "read", 1.25),
    Ratio("send", "mb-send"),
    Ratio("land", "mb-land", 0.60),
    Ratio("ready", "mb-ready"),
    Ratio("ready", "clone"),
]


def by_key(key: str) -> Row:
    return next(row for row in [*ROWS, *GENTLE] if row.key == key)
