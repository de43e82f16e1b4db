"""Time of enqueue compared with a bare INSERT, and of enqueue_many compared with COPY and bulk_create.

    python -m benchmarks enqueue                          # all databases, 1.5 KB and 20 KB.
    python -m benchmarks enqueue --databases postgresql   # one database.
    python -m benchmarks enqueue --rounds 300 --sizes 1500      # one size.

All methods run in one process on one connection. Each round runs every method once, in random order, with new
records. With single records, a transaction has ten calls. With many records, it has one call. BEGIN and COMMIT
are not counted.

A bare INSERT runs a statement with nine values on a new cursor. The statement and the values are prepared before.
It is measured with a cursor of the driver, which is the base of the ratios, and with a cursor of Django. Only
enqueue, enqueue_many and the methods with "validation" in their name validate the records.
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
CALLS_PER_TRANSACTION = 10
DRIVER_INSERT, ENQUEUE, ENQUEUE_MANY = "INSERT, driver", "enqueue", "enqueue_many"
COPY, BULK = "COPY", "bulk_create"

Methods = dict[str, tuple[Callable[[list], list], Callable[[Any], Any]]]
"""For each name of a method: a function that prepares the arguments, which is not timed, and the function to time."""


def main(arguments: list[str]) -> None:
    """Run the benchmark, in a new process for each database."""
    options = _options(arguments)
    if options.child:
        return _measure(options)
    report = Report(options.name, vars(options))
    for database in options.databases:
        results = _run_in_process(database, arguments)
        report.service(database, results["version"])
        report.raw[database] = results["sizes"]
        for size, figures in results["sizes"].items():
            _add_tables(report, f"{database}, {int(size):,} bytes", figures, options.many)
    report.save(lambda figure: _draw(figure, report.raw), size=(11, 7))
    return None


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("enqueue", __doc__)
    parser.add_argument(
        "--databases",
        nargs="+",
        choices=DATABASES,
        default=[*DATABASES],
        help="databases to measure (default: all three)",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=[1_500, 20_000],
        metavar="BYTES",
        help="record sizes (default: 1500 20000)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        default=100,
        help=f"rounds of {CALLS_PER_TRANSACTION} single records (default: 100)",
    )
    parser.add_argument(
        "--many",
        type=int,
        default=1_000,
        metavar="N",
        help="records per call of enqueue_many (default: 1000)",
    )
    parser.add_argument(
        "--many-rounds", type=int, metavar="N", default=10, help="rounds of many records (default: 10)"
    )
    parser.add_argument("--child", nargs=2, metavar=("DATABASE", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run_in_process(database: str, arguments: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="evermuse-benchmark-") as folder:
        path = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "benchmarks", "enqueue", *arguments]
        subprocess.run([*command, "--child", database, str(path)], check=True, cwd=testbed.ROOT)
        return json.loads(path.read_text())


# --- one database -------------------------------------------------------------------------------------


def _measure(options: argparse.Namespace) -> None:
    database, path = options.child
    with testbed.running(DATABASES[database], WAKE_ON_COMMIT=False) as bed:
        sizes = {size: _measure_size(database, size, options) for size in options.sizes}
        Path(path).write_text(json.dumps({"version": bed.version(), "sizes": sizes}))


def _measure_size(database: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    rng = random.Random(7)
    _measure_rounds(_single_methods(), size, CALLS_PER_TRANSACTION, 3, rng, "warm up")
    single = _measure_rounds(
        _single_methods(), size, CALLS_PER_TRANSACTION, options.rounds, rng, f"{database} {size} single"
    )
    many = _measure_rounds(
        _many_methods(), size, options.many, options.many_rounds, rng, f"{database} {size} many"
    )
    return {"one": single, "many": many}


_first_numbers = iter(range(0, sys.maxsize, 1_000_000))
"""Number of the first record of each run, so that no record is enqueued twice."""


def _measure_rounds(
    methods: Methods, size: int, count: int, rounds: int, rng: random.Random, title: str
) -> dict[str, list[float]]:
    """Return the milliseconds of each call, by method. ``count`` is the number of records per method and round."""
    from django.db import transaction

    times: dict[str, list[float]] = {name: [] for name in methods}
    first = next(_first_numbers)
    for _ in tqdm(range(rounds), unit=" rounds", desc=title, file=sys.stderr):
        for name in rng.sample(list(methods), len(methods)):
            prepare, function = methods[name]
            arguments = prepare(list(records(count, size, first=first)))
            first += count
            with transaction.atomic():
                times[name] += [_time(function, argument) for argument in arguments]
    return times


def _time(function: Callable[[Any], Any], argument: Any) -> float:
    """Return the milliseconds that a call takes."""
    started = time.perf_counter()
    function(argument)
    return round(1_000 * (time.perf_counter() - started), 4)


def _single_methods() -> Methods:
    from django.db import connection

    from evermuse_outbox import outbox

    statement = _statement("%s")
    driver_statement = _statement("?" if connection.vendor == "sqlite" else "%s")

    def insert_with_driver(values):
        cursor = connection.connection.cursor()
        cursor.execute(driver_statement, values)
        cursor.close()

    def insert_with_django(values):
        with connection.cursor() as cursor:
            cursor.execute(statement, values)

    return {
        DRIVER_INSERT: (_values, insert_with_driver),
        "INSERT, Django's cursor": (_values, insert_with_django),
        "validation + ORM create": (list, lambda record: _rows([record])[0].save(force_insert=True)),
        ENQUEUE: (list, outbox.enqueue),
    }


def _many_methods() -> Methods:
    from django.db import connection

    from evermuse_outbox import outbox
    from evermuse_outbox.models import OutboxRecord

    def executemany(rows):
        with connection.cursor() as cursor:
            cursor.executemany(_statement("%s"), rows)

    def bulk_create(rows):
        # MariaDB refuses a statement of 20 MB: the default of max_allowed_packet is 16 MB.
        OutboxRecord.rows.bulk_create(rows, batch_size=max(1, 8_000_000 // rows[0].size))

    copy = {COPY: (lambda items: [_values(items)], _copy)} if connection.vendor == "postgresql" else {}
    return copy | {
        "executemany": (lambda items: [_values(items)], executemany),
        BULK: (lambda items: [_rows(items)], bulk_create),
        "validation + bulk_create": (lambda items: [items], lambda items: bulk_create(_rows(items))),
        ENQUEUE_MANY: (lambda items: [items], outbox.enqueue_many),
    }


def _copy(rows: list[tuple]) -> None:
    from django.db import connection

    statement = f"COPY {_table()} ({', '.join(_columns())}) FROM STDIN"
    with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _statement(mark: str) -> str:
    """Return the INSERT statement of a record. ``mark`` is the placeholder of the driver for a value."""
    columns = _columns()
    return f"INSERT INTO {_table()} ({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))})"


def _table() -> str:
    from evermuse_outbox.models import OutboxRecord

    return OutboxRecord._meta.db_table


def _columns() -> list[str]:
    """Return the columns of a record that have a value when it is enqueued. None of them needs quoting."""
    from evermuse_outbox.models import OutboxRecord

    fields = OutboxRecord._meta.concrete_fields
    return [field.column for field in fields if not (field.primary_key or field.null)]


def _rows(items: list) -> list:
    from django.utils import timezone

    from evermuse_outbox.evermuse.records import validate
    from evermuse_outbox.models import OutboxRecord

    envelopes = [validate(item, contract="reference") for item in items]
    return [
        OutboxRecord(
            workspace="default",
            type=envelope.type,
            product_id=envelope.product_id,
            identity=envelope.identity,
            contract="reference",
            payload=envelope.line,
            size=envelope.size,
            attachments=envelope.attachments,
            checksum=envelope.checksum,
            enqueued_at=timezone.now(),
        )
        for envelope in envelopes
    ]


def _values(items: list) -> list[tuple]:
    """Return the rows as tuples of values for the driver."""
    from django.db import connection

    from evermuse_outbox.models import OutboxRecord

    fields = [OutboxRecord._meta.get_field(name) for name in _columns()]
    return [
        tuple(field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields)
        for row in _rows(items)
    ]


# --- tables and plot ----------------------------------------------------------------------------------


def _add_tables(report: Report, where: str, figures: dict[str, Any], many: int) -> None:
    single = figures["one"]
    report.table(
        f"{where}: one record, in microseconds",
        ["method", "p50", "p99", "× INSERT, driver", "× INSERT, Django's cursor"],
        [
            [
                name,
                f"{1_000 * percentile(times, 0.5):.0f}",
                f"{1_000 * percentile(times, 0.99):.0f}",
                _ratio(times, single[DRIVER_INSERT]),
                _ratio(times, single["INSERT, Django's cursor"]),
            ]
            for name, times in single.items()
        ],
    )
    bulk = figures["many"]
    report.table(
        f"{where}: {many:,} records in one call, in milliseconds",
        ["method", "p50", "p99", "× COPY", "× bulk_create"],
        [
            [
                name,
                f"{percentile(times, 0.5):.1f}",
                f"{percentile(times, 0.99):.1f}",
                _ratio(times, bulk[COPY]) if COPY in bulk else "-",
                _ratio(times, bulk[BULK]),
            ]
            for name, times in bulk.items()
        ],
    )


def _ratio(times: list[float], base: list[float]) -> str:
    """Return the ratio of the medians."""
    return f"{percentile(times, 0.5) / percentile(base, 0.5):.2f}"


def _draw(figure: Any, raw: dict[str, Any]) -> None:
    cases = [(database, size) for database, sizes in raw.items() for size in sizes]
    grid = figure.subplots(2, len(cases), squeeze=False)
    for column, (database, size) in enumerate(cases):
        figures = raw[database][size]
        _bars(grid[0][column], figures["one"], f"{database}\n{int(size):,} bytes", "one record, ms")
        _bars(grid[1][column], figures["many"], "", "many records, ms")


def _bars(axes: Any, times: dict[str, list[float]], title: str, label: str) -> None:
    names = [*reversed(times)]
    medians = [percentile(times[name], 0.5) for name in names]
    axes.barh(names, medians, color=["C1" if name.startswith("enqueue") else "C0" for name in names])
    axes.set(title=title, xlabel=label)
    if axes.get_subplotspec().colspan.start:
        axes.set_yticklabels([])
    axes.tick_params(labelsize=7)
