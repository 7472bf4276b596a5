"""What every part uses: errors for people, words to stderr, commands that must succeed."""
# SPDX-License-Identifier: GPL-2.0-or-later
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XBPIPE_CACHE") or ROOT / ".cache").absolute()


class BenchError(Exception):
    """Something that the user is told about in one line."""


def say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr, flush=True)


def run(argv: list, **options) -> str:
    """Standard output of a command that must succeed."""
    argv = [str(word) for word in argv]
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(argv)[:200]}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def size_of(files: list) -> int:
    return sum(os.stat(file).st_size for file in files)
