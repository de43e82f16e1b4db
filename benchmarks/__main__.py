"""``python -m benchmarks NAME``: runs one benchmark; without a name, lists them."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
NO_BENCHMARKS = ("common", "contenders", "settings")


def main() -> int:
    """Runs the benchmark that the command line names; each one has ``main(arguments)`` and a ``--help`` of its own."""
    names = benchmarks()
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        asked_for_help = len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help", "help")
        _list(names, sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    return 0


def benchmarks() -> list[str]:
    """Their names, sorted."""
    return sorted(found.name for found in pkgutil.iter_modules([str(HERE)]) if _is_benchmark(found.name))


def _is_benchmark(name: str) -> bool:
    return not name.startswith("_") and name not in NO_BENCHMARKS


def _list(names: list[str], out) -> None:
    print("usage: python -m benchmarks NAME [--help]\n", file=out)
    for name in names:
        doc = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
        print(f"  {name:12} {doc.strip().splitlines()[0]}", file=out)
    print("\nEach prints a table and writes its raw figures and a plot into benchmarks/results/.", file=out)


if __name__ == "__main__":
    sys.exit(main())
