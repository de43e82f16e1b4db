"""The rules: the same fields as the types, and words for each error of the core."""

from __future__ import annotations

from evermuse_outbox.evermuse.records import (
    Attachment,
    Participant,
    Pii,
    PiiEntity,
    schema,
)
from tests.evermuse.records.samples import both_contracts, sample


def test_typed_dicts_and_rules_have_the_same_fields():
    for typed, rule in [
        (Participant, schema.PARTICIPANT),
        (Attachment, schema.ATTACHMENT),
        (Pii, schema.PII),
        (PiiEntity, schema.PII.members["detected_entities"].item),
    ]:
        assert set(typed.__annotations__) == set(rule.members)


@both_contracts
def test_the_check_returns_fields_in_canonical_order(contract):
    given = sample(contract)
    checked = schema.checker(contract)(dict(reversed(given.items())))
    assert checked == given
    assert list(checked) == [name for name in schema.rules(contract).members if name in given]


@both_contracts
def test_a_valid_record_has_no_field_errors(contract):
    assert list(schema.find_errors(sample(contract), contract)) == []


def test_a_rule_of_an_unknown_field_is_the_rule_itself():
    rule = schema.PARTICIPANT
    assert rule.rule_of("unknown") is rule
    assert rule.rule_of("id") is rule.members["id"]
    assert schema.VENDOR_IDS.rule_of("any name") is schema.VENDOR_ID
