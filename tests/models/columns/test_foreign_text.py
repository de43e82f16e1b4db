"""Columns for foreign text: every way to write takes any text, on each database."""

from __future__ import annotations

from datetime import UTC, datetime

from django.apps import apps
from django.db import models
from hypothesis import HealthCheck, given, settings

from evermuse_outbox.models import OutboxAttempt, OutboxBatch
from evermuse_outbox.models.columns import ForeignCharField, ForeignJSONField, ForeignTextField
from tests.foreign_text.samples import KEY, TEXTS, is_printable_line
from tests.models.rows import add_batch

GATED = (ForeignCharField, ForeignTextField, ForeignJSONField)

NOT_FOREIGN = {
    "workspace": "a name from the settings, which are checked",
    "name": "a name from the settings, which are checked",
    "type": "validated at enqueue; it must stay exact",
    "product_id": "validated at enqueue; it must stay exact",
    "payload": "validated at enqueue; it must stay exact",
    "run_queue": "types and product ids, which must stay exact",
    "isolation": "numbers",
    "permits": "numbers and permits",
    "latencies": "numbers",
    "arrival_rates": "types, product ids and numbers",
    "contract": "a constant",
    "body_format": "a constant",
    "format_hint": "a constant",
    "call": "a constant",
    "kind": "a constant",
    "outcome": "a constant",
    "state": "a constant",
    "closed_as": "a constant",
    "key": "made by this package",
    "api_key": "a fingerprint, made by this package",
    "wrapped": "made by this package",
    "master": "made by this package",
    "label": "validated at enqueue; it must stay exact",
    "sha256": "made by this package",
    "payload_sha256": "made by this package",
    "scope": "made by this package",
    "open_key": "made by this package",
    "version": "a constant",
    "value": "validated at enqueue; it must stay exact",
    "labels": "validated when the run is started; they must stay exact",
    "counts": "numbers by state",
    "purged": "numbers by state",
    "history": "numbers",
    "trace_context": "hexadecimal digits that the tracing library has made",
    "result": "a constant",
    "expected": "reasons that the kinds of jobs name, and numbers",
    "options": "what a command or page has made of its own options",
    "label_name": "validated when the rule is made; it must stay exact",
    "label_value": "validated when the rule is made; it must stay exact",
    "vendor_id": "validated when the rule is made; it must stay exact",
    "action": "a constant",
    "groups": "types, product ids and numbers",
}


def test_every_column_of_text_has_the_gate_or_a_reason():
    texts = {
        field.name: field
        for model in apps.get_app_config("evermuse_outbox").get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, models.CharField | models.TextField | models.JSONField)
    }
    without_gate = {name for name, field in texts.items() if not isinstance(field, GATED)}
    assert without_gate <= NOT_FOREIGN.keys(), "use a column of models.columns, or give the reason"
    assert NOT_FOREIGN.keys() <= texts.keys()


def test_a_migration_sees_the_field_of_django():
    assert ForeignTextField().deconstruct()[1] == "django.db.models.TextField"
    assert ForeignCharField(max_length=3).deconstruct()[1] == "django.db.models.CharField"
    assert ForeignJSONField().deconstruct()[1] == "django.db.models.JSONField"


def check(text, limit=None):
    assert KEY[6:14] not in text
    assert is_printable_line(text.replace("\n", ""))
    assert limit is None or len(text) <= limit


def test_each_way_to_write_takes_any_text(alias):
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TEXTS)
    def run(text):
        batch = add_batch(alias)
        text = f"{text}{KEY}{text}"
        OutboxAttempt(
            batch=batch,
            workspace="default",
            call="send",
            started_at=datetime.now(UTC),
            outcome="read",
            detail=text,
        ).save(using=alias)
        rows = OutboxBatch.objects.using(alias).filter(pk=batch.pk)
        errors = [{"index": 0, "code": text, "message": text}]
        rows.update(message=text, remote_id=text, remote_status=text, listing_cursor=text, errors=errors)
        batch = rows.get()
        check(batch.message)
        check(batch.remote_id, 128)
        check(batch.remote_status, 32)
        check(batch.errors[0]["message"])
        check(OutboxAttempt.objects.using(alias).latest("pk").detail)
        batch.message = text
        OutboxBatch.objects.using(alias).bulk_update([batch], ["message"])
        check(rows.get().message)

    run()
