"""Texts of the explanations and of refusals can be translated. ``test_walk.py`` reads the texts of the pages."""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from django.utils.html import escape

from evermuse_outbox.delivery.scheduling import RunQueue
from evermuse_outbox.insight.explaining import explain
from evermuse_outbox.models import (
    BatchState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.test_layering import modules

from .every_state import WORKSPACES, heartbeat
from .marked import mark, unmarked_words, use_marked_language

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("every_state")]


def test_every_explanation_can_be_translated(monkeypatch, outbox_settings) -> None:
    """Each branch of each explanation, with and without a worker."""
    seen = use_marked_language(monkeypatch)
    texts = explanations()
    heartbeat(timezone.now() - timedelta(hours=1))
    texts += explanations()
    heartbeat(timezone.now())
    OutboxWorkspace.objects.filter(state=WorkspaceState.BACKING_OFF).update(blocked_until=None)
    OutboxBatch.objects.filter(state=BatchState.IN_DOUBT).update(due_at=timezone.now() + timedelta(hours=1))
    OutboxRejection.objects.update(batch=None)
    texts += explanations()
    OutboxRejection.objects.update(code="ALTERED")
    OutboxWorkspace.objects.filter(state=WorkspaceState.HELD).update(reason="")
    texts += explanations()
    rows = OutboxRecord.rows.using("default")
    rows.expire([row.pk for row in rows.pending()[:1]])
    texts += explanations()
    outbox_settings(WORKSPACES=WORKSPACES, LINGER=600)
    let_groups_linger()
    texts += explanations()
    assert [text for text in texts if list(unmarked_words(escape(text)))] == []
    assert messages_of(explain) - seen == set()


def let_groups_linger() -> None:
    """Store that a batch of each group was sealed just now, and did not fill a request."""
    groups = set(OutboxRecord.objects.values_list("workspace", "type", "product_id"))
    now = timezone.now().timestamp()
    for workspace in {name for name, *_ in groups}:
        queue = RunQueue(
            sealed_at={(kind, product): now for name, kind, product in groups if name == workspace}
        )
        OutboxWorkspace.objects.update_or_create(name=workspace, defaults={"run_queue": queue.to_json()})


def explanations() -> list[str]:
    """Return the explanation of every row."""
    return [
        *map(explain.explain_record, OutboxRecord.objects.all()),
        *map(explain.explain_batch, OutboxBatch.objects.all()),
        *map(explain.explain_group, OutboxGroup.objects.all()),
        *map(explain.explain_workspace, OutboxWorkspace.objects.all()),
    ]


def messages_of(module) -> set[str]:
    """Return the texts that a module translates."""
    source = Path(module.__file__).read_text("utf-8")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {
        call.args[0].value
        for call in calls
        if ast.unparse(call.func) == "_" and isinstance(call.args[0], ast.Constant)
    }


def test_every_refusal_can_be_translated() -> None:
    """The message of a ``NotPossible`` is shown in the admin, so it is no text of the code itself."""
    untranslated = [
        f"{name}:{call.lineno}"
        for name, path in modules().items()
        if ".management." not in name
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "NotPossible" and call.args
        if isinstance(call.args[0], ast.Constant | ast.JoinedStr)
    ]
    assert untranslated == []


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<p>⟦Send⟧ 7 kB</p>", []),
        ("<p>Send</p>", ["Send"]),
        ("<p>⟦Waiting: ⟧paused</p><b>⟦a⟧</b>", ["⟦Waiting: ⟧paused"]),
        ('<a title="Remove" href="x">⟦x⟧</a>', ["Remove"]),
        ('<input type="submit" value="Go">', ["Go"]),
        ("<pre>code</pre>`manage.py x`", []),
    ],
)
def test_the_rule_finds_texts_without_translation(html: str, found: list[str]) -> None:
    assert list(unmarked_words(html)) == found


def test_values_stay_outside_of_the_marks() -> None:
    assert mark("%(count)s of %s, {name} left.") == "%(count)s⟦ of ⟧%s⟦, ⟧{name}⟦ left.⟧"
