"""Sample records for the tests of validation, and what validation makes of them."""

from __future__ import annotations

import json

import pytest
from django.conf import settings
from hypothesis import strategies as st

if not settings.configured:
    settings.configure(USE_I18N=False)

from evermuse_outbox.evermuse import InvalidRecord
from evermuse_outbox.evermuse.records import CONTRACTS, validate

LONE_SURROGATE = "\ud83d"
PROJECT_FORM = {"reference": {"_project_id": "proj-1"}, "openapi": {"_project_ids": ["proj-1"]}}


def sample(contract="openapi", **changes):
    """Return a valid record; a change to ``...`` removes the field."""
    fields = {
        "_type": "conversation",
        "_schema_version": "1.0.0",
        "_event_at": "2026-03-01T08:00:00Z",
        "_vendor_ids": {"conversation_id": "c-1"},
        "_product_id": "prod-1",
        **PROJECT_FORM[contract],
        "_nature": "evidence",
        "data": {"messages": [{"sender": "agent", "text": "Grüß Gott"}]},
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def sent(contract="openapi", **changes):
    """Return the record that would be sent, as Evermuse reads it."""
    return json.loads(validate(sample(contract, **changes), contract=contract).line)


def errors_of(contract="openapi", **changes):
    """Return the errors of a changed sample by path."""
    with pytest.raises(InvalidRecord) as caught:
        validate(sample(contract, **changes), contract=contract)
    return {error.path: error for error in caught.value.errors}


def only_error(contract="openapi", **changes):
    """Return the error of a changed sample that has exactly one."""
    [error] = errors_of(contract, **changes).values()
    return error


both_contracts = pytest.mark.parametrize("contract", CONTRACTS)

texts = st.text(st.characters(exclude_categories=["Cs"]))
vendor_ids = st.dictionaries(texts, texts.filter(bool), min_size=1, max_size=3)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner))
data_of_any_shape = st.dictionaries(texts | st.sampled_from(["data", "_project_id"]), json_values)
