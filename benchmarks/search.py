"""The search index: its price for each record, and the time of each list and search in the admin.

    python -m benchmarks search                      # 1,000,000 records, a tenth of them rejected.
    python -m benchmarks search --rows 100000        # a short run.

The records are enqueued as a host does it. They then become delivered and rejected by SQL, and the index is filled
without a pause. Each page of the admin is fetched three times by Django's test client, and the median is reported. It
includes everything but the network: sessions, permissions, queries and templates.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import timedelta
from statistics import median
from typing import Any

from tqdm import tqdm

from .common import machine, testbed
from .common.options import parser_of
from .common.records import records
from .common.report import Report

PER_CALL = 1_000
RECORDS, BATCHES = "evermuse_outbox_outboxrecord", "evermuse_outbox_outboxbatch"
REJECTIONS, TERMS = "evermuse_outbox_outboxrejection", "evermuse_outbox_outboxterm"

BATCH_ROWS = f"""
    INSERT INTO {BATCHES} (id, workspace, type, product_id, contract, body_format, format_hint, key, sha256,
        record_count, byte_count, attachment_count, resends, state, in_doubt, failures, message, sealed_at, due_at,
        accepted_at, finished_at, remote_id, remote_status, errors, attachment_status, attachment_failed,
        attachment_total, attachment_complete, polls)
    SELECT i, 'default', 'message', 'prod-support', 'openapi', 'ndjson', '', 'key-' || i, repeat('0', 64),
        1000, 1500000, 0, 0, 'complete', false, 0, '', now() - interval '1 day', now(), now(), now(), 'r-' || i,
        'COMPLETE', '[]', '', CASE WHEN mod(i, 50) = 0 THEN 4 ELSE 0 END, 40, 36, 0
    FROM generate_series(1, %s) AS made(i)"""
CLOSE = f"""
    UPDATE {RECORDS} SET batch_id = (id - 1) / 1000 + 1, enqueued_at = enqueued_at - interval '1 day',
        attachments = mod(id, 3), closed_as = CASE WHEN mod(id, %s) = 0 THEN 'rejected' END"""
REJECT = f"""
    INSERT INTO {REJECTIONS} (record_id, batch_id, position, code, message, signature, rejected_at)
    SELECT id, batch_id, 0, CASE WHEN mod(id, 20000) = 0 THEN 'RARE' ELSE 'INVALID' END,
        'Product "prod-' || id || '" is unknown.',
        CASE WHEN mod(id, 20000) = 0 THEN 'a rare error.' ELSE 'product … is unknown.' END, now()
    FROM {RECORDS}, generate_series(1, 2) AS made(i)
    WHERE closed_as = 'rejected' AND (i = 1 OR mod(id, 5000) = 0)"""


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    with testbed.running(testbed.POSTGRES) as bed:
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        _fill(bed, options)
        report.table("price of the index", ["figure", "value"], _fill_index(bed, options.rows))
        report.table("pages of the admin", ["page", "rows", "statements", "ms"], list(_pages(options)))
        report.save()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("search", __doc__, "--size")
    parser.add_argument("--rows", type=int, default=1_000_000, help="records (default: %(default)s)")
    parser.add_argument(
        "--rejected",
        type=int,
        default=10,
        metavar="N",
        help="every Nth record is rejected (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def _fill(bed: testbed.Testbed, options: argparse.Namespace) -> None:
    """Enqueue the records, and end them by SQL."""
    from evermuse_outbox import outbox

    with tqdm(total=options.rows, desc="records", unit="rec", file=sys.stderr) as progress:
        for first in range(0, options.rows, PER_CALL):
            outbox.enqueue_many(records(PER_CALL, options.size, first=first))
            progress.update(PER_CALL)
    bed.sql(BATCH_ROWS, options.rows // PER_CALL)
    bed.sql(CLOSE, options.rejected)
    bed.sql(REJECT)
    for table in (RECORDS, BATCHES, REJECTIONS):
        bed.sql(f"VACUUM (ANALYZE) {table}")


def _fill_index(bed: testbed.Testbed, rows: int) -> list[tuple[str, Any]]:
    """Index all records without a pause. Return the figures of a record."""
    from evermuse_outbox.search import index_records

    meter, started, wal = machine.CpuMeter(index=[os.getpid()]), time.monotonic(), bed.wal_position()
    count = index_records("default", time.monotonic, seconds=86_400.0)
    seconds, spent = time.monotonic() - started, meter.read()
    written = bed.wal_position() - wal
    bed.sql(f"VACUUM (ANALYZE) {TERMS}")
    ((terms, size, indexes),) = bed.sql(
        f"SELECT count(*), pg_table_size('{TERMS}'), pg_indexes_size('{TERMS}') FROM {TERMS}"
    )
    return [
        ("records read, late ones included", count),
        ("records per second", rows / seconds),
        ("CPU ms of the worker per 1,000 records", 1e6 * spent["index"] / rows),
        ("CPU ms of PostgreSQL per 1,000 records", 1e6 * spent["postgres"] / rows),
        ("WAL bytes per record", written / rows),
        ("terms per record", terms / rows),
        ("bytes of the table per record", size / rows),
        ("bytes of its indexes per record", indexes / rows),
    ]


def _pages(options: argparse.Namespace) -> Any:
    """Fetch each page three times. Yield its name, its rows, its statements and the median of the times."""
    from django.contrib.auth.models import User
    from django.test import Client
    from django.test.utils import setup_test_environment
    from django.utils import timezone

    setup_test_environment()
    client = Client()
    client.force_login(User.objects.create_superuser("benchmark"))
    rows = options.rows
    since = timezone.localtime(timezone.now() - timedelta(days=1, hours=1))
    lists = {
        "newest": "",
        "rejected": "state=rejected",
        "rejected, page 30": "state=rejected&p=30",
        "delivered": "state=delivered",
        "rejected, of the product": "state=rejected&product=prod-support",
        "rejected, of another product": "state=rejected&product=other",
        "of another product": "product=other",
        "rejected, frequent code": "state=rejected&code=INVALID",
        "rejected, rare code": "state=rejected&code=RARE",
        "rare code": "code=RARE",
        "rejected, frequent signature": "state=rejected&signature=product … is unknown.",
        "rejected, text of the error": f"state=rejected&error=prod-{rows - rows % 20}",
        "rejected again": "again=1",
        "failed attachments": "attachments=failed",
        "a period": f"since={since:%Y-%m-%dT%H:%M}",
        "#number": f"q=%23{rows // 2}",
        "vendor id": f"q=message-{rows // 2}",
        "thread id": f"q=ticket-{rows // 10}",
        "a participant of a thousandth": "q=customer-5",
        "a participant of all": "q=ann@example.com",
        "text that is found": "q=%22the ticket%22",
        "text that is not found": "q=%22no such text%22",
        "text that is not found, rejected": "state=rejected&q=%22no such text%22",
    }
    base = "/admin/evermuse_outbox/outboxrecord/"
    for name, query in lists.items():
        yield (f"list: {name}", *_fetch(client, f"{base}?{query}"))
    yield ("page of a delivered record", *_fetch(client, f"{base}{rows // 2 + 1}/change/"))
    yield ("page of a rejected record", *_fetch(client, f"{base}{rows - rows % options.rejected}/change/"))
    yield ("page of a batch", *_fetch(client, "/admin/evermuse_outbox/outboxbatch/7/change/"))


def _fetch(client: Any, address: str) -> tuple[Any, int, float]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    times, statements, shown = [], 0, "-"
    for _ in range(3):
        started = time.perf_counter()
        with CaptureQueriesContext(connection) as queries:
            response = client.get(address)
        times.append(1_000 * (time.perf_counter() - started))
        assert response.status_code == 200, (address, response.status_code)
        statements = len(queries)
        changelist = response.context.get("cl") if response.context else None
        shown = str(changelist.result_count) if changelist else "-"
    return shown, statements, median(times)
