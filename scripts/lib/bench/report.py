"""Tables for people. Every figure is the median of the rounds; a ratio is taken within each round first."""
# SPDX-License-Identifier: GPL-2.0-or-later
import os
import platform
from statistics import median
from typing import Dict, List, Optional

from .rows import AFTER, DISTURBING, RATIOS, ROWS, by_key
from .setup import Sample

# Of the load's latency with --throttle=auto, and of the backup's duration, in units of the quiet and the unthrottled figure.
P95_GOAL, SLOWER_GOAL = 1.2, 2.0
# Of the time until a copy is prepared, what may be left after the last byte, under the write load.
AFTER_GOAL = 0.1
# Less of the processor time taken away is not worth a word.
STOLEN_MIN = 0.02
PHASES = {"idle": "source idle", "load": "source under write load"}


def machine() -> Dict[str, object]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": os.cpu_count(), "memory_bytes": memory, "kernel": platform.release(), "load_average": list(os.getloadavg())}


def headline(shape: object, versions: Dict[str, str], cache: str, where: str) -> str:
    m = machine()
    return (f"{shape}; {', '.join(f'{kind} ({version})' for kind, version in versions.items())}\n"
            f"{m['cores']} cores, {m['memory_bytes'] / 2**30:.0f} GiB of memory, Linux {m['kernel']}, load average "
            f"{m['load_average'][0]:.1f}; {cache} page cache; copies land in {where}")


def table(samples: List[Sample], phase: str) -> str:
    some = [sample for sample in samples if sample.phase == phase]
    rounds = len({sample.round for sample in some})
    has_load = any(sample.p95 is not None or sample.quiet_p95 is not None for sample in some)
    lines = [f"\n== {PHASES[phase]}, {'median of ' if rounds > 1 else ''}{rounds} round{'s' * (rounds > 1)}"]
    heads = f"{'':44} {'wall s':>8} {'on disk':>8} {'CPU s':>7} {'MB/s':>7}"
    lines.append(heads + (f" {'p95 ms':>8} {'quiet':>7} {'worst':>8}" if has_load else "") + "  peak memory, MiB; steps, s")
    for row in ROWS:
        mine = [sample for sample in some if sample.row == row.key]
        if mine:
            lines.append(line(row.title, mine, has_load))
    return "\n".join(lines)


def line(title: str, mine: List[Sample], has_load: bool) -> str:
    def middle(pick, form: str, width: int) -> str:
        values = [pick(sample) for sample in mine if pick(sample) is not None]
        return f"{median(values):{width}{form}}" if values else " " * (width - 1) + "-"

    text = f"{title:44} {middle(lambda s: s.wall, '.2f', 8)} {middle(lambda s: s.durable, '.2f', 8)}"
    text += f" {middle(lambda s: s.cpu, '.2f', 7)} {middle(lambda s: s.bytes / s.wall / 1e6, '.0f', 7)}"
    if has_load:
        text += f" {middle(lambda s: s.p95, '.1f', 8)} {middle(lambda s: s.quiet_p95, '.1f', 7)} {middle(lambda s: s.worst, '.0f', 8)}"
    notes = [f"{name} {max(s.memory.get(name, 0) for s in mine) / 2**20:.0f}" for name in mine[0].memory]
    steps = [f"{part} {median(s.parts[part] for s in mine):.2f}" for part in mine[0].parts if len(mine[0].parts) > 1]
    return f"{text}  {', '.join(notes)}{'; ' if notes and steps else ''}{' + '.join(steps)}"


def ratios(samples: List[Sample], phase: str) -> str:
    lines = []
    for ratio in RATIOS:
        found = within_rounds(samples, phase, ratio.over, ratio.under)
        if not found:
            continue
        value = median(found)
        text = f"  {value:5.2f}  {by_key(ratio.over).title} / {by_key(ratio.under).title}"
        if len(found) > 1:
            text += f"  [{min(found):.2f} to {max(found):.2f}]"
        if ratio.goal:
            text += f"  (goal: at most {ratio.goal:.2f}, {'met' if value <= ratio.goal else 'MISSED'})"
        lines.append(text)
    lines += after_arrival(samples, phase)
    return "\n".join(["ratios of time per byte of datafiles:", *lines]) if lines else ""


def after_arrival(samples: List[Sample], phase: str) -> List[str]:
    """What is left to do when the last byte has come, of the time until the copy is prepared."""
    found = [s.parts[AFTER] / (s.parts["copy"] + s.parts[AFTER]) for s in samples if s.phase == phase and AFTER in s.parts]
    if not found:
        return []
    goal = f"  (goal: at most {AFTER_GOAL:.2f}, {'met' if median(found) <= AFTER_GOAL else 'MISSED'})" if phase == "load" else ""
    return [f"  {median(found):5.2f}  xbsend | xbrecv, {AFTER} / copied and prepared{goal}"]


def within_rounds(samples: List[Sample], phase: str, over: str, under: str) -> List[float]:
    found: Dict[int, Dict[str, float]] = {}
    for sample in samples:
        if sample.phase == phase:
            found.setdefault(sample.round, {})[sample.row] = sample.wall / sample.bytes
    return [times[over] / times[under] for times in found.values() if over in times and under in times]


def throttle_table(samples: List[Sample]) -> str:
    rounds = len({sample.round for sample in samples})
    lines = [f"\n== latency of the load while a backup runs, {'medians of ' if rounds > 1 else ''}{rounds} round{'s' * (rounds > 1)}",
             f"{'':44} {'wall s':>8} {'p95 ms':>8} {'quiet':>7} {'ratio':>6} {'worst':>7}  throttle"]
    for key in DISTURBING:
        mine = [sample for sample in samples if sample.row == key]
        if not mine:
            continue
        seen = [sample for sample in mine if sample.p95 and sample.quiet_p95]
        text = f"{by_key(key).title:44} {median(s.wall for s in mine):8.2f}"
        if seen:
            text += (f" {median(s.p95 for s in seen):8.1f} {median(s.quiet_p95 for s in seen):7.1f}"
                     f" {median(s.p95 / s.quiet_p95 for s in seen):6.2f} {median(s.worst for s in seen):7.0f}")
        else:
            text += f" {'-':>8} {'-':>7} {'-':>6} {'-':>7}"
        lines.append(f"{text}  {(mine[-1].summary or {}).get('throttle', '')}".rstrip())
    return "\n".join(lines)


def throttle_goals(samples: List[Sample]) -> str:
    auto = [s.p95 / s.quiet_p95 for s in samples if s.row == "send-auto" and s.p95 and s.quiet_p95]
    slower = within_rounds(samples, "load", "send-auto", "send")
    lines = []
    for found, goal, words in ((auto, P95_GOAL, "p95 with --throttle=auto / quiet"), (slower, SLOWER_GOAL, "duration with --throttle=auto / unthrottled")):
        if found:
            value = median(found)
            lines.append(f"  {value:5.2f}  {words}  [{min(found):.2f} to {max(found):.2f}]  (goal: at most {goal:.2f}, "
                         f"{'met' if value <= goal else 'MISSED'})")
    return "\n".join(lines)


def memory_table(samples: Dict[float, List[Sample]]) -> str:
    lines = [f"{'data':>8}  {'':30} {'source':>7} {'wall s':>8} {'xbsend MiB':>11} {'xbrecv MiB':>11}  locks held"]
    for gigabytes, some in samples.items():
        for sample in some:
            peaks = [mebibytes(sample.memory.get(name)) for name in ("xbsend", "xbrecv")]
            locks = [f"{name} {sample.summary[name]}" for name in ("backup lock", "table lock") if name in (sample.summary or {})]
            lines.append(f"{sample.bytes / 1e9:5.2f} GB  {by_key(sample.row).title:30} {sample.phase:>7} {sample.wall:8.2f} "
                         f"{peaks[0]:>11} {peaks[1]:>11}  {', '.join(locks)}")
    return "\n".join(lines)


def disturbances(samples: List[Sample]) -> List[str]:
    """A machine that is not one's own: figures of rows that had not all of it are no good."""
    worst = max(samples, key=lambda sample: sample.stolen, default=None)
    if worst is None or worst.stolen < STOLEN_MIN:
        return []
    return [f"  the host gave {worst.stolen:.0%} of the processor time to others in row {worst.row}, round {worst.round + 1} "
            f"({median(s.stolen for s in samples):.0%} in the median of all)"]


def mebibytes(n: Optional[int]) -> str:
    return "-" if n is None else f"{n / 2**20:.1f}"
