"""The lists as a whole: their order, the lookups they allow, and the cost of their queries."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.models import BatchState, RecordState
from tests.admin import rows
from tests.admin.client import url

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", [None, *RecordState.values])
def test_the_newest_are_first(viewer: Client, state: str | None) -> None:
    for _ in range(3):
        rows.rejected()
        rows.record()
    response = viewer.get(url("record", "changelist"), {"state": state} if state else {})
    pks = [row.pk for row in response.context["cl"].result_list]
    assert pks == sorted(pks, reverse=True)


@pytest.mark.parametrize("lookup", ["payload__icontains", "batch__message__contains", "identity"])
def test_other_lookups_are_refused(viewer: Client, lookup: str) -> None:
    assert viewer.get(url("record", "changelist"), {lookup: "x"}).status_code == 400


# --- cost -------------------------------------------------------------------------------------------------


def statements(client: Client, model: str = "record", **query: object) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url(model, "changelist"), query).status_code == 200
    return [entry["sql"] for entry in captured]


def fill(count: int) -> None:
    for _ in range(count):
        rows.record(rows.batch(BatchState.COMPLETE))
        rows.rejected()


@pytest.mark.parametrize("model", ["record", "batch", "workspace"])
def test_the_number_of_queries_does_not_grow(viewer: Client, model: str) -> None:
    fill(2)
    statements(
        viewer, model
    )  # the first page reads the clock of the database, which is then known for a while
    before = len(statements(viewer, model))
    fill(20)
    assert len(statements(viewer, model)) == before


@pytest.mark.parametrize("query", [{}, {"state": "rejected"}, {"type": "message"}, {"q": "hello"}, {"p": 1}])
def test_the_queries_of_the_list_are_bounded(viewer: Client, query: dict[str, object]) -> None:
    fill(3)
    for sql in statements(viewer, "record", **query):
        assert "DISTINCT" not in sql
        if "COUNT(" in sql:
            assert "LIMIT 10001" in sql
        columns = re.sub(r'SUBSTR\("\w+"."payload", 1, \d+\)', "", sql.split(" FROM ")[0])
        assert '"payload"' not in columns
        assert '"errors"' not in columns
