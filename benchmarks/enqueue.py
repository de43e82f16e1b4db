"""What a host pays: enqueue beside a bare INSERT, enqueue_many beside COPY, executemany and bulk_create.

    python -m benchmarks enqueue                          # PostgreSQL, MariaDB and SQLite, 1.5 KB and 20 KB
    python -m benchmarks enqueue --databases postgresql   # one of them
    python -m benchmarks enqueue --rounds 300 --sizes 1500

All ways take turns in one run on one connection, in random order within a round, and each round makes new
records for each. One at a time means ten in a transaction; many means one call in a transaction. Beginning and
committing are not counted.

A bare INSERT is ``cursor.execute`` of a ready statement with ready values, nine of them, on a new cursor: once of
the driver (``connection.connection.cursor()``), which all is measured against, and once of Django
(``connection.cursor()``). Only the ways of this outbox, and those that say so, validate.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .common import testbed
from .common.options import parser_of
from .common.records import records
from .common.report import Report, percentile

DATABASES = {"postgresql": testbed.POSTGRES, "mariadb": testbed.MARIADB, "sqlite": "sqlite://"}
AT_A_TIME = 10
RAW, ENQUEUE, ENQUEUE_MANY = "INSERT, driver", "enqueue", "enqueue_many"
COPY, BULK = "COPY", "bulk_create"

Ways = dict[str, tuple[Callable[[list], list], Callable[[Any], Any]]]
"""By name: what makes the ready input of records, which is not counted, and what is."""


def main(arguments: list[str]) -> None:
    """Runs the benchmark, each database in a process of its own."""
    options = _options(arguments)
    if options.child:
        return _measure(options)
    report = Report(options.name, vars(options))
    for database in options.databases:
        found = _in_a_process(database, arguments)
        report.service(database, found["version"])
        report.raw[database] = found["sizes"]
        for size, figures in found["sizes"].items():
            _tell(report, f"{database}, {int(size):,} bytes", figures, options.many)
    report.save(lambda figure: _draw(figure, report.raw), size=(11, 7))
    return None


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("enqueue", __doc__)
    parser.add_argument(
        "--databases", nargs="+", choices=DATABASES, default=[*DATABASES], help="default: all three"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_500, 20_000], metavar="BYTES")
    parser.add_argument("--rounds", type=int, default=100, help=f"of {AT_A_TIME} of each; default: 100")
    parser.add_argument("--many", type=int, default=1_000, metavar="N", help="records a call; default: 1000")
    parser.add_argument("--many-rounds", type=int, default=10, help="of one call of each; default: 10")
    parser.add_argument("--child", nargs=2, metavar=("DATABASE", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _in_a_process(database: str, arguments: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="evermuse-benchmark-") as folder:
        written = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "benchmarks", "enqueue", *arguments]
        subprocess.run([*command, "--child", database, str(written)], check=True, cwd=testbed.ROOT)
        return json.loads(written.read_text())


# --- in the process of one database -------------------------------------------------------------------


def _measure(options: argparse.Namespace) -> None:
    database, written = options.child
    with testbed.running(DATABASES[database], WAKE_ON_COMMIT=False) as bed:
        sizes = {size: _measured(database, size, options) for size in options.sizes}
        Path(written).write_text(json.dumps({"version": bed.version(), "sizes": sizes}))


def _measured(database: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    rng = random.Random(7)
    _turns(_one_by_one(), size, AT_A_TIME, 3, rng, "warm up")
    one = _turns(_one_by_one(), size, AT_A_TIME, options.rounds, rng, f"{database} {size} one")
    many = _turns(_many(), size, options.many, options.many_rounds, rng, f"{database} {size} many")
    return {"one": one, "many": many}


_numbers = iter(range(0, sys.maxsize, 1_000_000))


def _turns(
    ways: Ways, size: int, count: int, rounds: int, rng: random.Random, told: str
) -> dict[str, list[float]]:
    """Milliseconds of each call, by way."""
    from django.db import transaction

    taken: dict[str, list[float]] = {name: [] for name in ways}
    first = next(_numbers)
    for _ in tqdm(range(rounds), unit=" rounds", desc=told, file=sys.stderr):
        for name in rng.sample(list(ways), len(ways)):
            ready, act = ways[name]
            given = ready(list(records(count, size, first=first)))
            first += count
            with transaction.atomic():
                taken[name] += [_timed(act, each) for each in given]
    return taken


def _timed(act: Callable[[Any], Any], given: Any) -> float:
    started = time.perf_counter()
    act(given)
    return round(1_000 * (time.perf_counter() - started), 4)


def _one_by_one() -> Ways:
    from django.db import connection

    from evermuse_outbox import outbox

    statement = _statement("%s")
    of_driver = _statement("?" if connection.vendor == "sqlite" else "%s")

    def by_driver(values):
        cursor = connection.connection.cursor()
        cursor.execute(of_driver, values)
        cursor.close()

    def by_django(values):
        with connection.cursor() as cursor:
            cursor.execute(statement, values)

    return {
        RAW: (_values, by_driver),
        "INSERT, Django's cursor": (_values, by_django),
        "validation + ORM create": (list, lambda one: _rows([one])[0].save(force_insert=True)),
        ENQUEUE: (list, outbox.enqueue),
    }


def _many() -> Ways:
    from django.db import connection

    from evermuse_outbox import outbox
    from evermuse_outbox.models import OutboxRecord

    def executemany(rows):
        with connection.cursor() as cursor:
            cursor.executemany(_statement("%s"), rows)

    def bulk_create(rows):
        # In one statement, 20 MB would be more than a server of MariaDB takes unless it is told to.
        OutboxRecord.rows.bulk_create(rows, batch_size=max(1, 8_000_000 // rows[0].size))

    copying = {COPY: (lambda given: [_values(given)], _copy)} if connection.vendor == "postgresql" else {}
    return copying | {
        "executemany": (lambda given: [_values(given)], executemany),
        BULK: (lambda given: [_rows(given)], bulk_create),
        "validation + bulk_create": (lambda given: [given], lambda given: bulk_create(_rows(given))),
        ENQUEUE_MANY: (lambda given: [given], outbox.enqueue_many),
    }


def _copy(rows: list[tuple]) -> None:
    from django.db import connection

    statement = f"COPY {_table()} ({', '.join(_names())}) FROM STDIN"
    with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _statement(mark: str) -> str:
    names = _names()
    return f"INSERT INTO {_table()} ({', '.join(names)}) VALUES ({', '.join([mark] * len(names))})"


def _table() -> str:
    from evermuse_outbox.models import OutboxRecord

    return OutboxRecord._meta.db_table


def _names() -> list[str]:
    """The columns of a record that hold anything at first; none needs quoting."""
    from evermuse_outbox.models import OutboxRecord

    fields = OutboxRecord._meta.concrete_fields
    return [field.column for field in fields if not (field.primary_key or field.null)]


def _rows(given: list) -> list:
    from django.utils import timezone

    from evermuse_outbox.evermuse.records import validate
    from evermuse_outbox.models import OutboxRecord

    envelopes = [validate(each, contract="reference") for each in given]
    return [
        OutboxRecord(
            workspace="default",
            type=each.type,
            product_id=each.product_id,
            identity=each.identity,
            contract="reference",
            payload=each.line,
            size=each.size,
            attachments=each.attachments,
            enqueued_at=timezone.now(),
        )
        for each in envelopes
    ]


def _values(given: list) -> list[tuple]:
    """The rows as the driver takes them."""
    from django.db import connection

    from evermuse_outbox.models import OutboxRecord

    fields = [OutboxRecord._meta.get_field(name) for name in _names()]
    return [
        tuple(field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields)
        for row in _rows(given)
    ]


# --- what is told -------------------------------------------------------------------------------------


def _tell(report: Report, where: str, figures: dict[str, Any], many: int) -> None:
    one = figures["one"]
    report.table(
        f"{where}: one record, in microseconds",
        ["way", "p50", "p99", "× INSERT, driver", "× INSERT, Django's cursor"],
        [
            [
                name,
                f"{1_000 * percentile(times, 0.5):.0f}",
                f"{1_000 * percentile(times, 0.99):.0f}",
                _ratio(times, one[RAW]),
                _ratio(times, one["INSERT, Django's cursor"]),
            ]
            for name, times in one.items()
        ],
    )
    ways = figures["many"]
    report.table(
        f"{where}: {many:,} records in one call, in milliseconds",
        ["way", "p50", "p99", "× COPY", "× bulk_create"],
        [
            [
                name,
                f"{percentile(times, 0.5):.1f}",
                f"{percentile(times, 0.99):.1f}",
                _ratio(times, ways[COPY]) if COPY in ways else "-",
                _ratio(times, ways[BULK]),
            ]
            for name, times in ways.items()
        ],
    )


def _ratio(times: list[float], floor: list[float]) -> str:
    """Of medians."""
    return f"{percentile(times, 0.5) / percentile(floor, 0.5):.2f}"


def _draw(figure: Any, raw: dict[str, Any]) -> None:
    cases = [(database, size) for database, sizes in raw.items() for size in sizes]
    grid = figure.subplots(2, len(cases), squeeze=False)
    for column, (database, size) in enumerate(cases):
        figures = raw[database][size]
        _bars(grid[0][column], figures["one"], f"{database}\n{int(size):,} bytes", "one, ms")
        _bars(grid[1][column], figures["many"], "", "many, ms")


def _bars(axes: Any, ways: dict[str, list[float]], title: str, label: str) -> None:
    names = [*reversed(ways)]
    middles = [percentile(ways[name], 0.5) for name in names]
    axes.barh(names, middles, color=["C1" if name.startswith("enqueue") else "C0" for name in names])
    axes.set(title=title, xlabel=label)
    if axes.get_subplotspec().colspan.start:
        axes.set_yticklabels([])
    axes.tick_params(labelsize=7)
