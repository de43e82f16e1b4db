"""The list and the page of groups."""

from __future__ import annotations

import pytest
from django.test import Client

from evermuse_outbox.models import GroupState
from tests.admin import rows
from tests.admin.client import page_text, url
from tests.rows import group

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", GroupState.values)
def test_groups_show_the_reason_and_advice(viewer: Client, state: str) -> None:
    row = group("default", state, reason="All refused: <no such project>")
    rows.record()
    assert "&lt;no such project&gt;" in page_text(viewer, url("group", "changelist"))
    shown = page_text(viewer, url("group", "change", row.pk))
    assert "Look at the project id." in shown
    assert ">Resume now<" not in shown
