"""The identity: equal for all versions of one record, different for all others."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.evermuse.records import (
    make_identity,
    validate,
)
from tests.evermuse.records.samples import sample, vendor_ids


def identity_of(workspace="default", **changes):
    return validate(sample(**changes), contract="openapi", workspace=workspace).identity


def test_identity_depends_on_workspace_type_vendor_ids_and_second():
    same = identity_of(data={"other": 1}, _product_id="other", _event_at="2026-03-01T09:00:00.9+01:00")
    assert same == identity_of()
    others = [
        identity_of(_type="email"),
        identity_of(_event_at="2026-03-01T08:00:01Z"),
        identity_of(_vendor_ids={"conversation_id": "c-2"}),
        identity_of(_vendor_ids={"conversation_id": "c-1", "x": "y"}),
        identity_of(workspace="other"),
    ]
    assert len({identity_of(), *others}) == 6
    assert identity_of(_vendor_ids={"a": "1", "b": "2"}) == identity_of(_vendor_ids={"b": "2", "a": "1"})


def test_identity_never_changes_from_release_to_release():
    assert str(identity_of()) == "20260301-0800-7614-b8ed-4701bbd9ef28"
    assert (identity_of().version, identity_of().variant) == (7, RFC_4122)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_an_identity_begins_with_its_minute(at):
    minute = at.replace(tzinfo=None).isoformat()[:16].translate(str.maketrans("", "", "-:T"))
    assert identity_of(_event_at=at).hex.startswith(f"{minute}7")


@given(vendor_ids, vendor_ids)
def test_different_vendor_ids_are_different_identities(first, second):
    assert (identity_of(_vendor_ids=first) == identity_of(_vendor_ids=second)) == (first == second)


def test_identity_of_a_record_is_that_of_its_fields():
    ids = {"conversation_id": "c-1"}
    assert make_identity("default", "conversation", "2026-03-01T08:00:00Z", ids) == identity_of()
