"""The warning about rejected records: after the commit, at most once a minute for each error, without a payload."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from evermuse_outbox.models.settled import rejection_log
from evermuse_outbox.models.settled.rejection_log import WARNING_INTERVAL, warn_of_rejections
from tests.delivery.helpers import batches, deliver
from tests.records import enqueue


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """A clock for the test, with no error known yet."""
    now = SimpleNamespace(at=1_000.0)
    monkeypatch.setattr(rejection_log, "time", SimpleNamespace(monotonic=lambda: now.at))
    monkeypatch.setattr(rejection_log, "_known", {})
    return now


def rejections(*pks, code="VALIDATION_ERROR", message="nature is wrong"):
    return [SimpleNamespace(record_id=pk, code=code, message=message) for pk in pks]


def warn(*pks, workspace="default", **error):
    warn_of_rejections("default", workspace, 7, rejections(*pks, **error))


def counts(caplog):
    return [record.args[3] for record in caplog.records]


@pytest.mark.commits
def test_a_rejection_of_evermuse_is_a_warning_with_ids_and_without_text(context, alias, clock, caplog):
    _, bad = enqueue(alias, 1, 2, invalid=[2])
    deliver(context, clock)
    (warning,) = [record for record in caplog.records if record.name == rejection_log.__name__]
    (batch,) = batches(alias)
    assert warning.levelno == logging.WARNING
    assert (warning.workspace, warning.batch, warning.outcome) == ("default", batch.pk, "rejected")
    assert f"record #{bad.pk}" in warning.getMessage()
    assert "nonsense" not in warning.getMessage()


def test_the_same_error_is_logged_once_a_minute_with_the_count_since_then(now, caplog):
    warn(1, 2)
    warn(3, message="NATURE is wrong")  # the same signature
    now.at += WARNING_INTERVAL - 1
    warn(4)
    assert counts(caplog) == [2]
    now.at += 1
    warn(5, 6)
    assert counts(caplog) == [2, 4]


def test_each_workspace_and_each_error_is_logged(caplog):
    warn(1)
    warn(2, workspace="eu")
    warn(3, message="something else")
    warn(4, code="HTTP_403")
    assert counts(caplog) == [1, 1, 1, 1]


def test_the_errors_that_are_remembered_are_bounded(monkeypatch, caplog):
    monkeypatch.setattr(rejection_log, "MAX_SIGNATURES", 2)
    for word in ("red", "green", "blue"):
        warn(1, message=word)
    assert len(rejection_log._known) == 1
    assert counts(caplog) == [1, 1, 1]
