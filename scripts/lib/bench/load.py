"""The write load of the benchmark: sysbench at a fixed rate, and the latencies that it saw."""
# SPDX-License-Identifier: GPL-2.0-or-later
import math
import signal
import subprocess
from pathlib import Path
from typing import List, Optional

from . import servers
from .common import BenchError
from .data import Shape
from .servers import Server

SCRIPT = Path(__file__).with_name("load.lua")
THREADS = 16
# Fewer latencies than this make no percentile.
SAMPLES_MIN = 20


class Load:
    """Writes until it is stopped. Times are those of time.monotonic()."""

    def __init__(self, server: Server, shape: Shape, rate: float, logs: Path):
        self.prefix = logs / "load"
        for old in logs.glob("load.*"):
            old.unlink()
        argv = [servers.tool("sysbench"), SCRIPT, "--db-driver=mysql", f"--mysql-socket={server.socket}", "--mysql-user=root",
                "--mysql-db=sbtest", f"--tables={shape.tables}", f"--table-size={shape.rows}", f"--threads={THREADS}",
                "--time=0", "--events=0", "--rand-type=uniform", f"--bench-rate={rate}", f"--bench-log={self.prefix}", "run"]
        self.words = logs / "sysbench.out"
        with open(self.words, "wb") as out:
            self.process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT)

    def stop(self) -> None:
        if self.process.poll() is not None:
            raise BenchError(f"the load ended by itself:\n{self.words.read_text()[-2000:]}")
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def latencies(self, begin: float, end: float) -> List[float]:
        """Milliseconds of the transactions that were due in that time, sorted."""
        found = []
        for file in self.prefix.parent.glob("load.*"):
            for line in file.read_text().splitlines():
                fields = line.split()
                if len(fields) == 2 and begin <= float(fields[0]) < end:
                    found.append(float(fields[1]))
        return sorted(found)


def percentile(values: List[float], percent: float) -> Optional[float]:
    """By nearest rank, of sorted values."""
    if len(values) < SAMPLES_MIN:
        return None
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)]

