"""Command-line options that several benchmarks have."""

from __future__ import annotations

import argparse
from typing import Any

from .testbed import POSTGRES

SHARED: dict[str, dict[str, Any]] = {
    "--size": {
        "type": int,
        "default": 1_500,
        "metavar": "BYTES",
        "help": "size of a record (default: %(default)s)",
    },
    "--workers": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "number of Celery worker processes (default: %(default)s)",
    },
    "--rate": {
        "type": float,
        "default": 10,
        "metavar": "N",
        "help": "the setting RATE_LIMIT, in requests per second (default: %(default)s)",
    },
    "--delay": {
        "type": float,
        "default": 0.005,
        "metavar": "SECONDS",
        "help": "response time of the API (default: %(default)s)",
    },
    "--database": {
        "default": POSTGRES,
        "metavar": "URL",
        "help": "URL of a database server, or sqlite:// (default: local PostgreSQL)",
    },
}
"""Options with the same meaning in several benchmarks, and their arguments for ``add_argument``."""


def parser_of(benchmark: str, about: str | None, *shared: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark, with the option ``--name``.

    Args:
        benchmark: Name of the benchmark.
        about: Text for ``--help``, printed without changes.
        shared: Options from :data:`SHARED` to add.
    """
    parser = argparse.ArgumentParser(
        f"python -m benchmarks {benchmark}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--name", default=benchmark, help="name of the files in benchmarks/results/ (default: %(default)s)"
    )
    for option in shared:
        parser.add_argument(option, **SHARED[option])
    return parser
