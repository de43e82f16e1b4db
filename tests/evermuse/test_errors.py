"""The exceptions: one base class, all errors of a record, and no API key in a message."""

from __future__ import annotations

import pickle

import pytest
from django.core.exceptions import ValidationError

from evermuse_outbox.evermuse import (
    EvermuseError,
    FieldError,
    InvalidRecord,
    RecordTooLarge,
    TransportError,
    Unanswered,
    Unreachable,
    Untranslatable,
)
from evermuse_outbox.evermuse.records import validate
from evermuse_outbox.foreign_text import safe_repr
from tests.evermuse.records.samples import sample


def test_an_invalid_record_is_a_validation_error():
    with pytest.raises(ValidationError) as caught:
        validate(sample(_type="x" * 10_000, _nature="100% sure"), contract="openapi")
    error = caught.value
    assert set(error.message_dict) == {"_type", "_nature"}
    assert len(error.messages) == 2
    assert str(error).count("\n") == 1
    assert len(str(error)) < 600
    again = pickle.loads(pickle.dumps(error))
    assert again.errors == error.errors
    assert again.message_dict == error.message_dict


def test_the_text_has_the_first_errors_and_the_exception_all():
    with pytest.raises(InvalidRecord) as caught:
        validate(sample(_tags=[1] * 100), contract="openapi")
    assert len(caught.value.errors) == 100
    assert str(caught.value).endswith("… and 80 more")


def test_all_exceptions_have_one_base_class():
    for kind in (InvalidRecord, RecordTooLarge, Untranslatable, TransportError, Unreachable, Unanswered):
        assert issubclass(kind, EvermuseError)


def test_a_field_error_reads_as_a_sentence():
    error = FieldError("_tags[0]", "Too long.", "'x'", "text")
    assert str(error) == "_tags[0]: Too long. Got 'x'; allowed: text."
    assert (
        str(FieldError("", "Not a record.", "3", "a mapping")) == "Not a record. Got 3; allowed: a mapping."
    )


@pytest.mark.parametrize("value", ["x" * 10_000, [["x" * 100] * 100] * 100, 10**4_000, b"x" * 10_000])
def test_the_repr_of_a_value_is_short(value):
    assert len(safe_repr(value)) <= 80


def test_the_repr_of_a_value_hides_api_keys_and_is_valid_unicode():
    assert "secret" not in safe_repr({"key": "em_sk_secret"})
    safe_repr("\ud83d").encode()
