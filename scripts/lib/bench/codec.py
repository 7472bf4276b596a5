"""What compression, encryption and the line cost: xbsend with each combination, beside the standard tools reading the same files."""
# SPDX-License-Identifier: GPL-2.0-or-later
import re
from statistics import median
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from . import servers
from .measure import Command
from .report import disturbances
from .rows import Row, Trial
from .servers import MYSQL
from .setup import Sample, Setup

COMPRESSIONS = [("plain", []), ("zstd", ["--compress=zstd"]), ("lz4", ["--compress=lz4"])]
CARRIERS = ["tcp", "quic"]
ZSTD_GOAL = 1.1
ENCRYPTION_CPU_GOAL = 1.25


class Keys(NamedTuple):
    """A recipient, and the file with its key."""
    recipient: str
    file: str


def make_keys(setup: Setup) -> Keys:
    file = setup.home / "age.key"
    servers.run([servers.tool("age-keygen"), "-o", file])
    recipient = servers.run([servers.tool("age-keygen"), "-y", file]).strip()
    return Keys(recipient, str(file))


def rows_of(keys: Keys, threads: int, level: Optional[int]) -> List[Row]:
    """Every combination, sent to nowhere and verified behind a pipe, and the tools."""
    found = []
    for name, options in COMPRESSIONS:
        if name == "zstd" and level is not None:
            options = [*options, f"--compress-level={level}"]
        for suffix, encryption in (("", []), ("+age", ["--encrypt-to", keys.recipient])):
            found.append(Row(f"{name}{suffix}", f"xbsend, {name}{suffix}", MYSQL, sends([*options, *encryption])))
            layers, identity = [*options, *encryption], ["--identity", keys.file] if encryption else []
            found.append(Row(f"{name}{suffix}-verify", f"xbsend, {name}{suffix} | xbrecv --verify-only", MYSQL,
                             verifies(layers, identity)))
            for carrier in CARRIERS:
                found.append(Row(f"{name}{suffix}-{carrier}", f"xbsend, {name}{suffix} -{carrier}-> xbrecv --verify-only", MYSQL,
                                 crosses(carrier, layers, identity)))
    for name, argv in (("zstd", ["-1", f"-T{threads}", "-c"]), ("lz4", ["-1", "-c"]), ("age", ["-r", keys.recipient])):
        found.append(Row(f"tool-{name}", f"cat FILES | {name} {' '.join(argv[:2]) if name != 'age' else '-r …'}", MYSQL, tool(name, argv)))
    return found


def sends(options: List[str]) -> Callable[[Trial], None]:
    def run(trial: Trial) -> None:
        trial.pipe("copy", trial.xbsend(*options))
    return run


def verifies(options: List[str], identity: List[str]) -> Callable[[Trial], None]:
    def run(trial: Trial) -> None:
        trial.pipe("copy", trial.xbsend(*options), verifier(trial, identity))
    return run


def crosses(carrier: str, options: List[str], identity: List[str]) -> Callable[[Trial], None]:
    def run(trial: Trial) -> None:
        trial.line("copy", trial.xbsend(*options), verifier(trial, [*identity, f"--from={carrier}://127.0.0.1:0"]))
    return run


def verifier(trial: Trial, options: List[str]) -> Command:
    return Command("xbrecv", [str(trial.settings.programs / "xbrecv"), "--progress=none", "--verify-only",
                              f"--parallel={trial.settings.parallel}", *options])


def tool(name: str, argv: List[str]) -> Callable[[Trial], None]:
    def run(trial: Trial) -> None:
        files = [str(file) for file in trial.source.datafiles()]
        trial.pipe("copy", Command("cat", ["cat", *files]), Command(name, [servers.tool(name), *argv]))
    return run


def report(rows: List[Row], samples: List[Sample]) -> str:
    mine: Dict[str, List[Sample]] = {row.key: [s for s in samples if s.row == row.key] for row in rows}
    wall = {key: median(s.wall for s in some) for key, some in mine.items() if some}
    cpu = {key: median(s.cpu / (s.bytes / 1e9) for s in some) for key, some in mine.items() if some}
    lines = [f"{'':44} {'wall s':>8} {'MB/s':>7} {'CPU s/GB':>9} {'sent':>6} {'/ plain':>8} {'/ zstd':>7} {'/ age':>7}  peak memory, MiB"]
    for row in rows:
        some = mine[row.key]
        if not some:
            continue
        ratios = "".join(f" {wall[row.key] / wall[base]:{width}.2f}" if base in wall else " " * width + "-"
                         for base, width in (("plain", 8), ("tool-zstd", 7), ("tool-age", 7)))
        peaks = ", ".join(f"{name} {max(s.memory.get(name, 0) for s in some) / 2**20:.0f}" for name in some[0].memory)
        rate = median(s.bytes / s.wall / 1e6 for s in some)
        lines.append(f"{row.title:44} {wall[row.key]:8.2f} {rate:7.0f} {cpu[row.key]:9.2f} {sent(some[0]):>6}{ratios}  {peaks}")
    return "\n".join([*lines, *goals(wall, cpu), *disturbances(samples)])


def sent(sample: Sample) -> str:
    """What part of the data went out, by xbsend's summary."""
    found = re.search(r"\((\d+) %\)", (sample.summary or {}).get("size", ""))
    return f"{found.group(1)} %" if found else "-"


def goals(wall: Dict[str, float], cpu: Dict[str, float]) -> List[str]:
    checks: List[Tuple[str, Dict[str, float], str, str, float]] = [
        ("time of xbsend with zstd / of zstd on the same files", wall, "zstd", "tool-zstd", ZSTD_GOAL),
        ("CPU of xbsend with zstd and age / with zstd", cpu, "zstd+age", "zstd", ENCRYPTION_CPU_GOAL),
        ("CPU of xbsend with lz4 and age / with lz4", cpu, "lz4+age", "lz4", ENCRYPTION_CPU_GOAL),
        ("CPU of xbsend with age / plain", cpu, "plain+age", "plain", ENCRYPTION_CPU_GOAL),
    ]
    return [f"  {of[over] / of[under]:5.2f}  {words}  (goal: at most {goal:.2f}, {'met' if of[over] / of[under] <= goal else 'MISSED'})"
            for words, of, over, under, goal in checks if over in of and under in of]
