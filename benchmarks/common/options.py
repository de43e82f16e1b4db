"""What the command lines of the benchmarks have in common."""

from __future__ import annotations

import argparse
from typing import Any

from .testbed import POSTGRES

SHARED: dict[str, dict[str, Any]] = {
    "--size": {"type": int, "default": 1_500, "metavar": "BYTES", "help": "of a record; default: 1500"},
    "--workers": {"type": int, "default": 1, "help": "Celery worker processes; default: 1"},
    "--rate": {"type": float, "default": 10, "help": "RATE_LIMIT in requests a second; default: 10"},
    "--delay": {
        "type": float,
        "default": 0.005,
        "metavar": "S",
        "help": "that an answer takes; default: 0.005",
    },
    "--database": {"default": POSTGRES, "metavar": "URL", "help": "of a server (or sqlite://)"},
}
"""Options that mean the same in several benchmarks. One that only has the name of one of these is its own."""


def parser_of(benchmark: str, about: str | None, *shared: str) -> argparse.ArgumentParser:
    """The parser of ``python -m benchmarks BENCHMARK``, with ``about`` as it stands, ``--name``, and those of
    :data:`SHARED` that are named."""
    made = argparse.ArgumentParser(
        f"python -m benchmarks {benchmark}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--name", default=benchmark, help=f"of the files in results/; default: {benchmark}")
    for option in shared:
        made.add_argument(option, **SHARED[option])
    return made
