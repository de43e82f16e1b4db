"""Every setting with every kind of wrong value: the error names the setting, the value and the cure, and no secret."""

from __future__ import annotations

import pytest

from evermuse_outbox.conf import OPTIONS
from tests.conf.errors import KEY, errors_in

WRONG = [
    None,
    "",
    "text",
    " text ",
    "5",
    "True",
    0,
    -1,
    1.5,
    10**12,
    float("nan"),
    True,
    b"bytes",
    [],
    ["text", 5],
    {},
    {"text": 1},
    {1: "text"},
    object,
    "https://user:secret-password@host",
    KEY,
]
SECRET = {"API_KEY", "API_KEYS", "ENCRYPTION_KEYS", "REDIS_URL", "PROXY"}
"""Settings whose value is not shown, because it is secret or can contain a password."""

NAMES_A_VALUE = {"API_URL", "FORMAT_HINTS", "FIXES", "RETENTION_DAYS"}
"""Settings with values that consist of parts: the message names the part, or says which form the value must have."""


@pytest.mark.parametrize("name", OPTIONS)
def test_each_error_names_the_setting_the_value_and_the_cure(name):
    found = [(value, problem) for value in WRONG for problem in errors_in(**{name: value})]
    assert found
    for value, problem in found:
        assert problem.startswith(f"EVERMUSE_OUTBOX['{name}']: ")
        assert KEY not in problem
        assert "secret-password" not in problem
        cures = (
            "Use ",
            "Remove ",
            "Did you mean ",
            "Write ",
            "Look for ",
            "Read it ",
            "Put ",
            "Known: ",
            "Percent-",
        )
        assert any(cure in problem for cure in cures), problem
        if (
            name not in SECRET | NAMES_A_VALUE
            and not isinstance(value, dict | type)
            and "secret" not in str(value)
        ):
            assert repr(value) in problem or value == KEY, problem


@pytest.mark.parametrize(
    ("name", "value"), [("LINGER", "0.5"), ("SENDERS", "8"), ("WAKE_ON_COMMIT", "False")]
)
def test_text_of_the_environment_in_place_of_a_value(name, value):
    (problem,) = errors_in(**{name: value})
    assert f"'{value}'" in problem
    assert "without quotes. With django-environ, read it as env.int(…)" in problem


def test_a_value_out_of_range_names_the_default():
    (problem,) = errors_in(MAX_LAG=0)
    assert problem == (
        "EVERMUSE_OUTBOX['MAX_LAG']: 0 is not a number of seconds from 1 to 31,536,000. "
        "Remove the setting to get its default, 300."
    )
