"""The place where rows are run: sources on copies of the cached datadirs, a fresh target for every run, caches and dirty
pages in a known state before it, and maybe a write load during it."""
# SPDX-License-Identifier: GPL-2.0-or-later
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Optional

from . import data, measure, rows, servers
from .common import CACHE, BenchError, run, size_of
from .load import Load, percentile
from .rows import Row, Settings, Trial
from .servers import Server

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
# A load runs this long before it is looked at.
LOAD_WARM_UP_SECONDS = 3
FLUSH_TIMEOUT_SECONDS = 180
DIRTY_LIMITS = ("innodb_max_dirty_pages_pct", "innodb_max_dirty_pages_pct_lwm")
# Room on the target's disk, in units of the data: the copy, its redo, what recovery adds.
ROOM = 2.0


@dataclass
class Sample:
    """One measured run."""
    row: str
    phase: str
    round: int
    # Bytes of the source's datafiles.
    bytes: int
    # What the user waits for, and its parts.
    wall: float
    parts: Dict[str, float]
    # Until all of it is on disk.
    durable: float
    # Of all programs and servers of the row, with what the source server used beyond its usual.
    cpu: float
    memory: Dict[str, int]
    quiet_p95: Optional[float] = None
    p95: Optional[float] = None
    worst: Optional[float] = None
    # Part of all processor time that the machine's host gave to others meanwhile.
    stolen: float = 0.0
    # xbsend's summary lines.
    summary: Optional[Dict[str, str]] = None

    def as_dict(self) -> dict:
        return asdict(self)


class Setup:
    """Use with `with`: what it made is removed at the end."""

    def __init__(self, settings: Settings, shape: data.Shape, kinds: List[str], target_dir: Optional[Path], cold: bool,
                 rate: float, quiet: float):
        self.settings, self.shape, self.cold = settings, shape, cold
        # Transactions a second of the load, and how many seconds it runs alone before a row starts.
        self.rate, self.quiet = rate, quiet
        self.home = CACHE / "bench" / f"run-{os.getpid()}"
        self.target = (target_dir or self.home) / f"target-{os.getpid()}"
        self.logs = self.home / "logs"
        self.kinds, self.sources = kinds, {}

    def __enter__(self) -> "Setup":
        if self.cold and not os.access(DROP_CACHES, os.W_OK):
            raise BenchError("--cold needs root, to drop the page cache")
        self.logs.mkdir(parents=True)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        try:
            for kind in self.kinds:
                self.sources[kind] = self.start_source(kind)
            self.check_room()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for source in self.sources.values():
            source.destroy()
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def start_source(self, kind: str) -> Server:
        datadir = data.copy(kind, self.shape, self.home / kind)
        source = Server(kind, f"source-{kind}", servers.options_of(kind, self.settings.buffer_pool), datadir=datadir)
        rows.prepare_source(source)
        return source

    def check_room(self) -> None:
        needed = max(size_of(source.datafiles()) for source in self.sources.values()) * ROOM
        free = shutil.disk_usage(self.target.parent).free
        if free < needed:
            raise BenchError(f"{self.target.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed")

    def measure(self, row: Row, phase: str, number: int) -> Sample:
        """Runs a row once. Afterwards nothing of it is left."""
        source = self.sources[row.source]
        trial = Trial(self.settings, source, self.target, self.logs)
        try:
            if row.before:
                row.before(trial)
            self.settle(source)
            if phase == "load":
                return self.under_load(row, trial, number)
            return self.sample(row, trial, phase, number)
        finally:
            trial.clean_up()
            shutil.rmtree(self.target, ignore_errors=True)

    def settle(self, source: Server) -> None:
        """Nobody pays for what another row left: no dirty pages, no old binlog, the same page cache."""
        former = [source.value(f"SELECT @@GLOBAL.{name}") for name in DIRTY_LIMITS]
        source.reset_binlog()
        source.query(f"SET GLOBAL {DIRTY_LIMITS[1]} = 0; SET GLOBAL {DIRTY_LIMITS[0]} = 0")
        deadline = time.monotonic() + FLUSH_TIMEOUT_SECONDS
        while source.query("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1] != "0":
            if time.monotonic() > deadline:
                raise BenchError(f"{source.name} does not come to rest")
            time.sleep(0.2)
        for name, value in zip(DIRTY_LIMITS, former):
            source.query(f"SET GLOBAL {name} = {value}")
        os.sync()
        if self.cold:
            DROP_CACHES.write_text("3\n")
        else:
            run(["sh", "-c", 'cat "$@" > /dev/null', "sh", *source.datafiles()])

    def sample(self, row: Row, trial: Trial, phase: str, number: int, usual_cpu: float = 0.0) -> Sample:
        """`usual_cpu`: seconds a second that the source server takes without a backup."""
        files = size_of(trial.source.datafiles())
        cpu, began, ticks = trial.source.cpu_seconds(), time.monotonic(), measure.cpu_ticks()
        row.run(trial)
        stolen = measure.stolen_since(ticks)
        server_cpu = trial.source.cpu_seconds() - cpu - usual_cpu * (time.monotonic() - began)
        wall = sum(trial.parts.values())
        synced = time.monotonic()
        os.sync()
        durable = wall + time.monotonic() - synced
        log = self.logs / "xbsend.log"
        summary = summary_of(log.read_text()) if "xbsend" in trial.memory else None
        return Sample(row.key, phase, number, files, wall, trial.parts, durable, trial.cpu + max(server_cpu, 0.0), trial.memory,
                      stolen=stolen, summary=summary)

    def under_load(self, row: Row, trial: Trial, number: int) -> Sample:
        load = Load(trial.source, self.shape, self.rate, self.logs)
        try:
            time.sleep(LOAD_WARM_UP_SECONDS)
            quiet, cpu = time.monotonic(), trial.source.cpu_seconds()
            time.sleep(self.quiet)
            began = time.monotonic()
            usual_cpu = (trial.source.cpu_seconds() - cpu) / (began - quiet)
            sample = self.sample(row, trial, "load", number, usual_cpu)
        finally:
            load.stop()
        during = load.latencies(began, began + sample.wall)
        sample.quiet_p95 = percentile(load.latencies(quiet, began), 95)
        sample.p95 = percentile(during, 95)
        sample.worst = during[-1] if during else None
        return sample


def summary_of(words: str) -> Dict[str, str]:
    """The `xbsend:   label  value` lines."""
    found = {}
    for line in words.splitlines():
        label, _, value = line.removeprefix("xbsend:   ").partition("  ")
        if line.startswith("xbsend:   ") and value:
            found[label] = value.strip()
    return found
