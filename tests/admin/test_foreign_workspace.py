"""Staff of one workspace neither see nor change rows of another one, at any address of any page of the outbox.

The addresses are read from the classes, so a new view is tested without an entry here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from evermuse_outbox import jobs
from evermuse_outbox.models import (
    ActionKind,
    BatchState,
    GroupState,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.admin import one_workspace, rows
from tests.rows import group

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.one_workspace")]

FOREIGN = "north"
SECRET = "the-secret-of-north"


@pytest.fixture
def foreign(settings: object) -> dict[str, object]:
    """Create a row of each model in the foreign workspace, by the name of the model. Each text in it is secret."""
    settings.EVERMUSE_OUTBOX = {  # type: ignore[attr-defined]
        "API_KEY": "em_sk_test", "WORKSPACES": {FOREIGN: {"API_KEY": "em_sk_north"}}, "WAKE_ON_COMMIT": False,
    }  # fmt: skip
    batch = rows.batch(
        BatchState.IN_DOUBT, workspace=FOREIGN, product_id=SECRET, message=SECRET, in_doubt=True
    )
    rows.attempt(batch, detail=SECRET)
    refused = rows.batch(BatchState.REFUSED, workspace=FOREIGN, product_id=SECRET, message=SECRET)
    record = rows.record(
        refused, workspace=FOREIGN, closed_as="rejected", product_id=SECRET, payload=rows.line("N-1", SECRET)
    )
    record.rejections.create(code="BAD", message=SECRET, batch=refused, rejected_at=timezone.now())
    workspace = OutboxWorkspace.objects.create(
        name=FOREIGN, state=WorkspaceState.PAUSED, reason=SECRET, blocked_until=timezone.now()
    )
    paused = group(
        "default", GroupState.PAUSED, workspace=FOREIGN, product_id=SECRET, reason=SECRET,
    )  # fmt: skip
    created = {
        "outboxbatch": batch,
        "outboxrecord": record,
        "outboxworkspace": workspace,
        "outboxgroup": paused,
    }
    for model, options in one_workspace.site._registry.items():
        if model._meta.proxy:
            created[model._meta.model_name] = created[model._meta.concrete_model._meta.model_name]
        elif has_workspace(model) and model._meta.model_name not in created:
            created[model._meta.model_name] = create(model)
        assert options.model is model
    return created


def create(model: type) -> object:
    """Create a row of another model of the outbox in the foreign workspace, with secret texts."""
    if model._meta.model_name == "outboxaction":
        fields = {
            "at": timezone.now(),
            "by": SECRET,
            "kind": ActionKind.RETRY,
            "target": SECRET,
            "reason": SECRET,
        }
        return model.objects.create(workspace=FOREIGN, **fields)
    values: dict[str, object] = {}
    for field in model._meta.concrete_fields:
        if field.primary_key or field.null or field.has_default() or field.has_db_default():
            continue
        values[field.name] = default_of(field)
    return model.objects.create(**values | ({"workspace": FOREIGN} if has_workspace(model) else {}))


def has_workspace(model: type) -> bool:
    return "workspace" in {field.name for field in model._meta.get_fields()}


def default_of(field: object) -> object:
    kind = field.get_internal_type()  # type: ignore[attr-defined]
    if kind == "DateTimeField":
        return timezone.now()
    return SECRET[: field.max_length or 99] if kind in ("CharField", "TextField") else 1  # type: ignore[attr-defined]


def addresses(foreign: dict[str, object]) -> Iterator[tuple[str, bool]]:
    """Yield each address of each class with the foreign row, and whether the address names that row."""
    for model, options in one_workspace.site._registry.items():
        row = foreign.get(model._meta.model_name)
        if row is None:
            continue  # rows of no workspace
        for pattern in options.get_urls():
            if not pattern.name:
                continue
            if pattern.name.endswith("_start"):
                for kind in jobs.kinds():
                    yield reverse(f"admin:{pattern.name}", args=[row.pk, kind]), True
                continue
            try:
                yield reverse(f"admin:{pattern.name}", args=[row.pk]), True
            except NoReverseMatch:
                yield reverse(f"admin:{pattern.name}"), False


def stored_rows() -> list[object]:
    """Return every row of the outbox."""
    models = apps.get_app_config("evermuse_outbox").get_models()
    return [list(model._base_manager.order_by("pk").values()) for model in models]


def posts(address: str, foreign: dict[str, object]) -> Iterator[dict[str, object]]:
    """Yield what the forms of a page post, with the ids of the foreign rows."""
    pks = [row.pk for row in foreign.values()]  # type: ignore[attr-defined]
    fields = {
        "pks": ",".join(map(str, pks)),
        "_selected_action": pks,
        "confirmed": "1",
        "reason": "x",
        "post": "yes",
    }
    actions = [""]
    if address.endswith("/exit/"):
        actions = ["retry_now", "isolate", "give_up", "resume", "force", "pause"]
    for model, options in one_workspace.site._registry.items():
        if address.endswith(f"/{model._meta.model_name}/"):
            actions = [getattr(action, "__name__", action) for action in options.actions or [""]]
    for action in actions:
        yield fields | {"action": action}


def test_the_walk_finds_the_views(foreign: dict[str, object]) -> None:
    found = [address for address, _ in addresses(foreign)]
    pk = foreign["outboxrecord"].pk  # type: ignore[attr-defined]
    batch = foreign["outboxbatch"].pk  # type: ignore[attr-defined]
    assert f"/admin/evermuse_outbox/outboxrecord/{pk}/payload/" in found
    assert f"/admin/evermuse_outbox/outboxbatch/{batch}/request/" in found
    assert f"/admin/evermuse_outbox/outboxbatch/{batch}/exit/" in found
    assert len(found) > 25


def test_no_page_shows_a_row_of_another_workspace(admin_client: Client, foreign: dict[str, object]) -> None:
    record = foreign["outboxrecord"]
    terms = ["", "N-1", '"secret"', f"#{record.pk}", str(record.identity), f"batch:{record.batch_id}"]  # type: ignore[attr-defined]
    for address, names_row in addresses(foreign):
        for term in [""] if names_row else terms:
            response = admin_client.get(address, {"q": term} if term else {}, follow=True)
            assert SECRET not in response.content.decode(errors="replace"), (address, term)
            was_refused = response.redirect_chain or response.status_code in (403, 404, 405)
            assert was_refused or not names_row, address


def test_no_form_changes_a_row_of_another_workspace(admin_client: Client, foreign: dict[str, object]) -> None:
    before = stored_rows()
    for address, _names_row in addresses(foreign):
        for fields in posts(address, foreign):
            response = admin_client.post(address, fields, follow=True)
            assert SECRET not in response.content.decode(errors="replace"), (address, fields)
        assert stored_rows() == before, address


def test_rows_of_the_visible_workspace_are_shown(admin_client: Client, foreign: dict[str, object]) -> None:
    row = rows.rejected()
    page = reverse("admin:evermuse_outbox_outboxrecord_change", args=[row.pk])
    assert admin_client.get(page).status_code == 200
    assert admin_client.get(f"{page[: -len('change/')]}payload/").status_code == 200
