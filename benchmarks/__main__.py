"""``python -m benchmarks NAME``: run a benchmark, or list the benchmarks if no name is given."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).parent
OTHER_MODULES = ("common", "contenders", "settings")


def main() -> int:
    """Run the benchmark that the command line names, and return the exit status."""
    names = benchmarks()
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        is_help = len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help", "help")
        _print_list(names, sys.stdout if is_help else sys.stderr)
        return 0 if is_help else 2
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    return 0


def benchmarks() -> list[str]:
    """Return the names of all benchmarks, sorted. Each one is a module with ``main(arguments)``."""
    return sorted(module.name for module in pkgutil.iter_modules([str(HERE)]) if _is_benchmark(module.name))


def _is_benchmark(name: str) -> bool:
    return not name.startswith("_") and name not in OTHER_MODULES


def _print_list(names: list[str], out: TextIO) -> None:
    print("usage: python -m benchmarks NAME [--help]\n", file=out)
    for name in names:
        doc = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
        print(f"  {name:12} {doc.strip().splitlines()[0]}", file=out)
    print(
        "\nEach benchmark prints tables and writes its figures and a plot to benchmarks/results/.", file=out
    )


if __name__ == "__main__":
    sys.exit(main())
