"""The retention: one number of days, or one for each final state."""

from __future__ import annotations

import pytest

from evermuse_outbox.conf import Retention, get_settings
from tests.conf.errors import errors_in


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (14, Retention(14, 14, 14, 14, None)),
        (0.5, Retention(0.5, 0.5, 0.5, 0.5, None)),
        ({}, Retention(14, 14, 14, 14, None)),
        ({"delivered": 1}, Retention(1, 14, 14, 14, None)),
        ({"rejected": 90, "superseded": 2}, Retention(14, 2, 14, 14, 90)),
        ({"rejected": None}, Retention(14, 14, 14, 14, None)),
    ],
)
def test_a_number_or_a_dict_gives_days_for_each_state(outbox_settings, value, expected):
    outbox_settings(RETENTION_DAYS=value)
    assert get_settings().retention_days == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"deliverd": 1},
            "EVERMUSE_OUTBOX['RETENTION_DAYS']: 'deliverd' is not a final state of a record. Did you",
        ),
        (
            {"pending": 1},
            "'pending' is not a final state of a record. Known: delivered, superseded, discarded, ",
        ),
        ({7: 1}, "7 is not a final state of a record."),
        ({"delivered": 0}, "delivered: 0 is not a number of days from 0.0416667 to 36,500."),
        ({"delivered": None}, "delivered: None is not a number of days"),
        ({"rejected": "90"}, "rejected: '90' is not a number of days"),
        ({"superseded": True}, "superseded: True is not a number of days"),
        ([14], "[14] is not a number of days"),
    ],
)
def test_an_error_names_the_state_and_what_is_allowed(value, message):
    (problem,) = errors_in(RETENTION_DAYS=value)
    assert message in problem


def test_the_longest_retention_does_not_count_what_is_kept_for_ever():
    assert Retention(1, 2, 3, 2, None).longest == 3
    assert Retention(1, 2, 3, 2, 90).longest == 90


def test_payloads_are_kept_with_their_records_unless_days_are_given(outbox_settings):
    assert get_settings().payload_retention_days is None
    for days in (0, 3, 0.5):
        outbox_settings(PAYLOAD_RETENTION_DAYS=days)
        assert get_settings().payload_retention_days == days
    for wrong in (-1, "3", True, 36_501, {}):
        assert "is not a number of days from 0 to 36,500" in errors_in(PAYLOAD_RETENTION_DAYS=wrong)[0]
