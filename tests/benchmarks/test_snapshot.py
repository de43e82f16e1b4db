"""Tests of the benchmark ``snapshot``: choosing contenders, adding up tables, and calculating its figures."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import snapshot
from benchmarks.contenders import CONTENDERS, environment, host


def test_only_contenders_with_a_table_and_a_real_rate_limit_run():
    titles = [contender.title for contender in CONTENDERS if snapshot._is_selected(contender, [])]

    assert "evermuse_outbox, 1,000 per request, at the published rate limit" in titles
    assert "evermuse_outbox, 1 per request" in titles
    assert "awa" in titles
    assert "evermuse_outbox, 1,000 per request" not in titles
    assert "Celery task per record" not in titles


def test_words_select_contenders():
    assert [each.title for each in CONTENDERS if snapshot._is_selected(each, ["awa"])] == ["awa"]


def test_the_partitions_of_a_table_are_added_up():
    rows = [("ready_entries_0", 2, 8_192, 16_384), ("ready_entries_12", 1, 8_192, None), ("jobs", 5, 1, 1)]

    assert snapshot.tables(rows) == {"ready_entries": [3, 16_384, 16_384], "jobs": [5, 1, 1]}


def test_each_part_of_a_run_has_its_own_latency():
    transactions = [[10 * number, 10, 100.0 + number, 0.001 * (number + 1)] for number in range(10)]
    arrivals = {
        f"message-{first + offset}": committed + (0.1 if first < 20 else 0.5)
        for first, _, committed, _ in transactions
        for offset in range(10)
    }
    del arrivals["message-99"]

    parts = snapshot.windows(transactions, arrivals)

    assert len(parts) == snapshot.WINDOWS
    assert parts[0] == pytest.approx({"p50": 0.1, "p99": 0.1, "transaction": 0.001, "missing": 0})
    assert parts[-1] == pytest.approx({"p50": 0.5, "p99": 0.5, "transaction": 0.009, "missing": 1})


def test_a_record_that_arrives_before_the_end_of_commit_has_no_negative_latency():
    assert snapshot.windows([[0, 1, 5.0, 0.01]], {"message-0": 4.9})[0]["p50"] == 0


def sample(second, arrived, cpu, dead):
    return {
        "second": second,
        "arrived": arrived,
        "cpu": cpu,
        "tables": {"jobs": [dead, 2_000_000, 1_000_000]},
    }


FIGURES = {
    "samples": [
        sample(0, 0, 1.0, 0),
        sample(10, 1_000, 1.5, 4),
        sample(20, 2_000, 3.0, 7),
        sample(30, 2_010, 9.0, 8),
    ],
    "windows": [
        {"p50": 0.1, "p99": 0.2, "transaction": 0.002, "missing": 0},
        {"p50": 0.3, "p99": 0.4, "transaction": 0.004, "missing": 0},
    ],
}


def test_the_cpu_time_of_the_first_and_of_the_last_part_are_compared():
    """The last sample is after the end of the run."""
    assert snapshot.cpu_per_thousand(FIGURES["samples"]) == pytest.approx([500, 1_500])


def test_a_line_compares_the_first_and_the_last_part():
    line = dict(zip(snapshot.HEADERS, snapshot.row("awa", "held", FIGURES), strict=True))

    assert line["delivered per second"] == 100
    assert line["COMMIT to arrival, p50 in ms"] == "100 → 300"
    assert line["transaction, p50 in ms"] == "2.0 → 4.0"
    assert line["PostgreSQL, CPU ms per 1,000 records"] == "500 → 1,500"
    assert (line["dead rows"], line["tables, MB"], line["indexes, MB"]) == (8, 2.0, 1.0)


def test_the_tables_with_the_most_dead_rows_have_a_line():
    lines = [*snapshot._table_rows("awa", {"held": FIGURES, "none": FIGURES}, count=1)]

    assert lines == [["awa", "jobs", "8 / 8", "2.00 / 2.00", "1.00 / 1.00"]]


def test_a_package_that_is_not_installed_is_named_and_the_others_run(monkeypatch, capsys):
    monkeypatch.setattr(environment, "prepare", lambda packages: {"awa-pg": "no matching distribution"})
    monkeypatch.setattr(snapshot, "add_versions", lambda report: None)
    monkeypatch.setattr(snapshot, "_note_autovacuum", lambda report: None)
    monkeypatch.setattr(snapshot, "_run", lambda contender, options: {"held": FIGURES, "none": FIGURES})
    monkeypatch.setattr("benchmarks.common.report.Report.save", lambda *arguments, **options: None)

    snapshot.main(["--only", "awa", "--only", "jaiminho"])

    output = capsys.readouterr().out
    assert "awa failed: is not installed: no matching distribution" in output
    assert "| django-jaiminho | held" in output


def test_the_host_enqueues_at_a_constant_rate(monkeypatch, capsys):
    """Ten records per transaction and 100 per second are ten transactions per second."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(host.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(host.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    monkeypatch.setattr(host, "_contender", lambda: None)
    monkeypatch.setattr(host, "_time_chunk", lambda contender, chunk: 0.002)

    host.produce(SimpleNamespace(first=10, rate=100, seconds=0.95, chunk=10, size=500))

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[1], line[3]) for line in lines] == [
        (first, 10, 0.002) for first in range(10, 110, 10)
    ]
