"""The command line of scripts/bench."""
# SPDX-License-Identifier: GPL-2.0-or-later
import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import List

from . import codec, data, incremental, prepare, report, servers
from .common import CACHE, ROOT, BenchError, run, say
from .data import Shape
from .rows import DISTURBING, ROWS, Settings, by_key
from .servers import MARIADB, MYSQL
from .setup import Sample, Setup

FULL, SMALL = Shape(8, 1_000_000), Shape(4, 100_000)
# Bytes of datafiles that a row of a sysbench table takes, with its indexes.
ROW_BYTES = 250
MEMORY_GOAL = 128 << 20
# More than this between the smallest and the largest amount of data is growth.
MEMORY_GROWTH_GOAL = 16 << 20

EPILOG = """\
compare  rows on the same data, one after the other, in rounds of alternating order: a plain read of the files, xbsend,
         xbsend | xbrecv, mariadb-backup on a MariaDB with the same rows, CLONE INSTANCE; first with the source idle, then
         under write load (sysbench oltp_write_only at a fixed rate)
codec    xbsend with every combination of compression and encryption: to nowhere, to xbrecv --verify-only over a pipe, and
         over TCP and QUIC on this machine; beside zstd, lz4 and age reading the same files
throttle how a backup disturbs a load of 200 transactions a second, and how long it takes: xbsend unthrottled, with
         --throttle=N and --throttle=auto, mariadb-backup, CLONE INSTANCE
incremental  an increment by LSN and by page tracking, beside a full backup, a read of the files, and mariadb-backup; a chain restored
prepare  the same redo applied by xbrecv, by a starting mysqld, and as much by mariadb-backup --prepare
memory   peak memory of xbsend and xbrecv, and how long locks were held, for small and for large data

Loaded datadirs are kept in .cache/bench (2 GB per server at full size); a run works on copies of them."""


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures xbsend and xbrecv against their peers on real servers.",
                                          epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = main_parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--programs", type=Path, metavar="DIR", help="where xbsend and xbrecv are (default: release binaries are built)")
    common.add_argument("--parallel", type=int, default=os.cpu_count(), metavar="N", help="threads of every program that takes a number (default: cores)")
    common.add_argument("--use-memory", default="1G", metavar="SIZE", help="memory for preparing (default 1G)")
    common.add_argument("--buffer-pool", default="1G", metavar="SIZE", help="of every server (default 1G)")
    common.add_argument("--rate", type=float, default=200, metavar="N", help="transactions a second of the write load (default 200)")
    common.add_argument("--quiet", type=float, default=8, metavar="SECONDS", help="how long the load runs alone before a row starts (default 8)")
    common.add_argument("--target-dir", type=Path, metavar="DIR", help="where copies land, on a tmpfs for instance (default: beside the sources)")
    common.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    compare = commands.add_parser("compare", parents=[common], help="the table with all rows")
    compare.add_argument("--tables", type=int, metavar="N", help=f"sysbench tables (default {FULL.tables})")
    compare.add_argument("--rows", type=int, metavar="N", help=f"rows of each (default {FULL.rows:,})")
    compare.add_argument("--small", action="store_true", help=f"{SMALL} and one round: does it work at all?")
    compare.add_argument("--rounds", type=int, metavar="N", help="how often each row is run (default 3)")
    compare.add_argument("--phase", choices=["idle", "load", "both"], default="both")
    compare.add_argument("--only", metavar="ROW,...", help=f"some rows only; there are {', '.join(row.key for row in ROWS)}")
    compare.add_argument("--cold", action="store_true", help="drop the page cache before each row (needs root)")
    layers = commands.add_parser("codec", parents=[common], help="compression and encryption")
    layers.add_argument("--tables", type=int, default=FULL.tables, metavar="N", help=f"sysbench tables (default {FULL.tables})")
    layers.add_argument("--rows", type=int, default=FULL.rows, metavar="N", help=f"rows of each (default {FULL.rows:,})")
    layers.add_argument("--rounds", type=int, default=2, metavar="N", help="how often each row is run (default 2)")
    layers.add_argument("--level", type=int, metavar="N", help="level of zstd (default: xbsend's)")
    layers.add_argument("--only", metavar="WORD,...", help="only rows whose key (plain, zstd+age-verify, lz4-tcp, tool-age, ...) ends with "
                        "one of these: tcp,quic for the lines, age for what is only sent encrypted")
    layers.add_argument("--with", dest="earlier", type=Path, action="append", default=[], metavar="FILE",
                        help="count in what an earlier run has written by --json; may be given again")
    layers.add_argument("--send-only", action="store_true", help="leave out the rows with xbrecv")
    memory = commands.add_parser("memory", parents=[common], help="peak memory and locks")
    memory.add_argument("--sizes", default="0.5,4", metavar="GB,...", help="amounts of data (default 0.5,4)")
    throttle = commands.add_parser("throttle", parents=[common], help="latency of a load during backups")
    throttle.add_argument("--tables", type=int, default=FULL.tables, metavar="N", help=f"sysbench tables (default {FULL.tables})")
    throttle.add_argument("--rows", type=int, default=FULL.rows, metavar="N", help=f"rows of each (default {FULL.rows:,})")
    throttle.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each is run (default 3)")
    throttle.add_argument("--throttle", type=int, default=100, metavar="N", help="reads a second of the row with a fixed one (default 100)")
    throttle.add_argument("--only", metavar="ROW,...", help=f"some only; there are {', '.join(DISTURBING)}")
    throttle.add_argument("--cold", action="store_true", help="drop the page cache before each (needs root)")
    prepare_parser = commands.add_parser("prepare", parents=[common], help="applying redo")
    prepare_parser.add_argument("--tables", type=int, default=FULL.tables, metavar="N", help=f"sysbench tables (default {FULL.tables})")
    prepare_parser.add_argument("--rows", type=int, default=FULL.rows, metavar="N", help=f"rows of each (default {FULL.rows:,})")
    prepare_parser.add_argument("--redo", type=float, default=1.0, metavar="GB", help="redo to apply (default 1)")
    prepare_parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often each row is run; the best counts (default 1)")
    prepare_parser.add_argument("--only", metavar="ROW,...", help=f"some rows only; there are {', '.join(row.key for row in prepare.ROWS)}")
    increments = commands.add_parser("incremental", parents=[common], help="increments and chains")
    increments.add_argument("--tables", type=int, default=FULL.tables, metavar="N", help=f"sysbench tables (default {FULL.tables})")
    increments.add_argument("--rows", type=int, default=FULL.rows, metavar="N", help=f"rows of each (default {FULL.rows:,})")
    increments.add_argument("--changed", type=float, default=1.0, metavar="PERCENT", help="of the pages, between two backups (default 1)")
    increments.add_argument("--chain", type=int, default=24, metavar="N", help="increments of the chain (default 24)")
    increments.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each row is run (default 3)")
    increments.add_argument("--without-mariadb", action="store_true", help="leave out mariadb-backup")
    return main_parser


def main() -> int:
    # No command: the table.
    words = sys.argv[1:]
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words = ["compare", *words]
    options = parser().parse_args(words)
    # So that what was started is ended, and what was made removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        settings = Settings(options.programs.absolute() if options.programs else build(), options.parallel, options.use_memory,
                            options.buffer_pool, getattr(options, "throttle", 0))
        servers.install()
        commands = {
            "compare": compare,
            "codec": layers,
            "memory": memory,
            "incremental": incremental.incremental,
            "prepare": prepare.prepare,
            "throttle": throttle,
        }
        return commands[options.command](options, settings)
    except BenchError as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def build() -> Path:
    say("building release binaries")
    run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT)
    facts = json.loads(run(["cargo", "metadata", "--no-deps", "--format-version=1"], cwd=ROOT))
    return Path(facts["target_directory"]) / "release"


def compare(options: argparse.Namespace, settings: Settings) -> int:
    default = SMALL if options.small else FULL
    shape = Shape(options.tables or default.tables, options.rows or default.rows)
    rounds = options.rounds or (1 if options.small else 3)
    rows = [by_key(key) for key in options.only.split(",")] if options.only else ROWS
    kinds = [kind for kind in (MYSQL, MARIADB) if any(row.source == kind for row in rows)]
    phases = ["idle", "load"] if options.phase == "both" else [options.phase]
    data.ensure(kinds, shape)
    samples: List[Sample] = []
    with Setup(settings, shape, kinds, options.target_dir, options.cold, options.rate, options.quiet) as setup:
        versions = {kind: source.version for kind, source in setup.sources.items()}
        cache = "cold" if options.cold else "warm"
        print(report.headline(shape, versions, cache, file_system(setup.target.parent)), flush=True)
        for phase in phases:
            for number in range(rounds):
                # Every other round the other way round: what drifts with time then hits all rows alike.
                for row in rows if number % 2 == 0 else reversed(rows):
                    say(f"{phase}, round {number + 1} of {rounds}: {row.title}")
                    samples.append(setup.measure(row, phase, number))
            print(report.table(samples, phase))
            print(report.ratios(samples, phase), flush=True)
    write_json(options, samples)
    return 0


def layers(options: argparse.Namespace, settings: Settings) -> int:
    shape = Shape(options.tables, options.rows)
    data.ensure([MYSQL], shape)
    samples: List[Sample] = []
    with Setup(settings, shape, [MYSQL], options.target_dir, False, options.rate, options.quiet) as setup:
        print(report.headline(shape, {MYSQL: setup.sources[MYSQL].version}, "warm", "/dev/null"), flush=True)
        all_rows = rows = codec.rows_of(codec.make_keys(setup), settings.parallel, options.level)
        if options.send_only:
            rows = [row for row in rows if not row.key.endswith(("-verify", *(f"-{carrier}" for carrier in codec.CARRIERS)))]
        if options.only:
            rows = [row for row in rows if row.key.endswith(tuple(options.only.split(",")))]
        for number in range(options.rounds):
            for row in rows if number % 2 == 0 else reversed(rows):
                say(f"round {number + 1} of {options.rounds}: {row.title}")
                samples.append(setup.measure(row, "idle", number))
        print(codec.report(all_rows, [*read_json(options.earlier), *samples]), flush=True)
    write_json(options, samples)
    return 0


def throttle(options: argparse.Namespace, settings: Settings) -> int:
    shape = Shape(options.tables, options.rows)
    rows = [by_key(key) for key in (options.only.split(",") if options.only else DISTURBING)]
    kinds = [kind for kind in (MYSQL, MARIADB) if any(row.source == kind for row in rows)]
    data.ensure(kinds, shape)
    samples: List[Sample] = []
    with Setup(settings, shape, kinds, options.target_dir, options.cold, options.rate, options.quiet) as setup:
        versions = {kind: source.version for kind, source in setup.sources.items()}
        print(report.headline(shape, versions, "cold" if options.cold else "warm", file_system(setup.target.parent)), flush=True)
        for number in range(options.rounds):
            for row in rows if number % 2 == 0 else reversed(rows):
                say(f"round {number + 1} of {options.rounds}: {row.title}")
                samples.append(setup.measure(row, "load", number))
        print(report.throttle_table(samples))
        print("\n".join([report.throttle_goals(samples), *report.disturbances(samples)]), flush=True)
    write_json(options, samples)
    return 0


def memory(options: argparse.Namespace, settings: Settings) -> int:
    results = {}
    for gigabytes in sorted(float(size) for size in options.sizes.split(",")):
        shape = Shape(FULL.tables, int(gigabytes * 1e9 / ROW_BYTES / FULL.tables))
        data.ensure([MYSQL], shape)
        with Setup(settings, shape, [MYSQL], options.target_dir, False, options.rate, options.quiet) as setup:
            # For the table lock: only tables of other engines need one.
            setup.sources[MYSQL].query("CREATE TABLE sbtest.legacy LIKE sbtest.sbtest1; ALTER TABLE sbtest.legacy ENGINE = MyISAM; "
                                       "INSERT INTO sbtest.legacy SELECT * FROM sbtest.sbtest1 LIMIT 100000")
            results[gigabytes] = []
            for key, phase in (("send", "idle"), ("land", "idle"), ("land", "load"), ("ready", "load")):
                say(f"{gigabytes:g} GB, {phase}: {by_key(key).title}")
                results[gigabytes].append(setup.measure(by_key(key), phase, 0))
    print(report.memory_table(results))
    for program in ("xbsend", "xbrecv"):
        peaks = {size: max(sample.memory.get(program, 0) for sample in some) for size, some in results.items()}
        low, high = peaks[min(peaks)], peaks[max(peaks)]
        verdict = "met" if max(peaks.values()) < MEMORY_GOAL and high - low <= MEMORY_GROWTH_GOAL else "MISSED"
        print(f"{program}: {low / 2**20:.1f} MiB at {min(peaks):g} GB, {high / 2**20:.1f} MiB at {max(peaks):g} GB "
              f"(goal: below {MEMORY_GOAL >> 20} MiB, and it must not grow: {verdict})")
    write_json(options, [sample for some in results.values() for sample in some])
    return 0


def file_system(folder: Path) -> str:
    kind = run(["findmnt", "--noheadings", "--output=FSTYPE", "--target", folder]).strip()
    return f"{kind}{'' if CACHE.stat().st_dev == folder.stat().st_dev else ', another disk than the sources'}"


def read_json(files: List[Path]) -> List[Sample]:
    return [Sample(**sample) for file in files for sample in json.loads(file.read_text())["samples"]]


def write_json(options: argparse.Namespace, samples: List[Sample]) -> None:
    if options.json:
        everything = {"machine": report.machine(), "samples": [sample.as_dict() for sample in samples]}
        options.json.write_text(json.dumps(everything, indent=1) + "\n")
