"""Runs a pipe of programs and says what it took: seconds, processor time, peak memory of each."""
# SPDX-License-Identifier: GPL-2.0-or-later
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List

from .common import BenchError

# The kernel keeps the high-water mark, so looking now and then misses only what grows in the last moment.
LOOK_SECONDS = 0.02


@dataclass
class Command:
    name: str
    argv: List[str]

    def log(self, folder: Path) -> Path:
        return folder / f"{self.name}.log"


@dataclass
class Usage:
    wall: float = 0.0
    cpu: float = 0.0
    # Peak resident bytes, by program; what a program starts itself is "its NAME".
    memory: Dict[str, int] = field(default_factory=dict)


def pipe(commands: List[Command], logs: Path) -> Usage:
    """Runs `commands` as a shell's pipe does, the last one's output going to /dev/null. All must succeed."""
    began = time.monotonic()
    return wait(commands, spawn(commands, logs), began, logs)


def line(sender: Command, receiver: Command, logs: Path) -> Usage:
    """Runs `receiver`, which listens, and then `sender` with what it prints behind `--to`. Both must succeed. The time begins
    with the sender."""
    listening = spawn([receiver], logs)
    try:
        to = invitation(receiver.log(logs), listening[0])
        began = time.monotonic()
        commands = [Command(sender.name, [*sender.argv, f"--to={to}"]), receiver]
        return wait(commands, [*spawn(commands[:1], logs), *listening], began, logs, together=True)
    finally:
        if listening[0].poll() is None:
            listening[0].kill()


def invitation(log: Path, process: subprocess.Popen) -> str:
    """What stands in quotes behind `--to` in the receiver's words."""
    while process.poll() is None:
        _, found, rest = log.read_text(errors="replace").partition("xbsend --to '")
        if found and "'" in rest:
            return rest.partition("'")[0]
        time.sleep(LOOK_SECONDS)
    raise BenchError(f"the receiver did not listen:\n{log.read_text(errors='replace')[-2000:]}")


def wait(commands: List[Command], processes: List[subprocess.Popen], began: float, logs: Path, together: bool = False) -> Usage:
    """`together`: none of them has anything to do without the others."""
    usage = Usage()
    watch = MemoryWatch({process.pid: command.name for process, command in zip(processes, commands)})
    failed = []
    for process, command in zip(processes, commands):
        _, status, resources = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        usage.cpu += resources.ru_utime + resources.ru_stime
        if process.returncode != 0:
            failed.append(command)
            for other in processes if together else []:
                if other.returncode is None:
                    os.kill(other.pid, signal.SIGTERM)
    usage.wall = time.monotonic() - began
    usage.memory = watch.end()
    if failed:
        words = "\n".join(f"--- {c.name}\n{c.log(logs).read_text(errors='replace')[-2000:]}" for c in commands)
        raise BenchError(f"{' and '.join(c.name for c in failed)} failed:\n{words}")
    return usage


def spawn(commands: List[Command], logs: Path) -> List[subprocess.Popen]:
    processes, source = [], subprocess.DEVNULL
    for command in commands:
        last = command is commands[-1]
        with open(command.log(logs), "wb") as log:
            process = subprocess.Popen(command.argv, stdin=source, stderr=log,
                                       stdout=subprocess.DEVNULL if last else subprocess.PIPE)
        if source != subprocess.DEVNULL:
            # Only its reader holds it from here on, so that a writer notices when the reader goes away.
            source.close()
        source = process.stdout
        processes.append(process)
    return processes


def cpu_ticks() -> List[int]:
    """What all processors did so far: user, nice, system, idle, waiting, interrupts (two kinds), stolen (proc_stat(5))."""
    return [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def stolen_since(before: List[int]) -> float:
    """What part of the time the machine's host has given to others."""
    spent = [now - then for now, then in zip(cpu_ticks(), before)]
    return spent[7] / max(1, sum(spent))


class MemoryWatch(threading.Thread):
    """Notes the peak memory of processes and of what they start."""

    def __init__(self, names: Dict[int, str]):
        super().__init__(daemon=True)
        self.names, self.peaks, self.over = names, {}, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(LOOK_SECONDS):
            for pid, name in self.names.items():
                self.look(pid, name)

    def look(self, pid: int, name: str) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peaks[name] = max(self.peaks.get(name, 0), int(line.split()[1]) * 1024)
        for child in children:
            self.look(int(child), name if name.startswith("child of ") else f"child of {name}")

    def end(self) -> Dict[str, int]:
        self.over.set()
        self.join()
        return self.peaks
