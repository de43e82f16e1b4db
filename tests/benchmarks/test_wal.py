"""How the benchmark of the WAL adds and divides what it has read."""

from __future__ import annotations

from benchmarks import wal


def test_the_figures_of_all_steps_are_per_record_and_by_cause():
    enqueue, purge = wal.Step(), wal.Step(process=0.5, backend=0.25)
    enqueue.rows |= {wal.RECORDS: 1_600, "evermuse_record_identity": 200, "other": 200}
    enqueue.pages |= {wal.RECORDS: 0, "evermuse_record_identity": 0, "other": 0}
    purge.rows |= {wal.RECORDS: 100}
    purge.pages |= {wal.RECORDS: 1_900}
    total = wal._sum([enqueue, purge])
    assert total.bytes == 4_000
    assert wal._figures(total, 10) == [400, 210, 190, 360, 20, "50000.0 + 25000.0"]


def test_only_some_scenarios_run_by_default():
    assert tuple(wal._options([]).scenarios) == ("none", "fresh", "backlog")
