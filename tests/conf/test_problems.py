"""The errors in the settings dict: unknown keys, wrong shapes, and all errors at once."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from evermuse_outbox import conf
from evermuse_outbox.conf import find_problems, get_settings
from tests.conf.errors import KEY, errors_in


@pytest.mark.parametrize(
    ("name", "meant"), [("API_KEY_LIST", "API_KEYS"), ("api_url", "API_URL"), ("WORKSPACE", "WORKSPACES")]
)
def test_an_unknown_key_is_named_with_the_most_similar_known_key(name, meant):
    (problem,) = errors_in(**{name: KEY})
    assert problem == f"EVERMUSE_OUTBOX['{name}']: there is no such setting. Did you mean '{meant}'?"


def test_an_unknown_key_without_a_similar_one_is_named_with_all_known_keys():
    (problem,) = find_problems({7: 1})
    assert all(name in problem.hint for name in (*conf.OPTIONS, "WORKSPACES"))


@pytest.mark.parametrize("wrong", [None, [], "API_KEY", 5])
def test_settings_must_be_a_dict(wrong, settings):
    settings.EVERMUSE_OUTBOX = wrong
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        get_settings()


def test_one_error_names_every_wrong_key(typed):
    with pytest.raises(ImproperlyConfigured) as caught:
        typed(
            LINGER=-1, TIMEOUT="x", WAKE_ON_COMMITS=True, WORKSPACES={"eu": {"CONTRACT": "open", "LINGER": 1}}
        )
    for path in (
        "['LINGER']",
        "['TIMEOUT']",
        "['WAKE_ON_COMMITS']",
        "['eu']['CONTRACT']",
        "['eu']['LINGER']",
    ):
        assert path in str(caught.value)


@pytest.mark.parametrize(
    ("workspaces", "reason"),
    [
        (["eu"], "a dict from name"),
        ({"": {}}, "1 to 64 characters"),
        ({"x" * 65: {}}, "1 to 64 characters"),
        ({5: {}}, "1 to 64 characters"),
        ({"eu": KEY}, "must be a dict"),
        ({"eu": {"API_TOKEN": KEY}}, "['WORKSPACES']['eu']['API_TOKEN']: there is no such setting"),
        ({"eu": {"DATABASES": ["default"]}}, "there is no such setting"),
    ],
)
def test_invalid_workspaces(workspaces, reason):
    (problem,) = errors_in(WORKSPACES=workspaces)
    assert reason in problem
    assert KEY not in problem


@pytest.mark.parametrize(
    "name", ["", " ", "eu ", " eu", "e\nu", "e\x00u", "e\x1bu", "e\u2028u", "a/b", "-eu", "x" * 65, 3, None]
)
def test_names_of_workspaces_are_safe_in_logs_urls_and_commands(name):
    (problem,) = errors_in(WORKSPACES={name: {"API_KEY": KEY}})
    assert "the name must be a string" in problem
    assert "\n" not in problem
    assert "\x00" not in problem


@pytest.mark.parametrize("name", ["eu", "Kunden EMEA", "größe", "a.b-c_d", "x" * 64])
def test_other_names_of_workspaces_are_allowed(name):
    assert errors_in(WORKSPACES={name: {"API_KEY": KEY}}) == []
